//! The pod that brings one claim to the node of a machine that runs. Only a pod makes the kubelet attach and mount a volume.

use std::collections::BTreeMap;

use catamaran_api::VirtualMachineInstance;
use catamaran_plan::paths;
use catamaran_plan::pod::{HOLD_COMMAND, RUN_VOLUME, held, volume_name};
use k8s_openapi::api::core::v1::{
    Affinity, Container, EmptyDirVolumeSource, LocalObjectReference, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeClaimVolumeSource, Pod, PodSpec,
    ResourceRequirements, Toleration, Volume, VolumeDevice, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};

use super::{ClaimMode, DIGITS, container_security, pod_security, some};
use crate::settings::Settings;
use crate::vmi::{ATTACHMENT_OF, ATTACHMENTS};

/// It sleeps.
const REQUESTS: [(&str, &str); 2] = [("cpu", "1m"), ("memory", "4M")];
/// Memory that it may have; a limit of its processor time would make its start take seconds.
const LIMITS: [(&str, &str); 1] = [("memory", "32M")];
/// Seconds that it has to end; it ends at once.
pub const ATTACHMENT_GRACE: u32 = 5;

/// Name of the pod: a function of the instance and the volume, so that a second one can't be made.
#[must_use]
pub fn attachment_name(uid: &str, volume: &str) -> String {
    let end: String = Sha256::digest(format!("{uid}/{volume}"))
        .iter()
        .take(10)
        .map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()]))
        .collect();
    format!("hp-volume-{end}")
}

/// What an attachment pod is made from.
#[derive(Debug, Clone, Copy)]
pub struct Attach<'a> {
    /// The instance.
    pub vmi: &'a VirtualMachineInstance,
    /// Its launcher pod, which it goes with.
    pub launcher: &'a Pod,
    /// Name of the volume.
    pub volume: &'a str,
    /// Name of the claim.
    pub claim: &'a str,
    /// What the claim is.
    pub mode: ClaimMode,
    /// Settings of the cluster.
    pub settings: &'a Settings,
}

/// The pod.
#[must_use]
pub fn attachment(input: &Attach<'_>) -> Pod {
    let metadata = &input.vmi.metadata;
    let uid = metadata.uid.clone().unwrap_or_default();
    let labels = [
        ("kubevirt.io", ATTACHMENTS.to_owned()),
        ("kubevirt.io/created-by", uid.clone()),
        (ATTACHMENT_OF, metadata.name.clone().unwrap_or_default()),
    ];
    let launcher = &input.launcher.metadata;
    Pod {
        metadata: ObjectMeta {
            name: Some(attachment_name(&uid, input.volume)),
            namespace: metadata.namespace.clone(),
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value))
                    .into_iter()
                    .collect(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                block_owner_deletion: None,
                controller: Some(true),
                kind: "Pod".to_owned(),
                name: launcher.name.clone().unwrap_or_default(),
                uid: launcher.uid.clone().unwrap_or_default(),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(input)),
        status: None,
    }
}

fn spec(input: &Attach<'_>) -> PodSpec {
    let Attach {
        vmi,
        launcher,
        volume,
        claim,
        mode,
        settings,
    } = input;
    let node = launcher
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone());
    let volume_in_pod = volume_name(volume);
    let mount = |name: &str, path: String| VolumeMount {
        name: name.to_owned(),
        mount_path: path,
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(RUN_VOLUME, paths::RUN.to_owned())];
    let device = match mode {
        ClaimMode::Block => Some(vec![VolumeDevice {
            device_path: held(volume),
            name: volume_in_pod.clone(),
        }]),
        ClaimMode::Filesystem => {
            mounts.push(mount(&volume_in_pod, held(volume)));
            None
        }
    };
    let secrets = settings.pull_secrets.iter().cloned();
    PodSpec {
        affinity: Some(on_node(node.unwrap_or_default())),
        automount_service_account_token: Some(false),
        containers: vec![Container {
            name: ATTACHMENTS.to_owned(),
            image: Some(settings.image.clone()),
            image_pull_policy: Some(settings.pull_policy.clone()),
            command: Some(HOLD_COMMAND.map(str::to_owned).into()),
            resources: Some(ResourceRequirements {
                claims: None,
                limits: Some(quantities(&LIMITS)),
                requests: Some(quantities(&REQUESTS)),
            }),
            security_context: Some(container_security()),
            volume_devices: device,
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        enable_service_links: Some(false),
        image_pull_secrets: some(secrets.map(|name| LocalObjectReference { name }).collect()),
        priority_class_name: vmi.spec.priority_class_name.clone(),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(i64::from(ATTACHMENT_GRACE)),
        // Where its machine runs, it may run too.
        tolerations: Some(vec![Toleration {
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        }]),
        volumes: Some(vec![
            Volume {
                name: RUN_VOLUME.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            },
            Volume {
                name: volume_in_pod.clone(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: (*claim).to_owned(),
                    read_only: None,
                }),
                ..Volume::default()
            },
        ]),
        ..PodSpec::default()
    }
}

/// On that node and no other; by way of the scheduler, which also binds claims that wait for a consumer.
fn on_node(name: String) -> Affinity {
    let node = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![name]),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_expressions: None,
                    match_fields: Some(vec![node]),
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn quantities(list: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    let pair = |(name, amount): &(&str, &str)| ((*name).to_owned(), Quantity((*amount).to_owned()));
    list.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_attachment_pod_goes_with_its_launcher_and_stands_on_its_node() {
        let vmi = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": {"domain": {"devices": {}}},
        }))
        .unwrap();
        let launcher = serde_json::from_value(json!({
            "metadata": {"name": "virt-launcher-web-x", "uid": "p1"}, "spec": {"nodeName": "n1", "containers": []},
        }))
        .unwrap();
        let pod = |mode| {
            let pod = attachment(&Attach {
                vmi: &vmi,
                launcher: &launcher,
                volume: "run",
                claim: "data",
                mode,
                settings: &Settings::new("node:1", "Never"),
            });
            serde_json::to_value(pod).unwrap()
        };
        let device = &pod(ClaimMode::Block)["spec"]["containers"][0];
        assert_eq!(
            device["volumeDevices"],
            json!([{"name": "vm-run", "devicePath": "/disks/run"}])
        );
        assert_eq!(
            device["volumeMounts"],
            json!([{"name": "run", "mountPath": "/vm"}])
        );
        let pod = pod(ClaimMode::Filesystem);
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "p1");
        assert_eq!(pod["metadata"]["namespace"], "shop");
        let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            terms["nodeSelectorTerms"][0]["matchFields"][0],
            json!({"key": "metadata.name", "operator": "In", "values": ["n1"]})
        );
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"],
            json!([{"name": "run", "mountPath": "/vm"}, {"name": "vm-run", "mountPath": "/disks/run"}])
        );
        assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 107);
    }

    #[test]
    fn names_differ_by_instance_and_volume() {
        let name = attachment_name("u1", "data");
        assert!(name.starts_with("hp-volume-") && name.len() == 20, "{name}");
        assert_ne!(name, attachment_name("u2", "data"));
        assert_ne!(name, attachment_name("u1", "more"));
    }
}
