//! How an object is kept: the peer's names, labels and shape.

use catamaran_api::{API_VERSION, INSTANCETYPE_GROUP, INSTANCETYPE_VERSION, VirtualMachine};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::json;

use crate::Found;

/// Label of every such revision.
pub const LABEL: &str = "instancetype.kubevirt.io/object-kind";

/// Longest value of a label; a longer name stands in the data only.
const LABEL_VALUE: usize = 63;

/// The revision that keeps what a machine was made with; it goes with the machine.
#[must_use]
pub fn revision(vm: &VirtualMachine, found: &Found) -> ControllerRevision {
    let metadata = &found.object["metadata"];
    let uid = metadata["uid"].as_str().unwrap_or_default();
    let generation = metadata["generation"].as_i64().unwrap_or_default();
    let (machine, name) = (
        vm.metadata.name.clone().unwrap_or_default(),
        &found.named.name,
    );
    let label = |word: &str| format!("{INSTANCETYPE_GROUP}/object-{word}");
    let all = [
        (label("generation"), generation.to_string()),
        (LABEL.to_owned(), found.named.kind().to_owned()),
        (label("name"), name.clone()),
        (label("uid"), uid.to_owned()),
        (label("version"), INSTANCETYPE_VERSION.to_owned()),
    ];
    let mut kept = json!({
        "apiVersion": format!("{INSTANCETYPE_GROUP}/{INSTANCETYPE_VERSION}"),
        "kind": found.named.kind(),
        "metadata": {"name": name, "uid": uid, "generation": generation},
        "spec": found.object["spec"],
    });
    if !metadata["namespace"].is_null() {
        kept["metadata"]["namespace"] = metadata["namespace"].clone();
    }
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!(
                "{machine}-{name}-{INSTANCETYPE_VERSION}-{uid}-{generation}"
            )),
            namespace: vm.metadata.namespace.clone(),
            labels: Some(
                all.into_iter()
                    .filter(|(_, value)| value.len() <= LABEL_VALUE)
                    .collect(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                block_owner_deletion: Some(true),
                controller: Some(true),
                kind: "VirtualMachine".to_owned(),
                name: machine,
                uid: vm.metadata.uid.clone().unwrap_or_default(),
            }]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(kept)),
        revision: 0,
    }
}
