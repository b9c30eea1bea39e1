//! A field that is marked supported changes the plan: taken out of its golden case, something else comes out.
//!
//! The support table (`catamaran_spec::support`) names the golden case of each field; tests of another kind are not this file's business.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use catamaran_plan::{HostFacts, describe, offline_given, plan};
use catamaran_spec::support::{State, rows};
use catamaran_spec::{Context, MachineSpec, read};
use serde_json::Value;

fn folder(case: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(case)
}

fn yaml(path: &Path) -> Option<Value> {
    fs::read_to_string(path)
        .ok()
        .map(|text| serde_yaml_ng::from_str(&text).unwrap())
}

/// RFC 7396.
fn merge(base: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(patch)) = (&mut *base, patch) else {
        *base = patch.clone();
        return;
    };
    for (key, value) in patch {
        merge(fields.entry(key.clone()).or_insert(Value::Null), value);
    }
}

fn machine(manifest: &Value) -> Result<MachineSpec, String> {
    let read = match manifest["kind"].as_str() {
        Some("VirtualMachineInstance") => {
            read::virtual_machine_instance(manifest, Context::Play).map(|(_, spec, _)| spec)
        }
        _ => read::virtual_machine(manifest, Context::Play).map(|(_, spec, _)| spec),
    };
    read.map_err(|errors| errors.to_string())
}

/// All that comes out of a manifest on the host of that case.
fn outcome(manifest: &Value, case: &str) -> String {
    let spec = match machine(manifest) {
        Ok(spec) => spec,
        Err(errors) => return errors,
    };
    let mut facts = serde_json::to_value(HostFacts::offline()).unwrap();
    let mut given = serde_json::to_value(offline_given(&spec)).unwrap();
    for (value, file) in [(&mut facts, "facts.yaml"), (&mut given, "given.yaml")] {
        if let Some(patch) = yaml(&folder(case).join(file)) {
            merge(value, &patch);
        }
    }
    match plan(
        &spec,
        &serde_json::from_value(facts).unwrap(),
        &serde_json::from_value(given).unwrap(),
    ) {
        Ok(mut plan) => {
            plan.generation.spec_digest.clear();
            plan.hardware.spec_digest.clear();
            describe(&plan).unwrap()
        }
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    }
}

/// Takes a field out wherever it stands. `path` is a row of the table, split at its dots.
fn take_out(value: &mut Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    if let Some(name) = first.strip_suffix("[]") {
        let Some(items) = value.get_mut(name).and_then(Value::as_array_mut) else {
            return false;
        };
        // Out of every element, not only the first that has it.
        let found: Vec<bool> = items.iter_mut().map(|item| take_out(item, rest)).collect();
        return found.contains(&true);
    }
    if rest.is_empty() {
        return value
            .as_object_mut()
            .and_then(|map| map.remove(*first))
            .is_some();
    }
    value
        .get_mut(*first)
        .is_some_and(|child| take_out(child, rest))
}

#[test]
fn every_supported_field_changes_the_plan() {
    let mut cases: BTreeMap<&str, (Value, String)> = BTreeMap::new();
    let mut problems = Vec::new();
    for row in rows().iter().filter(|row| row.play == State::Supported) {
        for case in row
            .tests
            .iter()
            .filter_map(|test| test.strip_prefix("golden:"))
        {
            let (manifest, before) = cases.entry(case).or_insert_with(|| {
                let manifest = yaml(&folder(case).join("vm.yaml"))
                    .unwrap_or_else(|| panic!("there is no golden case {case}"));
                let before = outcome(&manifest, case);
                (manifest, before)
            });
            let mut without = manifest.clone();
            let (root, path) = match row.path.strip_prefix("vm.") {
                Some(path) => ("/spec", path),
                None if manifest["kind"] == "VirtualMachine" => ("/spec/template/spec", row.path),
                None => ("/spec", row.path),
            };
            let found = without
                .pointer_mut(root)
                .is_some_and(|spec| take_out(spec, &path.split('.').collect::<Vec<_>>()));
            if !found {
                problems.push(format!("{}: {case} does not set it", row.path));
            } else if outcome(&without, case) == *before {
                problems.push(format!("{}: {case} is the same without it", row.path));
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}
