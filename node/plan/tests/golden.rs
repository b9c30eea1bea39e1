//! Manifest in, plan and domain XML out, for every case below `tests/golden`.
//!
//! A case is a folder with `vm.yaml` and, where it needs another host, `facts.yaml` and `given.yaml`, which are merged (RFC 7396) over
//! [`HostFacts::offline`] and [`offline_given`]. What comes out is `domain.xml` and `plan.yaml`, or `errors.txt`.
//! `UPDATE_GOLDEN=1 cargo test -p catamaran-plan` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic)] // Everything here is a test, helpers too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use catamaran_plan::{HostFacts, Plan, PlanError, describe, offline_given, plan};
use catamaran_spec::{Context, MachineSpec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const SCHEMA: &str = "/usr/share/libvirt/schemas/domain.rng";

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

fn spec(case: &Path) -> Result<MachineSpec, String> {
    let text = fs::read_to_string(case.join("vm.yaml")).unwrap();
    let manifest: Value =
        serde_yaml_ng::from_str(&text).map_err(|e| format!("{}: {e}", name(case)))?;
    catamaran_spec::read::virtual_machine(&manifest, Context::Play)
        .map(|(_, spec, _)| spec)
        .map_err(|errors| format!("{}:\n{errors}", name(case)))
}

fn merge(base: &mut Value, patch: Value) {
    let (Value::Object(base), Value::Object(patch)) = (base, patch) else {
        panic!("a patch is a map");
    };
    for (key, value) in patch {
        match (base.get_mut(&key), value) {
            (_, Value::Null) => {
                base.insert(key, Value::Null);
            }
            (Some(old @ Value::Object(_)), value @ Value::Object(_)) => merge(old, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn patched<T: Serialize + DeserializeOwned>(base: &T, patch: &Path) -> T {
    let mut value = serde_json::to_value(base).unwrap();
    if let Ok(text) = fs::read_to_string(patch) {
        merge(&mut value, serde_yaml_ng::from_str(&text).unwrap());
    }
    serde_json::from_value(value).unwrap()
}

fn run(case: &Path) -> Result<Plan, Vec<PlanError>> {
    let spec = spec(case).unwrap();
    let facts: HostFacts = patched(&HostFacts::offline(), &case.join("facts.yaml"));
    let given = patched(&offline_given(&spec), &case.join("given.yaml"));
    plan(&spec, &facts, &given)
}

/// Compares with a file of the case, or writes it. `None` = the file must not be there.
fn compare(case: &Path, file: &str, actual: Option<&str>, wrong: &mut Vec<String>) {
    let path = case.join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        match actual {
            Some(text) => fs::write(&path, text).unwrap(),
            None if path.exists() => fs::remove_file(&path).unwrap(),
            None => {}
        }
        return;
    }
    let expected = fs::read_to_string(&path).ok();
    if expected.as_deref() != actual {
        wrong.push(format!(
            "{}/{file}:\n{}",
            name(case),
            first_difference(expected.as_deref(), actual)
        ));
    }
}

fn first_difference(expected: Option<&str>, actual: Option<&str>) -> String {
    let (Some(expected), Some(actual)) = (expected, actual) else {
        return format!("  expected: {expected:?}\n  actual:   {actual:?}");
    };
    let mut actual_lines = actual.lines();
    for (number, line) in (1..).zip(expected.lines()) {
        let other = actual_lines.next();
        if other != Some(line) {
            return format!(
                "  line {number}\n  expected: {line}\n  actual:   {}",
                other.unwrap_or("(end)")
            );
        }
    }
    format!(
        "  expected ends, actual goes on: {}",
        actual_lines.next().unwrap_or("(final newline)")
    )
}

#[test]
fn every_manifest_is_a_valid_machine() {
    let wrong: Vec<String> = cases().iter().filter_map(|case| spec(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_manifest_gives_the_plan_that_is_written_down() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (xml, text, errors) = match run(&case) {
            Ok(mut plan) => {
                // The domain is a file of its own, where a schema can be held against it.
                let xml = std::mem::take(&mut plan.domain_xml);
                // The digest is of the parsed spec and changes with every new field.
                plan.generation.spec_digest.clear();
                plan.hardware.spec_digest.clear();
                (Some(xml), Some(describe(&plan).unwrap()), None)
            }
            Err(errors) => {
                let lines: Vec<String> = errors.iter().map(|error| format!("{error}\n")).collect();
                (None, None, Some(lines.concat()))
            }
        };
        compare(&case, "domain.xml", xml.as_deref(), &mut wrong);
        compare(&case, "plan.yaml", text.as_deref(), &mut wrong);
        compare(&case, "errors.txt", errors.as_deref(), &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} files differ (UPDATE_GOLDEN=1 writes them anew):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn libvirts_schema_accepts_every_domain() {
    if !Path::new(SCHEMA).exists() || Command::new("xmllint").arg("--version").output().is_err() {
        eprintln!("skipped: {SCHEMA} (libvirt-common) or xmllint (libxml2-utils) is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for case in cases() {
        if let Ok(plan) = run(&case) {
            let file = folder.path().join(format!("{}.xml", name(&case)));
            fs::write(&file, plan.domain_xml).unwrap();
            files.push(file);
        }
    }
    // One run for all: reading the schema is most of the work.
    let output = Command::new("xmllint")
        .args(["--noout", "--relaxng", SCHEMA])
        .args(&files)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn nothing_younger_than_libvirt_9_0_is_written_for_it() {
    // Found by holding the goldens against the schema of libvirt 9.0.0.
    let younger = ["<iothread ", "<panic model='pvpanic'", "<source type='dir'"];
    let mut met = 0;
    for case in cases() {
        let spec = spec(&case).unwrap();
        let mut facts: HostFacts = patched(&HostFacts::offline(), &case.join("facts.yaml"));
        let given = patched(&offline_given(&spec), &case.join("given.yaml"));
        if let Ok(plan) = plan(&spec, &facts, &given) {
            met += younger
                .iter()
                .filter(|mark| plan.domain_xml.contains(**mark))
                .count();
        }
        facts.libvirt_version = (9, 0, 0);
        if let Ok(plan) = plan(&spec, &facts, &given) {
            for mark in younger {
                assert!(!plan.domain_xml.contains(mark), "{}: {mark}", name(&case));
            }
        }
    }
    assert_eq!(
        met,
        younger.len(),
        "some case must have each of {younger:?} on a newer host"
    );
}
