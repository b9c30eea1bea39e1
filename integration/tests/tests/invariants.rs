//! The architecture's invariants that can be seen from the sources: one test for each (`docs/src/explanation/architecture.md`).
//!
//! The others have their tests where they live: a stale plan is refused (`node/launcher`, `request_queue`), every field of a manifest is
//! supported, accepted or refused (`crds/spec/tests/support.rs`), guests' bytes are read in a sandbox (`sandbox.rs` here).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Direct dependencies of every package, without those of its tests, as they are where the product runs: those of other systems are not
/// downloaded by a build.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let direct = package["dependencies"].as_array().unwrap().iter();
        let direct = direct
            .filter(|dependency| dependency["kind"] != "dev" && dependency["optional"] != true);
        all.insert(
            text(&package["name"]),
            direct.map(|dependency| text(&dependency["name"])).collect(),
        );
    }
    all
}

/// Everything below a package.
fn below(package: &str, all: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![package.to_owned()]);
    while let Some(next) = open.pop() {
        for dependency in all.get(&next).into_iter().flatten() {
            if found.insert(dependency.clone()) {
                open.push(dependency.clone());
            }
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("out") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// Lines of code that have the word: no comments.
fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .map(str::trim)
        .filter(move |line| !line.starts_with("//") && line.contains(word))
}

#[test]
fn wire_types_depend_on_serde_schemas_and_kubernetes_types_only() {
    let allowed = [
        "serde",
        "serde_json",
        "schemars",
        "k8s-openapi",
        "kube-core",
        "kube-derive",
    ];
    let direct = &dependencies()["catamaran-api"];
    assert!(
        direct.iter().all(|name| allowed.contains(&name.as_str())),
        "{direct:?}"
    );
}

#[test]
fn specs_lifecycle_and_plans_have_no_runtime_no_files_and_no_clock() {
    let all = dependencies();
    for (package, folder) in [
        ("catamaran-spec", "crds/spec"),
        ("catamaran-lifecycle", "crds/lifecycle"),
        ("catamaran-plan", "node/plan"),
    ] {
        let below = below(package, &all);
        for forbidden in ["tokio", "kube-client", "kube", "rand", "nix", "rustix"] {
            assert!(
                !below.contains(forbidden),
                "{package} depends on {forbidden}"
            );
        }
        for (path, text) in sources(&root().join(folder).join("src")) {
            for forbidden in [
                "std::fs",
                "std::net::Tcp",
                "SystemTime::now",
                "Instant::now",
                "std::env",
                "std::process",
                "async fn",
            ] {
                assert_eq!(
                    lines_with(&text, forbidden).next(),
                    None,
                    "{} uses {forbidden}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn launcher_knows_no_kubernetes_client_and_controller_no_libvirt() {
    let all = dependencies();
    for forbidden in ["kube", "kube-client", "kube-runtime"] {
        assert!(
            !below("catamaran-launcher", &all).contains(forbidden),
            "the launcher depends on {forbidden}"
        );
    }
    for forbidden in [
        "catamaran-libvirt",
        "virt",
        "virt-sys",
        "catamaran-launcher",
    ] {
        assert!(
            !below("catamaran-controller", &all).contains(forbidden),
            "the controller depends on {forbidden}"
        );
    }
}

#[test]
fn only_the_libvirt_crate_links_libvirt_and_the_daemon_does_not_load_it() {
    let all = dependencies();
    let users: Vec<_> = all
        .iter()
        .filter(|(_, direct)| direct.contains("virt-sys") || direct.contains("virt"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(users, ["catamaran-libvirt", "virt"]);
    assert!(
        !below("catamaran-node", &all).contains("catamaran-libvirt"),
        "the daemon depends on libvirt"
    );
}

#[test]
fn unsafe_code_is_in_two_crates_whose_lints_differ_in_that_line_only() {
    let table = |path: &str, head: &str| -> Value {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let mut lints: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut section = None;
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = name.strip_prefix(head).map(str::to_owned);
            } else if let Some(section) = &section {
                lints
                    .entry(section.clone())
                    .or_default()
                    .insert(line.to_owned());
            }
        }
        serde_json::to_value(lints).unwrap()
    };
    let common = table("Cargo.toml", "workspace.lints.").to_string();
    assert!(common.contains("unsafe_code = \\\"forbid\\\""), "{common}");
    for crate_ in ["node/libvirt", "node/guest-memory"] {
        let own = table(&format!("{crate_}/Cargo.toml"), "lints.").to_string();
        let same = own.replace(
            "unsafe_code = \\\"allow\\\"",
            "unsafe_code = \\\"forbid\\\"",
        );
        assert_eq!(
            same, common,
            "the lints of {crate_} differ from the workspace's in more than unsafe_code"
        );
    }
    let root = root();
    for (path, text) in sources(&root) {
        let at = path.strip_prefix(&root).unwrap();
        if at.starts_with("node/libvirt")
            || at.starts_with("node/guest-memory")
            || at.ends_with("invariants.rs")
        {
            continue;
        }
        let used = lines_with(&text, "unsafe ").find(|line| {
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
        });
        assert_eq!(used, None, "{} has unsafe code", at.display());
    }
}

#[test]
fn status_of_a_machine_is_written_in_one_file() {
    for (path, text) in sources(&root().join("node/daemon/src")) {
        let allowed = [
            "machine/status.rs",
            "machine/status/restarts.rs",
            "machine/verbs.rs",
            "serve/pods.rs",
            "serve/store.rs",
        ];
        if allowed.iter().any(|name| path.ends_with(name)) || path.ends_with("tests.rs") {
            continue;
        }
        let writes = lines_with(&text, "[\"status\"]").find(|line| line.contains("\"] = "));
        assert_eq!(writes, None, "{} writes a status", path.display());
    }
}

#[test]
fn command_lines_share_a_client_crate_that_depends_on_no_server() {
    let all = dependencies();
    for package in ["catamaran-client", "catamaran-cli"] {
        let servers = [
            "catamaran-node",
            "catamaran-network",
            "catamaran-images",
            "catamaran-containers",
            "catamaran-launcher",
            "catamaran-controller",
            "axum",
        ];
        let below = below(package, &all);
        assert!(
            servers.iter().all(|server| !below.contains(*server)),
            "{package} depends on {below:?}"
        );
    }
}

#[test]
fn disk_images_are_read_by_the_sandboxed_only() {
    for (path, text) in sources(&root().join("node/daemon"))
        .into_iter()
        .filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "tests"))
    {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        // Whoever names it could run it: only its words to people and to the sandbox may.
        assert_eq!(
            lines_with(code, "\"qemu-img\"").next(),
            None,
            "{} names qemu-img as a program",
            path.display()
        );
    }
}
