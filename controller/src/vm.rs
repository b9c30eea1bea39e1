//! `VirtualMachine` to `VirtualMachineInstance`: the shell around `catamaran-lifecycle` on Kubernetes.
//!
//! ```text
//!            fetch, pin            decide (pure)                 apply
//!   caches ────────▶ VM and its VMI ─────────▶ what is to be done ─────▶ create or delete the VMI, write the VM's status
//! ```
//!
//! The caches see our own writes at once, so that after each step the machine is simply looked at again. From create to Running a machine
//! costs two writes of its status: Starting, when its instance is there, and Running.

mod apply;
mod fetch;
mod meaning;
mod pin;
mod start_revision;
mod status;

use std::time::Duration;

use catamaran_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec};
use catamaran_lifecycle::{
    Action, BackOff, Facts, Phase, VmView, VmiView, decide, follow_template, template_digest,
};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Next;

use crate::error::Error;
use crate::finalizers;
use crate::objects::Key;
use crate::vm::fetch::Found;
use crate::vm::pin::Pinned;
use crate::world::World;

/// Most rounds of one reconciliation. Each step of a life takes one; more means that two decisions contradict.
const ROUNDS: u32 = 8;

/// Brings one machine to what its spec asks for.
///
/// # Errors
/// What the API server says. The machine is looked at again later.
pub async fn reconcile(world: &World, key: &Key) -> Result<Next, Error> {
    for _ in 0..ROUNDS {
        let Some(vm) = world.machines.get(key) else {
            return Ok(Next::await_change());
        };
        match Box::pin(round(world, key, &vm)).await? {
            Round::Again => {}
            Round::Done(next) => return Ok(next),
        }
    }
    Ok(Next::requeue(Duration::from_secs(1)))
}

enum Round {
    /// Something was written: look again.
    Again,
    /// Nothing is left to do.
    Done(Next),
}

async fn round(world: &World, key: &Key, vm: &VirtualMachine) -> Result<Round, Error> {
    let deleting = vm.metadata.deletion_timestamp.is_some();
    let ours = finalizers::has(&vm.metadata, finalizers::MACHINE);
    if deleting && (!ours || finalizers::has(&vm.metadata, finalizers::ORPHAN)) {
        // Nothing keeps the machine, or its instance is to be left alone.
        if ours {
            apply::release(world, vm).await?;
        }
        return Ok(Round::Done(Next::await_change()));
    }
    if !ours {
        apply::hold(world, vm).await?;
        return Ok(Round::Again);
    }
    let pinned = if deleting {
        // A machine that goes needs nothing any more.
        Ok(Pinned::Plain(vm))
    } else {
        Box::pin(pin::pin(world, key, vm)).await
    };
    let merged;
    let (machine, problem) = match pinned {
        Ok(Pinned::Again) => return Ok(Round::Again),
        Ok(Pinned::Plain(machine)) => (machine, None),
        Ok(Pinned::Merged(machine)) => {
            merged = machine;
            (merged.as_ref(), None)
        }
        Err(error) if error.namespace_ends() => {
            return Ok(Round::Done(Next::requeue(Duration::from_secs(5))));
        }
        Err(error) if error.is_passing() => return Err(error),
        Err(error) => (vm, Some(error)),
    };
    let found = fetch::fetch(world, key, vm);
    let digest = template_digest(machine);
    let record = vm.status.as_ref().and_then(|s| s.start_failure.as_ref());
    let view = VmView::of(vm, &digest, BackOff::from_wire(record))?;
    let instance = found.instance.as_ref().map(VmiView::of);
    let facts = Facts {
        earlier_run_alive: found.earlier_run_alive,
        jitter_permille: jitter(&found),
    };
    // What can't be merged can't be compared either.
    let compared = found
        .instance
        .as_ref()
        .filter(|_| problem.is_none() && !deleting);
    let outdated = match compared {
        Some(vmi) => start_revision::outdated(world, key, machine, vmi).await?,
        None => false,
    };
    let now = Timestamp::now().as_second();
    let decision = decide(&view, instance.as_ref(), &facts, now);
    let input = status::Input {
        vm,
        view: &view,
        vmi: found.instance.as_ref(),
        outdated,
        decision: &decision,
        now,
    };
    // A machine that runs goes on and can be stopped; none is started without what it names.
    let ends = matches!(decision.action, Action::Delete { .. } | Action::Finalize);
    if let Some(error) = problem.filter(|_| !ends) {
        apply::failed(world, &input, &error.words()).await?;
        return Err(error);
    }
    match &decision.action {
        Action::Create { paused } => match apply::create(world, key, vm, machine, *paused).await {
            Ok(()) => return Ok(Round::Again),
            // The machine's own deletion comes next.
            Err(error) if error.namespace_ends() => {
                return Ok(Round::Done(Next::requeue(Duration::from_secs(5))));
            }
            Err(error) => {
                let words = format!(
                    "Error creating the virtual machine instance: {}",
                    error.words()
                );
                apply::failed(world, &input, &words).await?;
                return Err(error);
            }
        },
        Action::Delete { uid, reason } => {
            // What the run came to is stored before it can be forgotten with the instance.
            apply::status(world, &input, None).await?;
            apply::delete(world, key, vm, uid, reason).await?;
        }
        Action::Finalize => {
            apply::release(world, vm).await?;
            return Ok(Round::Done(Next::await_change()));
        }
        Action::Wait { reason } => {
            tracing::debug!(
                vm.namespace = key.namespace,
                vm.name = key.name,
                reason,
                "waiting"
            );
            apply::status(world, &input, None).await?;
        }
        Action::Nothing => apply::status(world, &input, None).await?,
    }
    let template = machine.spec.template.spec.as_ref();
    if let (Some(template), Some(vmi)) = (template, &found.instance)
        && !ends
        && let Some(spec) = followed(template, vmi)
    {
        apply::follow(world, vmi, &spec).await?;
        return Ok(Round::Again);
    }
    if let Some(strategy) = decision.rewrite {
        apply::rewrite(world, key, strategy).await?;
        return Ok(Round::Again);
    }
    Ok(Round::Done(match decision.again_at {
        Some(at) => Next::requeue(seconds(at - now + 1)),
        None => Next::await_change(),
    }))
}

/// The spec of a run with what its machine has changed since and needs no restart, where that is another one.
fn followed(
    template: &VirtualMachineInstanceSpec,
    vmi: &VirtualMachineInstance,
) -> Option<VirtualMachineInstanceSpec> {
    let phase = vmi.status.as_ref().and_then(|s| s.phase.as_deref());
    let over = vmi.metadata.deletion_timestamp.is_some() || Phase::parse(phase).is_final();
    if over {
        return None;
    }
    follow_template(template, vmi)
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
}

/// A number from 0 to 1000 for the back-off: different for each run, the same each time it is asked for.
fn jitter(found: &Found) -> u32 {
    let uid = found
        .instance
        .as_ref()
        .and_then(|vmi| vmi.metadata.uid.as_deref())
        .unwrap_or_default();
    uid.bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }) % 1001
}
