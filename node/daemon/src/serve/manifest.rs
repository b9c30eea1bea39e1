//! Manifests: YAML or JSON text to objects that can be stored, or all that is wrong with them at once.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

use crate::serve::check;
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
                    for object in objects {
                        match identify(object) {
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
        Ok(documents)
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
    for (name, path, text) in texts {
        match read(name, path.as_deref(), text) {
            Err(more) => problems.extend(more),
            Ok(more) => {
                for mut document in more {
                    let place = format!("{name}: {}", document.key);
                    if documents.iter().any(|other| other.key == document.key) {
                        problems.push(Problem { place, problem: "metadata.name: Duplicate value: the same object stands twice in what is applied".to_owned() });
                        continue;
                    }
                    match check::object(&document.key, &document.object) {
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
            }
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
    const KNOWN: &str = "VirtualMachine and VirtualMachineInstance (kubevirt.io/v1), Pod, ConfigMap, Secret and PersistentVolumeClaim (v1)";
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
}
