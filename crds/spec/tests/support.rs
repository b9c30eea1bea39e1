//! The support table knows every field of the schema and, where it is given, of the peer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use catamaran_spec::support::{self, State};
use serde_json::Value;

/// Patterns of all leaves of a schema, in the words of the table.
fn leaves(pattern: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let mut below = false;
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        below = true;
        let path = if pattern.is_empty() {
            name.clone()
        } else {
            format!("{pattern}.{name}")
        };
        leaves(&path, child, found);
    }
    if schema["items"]["properties"].is_object() {
        below = true;
        leaves(&format!("{pattern}[]"), &schema["items"], found);
    }
    if !below {
        found.insert(pattern.to_owned());
    }
}

fn schema_leaves() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let vmi = catamaran_api::crd::schema("VirtualMachineInstance").unwrap();
    leaves("", &vmi["properties"]["spec"], &mut found);
    let mut vm = catamaran_api::crd::schema("VirtualMachine").unwrap();
    let spec = &mut vm["properties"]["spec"];
    spec["properties"]["template"]["properties"]
        .as_object_mut()
        .unwrap()
        .remove("spec");
    leaves("vm", spec, &mut found);
    for (root, kind) in [
        ("@instancetype", "VirtualMachineInstancetype"),
        ("@preference", "VirtualMachinePreference"),
    ] {
        let schema = catamaran_api::crd::schema(kind).unwrap();
        leaves(root, &schema["properties"]["spec"], &mut found);
    }
    found
}

/// Whether a row stands for that pattern, itself or as part of a whole.
fn known(pattern: &str) -> bool {
    support::rows().iter().any(|row| {
        row.path == pattern
            || row.whole
                && [".", "[]"]
                    .iter()
                    .any(|below| pattern.starts_with(&format!("{}{below}", row.path)))
    })
}

/// Maps whose keys the table lists one by one.
const LISTED: [&str; 2] = ["domain.resources.requests", "domain.resources.limits"];

#[test]
fn every_field_of_the_schema_is_in_the_table() {
    let missing: Vec<String> = schema_leaves()
        .into_iter()
        .filter(|leaf| !known(leaf) && !LISTED.contains(&leaf.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "not in fields.tsv:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_supported_row_is_a_field_of_the_schema() {
    let mut nodes = schema_leaves();
    for leaf in nodes.clone() {
        nodes.extend(
            leaf.match_indices('.')
                .map(|(dot, _)| leaf[..dot].to_owned()),
        );
    }
    let strange: Vec<&str> = support::rows()
        .iter()
        .filter(|r| r.play == State::Supported)
        .map(|r| r.path)
        .filter(|p| {
            !p.starts_with("@annotation.")
                && !nodes.contains(*p)
                && !LISTED.iter().any(|map| p.starts_with(&format!("{map}.")))
        })
        .collect();
    assert!(
        strange.is_empty(),
        "supported, but no field of the types:\n{}",
        strange.join("\n")
    );
}

#[test]
fn rows_are_unique_and_say_why() {
    let mut seen = BTreeSet::new();
    for row in support::rows() {
        assert!(seen.insert(row.path), "{} stands twice", row.path);
        for state in [row.play, row.cluster] {
            assert!(
                state == State::Supported || !row.reason.is_empty(),
                "{} has no reason",
                row.path
            );
        }
    }
}

#[test]
fn every_field_of_the_peer_is_in_the_table() {
    let Some(folder) = std::env::var_os("CATAMARAN_PEER_API") else {
        let _ = writeln!(
            std::io::stderr(),
            "test every_field_of_the_peer_is_in_the_table: *skipped*: CATAMARAN_PEER_API is not set"
        );
        return;
    };
    let types: Value = serde_json::from_str(
        &std::fs::read_to_string(Path::new(&folder).join("kubevirt-types.json")).unwrap(),
    )
    .unwrap();
    let mut missing = Vec::new();
    for (root, name) in [
        ("", "v1.VirtualMachineInstanceSpec"),
        ("@instancetype", "v1beta1.VirtualMachineInstancetypeSpec"),
        ("@preference", "v1beta1.VirtualMachinePreferenceSpec"),
    ] {
        peer(root, name, &types, &mut missing);
    }
    assert!(
        missing.is_empty(),
        "fields of the peer that fields.tsv does not name:\n{}",
        missing.join("\n")
    );
}

/// Walks the peer's own types; those of Kubernetes itself have no definition in the file.
fn peer(pattern: &str, name: &str, types: &Value, missing: &mut Vec<String>) {
    for (field, schema) in types[name]["properties"].as_object().into_iter().flatten() {
        let mut path = if pattern.is_empty() {
            field.clone()
        } else {
            format!("{pattern}.{field}")
        };
        let mut reference = schema["$ref"].as_str();
        if let Some(item) = schema["items"]["$ref"].as_str() {
            reference = Some(item);
            if types
                .get(item.trim_start_matches("#/definitions/"))
                .is_some()
            {
                path.push_str("[]");
            }
        }
        let below = reference
            .map(|r| r.trim_start_matches("#/definitions/"))
            .filter(|r| types[*r]["properties"].is_object());
        match below {
            Some(below) if !known(&format!("{}.x", path.trim_end_matches("[]"))) => {
                peer(&path, below, types, missing);
            }
            Some(_) => {}
            None => {
                let covered = known(&path)
                    || support::rows().iter().any(|r| {
                        r.path.starts_with(&format!("{path}."))
                            || r.path.starts_with(&format!("{path}[]"))
                    });
                if !covered {
                    missing.push(path);
                }
            }
        }
    }
}

/// Fields that a manifest sets, in the words of the table.
fn set_by(pattern: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                let path = match (pattern, name.as_str()) {
                    ("vm.template", "spec") => String::new(),
                    ("", name) => name.to_owned(),
                    (pattern, name) => format!("{pattern}.{name}"),
                };
                if !path.is_empty() {
                    found.insert(path.clone());
                }
                set_by(&path, child, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                set_by(&format!("{pattern}[]"), item, found);
            }
        }
        _ => {}
    }
}

/// What the golden case of that name sets, one of plans (`golden:`) or of pods (`pod:`); `None` when there is no such case.
fn golden(kind: &str, name: &str) -> Option<BTreeSet<String>> {
    let (folder, file) = match kind {
        "pod" => ("../../controller/tests/golden", "vmi.yaml"),
        _ => ("../../node/plan/tests/golden", "vm.yaml"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(name)
        .join(file);
    let manifest: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).ok()?).unwrap();
    let mut found = BTreeSet::new();
    let root = if manifest["kind"] == "VirtualMachine" {
        "vm"
    } else {
        ""
    };
    set_by(root, &manifest["spec"], &mut found);
    Some(found)
}

/// Names of all test functions of the repository.
fn test_functions() -> BTreeSet<String> {
    fn visit(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (
                entry.path(),
                entry.file_name().to_string_lossy().into_owned(),
            );
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "out", "cache"].contains(&name.as_str())
            {
                visit(&path, found);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let mut lines = text.lines().map(str::trim).peekable();
                while let Some(line) = lines.next() {
                    if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                        while lines.peek().is_some_and(|l| l.starts_with("#[")) {
                            lines.next();
                        }
                        let function = lines
                            .peek()
                            .and_then(|l| l.split("fn ").nth(1))
                            .and_then(|l| l.split('(').next());
                        found.extend(function.map(str::to_owned));
                    }
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    visit(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        &mut found,
    );
    found
}

#[test]
fn every_supported_field_has_a_test_of_its_effect() {
    let functions = test_functions();
    assert!(
        functions.contains("every_supported_field_has_a_test_of_its_effect"),
        "the search finds this very test"
    );
    let mut problems = Vec::new();
    for row in support::rows() {
        if ![row.play, row.cluster].contains(&State::Supported) {
            continue;
        }
        if row.tests.is_empty() {
            problems.push(format!("{}: no test", row.path));
        }
        for test in &row.tests {
            match test.split_once(':') {
                Some((kind, case)) => match golden(kind, case) {
                    None => problems.push(format!("{}: there is no golden case {case}", row.path)),
                    Some(set) if !set.contains(row.path) => problems.push(format!(
                        "{}: the golden case {case} does not set it",
                        row.path
                    )),
                    Some(_) => {}
                },
                None if !functions.contains(*test) => {
                    problems.push(format!("{}: there is no test {test}", row.path));
                }
                None => {}
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
