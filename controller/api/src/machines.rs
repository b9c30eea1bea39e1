//! start, stop, restart: decided by `catamaran-lifecycle`, carried out by patching the stored objects.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use catamaran_api::{
    RestartOptions, StartOptions, StopOptions, VirtualMachine, VirtualMachineInstance,
};
use catamaran_lifecycle::{BackOff, Change, StateChangeRequest, Verdict, VmView, VmiView};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::objects::{self, MACHINE, is_dry_run, read_body};

/// How often a decision is taken anew because the object changed meanwhile.
const ATTEMPTS: usize = 5;

/// A verb with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Start { paused: bool },
    Stop { grace_period: Option<u32> },
    Restart { grace_period: Option<u32> },
}

impl Order {
    fn decide(self, vm: &VmView, vmi: Option<&VmiView>) -> Verdict {
        match self {
            Self::Start { paused } => catamaran_lifecycle::start(vm, vmi, paused),
            Self::Stop { grace_period } => catamaran_lifecycle::stop(vm, vmi, grace_period),
            Self::Restart { grace_period } => catamaran_lifecycle::restart(vm, vmi, grace_period),
        }
    }
}

/// `PUT …/start`.
pub(crate) async fn start(
    client: &Client,
    namespace: &str,
    name: &str,
    body: &[u8],
) -> Result<Response, Refusal> {
    let options: StartOptions = read_body(body)?;
    let order = Order::Start {
        paused: options.paused.unwrap_or_default(),
    };
    carry_out(client, namespace, name, order, is_dry_run(&options.dry_run)).await
}

/// `PUT …/stop`.
pub(crate) async fn stop(
    client: &Client,
    namespace: &str,
    name: &str,
    body: &[u8],
) -> Result<Response, Refusal> {
    let options: StopOptions = read_body(body)?;
    let order = Order::Stop {
        grace_period: seconds(options.grace_period)?,
    };
    carry_out(client, namespace, name, order, is_dry_run(&options.dry_run)).await
}

/// `PUT …/restart`.
pub(crate) async fn restart(
    client: &Client,
    namespace: &str,
    name: &str,
    body: &[u8],
) -> Result<Response, Refusal> {
    let options: RestartOptions = read_body(body)?;
    let order = Order::Restart {
        grace_period: seconds(options.grace_period_seconds)?,
    };
    carry_out(client, namespace, name, order, is_dry_run(&options.dry_run)).await
}

fn seconds(given: Option<i64>) -> Result<Option<u32>, Refusal> {
    given
        .map(|seconds| {
            u32::try_from(seconds)
                .map_err(|_| Refusal::bad_request("gracePeriod has to be greater or equal to 0"))
        })
        .transpose()
}

async fn carry_out(
    client: &Client,
    namespace: &str,
    name: &str,
    order: Order,
    dry_run: bool,
) -> Result<Response, Refusal> {
    let mut attempt = 1;
    loop {
        let vm = objects::machine(client, namespace, name).await?;
        let vmi = objects::instance_opt(client, namespace, name).await?;
        let changes = decide(name, order, &vm, vmi.as_ref())?;
        match store(client, &vm, vmi.as_ref(), &changes, dry_run).await {
            Ok(()) => return Ok(StatusCode::ACCEPTED.into_response()),
            // Somebody wrote in between: what was decided may not hold any more.
            Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn decide(
    name: &str,
    order: Order,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Result<Vec<Change>, Refusal> {
    let view = VmView::of(vm, "", BackOff::default())
        .map_err(|error| Refusal::internal(error.to_string()))?;
    match order.decide(&view, vmi.map(VmiView::of).as_ref()) {
        Verdict::Accepted(changes) => Ok(changes),
        Verdict::Ignored(words) => Err(Refusal::conflict(MACHINE, name, &words)),
        Verdict::Denied { code, message } => Err(Refusal::verdict(code, MACHINE, name, &message)),
    }
}

/// What is written, object by object.
#[derive(Debug, Default, PartialEq)]
struct Patches {
    instance: Option<Value>,
    spec: Option<Value>,
    status: Option<Value>,
}

/// Merge patches that fail with a conflict when the machine has changed meanwhile.
fn patches(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    changes: &[Change],
) -> Patches {
    let mut patches = Patches::default();
    let mut status = serde_json::Map::new();
    for change in changes {
        match change {
            Change::GracePeriod(seconds) => {
                patches.instance = vmi.map(|vmi| {
                    json!({
                        "metadata": {"uid": vmi.uid()},
                        "spec": {"terminationGracePeriodSeconds": seconds},
                    })
                });
            }
            Change::RunStrategy(strategy) => {
                let mut spec = vm.spec.clone();
                strategy.write(&mut spec);
                patches.spec = Some(json!({
                    "metadata": {"resourceVersion": vm.resource_version()},
                    "spec": {"runStrategy": spec.run_strategy, "running": spec.running},
                }));
            }
            Change::Requests(requests) => {
                let requests: Vec<_> = requests.iter().map(StateChangeRequest::to_wire).collect();
                status.insert("stateChangeRequests".to_owned(), json!(requests));
            }
            Change::ClearBackOff => {
                let failure = vm.status.as_ref().and_then(|s| s.start_failure.as_ref());
                if failure.is_some() {
                    status.insert("startFailure".to_owned(), Value::Null);
                }
            }
            Change::Pause
            | Change::Unpause
            | Change::SoftReboot { .. }
            | Change::Reset
            | Change::Freeze
            | Change::Unfreeze => {}
        }
    }
    if !status.is_empty() {
        // Behind a write of the spec the version is another one.
        let metadata = if patches.spec.is_some() {
            json!({"uid": vm.uid()})
        } else {
            json!({"resourceVersion": vm.resource_version()})
        };
        patches.status = Some(json!({"metadata": metadata, "status": status}));
    }
    patches
}

async fn store(
    client: &Client,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    changes: &[Change],
    dry_run: bool,
) -> kube::Result<()> {
    let Patches {
        instance,
        spec,
        status,
    } = patches(vm, vmi, changes);
    let (namespace, name) = (vm.namespace().unwrap_or_default(), vm.name_any());
    let machines = Api::<VirtualMachine>::namespaced(client.clone(), &namespace);
    let params = PatchParams {
        dry_run,
        field_manager: Some("catamaran-api".to_owned()),
        ..PatchParams::default()
    };
    if let Some(patch) = instance {
        let instances = Api::<VirtualMachineInstance>::namespaced(client.clone(), &namespace);
        instances
            .patch(&name, &params, &Patch::Merge(&patch))
            .await?;
    }
    if let Some(patch) = spec {
        machines
            .patch(&name, &params, &Patch::Merge(&patch))
            .await?;
    }
    if let Some(patch) = status {
        machines
            .patch_status(&name, &params, &Patch::Merge(&patch))
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use catamaran_api::{VirtualMachine, VirtualMachineInstance};
    use serde_json::json;

    use super::{Order, decide, patches};

    fn vm(mut spec: serde_json::Value, status: serde_json::Value) -> VirtualMachine {
        spec["template"] = json!({"spec": {"domain": {"devices": {}}}});
        let mut vm = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "a", "namespace": "d", "uid": "u", "resourceVersion": "7"},
        });
        vm["spec"] = spec;
        vm["status"] = status;
        serde_json::from_value(vm).unwrap()
    }

    fn vmi(phase: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "a", "namespace": "d", "uid": "i"},
            "spec": {"domain": {"devices": {}}}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn starting_a_halted_machine_writes_the_strategy_where_the_spec_has_it() {
        for (spec, written) in [
            (
                json!({"runStrategy": "Halted"}),
                json!({"runStrategy": "Always", "running": null}),
            ),
            (
                json!({"running": false}),
                json!({"runStrategy": null, "running": true}),
            ),
        ] {
            let vm = vm(spec, json!({}));
            let changes = decide("a", Order::Start { paused: false }, &vm, None).unwrap();
            let found = patches(&vm, None, &changes);
            assert_eq!(found.spec.unwrap()["spec"], written);
            assert_eq!(found.status, None, "an empty back-off costs no write");
        }
    }

    #[test]
    fn stopping_for_good_with_a_grace_period_touches_the_instance_first() {
        let (vm, vmi) = (
            vm(json!({"runStrategy": "Manual"}), json!({})),
            vmi("Running"),
        );
        let order = Order::Stop {
            grace_period: Some(3),
        };
        let changes = decide("a", order, &vm, Some(&vmi)).unwrap();
        let found = patches(&vm, Some(&vmi), &changes);
        assert_eq!(
            found.instance.unwrap()["spec"],
            json!({"terminationGracePeriodSeconds": 3})
        );
        assert_eq!(
            found.status.unwrap(),
            json!({
                "metadata": {"resourceVersion": "7"},
                "status": {"stateChangeRequests": [{"action": "Stop", "uid": "i"}]},
            })
        );
    }

    #[test]
    fn a_request_forgets_the_back_off() {
        let failed = json!({"startFailure": {"consecutiveFailCount": 3}});
        let vm = vm(json!({"runStrategy": "Manual"}), failed);
        let changes = decide("a", Order::Start { paused: true }, &vm, None).unwrap();
        let status = patches(&vm, None, &changes).status.unwrap();
        assert_eq!(status["status"]["startFailure"], json!(null));
        assert!(
            status["status"]
                .as_object()
                .unwrap()
                .contains_key("startFailure")
        );
        assert_eq!(
            status["status"]["stateChangeRequests"][0]["data"]["paused"],
            "true"
        );
    }

    #[test]
    fn refusals_are_conflicts_in_the_peers_words() {
        let always = vm(json!({"runStrategy": "Always"}), json!({}));
        let halted = vm(json!({"runStrategy": "Halted"}), json!({}));
        let running = vmi("Running");
        let start = Order::Start { paused: false };
        let restart = Order::Restart { grace_period: None };
        for (order, vm, vmi, code, words) in [
            (start, &always, Some(&running), 409, "VM is already running"),
            (
                start,
                &always,
                None,
                409,
                "Always does not support manual start requests",
            ),
            (
                restart,
                &halted,
                None,
                409,
                "Halted does not support manual restart requests",
            ),
            (restart, &always, None, 409, "VM is not running"),
            (
                Order::Restart {
                    grace_period: Some(5),
                },
                &always,
                Some(&running),
                400,
                "For force restart, only gracePeriod=0 is supported for now",
            ),
        ] {
            let refusal = decide("a", order, vm, vmi).unwrap_err();
            assert_eq!(refusal.0.code, code);
            assert!(refusal.0.message.ends_with(words), "{}", refusal.0.message);
        }
    }
}
