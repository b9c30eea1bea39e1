//! Verbs on machines: what they may do is decided by `catamaran-lifecycle`; here it is carried out by editing stored objects or asking the launcher.

use std::path::PathBuf;
use std::sync::Arc;

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use catamaran_lifecycle::{BackOff, Change, StateChangeRequest, Verdict, VmView, VmiView};
use catamaran_wire::Verb;
use serde::Deserialize;
use serde_json::Value;

use crate::machine::launcher::LauncherError;
use crate::machine::status;
use crate::serve::api::answer::Refusal;
use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind, Stored};

/// Options of a verb, as in the peer's API.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// `start`: the guest waits for `unpause`.
    #[serde(default)]
    paused: bool,
    /// `stop`: seconds until the plug is pulled.
    grace_period: Option<u32>,
    /// `restart`: absent, or 0 to pull the plug at once.
    grace_period_seconds: Option<u32>,
}

/// Runs a verb; the answer is a sentence for people.
///
/// # Errors
/// When there is no such machine or verb, or its state does not allow it.
pub async fn run(
    daemon: &Arc<Daemon>,
    namespace: &str,
    name: &str,
    verb: &str,
    options: &Options,
) -> Result<String, Refusal> {
    let (vm_key, vmi_key) = (
        Key::new(Kind::VirtualMachine, namespace, name),
        Key::new(Kind::VirtualMachineInstance, namespace, name),
    );
    let vm = daemon
        .store
        .get(&vm_key)
        .filter(|stored| !stored.deleting());
    let vmi = daemon.store.get(&vmi_key);
    let vmi_view = vmi
        .as_ref()
        .map(|stored| typed::<VirtualMachineInstance>(stored).map(|vmi| VmiView::of(&vmi)))
        .transpose()?;
    let vm_view = || -> Result<VmView, Refusal> {
        let stored = vm.as_ref().ok_or_else(|| match &vmi {
            Some(_) => Refusal::conflict(format!("{name} is an instance without a virtual machine: it can't be started, stopped or restarted; delete it instead")),
            None => Refusal::not_found(format!("{vm_key} not found")),
        })?;
        VmView::of(&typed::<VirtualMachine>(stored)?, "", BackOff::default())
            .map_err(|error| Refusal::failed(error.to_string()))
    };
    let instance = || {
        vmi_view.as_ref().ok_or_else(|| {
            Refusal::not_found(format!("{vmi_key} not found: the machine does not run"))
        })
    };
    let (verdict, done) = match verb {
        "start" => (
            catamaran_lifecycle::start(&vm_view()?, vmi_view.as_ref(), options.paused),
            "is being started",
        ),
        "stop" => (
            catamaran_lifecycle::stop(&vm_view()?, vmi_view.as_ref(), options.grace_period),
            "is being stopped",
        ),
        "restart" => (
            catamaran_lifecycle::restart(
                &vm_view()?,
                vmi_view.as_ref(),
                options.grace_period_seconds,
            ),
            "is being restarted",
        ),
        "pause" => (catamaran_lifecycle::pause(instance()?), "is paused"),
        "unpause" => (catamaran_lifecycle::unpause(instance()?), "goes on"),
        "reset" => (catamaran_lifecycle::reset(instance()?), "was reset"),
        "soft-reboot" => (
            catamaran_lifecycle::soft_reboot(instance()?),
            "was asked to reboot",
        ),
        other => {
            return Err(Refusal::not_found(format!(
                "verb {other:?} is not known: allowed are start, stop, restart, pause, unpause, reset and soft-reboot"
            )));
        }
    };
    match verdict {
        Verdict::Ignored(words) => Ok(words),
        Verdict::Denied { code, message } => Err(Refusal::code(code, message)),
        Verdict::Accepted(changes) => {
            for change in changes {
                carry_out(daemon, &vm_key, &vmi_key, change).await?;
            }
            Ok(done.to_owned())
        }
    }
}

async fn carry_out(
    daemon: &Arc<Daemon>,
    vm: &Key,
    vmi: &Key,
    change: Change,
) -> Result<(), Refusal> {
    let verb = match change {
        Change::RunStrategy(strategy) => {
            let stored = daemon
                .store
                .get(vm)
                .ok_or_else(|| Refusal::not_found(format!("{vm} not found")))?;
            let mut spec = typed::<VirtualMachine>(&stored)?.spec;
            strategy.write(&mut spec);
            daemon
                .store
                .edit(vm, |object| status::set_strategy(object, &spec))?;
            return Ok(());
        }
        Change::Requests(requests) => {
            let requests: Vec<_> = requests.iter().map(StateChangeRequest::to_wire).collect();
            let requests = serde_json::to_value(requests)
                .map_err(|error| Refusal::failed(error.to_string()))?;
            daemon.store.edit(vm, |object| {
                object["status"]["stateChangeRequests"] = requests;
            })?;
            return Ok(());
        }
        Change::GracePeriod(seconds) => {
            daemon.store.edit(vmi, |object| {
                object["spec"]["terminationGracePeriodSeconds"] = seconds.into();
            })?;
            return Ok(());
        }
        // The machine's task clears it: the changed run strategy is a changed machine.
        Change::ClearBackOff => return Ok(()),
        Change::Pause => Verb::Pause,
        Change::Unpause => Verb::Unpause,
        Change::SoftReboot { .. } => Verb::SoftReboot,
        Change::Reset => Verb::Reset,
        Change::Freeze => agent(r#"{"execute":"guest-fsfreeze-freeze"}"#),
        Change::Unfreeze => agent(r#"{"execute":"guest-fsfreeze-thaw"}"#),
    };
    ask(daemon, &vmi.namespace, &vmi.name, verb).await?;
    Ok(())
}

fn agent(command: &str) -> Verb {
    Verb::Agent {
        command: serde_json::from_str(command).unwrap_or_default(),
        timeout_seconds: 10,
    }
}

/// Asks the launcher of a running machine.
///
/// # Errors
/// When it does not run or the launcher refuses.
pub async fn ask(
    daemon: &Arc<Daemon>,
    namespace: &str,
    name: &str,
    verb: Verb,
) -> Result<Value, Refusal> {
    let key = Key::new(Kind::VirtualMachineInstance, namespace, name);
    let launcher = daemon
        .machines
        .launcher(&key)
        .ok_or_else(|| not_running(daemon, &key))?;
    launcher.ask(verb).await.map_err(|error| match error {
        LauncherError::Refused(refused) => Refusal::conflict(refused.message),
        other => Refusal::failed(catamaran_client::chain(&other)),
    })
}

/// The run folder of a running machine, for streams.
///
/// # Errors
/// When it does not run.
pub fn running(daemon: &Arc<Daemon>, namespace: &str, name: &str) -> Result<PathBuf, Refusal> {
    let key = Key::new(Kind::VirtualMachineInstance, namespace, name);
    match daemon.machines.launcher(&key) {
        Some(_)
            if daemon.store.get(&key).is_some_and(|stored| {
                status::phase_of(&stored.object) == catamaran_lifecycle::Phase::Running
            }) =>
        {
            Ok(daemon.layout.machine(&key).run())
        }
        _ => Err(not_running(daemon, &key)),
    }
}

fn not_running(daemon: &Daemon, key: &Key) -> Refusal {
    match daemon.store.get(key) {
        Some(stored) => Refusal::bad_request(format!(
            "{} is not running (phase {})",
            key.name,
            status::phase_of(&stored.object)
        )),
        None if daemon
            .store
            .get(&key.with_kind(Kind::VirtualMachine))
            .is_some() =>
        {
            Refusal::bad_request(format!("{} is not running", key.name))
        }
        None => Refusal::not_found(format!(
            "virtual machine {}/{} not found",
            key.namespace, key.name
        )),
    }
}

fn typed<T: serde::de::DeserializeOwned>(stored: &Stored) -> Result<T, Refusal> {
    stored
        .typed()
        .map_err(|error| Refusal::failed(format!("the stored object is not readable: {error}")))
}
