//! The writes of an instance's life.

use catamaran_api::VirtualMachineInstance;
use catamaran_spec::MachineSpec;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::error::Error;
use crate::finalizers;
use crate::objects::{Key, only};
use crate::patch::{self, INSTANCE_MANAGER, Part};
use crate::vmi::build::{self, Input};
use crate::vmi::decide::{Decision, PodAction};
use crate::vmi::fetch;
use crate::vmi::hotplug;
use crate::vmi::pod_view::GATE;
use crate::vmi::state;
use crate::world::World;

/// Label of an instance: the node whose daemon drives it.
const NODE_LABEL: &str = "kubevirt.io/nodeName";

fn instances(world: &World, key: &Key) -> Api<VirtualMachineInstance> {
    Api::namespaced(world.client.clone(), &key.namespace)
}

/// Keeps the instance until its pod is proved gone. Instances of machines and those that came through admission are kept already.
pub(super) async fn hold(
    world: &World,
    vmi: VirtualMachineInstance,
) -> Result<VirtualMachineInstance, Error> {
    if finalizers::has(&vmi.metadata, finalizers::INSTANCE) {
        return Ok(vmi);
    }
    let change = finalizers::add(&vmi.metadata, finalizers::INSTANCE);
    let api = instances(world, &Key::of(&vmi));
    let new = patch::merge(&api, &vmi, change, Part::Main, INSTANCE_MANAGER).await?;
    world.instances.put(new.clone());
    Ok(new)
}

/// Why a pod was not made.
#[derive(Debug)]
pub(super) struct NotMade {
    /// What people are told: (reason, message); absent when it was only a matter of time.
    pub(super) problem: Option<(String, String)>,
    /// The error.
    pub(super) source: Error,
}

impl From<Error> for NotMade {
    fn from(source: Error) -> Self {
        let problem = (source.is_refusal() && !source.is_conflict())
            .then(|| ("FailedCreate".to_owned(), source.words()));
        Self { problem, source }
    }
}

/// Makes the pod.
pub(super) async fn create_pod(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    machine: &MachineSpec,
) -> Result<(), NotMade> {
    let claims = fetch::claims(world, key, machine).await?;
    if let Some(missing) = claims.missing {
        let words = format!(
            "PersistentVolumeClaim {}/{missing} is not there",
            key.namespace
        );
        return Err(NotMade {
            source: Error::Missing {
                what: words.clone(),
            },
            problem: Some(("FailedPvcNotFound".to_owned(), words)),
        });
    }
    let settings = world.settings();
    state::ensure(world, vmi, machine, &settings).await?;
    let pod = build::pod(&Input {
        vmi,
        machine,
        claims: &claims.modes,
        settings: &settings,
    });
    let name = pod.name_any();
    match make(world, key, &pod, vmi.metadata.uid.as_ref()).await {
        // A machine's own event says it already.
        Ok(true) if vmi.metadata.owner_references.is_none() => {
            let note = format!("Created virtual machine pod {name}");
            world.events.normal(vmi, "SuccessfulCreate", note).await;
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(source @ Error::Taken { .. }) => Err(NotMade {
            problem: Some(("FailedCreate".to_owned(), source.to_string())),
            source,
        }),
        Err(error) => Err(error.into()),
    }
}

/// Makes a pod of an owner's; whether it was not there yet.
async fn make(world: &World, key: &Key, pod: &Pod, owner: Option<&String>) -> Result<bool, Error> {
    let name = pod.name_any();
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &key.namespace);
    let params = PostParams {
        field_manager: Some(INSTANCE_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let what = format!("create pod {}/{name}", key.namespace);
    match api.create(&params, pod).await.map_err(Error::api(what)) {
        Ok(made) => {
            world.pods.put(made);
            Ok(true)
        }
        // The cache has not seen it yet, or it is somebody else's.
        Err(error) if error.already_exists() => {
            let what = format!("read pod {}/{name}", key.namespace);
            let there = api.get(&name).await.map_err(Error::api(what))?;
            let mut owners = there.metadata.owner_references.iter().flatten();
            if owners.all(|other| Some(&other.uid) != owner) {
                return Err(Error::Taken {
                    what: format!("pod {}/{name}", key.namespace),
                });
            }
            world.pods.put(there);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Carries out a decision about the instance as it was read: the pod first, then what is said about it, so that nothing is said that is not so.
pub(super) async fn apply(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    pod: Option<&Pod>,
    decision: &Decision,
) -> Result<(), Error> {
    if let Some(pod) = pod {
        if let PodAction::Delete { grace } = decision.pod {
            delete_pod(world, key, pod, grace).await?;
        }
        if let Some(open) = decision.gate {
            gate(world, key, pod, open).await?;
        }
    }
    if let Some((reason, words)) = &decision.warning {
        world.events.warning(vmi, reason, words).await;
    }
    write(world, key, vmi, decision).await
}

/// Makes and removes the pods of volumes that come and go.
pub(super) async fn attachments(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    launcher: Option<&Pod>,
    plan: &mut hotplug::Plan,
) -> Result<(), Error> {
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    for volume in &plan.delete {
        let name = build::attachment_name(uid, volume);
        if let Some(pod) = world.pods.get(&key.named(&name)) {
            delete_pod(world, key, &pod, build::ATTACHMENT_GRACE).await?;
        }
    }
    let Some(launcher) = launcher else {
        return Ok(());
    };
    let mut failed = None;
    for create in plan.create.clone() {
        let made = attachment(world, key, vmi, launcher, &create).await;
        if let Err(error) = made {
            plan.failed(&create.volume, &error.words());
            failed = failed.or(Some(error));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Makes the pod of a volume.
async fn attachment(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    launcher: &Pod,
    create: &hotplug::Create,
) -> Result<(), Error> {
    let hotplug::Create {
        volume,
        claim,
        mode,
    } = create;
    let pod = build::attachment(&build::Attach {
        vmi,
        launcher,
        volume,
        claim,
        mode: *mode,
        settings: &world.settings(),
    });
    if make(world, key, &pod, launcher.metadata.uid.as_ref()).await? {
        let note = format!(
            "Created attachment pod {} for volume {volume}",
            pod.name_any()
        );
        world.events.normal(vmi, "SuccessfulCreate", note).await;
    }
    Ok(())
}

/// Status, labels and finalizer in one write.
async fn write(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    decision: &Decision,
) -> Result<(), Error> {
    let old = vmi.status.clone().unwrap_or_default();
    let mut change = json!({});
    if let Some(status) = patch::difference(&old, &decision.status) {
        change["status"] = status;
    }
    if let Some(node) = &decision.hand_over {
        change["metadata"]["labels"][NODE_LABEL] = json!(node);
    }
    if decision.release {
        change["metadata"]["finalizers"] = finalizers::remove(&vmi.metadata, finalizers::INSTANCE)
            ["metadata"]["finalizers"]
            .take();
    }
    if change == json!({}) {
        return Ok(());
    }
    if old.phase != decision.status.phase {
        tracing::info!(
            vm.namespace = key.namespace,
            vm.name = key.name,
            vm.uid = vmi.metadata.uid,
            from = old.phase,
            to = decision.status.phase,
            reason = decision.status.reason,
            "instance"
        );
    }
    let api = instances(world, key);
    match patch::merge(&api, vmi, change, Part::Main, INSTANCE_MANAGER).await {
        Ok(new) => world.instances.put(new),
        Err(error) if error.not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn delete_pod(world: &World, key: &Key, pod: &Pod, grace: u32) -> Result<(), Error> {
    let name = pod.name_any();
    let params = DeleteParams {
        grace_period_seconds: Some(grace),
        ..only(pod.uid())
    };
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &key.namespace);
    let what = format!("delete pod {}/{name}", key.namespace);
    match api.delete(&name, &params).await.map_err(Error::api(what)) {
        Ok(answer) => {
            if let Some(going) = answer.left() {
                world.pods.put(going);
            }
            Ok(())
        }
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens or closes the pod's readiness gate: Services send traffic to a guest that runs.
async fn gate(world: &World, key: &Key, pod: &Pod, open: bool) -> Result<(), Error> {
    let name = pod.name_any();
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (status, reason) = if open {
        ("True", "NotPaused")
    } else {
        ("False", "Paused")
    };
    let change = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
        "type": GATE, "status": status, "reason": reason, "lastTransitionTime": now, "lastProbeTime": null,
    }]}});
    let params = PatchParams {
        field_manager: Some(INSTANCE_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &key.namespace);
    let what = format!("write status of pod {}/{name}", key.namespace);
    match api
        .patch_status(&name, &params, &Patch::Strategic(change))
        .await
        .map_err(Error::api(what))
    {
        Ok(new) => world.pods.put(new),
        Err(error) if error.not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
