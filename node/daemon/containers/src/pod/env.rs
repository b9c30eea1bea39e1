//! Environment variables of a container.

use k8s_openapi::api::core::v1 as wire;

use super::problem::Problem;
use super::words;

/// All entries of an object as variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// Put before each key.
    pub prefix: String,
    /// The object is a Secret, else a ConfigMap.
    pub secret: bool,
    /// Name of the object.
    pub name: String,
    /// Without the object there are no variables, and the container runs all the same.
    pub optional: bool,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value.
    pub source: EnvSource,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvSource {
    /// Text; `$(NAME)` is expanded.
    Value(String),
    /// An entry of a ConfigMap or (`secret`) of a Secret.
    Key {
        /// The object is a Secret.
        secret: bool,
        /// Name of the object.
        name: String,
        /// Key of the entry.
        key: String,
        /// Without the entry the variable is left out.
        optional: bool,
    },
    /// A field of the Pod.
    Field(PodField),
}

/// A field of the Pod that a variable can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodField {
    /// A field without a subscript.
    Plain(FieldPath),
    /// `metadata.labels['…']`.
    Label(String),
    /// `metadata.annotations['…']`.
    Annotation(String),
}

/// A field without a subscript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPath {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `spec.nodeName`
    NodeName,
    /// `spec.serviceAccountName`
    ServiceAccountName,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`
    HostIps,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
}

const FIELDS: &[(&str, FieldPath)] = &[
    ("metadata.name", FieldPath::Name),
    ("metadata.namespace", FieldPath::Namespace),
    ("metadata.uid", FieldPath::Uid),
    ("spec.nodeName", FieldPath::NodeName),
    ("spec.serviceAccountName", FieldPath::ServiceAccountName),
    ("status.hostIP", FieldPath::HostIp),
    ("status.hostIPs", FieldPath::HostIps),
    ("status.podIP", FieldPath::PodIp),
    ("status.podIPs", FieldPath::PodIps),
];

pub(super) fn env_from(
    at: &str,
    from: &wire::EnvFromSource,
    problems: &mut Vec<Problem>,
) -> Option<EnvFrom> {
    let prefix = from.prefix.clone().unwrap_or_default();
    let (secret, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), None) => (false, &map.name, map.optional),
        (None, Some(secret)) => (true, &secret.name, secret.optional),
        (None, None) => {
            problems.push(Problem {
                field: at.to_owned(),
                message: "Required value: must specify one of: configMapRef, secretRef".to_owned(),
            });
            return None;
        }
        (Some(_), Some(_)) => {
            problems.push(Problem::invalid(
                at,
                "",
                "may not have more than one field specified at a time",
            ));
            return None;
        }
    };
    words::subdomain(
        &format!(
            "{at}.{}.name",
            if secret { "secretRef" } else { "configMapRef" }
        ),
        name,
        problems,
    );
    Some(EnvFrom {
        prefix,
        secret,
        name: name.clone(),
        optional: optional.unwrap_or(false),
    })
}

pub(super) fn env(at: &str, var: &wire::EnvVar, problems: &mut Vec<Problem>) -> Option<EnvVar> {
    words::variable(&format!("{at}.name"), &var.name, problems);
    let Some(from) = &var.value_from else {
        return Some(EnvVar {
            name: var.name.clone(),
            source: EnvSource::Value(var.value.clone().unwrap_or_default()),
        });
    };
    let at = format!("{at}.valueFrom");
    if var.value.as_ref().is_some_and(|value| !value.is_empty()) {
        problems.push(Problem::invalid(
            &at,
            "",
            "may not be specified when `value` is not empty",
        ));
    }
    let mut sources = Vec::new();
    let mut keys = Vec::new();
    if let Some(key) = &from.config_map_key_ref {
        keys.push(("configMapKeyRef", false, &key.name, &key.key, key.optional));
    }
    if let Some(key) = &from.secret_key_ref {
        keys.push(("secretKeyRef", true, &key.name, &key.key, key.optional));
    }
    for (field, secret, name, key, optional) in keys {
        words::subdomain(&format!("{at}.{field}.name"), name, problems);
        if key.is_empty() {
            problems.push(Problem::required(format!("{at}.{field}.key")));
        }
        sources.push(EnvSource::Key {
            secret,
            name: name.clone(),
            key: key.clone(),
            optional: optional.unwrap_or(false),
        });
    }
    if let Some(field) = &from.field_ref {
        let at = format!("{at}.fieldRef");
        if let Some(version) = field
            .api_version
            .as_deref()
            .filter(|version| !matches!(*version, "" | "v1"))
        {
            problems.push(Problem::unsupported(
                format!("{at}.apiVersion"),
                version,
                &["v1"],
            ));
        }
        match pod_field(&field.field_path) {
            Some(field) => sources.push(EnvSource::Field(field)),
            None => {
                let mut allowed: Vec<_> = FIELDS.iter().map(|(path, _)| *path).collect();
                allowed.extend(["metadata.labels['<KEY>']", "metadata.annotations['<KEY>']"]);
                problems.push(Problem::unsupported(
                    format!("{at}.fieldPath"),
                    &field.field_path,
                    &allowed,
                ));
                return None;
            }
        }
    }
    if sources.len() > 1 {
        problems.push(Problem::invalid(
            &at,
            "",
            "may not have more than one field specified at a time",
        ));
    }
    // A source that is not supported was refused by name already.
    if sources.is_empty() && from.file_key_ref.is_none() && from.resource_field_ref.is_none() {
        problems.push(Problem {
            field: at,
            message: "Required value: must specify one of: configMapKeyRef, secretKeyRef, fieldRef"
                .to_owned(),
        });
    }
    sources.into_iter().next().map(|source| EnvVar {
        name: var.name.clone(),
        source,
    })
}

fn pod_field(path: &str) -> Option<PodField> {
    if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == path) {
        return Some(PodField::Plain(*field));
    }
    let subscript = |prefix: &str| {
        path.strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")
            .map(str::to_owned)
    };
    subscript("metadata.labels")
        .map(PodField::Label)
        .or_else(|| subscript("metadata.annotations").map(PodField::Annotation))
}
