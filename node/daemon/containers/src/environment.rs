//! The environment of a container, and `$(NAME)` in its command, arguments and values.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::objects::{Objects, entries, kind};
use crate::pod::{Container, EnvSource, FieldPath, PodField, PodSpec};

/// What is known about the place where a Pod runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) pod_ips: Vec<String>,
}

/// The variables in order, each name once. The error is a message for `CreateContainerConfigError`.
pub(crate) fn variables(
    pod: &PodSpec,
    container: &Container,
    place: &Place,
    objects: &dyn Objects,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.key.namespace.as_str();
    let mut variables = Variables::default();
    for from in &container.env_from {
        let Some(entries) = entries(objects, namespace, from.secret, &from.name) else {
            if from.optional {
                continue;
            }
            return Err(format!(
                "{} \"{namespace}/{}\" not found",
                kind(from.secret),
                from.name
            ));
        };
        for (key, value) in entries {
            let name = format!("{}{key}", from.prefix);
            // As in Kubernetes: a key that can be no name, and a value that is no text, are left out.
            if !name.contains('=')
                && let Ok(value) = String::from_utf8(value)
            {
                variables.set(&name, value);
            }
        }
    }
    for var in &container.env {
        let value = match &var.source {
            EnvSource::Value(text) => Some(expand(text, &variables)),
            EnvSource::Field(field) => Some(field_value(pod, field, place)),
            EnvSource::Key {
                secret,
                name,
                key,
                optional,
            } => {
                let entries = entries(objects, namespace, *secret, name);
                let missing = match &entries {
                    None => format!("{} \"{namespace}/{name}\" not found", kind(*secret)),
                    Some(_) => format!(
                        "couldn't find key {key} in {} {namespace}/{name}",
                        kind(*secret)
                    ),
                };
                match entries.and_then(|mut entries| entries.remove(key)) {
                    Some(value) => Some(String::from_utf8(value).map_err(|_| {
                        format!(
                            "key {key} in {} {namespace}/{name} is not UTF-8 text",
                            kind(*secret)
                        )
                    })?),
                    None if *optional => None,
                    None => return Err(missing),
                }
            }
        };
        if let Some(value) = value {
            variables.set(&var.name, value);
        }
    }
    let unfit = variables
        .list
        .iter()
        .find(|(_, value)| value.contains('\0'))
        .map(|(name, _)| name);
    match unfit {
        Some(name) => Err(format!("the value of variable {name} has a NUL byte")),
        None => Ok(variables.list),
    }
}

/// Command or arguments with `$(NAME)` expanded.
pub(crate) fn words(words: &[String], variables: &[(String, String)]) -> Vec<String> {
    let mut lookup = Variables::default();
    for (name, value) in variables {
        lookup.set(name, value.clone());
    }
    words.iter().map(|word| expand(word, &lookup)).collect()
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(place) => self.list[*place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }
    fn get(&self, name: &str) -> Option<&str> {
        self.places
            .get(name)
            .map(|place| self.list[*place].1.as_str())
    }
}

/// `$(NAME)` becomes the value, or stays when there is none; `$$` becomes `$`.
fn expand(text: &str, variables: &Variables) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')'))
        {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

fn field_value(pod: &PodSpec, field: &PodField, place: &Place) -> String {
    let host_ips = || place.host_ips.iter().map(ToString::to_string);
    match field {
        PodField::Label(key) => pod.labels.get(key).cloned().unwrap_or_default(),
        PodField::Annotation(key) => pod.annotations.get(key).cloned().unwrap_or_default(),
        PodField::Plain(path) => match path {
            FieldPath::Name => pod.key.name.clone(),
            FieldPath::Namespace => pod.key.namespace.clone(),
            FieldPath::Uid => pod.uid.clone(),
            FieldPath::NodeName => place.node_name.clone(),
            FieldPath::ServiceAccountName => pod.service_account.clone(),
            FieldPath::HostIp => host_ips().next().unwrap_or_default(),
            FieldPath::HostIps => host_ips().collect::<Vec<_>>().join(","),
            FieldPath::PodIp => place.pod_ips.first().cloned().unwrap_or_default(),
            FieldPath::PodIps => place.pod_ips.join(","),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does_it() {
        let mut variables = Variables::default();
        variables.set("A", "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
