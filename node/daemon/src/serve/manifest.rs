//! Manifests: YAML or JSON text to objects that can be stored, or all that is wrong with them at once.

mod parts;

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

use crate::serve::check;
use crate::serve::manifest::parts::Parts;
use crate::serve::store::{Key, Kind};

/// Largest manifest in bytes.
pub const MAX_TEXT: usize = 8 << 20;

/// One object of a manifest, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Name.
    pub key: Key,
    /// The object, with its namespace filled in.
    pub object: Value,
    /// File that it came from.
    pub path: Option<PathBuf>,
    /// What is accepted but has no effect here.
    pub warnings: Vec<String>,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Problem {
    /// File and document, and the object's name where it is known.
    pub place: String,
    /// What, with the field's path.
    pub problem: String,
}

/// Reads the objects of one text without checking their content.
///
/// # Errors
/// When the text is no YAML, or a kind is not known.
pub fn read(name: &str, path: Option<&Path>, text: &str) -> Result<Vec<Document>, Vec<Problem>> {
    read_all(name, path, text).map(|(documents, _)| documents)
}

/// Objects that are stored, and parts of machines, which are not.
fn read_all(
    name: &str,
    path: Option<&Path>,
    text: &str,
) -> Result<(Vec<Document>, Parts), Vec<Problem>> {
    let problem = |place: String, problem: String| vec![Problem { place, problem }];
    if text.len() > MAX_TEXT {
        return Err(problem(
            name.to_owned(),
            format!(
                "is {} bytes long; at most {MAX_TEXT} are allowed",
                text.len()
            ),
        ));
    }
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    let mut parts = Parts::default();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = format!("{name}, document {}", index + 1);
        match Value::deserialize(document) {
            Err(error) => {
                // What follows a syntax error can't be told apart from it.
                problems.extend(problem(place, format!("is not YAML: {error}")));
                break;
            }
            Ok(Value::Null) => {}
            Ok(object) => match flatten(object) {
                Err(what) => problems.extend(problem(place, what)),
                Ok(objects) => {
                    let stored = objects.into_iter().filter_map(|o| parts.take(o).err());
                    for object in stored {
                        match identify(*object) {
                            Ok((key, object)) => documents.push(Document {
                                key,
                                object,
                                path: path.map(Path::to_owned),
                                warnings: Vec::new(),
                            }),
                            Err(what) => problems.extend(problem(place.clone(), what)),
                        }
                    }
                }
            },
        }
    }
    if problems.is_empty() {
        Ok((documents, parts))
    } else {
        Err(problems)
    }
}

/// Reads and checks several texts together: all problems of all of them, or all objects in the order in which they are applied.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(texts: &[(String, Option<PathBuf>, String)]) -> Result<Vec<Document>, Vec<Problem>> {
    let (mut documents, mut problems) = (Vec::<Document>::new(), Vec::new());
    let (mut found, mut parts) = (Vec::new(), Parts::default());
    for (name, path, text) in texts {
        match read_all(name, path.as_deref(), text) {
            Err(more) => problems.extend(more),
            Ok((more, their_parts)) => {
                problems.extend(their_parts.problems().into_iter().map(|problem| Problem {
                    place: name.clone(),
                    problem,
                }));
                found.extend(more.into_iter().map(|document| (name, document)));
                parts.extend(their_parts);
            }
        }
    }
    let machine = |(_, document): &(&String, Document)| document.key.kind == Kind::VirtualMachine;
    if let Some((name, problem)) = texts
        .first()
        .zip(parts.alone())
        .filter(|_| !found.iter().any(machine))
    {
        let place = name.0.clone();
        problems.push(Problem { place, problem });
    }
    for (name, mut document) in found {
        let place = format!("{name}: {}", document.key);
        if documents.iter().any(|other| other.key == document.key) {
            problems.push(Problem { place, problem: "metadata.name: Duplicate value: the same object stands twice in what is applied".to_owned() });
            continue;
        }
        let merged = match document.key.kind {
            Kind::VirtualMachine => parts.merge(&mut document.object),
            _ => Ok(()),
        };
        match merged.and_then(|()| check::object(&document.key, &document.object)) {
            Ok(warnings) => {
                document.warnings = warnings
                    .into_iter()
                    .map(|warning| format!("{place}: {warning}"))
                    .collect();
                documents.push(document);
            }
            Err(more) => problems.extend(more.into_iter().map(|problem| Problem {
                place: place.clone(),
                problem,
            })),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    documents.sort_by_key(|document| document.key.kind);
    Ok(documents)
}

/// A `List` stands for its items.
fn flatten(object: Value) -> Result<Vec<Value>, String> {
    if object["kind"] != "List" {
        return Ok(vec![object]);
    }
    match object.get("items") {
        Some(Value::Array(items)) => Ok(items.clone()),
        other => Err(format!(
            "items: Invalid value: {}: must be a list of objects",
            other.unwrap_or(&Value::Null)
        )),
    }
}

/// Finds out what an object is and fills in its namespace.
fn identify(mut object: Value) -> Result<(Key, Value), String> {
    const KNOWN: &str = "VirtualMachine and VirtualMachineInstance (kubevirt.io/v1), instancetypes and preferences (instancetype.kubevirt.io/v1beta1), Pod, ConfigMap, Secret and PersistentVolumeClaim (v1)";
    let word = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (version, name) = (word("apiVersion"), word("kind"));
    let kind = match (version.as_str(), name.as_str()) {
        ("kubevirt.io/v1" | "kubevirt.io/v1alpha3", "VirtualMachine") => Kind::VirtualMachine,
        ("kubevirt.io/v1" | "kubevirt.io/v1alpha3", "VirtualMachineInstance") => {
            Kind::VirtualMachineInstance
        }
        ("v1", "Pod") => Kind::Pod,
        ("v1", "ConfigMap") => Kind::ConfigMap,
        ("v1", "Secret") => Kind::Secret,
        ("v1", "PersistentVolumeClaim") => Kind::PersistentVolumeClaim,
        ("", _) => return Err("apiVersion: Required value".to_owned()),
        (_, "") => return Err("kind: Required value".to_owned()),
        (version, name) => {
            return Err(format!(
                "kind: Unsupported value: \"{name}\" of \"{version}\": supported values: {KNOWN}"
            ));
        }
    };
    if object["apiVersion"] == "kubevirt.io/v1alpha3" {
        object["apiVersion"] = "kubevirt.io/v1".into();
    }
    let metadata = &object["metadata"];
    if !metadata["generateName"].is_null() {
        return Err(
            "metadata.generateName: Forbidden: an applied object needs metadata.name".to_owned(),
        );
    }
    let name = dns_name(
        "metadata.name",
        metadata["name"].as_str().unwrap_or_default(),
        253,
        true,
    )?;
    let namespace = match metadata.get("namespace").and_then(Value::as_str) {
        None | Some("") => "default".to_owned(),
        Some(namespace) => dns_name("metadata.namespace", namespace, 63, false)?,
    };
    object["metadata"]["namespace"] = namespace.clone().into();
    Ok((
        Key {
            kind,
            namespace,
            name,
        },
        object,
    ))
}

/// Names become file, host and domain names, so they are checked before anything else.
fn dns_name(field: &str, name: &str, longest: usize, dots: bool) -> Result<String, String> {
    if name.is_empty() {
        return Err(format!("{field}: Required value"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let valid = if dots {
        name.split('.').all(label)
    } else {
        label(name)
    };
    if !valid || name.len() > longest {
        return Err(format!(
            "{field}: Invalid value: {name:?}: must be at most {longest} lower case letters, digits, '-'{}, and begin and end with a letter or digit",
            if dots { " or '.'" } else { "" }
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read("f.yaml", None, text)
            .unwrap_err()
            .into_iter()
            .map(|problem| problem.to_string())
            .collect()
    }

    #[test]
    fn documents_and_lists_are_read_in_order() {
        let text = "---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: a}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: n}}\n";
        let keys: Vec<_> = read("f.yaml", None, text)
            .unwrap()
            .into_iter()
            .map(|document| document.key.to_string())
            .collect();
        assert_eq!(keys, ["Secret default/a", "ConfigMap n/b"]);
    }

    #[test]
    fn unknown_kinds_and_bad_names_are_refused_by_name() {
        assert!(
            problems("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}")[0]
                .contains("\"Deployment\" of \"apps/v1\"")
        );
        assert!(
            problems("{apiVersion: v1, kind: Pod, metadata: {name: ../a}}")[0]
                .contains("metadata.name: Invalid value: \"../a\"")
        );
        assert!(
            problems("{apiVersion: v1, kind: Pod}")[0].contains("metadata.name: Required value")
        );
        assert!(
            problems("{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}")[0]
                .contains("generateName: Forbidden")
        );
        assert!(problems("a: [")[0].contains("is not YAML"));
    }

    const MACHINE: &str = "{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: a}, spec: {runStrategy: Always, instancetype: {name: small}, template: {spec: {domain: {devices: {}}}}}}";
    const SMALL: &str = "{apiVersion: instancetype.kubevirt.io/v1beta1, kind: VirtualMachineClusterInstancetype, metadata: {name: small}, spec: {cpu: {guest: 2}, memory: {guest: 64Mi}}}";

    fn applied(texts: &[&str]) -> Result<Vec<Document>, Vec<Problem>> {
        let text = |text: &&str| ("f.yaml".to_owned(), None, (*text).to_owned());
        parse(&texts.iter().map(text).collect::<Vec<_>>())
    }

    #[test]
    fn a_machine_is_merged_with_the_instancetype_that_is_applied_with_it() {
        let documents = applied(&[MACHINE, SMALL]).unwrap();
        assert_eq!(documents.len(), 1, "parts are not stored");
        let spec = &documents[0].object["spec"];
        assert!(spec["instancetype"].is_null());
        let template = &spec["template"];
        assert_eq!(template["spec"]["domain"]["memory"]["guest"], "64Mi");
        assert_eq!(template["spec"]["domain"]["cpu"]["sockets"], 2);
        assert_eq!(
            template["metadata"]["annotations"]["kubevirt.io/cluster-instancetype-name"],
            "small"
        );
    }

    #[test]
    fn an_instancetype_that_is_not_there_is_named() {
        let words = |texts: &[&str]| applied(texts).unwrap_err()[0].to_string();
        assert_eq!(
            words(&[MACHINE]),
            "f.yaml: VirtualMachine default/a: spec.instancetype.name: Invalid value: \"small\": there is no VirtualMachineClusterInstancetype of that name"
        );
        assert!(words(&[SMALL]).contains("applied together"));
        let revision = MACHINE.replace("{name: small}", "{name: small, revisionName: r}");
        assert!(words(&[&revision, SMALL]).contains("spec.instancetype.revisionName: Forbidden"));
        let wrong = SMALL.replace("guest: 2", "guest: 0");
        assert!(words(&[MACHINE, &wrong]).contains("small: spec.cpu.guest"));
    }
}
