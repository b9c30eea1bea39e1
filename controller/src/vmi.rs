//! `VirtualMachineInstance` to launcher pod, and the pod's fate back into the instance.
//!
//! ```text
//!  Pending ──pod made──▶ (1 s later: Scheduling) ──pod runs──▶ Scheduled ──▶ the node daemon's: Running, Succeeded, Failed
//!     │                            │                               │                        │
//!     └─────── no such image, no node, invalid: condition ─────────┘      pod proved gone: final phase, finalizer off
//! ```
//!
//! The controller owns the phase until Scheduled and again once the pod is proved gone; in between the node daemon does.

mod apply;
pub mod build;
pub(crate) mod decide;
mod fate;
mod fetch;
mod hotplug;
mod kept_pod;
mod pod_view;
mod scheduler;
mod state;

use std::time::Duration;

use catamaran_api::VirtualMachineInstance;
use catamaran_spec::{Context, MachineSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Next;

pub use kept_pod::{instance as instance_of, pare as pare_pod};

use crate::error::Error;
use crate::objects::Key;
use crate::vmi::decide::{Decision, PodAction};
use crate::vmi::pod_view::{PodState, PodView};
use crate::world::World;

/// Pause in seconds between looks for a claim that is not there.
const MISSING: u64 = 3;

/// Label of a launcher pod with the name of its instance.
pub const NAME_LABEL: &str = "vm.kubevirt.io/name";
/// The same, as Services of the peer's newer command lines select it: names that are too long for a label are refused.
pub const ID_LABEL: &str = "vmi.kubevirt.io/id";
/// Label `kubevirt.io` of attachment pods, as the peer's.
pub const ATTACHMENTS: &str = "hotplug-disk";
/// Label of an attachment pod with the name of its instance.
pub const ATTACHMENT_OF: &str = "catamaran.dev/attachment-of";

/// Whether nothing runs in a pod any more, by what its kubelet says.
#[must_use]
pub fn is_over(pod: &Pod) -> bool {
    matches!(PodView::of(pod).state, PodState::Ended { .. })
}

/// Brings one instance on its way.
///
/// # Errors
/// What the API server says. The instance is looked at again later.
pub async fn reconcile(world: &World, key: &Key) -> Result<Next, Error> {
    let Some(mut vmi) = world.instances.get(key) else {
        return Ok(Next::await_change());
    };
    let pod = fetch::pod(world, key, &vmi).await?;
    let view = pod.as_ref().map(PodView::of);
    let fate = match view {
        Some(_) => None,
        None => fetch::fate(world, &vmi).await?,
    };
    let node = view.as_ref().and_then(|view| view.node.as_deref());
    let node = node.and_then(|name| world.nodes.get(name));
    let now = Timestamp::now().as_second();
    let mut decision = decide::decide(&vmi, view.as_ref(), fate.as_ref(), node, now);
    let mut retry = None;
    if decision.pod == PodAction::Create {
        // The finalizer stands before there is anything to be finalized.
        vmi = apply::hold(world, vmi).await?;
        match MachineSpec::from_vmi(&vmi, Context::Cluster) {
            Ok((machine, _)) => match apply::create_pod(world, key, &vmi, &machine).await {
                Ok(()) => {}
                Err(error) if error.problem.is_none() => return Err(error.source),
                Err(error) => {
                    let (reason, words) = error.problem.unwrap_or_default();
                    decision.cannot(&reason, &words, now);
                    if matches!(error.source, Error::Missing { .. }) {
                        decision.again_in = Some(MISSING);
                    } else {
                        retry = Some(error.source);
                    }
                }
            },
            Err(faults) => decision.refuse(&faults.to_string(), now),
        }
    }
    // A volume that can't be brought holds up nothing else that is to be said of the instance.
    let attached = attachments(world, key, &vmi, pod.as_ref(), &mut decision).await;
    apply::apply(world, key, &vmi, pod.as_ref(), &decision).await?;
    match (retry.or(attached.err()), decision.again_in) {
        (Some(error), _) => Err(error),
        (None, Some(seconds)) => Ok(Next::requeue(Duration::from_secs(seconds))),
        (None, None) => Ok(Next::await_change()),
    }
}

/// Brings the pods of volumes that come and go to what the instance asks for; what is said of them is a part of the decision.
async fn attachments(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    launcher: Option<&Pod>,
    decision: &mut Decision,
) -> Result<(), Error> {
    let volumes = hotplug::volumes(vmi);
    if volumes.is_empty() {
        return Ok(());
    }
    let view = launcher.map(PodView::of);
    let run = decision.run(vmi, view.as_ref());
    let known = fetch::attachments(world, key, vmi, &volumes, launcher, run).await?;
    let mut plan = hotplug::decide(vmi, run, &known);
    let done = apply::attachments(world, key, vmi, launcher, &mut plan).await;
    decision.status.volume_status = plan.status;
    decision.again_in = [decision.again_in, plan.again_in]
        .into_iter()
        .flatten()
        .min();
    done
}
