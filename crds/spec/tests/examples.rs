//! The examples are good manifests, and every field that they set is carried out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::fs;
use std::path::Path;

use catamaran_spec::{Context, read};
use serde::Deserialize;
use serde_json::Value;

fn documents() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        found.extend(documents.map(|d| (name.clone(), Value::deserialize(d).unwrap())));
    }
    found
}

#[test]
fn examples_are_accepted_without_a_warning() {
    let mut machines = 0;
    for (name, manifest) in documents() {
        let warnings = match manifest["kind"].as_str().unwrap() {
            "VirtualMachine" => read::virtual_machine(&manifest, Context::Play).map(|(_, _, w)| w),
            "VirtualMachineInstance" => {
                read::virtual_machine_instance(&manifest, Context::Play).map(|(_, _, w)| w)
            }
            _ => continue,
        };
        machines += 1;
        let warnings = warnings.unwrap_or_else(|errors| panic!("{name}:\n{errors}"));
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
    assert_eq!(machines, 3);
}

#[test]
fn examples_name_no_public_registry() {
    fn images(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("image").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| images(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| images(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    documents().iter().for_each(|(_, d)| images(d, &mut found));
    assert_eq!(found.len(), 4);
    assert!(
        found.iter().all(|i| i.starts_with("catamaran.local/")),
        "{found:?}"
    );
}
