//! The generated CustomResourceDefinitions are structural and have the peer's names, columns and subresources.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use catamaran_api::crd;
use serde_json::Value;

fn definition(kind: &str) -> Value {
    crd::all()
        .into_iter()
        .find(|c| c["spec"]["names"]["kind"] == kind)
        .unwrap()
}

fn columns(crd: &Value, priority: i64) -> Vec<String> {
    crd["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["priority"].as_i64().unwrap_or(0) == priority)
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Calls `f` with the path and schema of every node.
fn walk(path: &str, schema: &Value, f: &mut dyn FnMut(&str, &Value)) {
    f(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, child) in properties {
            walk(&format!("{path}.{name}"), child, f);
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{suffix}"), &schema[key], f);
        }
    }
}

fn root(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

#[test]
fn names_columns_and_subresources_are_the_peers() {
    let vm = definition("VirtualMachine");
    assert_eq!(vm["metadata"]["name"], "virtualmachines.kubevirt.io");
    assert_eq!(
        vm["spec"]["names"]["shortNames"],
        serde_json::json!(["vm", "vms"])
    );
    assert_eq!(
        vm["spec"]["names"]["categories"],
        serde_json::json!(["all"])
    );
    assert!(vm["spec"]["versions"][0]["subresources"]["status"].is_object());
    assert_eq!(columns(&vm, 0), ["Age", "Status", "Ready"]);

    let vmi = definition("VirtualMachineInstance");
    assert_eq!(
        vmi["metadata"]["name"],
        "virtualmachineinstances.kubevirt.io"
    );
    assert_eq!(
        vmi["spec"]["names"]["shortNames"],
        serde_json::json!(["vmi", "vmis"])
    );
    assert_eq!(
        vmi["spec"]["names"]["categories"],
        serde_json::json!(["all"])
    );
    assert!(
        vmi["spec"]["versions"][0]["subresources"].is_null(),
        "labels and status travel in one write"
    );
    assert_eq!(
        columns(&vmi, 0),
        ["Age", "Phase", "IP", "NodeName", "Ready"]
    );
    assert_eq!(columns(&vmi, 1), ["Live-Migratable", "Paused"]);
}

#[test]
fn schemas_are_structural() {
    for crd in crd::all() {
        walk("", root(&crd), &mut |path, schema| {
            let typed = schema["type"].is_string()
                || schema["x-kubernetes-int-or-string"] == true
                || schema["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(typed, "{path} has no type: {schema}");
            for banned in [
                "$ref",
                "definitions",
                "oneOf",
                "anyOf",
                "allOf",
                "not",
                "uniqueItems",
                "default",
            ] {
                assert!(
                    schema[banned].is_null(),
                    "{path} has {banned}: {}",
                    schema[banned]
                );
            }
            assert!(
                !(schema["properties"].is_object() && schema["additionalProperties"].is_object()),
                "{path} has properties and additionalProperties"
            );
            let format = schema["format"].as_str().unwrap_or("int64");
            assert!(
                ["int32", "int64", "double", "date-time"].contains(&format),
                "{path} has format {format}"
            );
        });
    }
}

#[test]
fn every_object_of_a_spec_keeps_unknown_fields() {
    // Those of bare metal leave them to the API server.
    for crd in crd::all()
        .iter()
        .filter(|crd| crd["spec"]["group"] != "metal3.io")
    {
        walk(
            "spec",
            &root(crd)["properties"]["spec"],
            &mut |path, schema| {
                if schema["type"] == "object" && !schema["additionalProperties"].is_object() {
                    assert_eq!(
                        schema["x-kubernetes-preserve-unknown-fields"], true,
                        "{path}"
                    );
                }
            },
        );
    }
}

#[test]
fn conditions_are_a_list_map_by_type() {
    for crd in crd::all() {
        if root(&crd)["properties"]["status"].is_null() {
            continue;
        }
        let conditions = &root(&crd)["properties"]["status"]["properties"]["conditions"];
        if conditions.is_null() && crd["spec"]["group"] == "metal3.io" {
            continue;
        }
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            serde_json::json!(["type"])
        );
        for key in ["type", "status"] {
            assert!(
                conditions["items"]["required"]
                    .as_array()
                    .unwrap()
                    .contains(&key.into())
            );
        }
    }
}

#[test]
fn a_definition_can_be_applied_by_kubectl() {
    // `kubectl apply` stores the object in an annotation of at most 256 KiB.
    for (crd, (name, yaml)) in crd::all().iter().zip(crd::render()) {
        assert!(
            crd.to_string().len() < 256 * 1024,
            "{name} has {} bytes",
            crd.to_string().len()
        );
        assert!(yaml.contains("kind: CustomResourceDefinition"));
    }
}

#[test]
fn kinds_that_are_not_carried_out_are_defined_once() {
    let mut names: Vec<String> = crd::render().into_iter().map(|(name, _)| name).collect();
    let count = names.len();
    assert_eq!(
        count,
        crd::all().len() + catamaran_api::others::OTHERS.len()
    );
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    for other in catamaran_api::others::OTHERS {
        let definition = other.definition();
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let stored = versions.iter().filter(|v| v["storage"] == true).count();
        assert_eq!(stored, 1, "{}", other.kind);
    }
}

#[test]
fn instancetypes_and_preferences_are_the_peers() {
    for (kind, scope, short) in [
        ("VirtualMachineInstancetype", "Namespaced", "vmf"),
        ("VirtualMachineClusterInstancetype", "Cluster", "vmcf"),
        ("VirtualMachinePreference", "Namespaced", "vmp"),
        ("VirtualMachineClusterPreference", "Cluster", "vmcp"),
    ] {
        let crd = definition(kind);
        let names = &crd["spec"]["names"];
        let plural = format!("{}s", kind.to_lowercase());
        assert_eq!(
            crd["metadata"]["name"],
            format!("{plural}.instancetype.kubevirt.io")
        );
        assert_eq!(crd["spec"]["scope"], scope, "{kind}");
        assert_eq!(names["plural"], plural);
        assert!(
            names["shortNames"]
                .as_array()
                .unwrap()
                .contains(&short.into())
        );
        assert_eq!(crd["spec"]["versions"][0]["name"], "v1beta1");
    }
    assert_eq!(
        columns(&definition("VirtualMachineClusterInstancetype"), 0),
        ["CPU", "Memory", "Age"]
    );
}
