//! Whether the pod of a machine may be evicted. It may, so that a drain always ends, unless the machine's strategy is `External`: then
//! somebody else moves it, and is told by `status.evacuationNodeName`.

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use catamaran_lifecycle::RunStrategy;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::review::{Request, Verdict};
use crate::answer::chain;

/// Label of attachment pods: the instance that they hold a volume for.
const ATTACHMENT_OF: &str = "catamaran.dev/attachment-of";

/// What is done about an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Course {
    /// The pod goes. The sentence says what becomes of the machine.
    Goes(String),
    /// Somebody else moves it.
    Moves(String),
}

/// The answer about a pod. A pod that is nobody's, or a look that fails, does not hold up a drain.
pub(super) async fn judge(client: &Client, request: &Request) -> Verdict {
    match look(client, request).await {
        Ok(verdict) => verdict,
        Err(error) => {
            tracing::warn!(
                pod = request.name,
                namespace = request.namespace,
                error = chain(&error),
                "an eviction is allowed without a look"
            );
            Verdict::allowed()
        }
    }
}

async fn look(client: &Client, request: &Request) -> kube::Result<Verdict> {
    let namespace = request.namespace.as_str();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let Some(pod) = pods.get_opt(&request.name).await? else {
        return Ok(Verdict::allowed());
    };
    if let Some(words) = attachment(&pods, &pod).await? {
        return Ok(Verdict::too_many_requests(words));
    }
    let Some(owner) = pod
        .owner_references()
        .iter()
        .find(|o| o.kind == "VirtualMachineInstance" && o.controller == Some(true))
    else {
        return Ok(Verdict::allowed());
    };
    let instances = Api::<VirtualMachineInstance>::namespaced(client.clone(), namespace);
    let Some(vmi) = instances.get_opt(&owner.name).await? else {
        return Ok(Verdict::allowed());
    };
    let machines = Api::<VirtualMachine>::namespaced(client.clone(), namespace);
    let owned = vmi
        .owner_references()
        .iter()
        .any(|o| o.kind == "VirtualMachine");
    let vm = if owned {
        machines.get_opt(&owner.name).await?
    } else {
        None
    };
    match course(&vmi, vm.as_ref()) {
        Course::Goes(words) => {
            if !request.dry_run {
                tell(client, &vmi, &request.name, &words).await?;
            }
            Ok(Verdict::allowed())
        }
        Course::Moves(words) => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let told = vmi
                .status
                .as_ref()
                .and_then(|s| s.evacuation_node_name.as_ref());
            if !request.dry_run && told != node.as_ref() {
                let params = PatchParams::default();
                let patch = json!({"status": {"evacuationNodeName": node}});
                instances
                    .patch(&owner.name, &params, &Patch::Merge(&patch))
                    .await?;
            }
            Ok(Verdict::too_many_requests(words))
        }
    }
}

/// Why a pod that holds a claim for a guest stays: the guest would lose its disk. It goes after its launcher.
async fn attachment(pods: &Api<Pod>, pod: &Pod) -> kube::Result<Option<String>> {
    let Some(instance) = pod.labels().get(ATTACHMENT_OF) else {
        return Ok(None);
    };
    for owner in pod.owner_references().iter().filter(|o| o.kind == "Pod") {
        let launcher = pods.get_opt(&owner.name).await?;
        if launcher.is_some_and(|launcher| launcher.uid().as_ref() == Some(&owner.uid)) {
            return Ok(Some(format!(
                "The pod holds a volume that is plugged into VMI \"{}/{instance}\": it goes when pod {} has gone or the volume is removed",
                pod.namespace().unwrap_or_default(),
                owner.name
            )));
        }
    }
    Ok(None)
}

fn course(vmi: &VirtualMachineInstance, vm: Option<&VirtualMachine>) -> Course {
    let who = format!(
        "\"{}/{}\"",
        vmi.namespace().unwrap_or_default(),
        vmi.name_any()
    );
    if vmi.spec.eviction_strategy.as_deref() == Some("External") {
        let moving = vmi
            .status
            .as_ref()
            .is_some_and(|status| status.evacuation_node_name.is_some());
        return Course::Moves(if moving {
            format!("Evacuation in progress: Eviction triggered evacuation of VMI {who}")
        } else {
            format!("Eviction triggered evacuation of VMI {who}")
        });
    }
    let strategy = vm.and_then(|vm| RunStrategy::of(&vm.spec).ok());
    Course::Goes(match strategy {
        Some(RunStrategy::Always) => {
            "the pod is evicted: the guest is shut down and started anew where there is room".to_owned()
        }
        Some(strategy) => format!(
            "the pod is evicted: the guest is shut down and stays down, as its run strategy is {strategy}"
        ),
        None => "the pod is evicted: the guest is shut down and stays down, as no VirtualMachine owns the instance".to_owned(),
    })
}

/// Says it once for a pod: a drain asks again and again, and anybody who reaches the webhook could.
async fn tell(
    client: &Client,
    vmi: &VirtualMachineInstance,
    pod: &str,
    words: &str,
) -> kube::Result<()> {
    let namespace = vmi.namespace().unwrap_or_default();
    let now = Some(Time(Timestamp::now()));
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{pod}.evicted")),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(catamaran_api::API_VERSION.to_owned()),
            kind: Some("VirtualMachineInstance".to_owned()),
            name: vmi.metadata.name.clone(),
            namespace: Some(namespace.clone()),
            uid: vmi.metadata.uid.clone(),
            ..ObjectReference::default()
        },
        reason: Some("Evicted".to_owned()),
        message: Some(words.to_owned()),
        type_: Some("Normal".to_owned()),
        source: Some(EventSource {
            component: Some("catamaran-controller".to_owned()),
            ..EventSource::default()
        }),
        first_timestamp: now.clone(),
        last_timestamp: now,
        count: Some(1),
        ..Event::default()
    };
    let events = Api::<Event>::namespaced(client.clone(), &namespace);
    match events.create(&PostParams::default(), &event).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use catamaran_api::{VirtualMachine, VirtualMachineInstance};
    use serde_json::json;

    use super::{Course, course};

    fn vmi(strategy: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"domain": {"devices": {}}, "evictionStrategy": strategy},
        }))
        .unwrap()
    }

    fn vm(strategy: &str) -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"runStrategy": strategy, "template": {}},
        }))
        .unwrap()
    }

    #[test]
    fn a_drain_is_never_held_up_by_a_strategy_that_wants_to_migrate() {
        for strategy in ["None", "LiveMigrate", "LiveMigrateIfPossible"] {
            assert!(matches!(
                course(&vmi(strategy), Some(&vm("Always"))),
                Course::Goes(_)
            ));
        }
    }

    #[test]
    fn what_stays_down_is_said() {
        for owner in [Some("Manual"), Some("Once"), Some("RerunOnFailure"), None] {
            let vm = owner.map(vm);
            let Course::Goes(words) = course(&vmi("None"), vm.as_ref()) else {
                panic!()
            };
            assert!(words.contains("stays down"), "{words}");
        }
    }

    #[test]
    fn external_is_moved_by_somebody_else() {
        assert_eq!(
            course(&vmi("External"), Some(&vm("Always"))),
            Course::Moves("Eviction triggered evacuation of VMI \"d/a\"".to_owned())
        );
    }
}
