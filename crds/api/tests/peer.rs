//! Names and types agree with the peer's, read from the folder named by `CATAMARAN_PEER_API`.
//!
//! The folder holds `kubevirt-types.json`: one JSON schema for each type, with `$ref`s among them. Without it the test is skipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::io::Write;
use std::path::Path;

use catamaran_api::crd;
use serde_json::Value;

/// Fields that are ours alone.
const OURS: [&str; 4] = [
    ".status.resolvedHardware",
    ".status.startFailure.specDigest",
    ".spec.bmc.certificateFingerprint",
    ".status.provisioning.stateSince",
];

struct Peer(Value);

impl Peer {
    /// The peer's type behind a `$ref`; `None` for types that are not its own.
    fn resolve<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        match schema["$ref"].as_str() {
            None => Some(schema),
            Some(reference) => self.0.get(reference.trim_start_matches("#/definitions/")),
        }
    }

    fn compare(
        &self,
        path: &str,
        ours: &Value,
        theirs: &Value,
        problems: &mut Vec<String>,
    ) -> usize {
        let Some(theirs) = self.resolve(theirs) else {
            return 0;
        };
        let mut compared = 1;
        let mut their_type = theirs["type"].as_str().map(str::to_owned);
        if let Some(several) = theirs["type"].as_array() {
            their_type = several
                .iter()
                .filter_map(Value::as_str)
                .find(|t| *t != "null")
                .map(str::to_owned);
        }
        if ours["type"].as_str().map(str::to_owned) != their_type {
            problems.push(format!(
                "{path}: ours is {}, theirs {}",
                ours["type"], theirs["type"]
            ));
            return compared;
        }
        let mut required = [ours, theirs].map(|s| {
            s["required"]
                .as_array()
                .cloned()
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        });
        required.iter_mut().for_each(|r| r.sort());
        if required[0] != required[1] && !path.is_empty() {
            problems.push(format!(
                "{path}: ours requires {:?}, theirs {:?}",
                required[0], required[1]
            ));
        }
        for (name, child) in ours["properties"].as_object().into_iter().flatten() {
            match theirs["properties"].get(name) {
                Some(theirs) => {
                    compared += self.compare(&format!("{path}.{name}"), child, theirs, problems);
                }
                None if OURS.contains(&format!("{path}.{name}").as_str()) => {}
                None => problems.push(format!("{path}.{name}: the peer has no such field")),
            }
        }
        for key in ["items", "additionalProperties"] {
            if ours[key].is_object() {
                compared += self.compare(&format!("{path}[]"), &ours[key], &theirs[key], problems);
            }
        }
        compared
    }
}

#[test]
fn names_and_types_agree_with_the_peer() {
    let Some(folder) = std::env::var_os("CATAMARAN_PEER_API") else {
        // Straight to the stream: the harness swallows what a passing test prints.
        let _ = writeln!(
            std::io::stderr(),
            "test names_and_types_agree_with_the_peer: *skipped*: CATAMARAN_PEER_API names no folder with kubevirt-types.json"
        );
        return;
    };
    let text = std::fs::read_to_string(Path::new(&folder).join("kubevirt-types.json")).unwrap();
    let peer = Peer(serde_json::from_str(&text).unwrap());
    for (version, kind, least) in [
        ("v1", "VirtualMachine", 200),
        ("v1", "VirtualMachineInstance", 200),
        ("v1beta1", "VirtualMachineInstancetype", 12),
        ("v1beta1", "VirtualMachinePreference", 80),
    ] {
        let mut ours = crd::schema(kind).unwrap();
        // Object metadata is the API server's own business.
        ours["properties"]
            .as_object_mut()
            .unwrap()
            .remove("metadata");
        let mut problems = Vec::new();
        let compared = peer.compare(
            "",
            &ours,
            &peer.0[format!("{version}.{kind}")],
            &mut problems,
        );
        assert!(problems.is_empty(), "{kind}:\n{}", problems.join("\n"));
        assert!(
            compared > least,
            "only {compared} nodes of {kind} were compared"
        );
    }
}

#[test]
fn names_and_types_of_bare_metal_agree_with_the_peer() {
    let Some(folder) = std::env::var_os("CATAMARAN_PEER_API") else {
        let _ = writeln!(
            std::io::stderr(),
            "test names_and_types_of_bare_metal_agree_with_the_peer: *skipped*: CATAMARAN_PEER_API names no folder with metal3-crds.json"
        );
        return;
    };
    let text = std::fs::read_to_string(Path::new(&folder).join("metal3-crds.json")).unwrap();
    let theirs: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut all = 0;
    for ours in crd::all() {
        let names = &ours["spec"]["names"];
        if ours["spec"]["group"] != "metal3.io" {
            continue;
        }
        let theirs = theirs
            .iter()
            .find(|crd| crd["spec"]["names"]["kind"] == names["kind"])
            .unwrap();
        for name in ["plural", "singular"] {
            assert_eq!(names[name], theirs["spec"]["names"][name]);
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        assert_eq!(
            list(&names["shortNames"]),
            list(&theirs["spec"]["names"]["shortNames"])
        );
        let (ours, theirs) = (&ours["spec"]["versions"][0], &theirs["spec"]["versions"][0]);
        let columns = |version: &Value| {
            list(&version["additionalPrinterColumns"])
                .iter()
                .map(|column| (column["name"].clone(), column["jsonPath"].clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(columns(ours), columns(theirs));
        assert_eq!(
            ours["subresources"]["status"].is_object(),
            theirs["subresources"]["status"].is_object()
        );
        let peer = Peer(Value::Null);
        let mut problems = Vec::new();
        let (ours, theirs) = (
            &ours["schema"]["openAPIV3Schema"],
            &theirs["schema"]["openAPIV3Schema"],
        );
        for part in ["spec", "status"] {
            if ours["properties"][part].is_object() {
                let path = format!(".{part}");
                let (ours, theirs) = (&ours["properties"][part], &theirs["properties"][part]);
                all += peer.compare(&path, ours, theirs, &mut problems);
            }
        }
        assert!(
            problems.is_empty(),
            "{}:\n{}",
            names["kind"],
            problems.join("\n")
        );
    }
    assert!(all > 250, "only {all} nodes were compared");
}
