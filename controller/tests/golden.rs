//! Instance in, launcher pod out, for every case below `tests/golden`.
//!
//! A case is a folder with `vmi.yaml` and, where it needs another cluster, `kubevirt.yaml` (the installation) and `claims.yaml` (claims in block
//! mode). What comes out is `pod.yaml`. `UPDATE_GOLDEN=1 cargo test -p catamaran-controller` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic)] // Everything here is a test, helpers too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use catamaran_api::{KubeVirt, VirtualMachineInstance};
use catamaran_controller::settings::Settings;
use catamaran_controller::vmi::build::{ClaimMode, Input, pod};
use catamaran_spec::{Context, MachineSpec};
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = fs::read_to_string(path).ok()?;
    let value = serde_yaml_ng::from_str(&text);
    Some(value.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn build(case: &Path) -> Pod {
    let vmi: VirtualMachineInstance = read(&case.join("vmi.yaml")).unwrap();
    let (machine, _) = MachineSpec::from_vmi(&vmi, Context::Cluster)
        .unwrap_or_else(|faults| panic!("{}:\n{faults}", case.display()));
    let installation: Option<KubeVirt> = read(&case.join("kubevirt.yaml"));
    let block: Vec<String> = read(&case.join("claims.yaml")).unwrap_or_default();
    let claims: BTreeMap<String, ClaimMode> = block
        .into_iter()
        .map(|claim| (claim, ClaimMode::Block))
        .collect();
    let settings = Settings::new("registry/node:1", "IfNotPresent").with(installation.as_ref());
    pod(&Input {
        vmi: &vmi,
        machine: &machine,
        claims: &claims,
        settings: &settings,
    })
}

#[test]
fn every_case_gives_the_pod_that_is_written_down() {
    let mut wrong = Vec::new();
    for case in cases() {
        let pod = serde_yaml_ng::to_string(&build(&case)).unwrap();
        let path = case.join("pod.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &pod).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != pod {
            wrong.push(path.display().to_string());
        }
    }
    assert!(
        wrong.is_empty(),
        "differ (UPDATE_GOLDEN=1 writes them anew): {}",
        wrong.join(", ")
    );
}

#[test]
fn no_pod_has_more_rights_than_a_restricted_one() {
    for case in cases() {
        let name = case.display().to_string();
        let spec = build(&case).spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false), "{name}");
        assert_eq!((spec.host_network, spec.host_pid), (None, None), "{name}");
        let pod = spec.security_context.unwrap();
        assert_eq!(
            (pod.run_as_user, pod.run_as_non_root),
            (Some(107), Some(true)),
            "{name}"
        );
        for container in spec.containers {
            let rights = container.security_context.unwrap();
            assert_eq!(rights.privileged, None, "{name}");
            assert_eq!(rights.allow_privilege_escalation, Some(false), "{name}");
            assert_eq!(rights.capabilities.unwrap().add, None, "{name}");
            assert_eq!(rights.read_only_root_filesystem, Some(true), "{name}");
        }
    }
}
