//! Instancetype, preference and machine in, merged machine out, for every case below `tests/golden`.
//!
//! A case is a folder with `objects.yaml`. What comes out is `expanded.yaml`. `UPDATE_GOLDEN=1 cargo test -p catamaran-spec` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::fs;
use std::path::{Path, PathBuf};

use catamaran_api::VirtualMachine;
use catamaran_spec::instancetype::{
    Chosen, Instancetype, Preference, Role, Source, check, expand, source,
};
use catamaran_spec::{Context, read};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(root).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// The object that the machine names.
fn chosen<S: DeserializeOwned>(
    vm: &VirtualMachine,
    role: Role,
    objects: &[Value],
) -> Option<Chosen<S>> {
    let Some(Source::Named(named)) = source(vm, role).unwrap() else {
        return None;
    };
    let mut objects = objects.iter();
    let object = objects
        .find(|o| o["kind"] == named.kind() && o["metadata"]["name"] == named.name.as_str())
        .unwrap();
    assert_eq!(check(object, role), Ok(Vec::new()));
    Some(Chosen::read(named, object).unwrap())
}

fn expanded(case: &Path) -> VirtualMachine {
    let text = fs::read_to_string(case.join("objects.yaml")).unwrap();
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    let mut objects: Vec<Value> = documents.map(|d| Value::deserialize(d).unwrap()).collect();
    let vm: VirtualMachine = serde_json::from_value(objects.pop().unwrap()).unwrap();
    let instancetype: Option<Instancetype> = chosen(&vm, Role::Instancetype, &objects);
    let preference: Option<Preference> = chosen(&vm, Role::Preference, &objects);
    expand(&vm, instancetype.as_ref(), preference.as_ref()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_case_gives_the_machine_that_is_written_down() {
    for case in cases() {
        let machine = expanded(&case);
        let text = serde_yaml_ng::to_string(&machine).unwrap();
        let path = case.join("expanded.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, written, "{}", path.display());
    }
}

#[test]
fn merged_machines_are_carried_out() {
    for case in cases() {
        let mut machine = serde_json::to_value(expanded(&case)).unwrap();
        machine["apiVersion"] = json!("kubevirt.io/v1");
        let read = read::virtual_machine(&machine, Context::Cluster);
        let (_, _, warnings) = read.unwrap_or_else(|e| panic!("{}:\n{e}", case.display()));
        let harmless = ["maxGuest"];
        for warning in warnings {
            let path = warning.path.as_str();
            assert!(harmless.iter().any(|end| path.ends_with(end)), "{warning}");
        }
    }
}
