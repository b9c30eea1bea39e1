//! Instancetypes and preferences found in a cluster that pretends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use catamaran_api::VirtualMachine;
use catamaran_spec::instancetype::Role;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::{Problem, Resolved, expanded, resolve, revision};

const GROUP: &str = "/apis/instancetype.kubevirt.io/v1beta1";

/// A client of an API server that has these objects, by path.
fn cluster(objects: &[(String, Value)]) -> Client {
    let objects: Arc<BTreeMap<String, Value>> = Arc::new(objects.iter().cloned().collect());
    let service = tower::service_fn(move |request: Request<Body>| {
        let objects = objects.clone();
        async move {
            let path = request.uri().path();
            let gone = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": path});
            let (code, answer) = objects
                .get(path)
                .map_or((StatusCode::NOT_FOUND, &gone), |o| (StatusCode::OK, o));
            let answer = Full::new(bytes::Bytes::from(answer.to_string()));
            let response = Response::builder()
                .status(code)
                .header("content-type", "application/json");
            Ok::<_, Infallible>(response.body(answer).unwrap())
        }
    });
    Client::new(service, "default")
}

fn object(kind: &str, namespace: Option<&str>, name: &str, memory: &str) -> (String, Value) {
    let plural = format!("{}s", kind.to_lowercase());
    let place = namespace.map_or_else(String::new, |n| format!("/namespaces/{n}"));
    let object = json!({
        "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": "t1", "generation": 3},
        "spec": {"cpu": {"guest": 2}, "memory": {"guest": memory}},
    });
    (format!("{GROUP}{place}/{plural}/{name}"), object)
}

fn machine(instancetype: &Value, status: &Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"instancetype": instancetype, "template": {"spec": {
            "domain": {"devices": {}}, "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}],
        }}},
        "status": status,
    }))
    .unwrap()
}

async fn found(objects: &[(String, Value)], vm: &VirtualMachine) -> Result<Resolved, String> {
    match resolve(&cluster(objects), &(), "shop", vm).await {
        Ok(found) => Ok(found),
        Err(Problem::Fields(errors)) => Err(errors.to_string()),
        Err(problem) => Err(format!("API: {problem}")),
    }
}

fn memory(found: &Resolved, vm: &VirtualMachine) -> String {
    let spec = found.expanded(vm).unwrap().spec.template.spec.unwrap();
    spec.domain.memory.unwrap().guest.unwrap().0
}

#[tokio::test]
async fn what_a_machine_names_is_found_in_its_namespace_or_in_the_cluster() {
    let cluster = object("VirtualMachineClusterInstancetype", None, "small", "1Gi");
    let own = object("VirtualMachineInstancetype", Some("shop"), "small", "2Gi");
    for (kind, expected) in [
        ("VirtualMachineClusterInstancetype", "1Gi"),
        ("virtualmachineinstancetype", "2Gi"),
    ] {
        let vm = machine(&json!({"name": "small", "kind": kind}), &json!({}));
        let found = found(&[cluster.clone(), own.clone()], &vm).await.unwrap();
        assert_eq!(memory(&found, &vm), expected);
    }
    let vm = machine(&json!({"name": "large"}), &json!({}));
    assert_eq!(
        found(&[cluster], &vm).await.unwrap_err(),
        "spec.instancetype.name: Invalid value: \"large\": there is no VirtualMachineClusterInstancetype of that name"
    );
}

#[tokio::test]
async fn a_machine_is_judged_with_what_it_names() {
    let small = object("VirtualMachineClusterInstancetype", None, "small", "1Gi");
    let client = cluster(&[small]);
    let vm = machine(&json!({"name": "small"}), &json!({}));
    let whole = expanded(&client, "shop", &vm).await.unwrap();
    assert_eq!(whole.spec.instancetype, None);
    let spec = whole.spec.template.spec.clone().unwrap();
    assert_eq!(spec.domain.memory.unwrap().guest.unwrap().0, "1Gi");
    // One that names nothing is whole already.
    let again = expanded(&cluster(&[]), "shop", &whole).await.unwrap();
    assert_eq!(again, whole);
    let lost = expanded(&cluster(&[]), "shop", &vm).await;
    assert!(matches!(lost, Err(Problem::Fields(_))), "{lost:?}");
}

#[tokio::test]
async fn what_is_kept_is_used_until_the_machine_names_another_one() {
    let now = object("VirtualMachineClusterInstancetype", None, "small", "1Gi");
    let vm = machine(&json!({"name": "small"}), &json!({}));
    let first = found(std::slice::from_ref(&now), &vm).await.unwrap();
    let kept = revision(&vm, first.of(Role::Instancetype).unwrap());
    let name = kept.metadata.name.clone().unwrap();
    assert_eq!(name, "web-small-v1beta1-t1-3");
    let labels = kept.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["instancetype.kubevirt.io/object-generation"], "3");
    assert_eq!(labels["instancetype.kubevirt.io/object-uid"], "t1");
    assert_eq!(
        kept.metadata.owner_references.as_ref().unwrap()[0].uid,
        "u1"
    );

    let reference = first.of(Role::Instancetype).unwrap().reference(&name);
    let status = json!({"instancetypeRef": reference});
    let path = format!("/apis/apps/v1/namespaces/shop/controllerrevisions/{name}");
    let changed = object("VirtualMachineClusterInstancetype", None, "small", "8Gi");
    let other = object("VirtualMachineClusterInstancetype", None, "other", "4Gi");
    let objects = [changed, other, (path, serde_json::to_value(&kept).unwrap())];
    let vm = machine(&json!({"name": "small"}), &status);
    let again = found(&objects, &vm).await.unwrap();
    assert_eq!(memory(&again, &vm), "1Gi");
    let again = again.of(Role::Instancetype).unwrap();
    assert_eq!(
        again.reference(&name),
        reference,
        "nothing is written twice"
    );
    let vm = machine(&json!({"name": "other"}), &status);
    assert_eq!(memory(&found(&objects, &vm).await.unwrap(), &vm), "4Gi");
}

#[tokio::test]
async fn a_revision_that_a_machine_names_is_used() {
    let vm = machine(&json!({"name": "small"}), &json!({}));
    let now = object("VirtualMachineClusterInstancetype", None, "small", "1Gi");
    let first = found(std::slice::from_ref(&now), &vm).await.unwrap();
    let kept = revision(&vm, first.of(Role::Instancetype).unwrap());
    let path = "/apis/apps/v1/namespaces/shop/controllerrevisions/mine".to_owned();
    let objects = [(path, serde_json::to_value(&kept).unwrap())];
    let named = json!({"name": "small", "revisionName": "mine"});
    let vm = machine(&named, &json!({}));
    assert_eq!(memory(&found(&objects, &vm).await.unwrap(), &vm), "1Gi");
    assert_eq!(
        found(&[], &vm).await.unwrap_err(),
        "spec.instancetype.revisionName: Invalid value: \"mine\": there is no ControllerRevision of that name"
    );
}

#[tokio::test]
async fn a_claim_names_the_instancetype_and_one_without_labels_may_be_ignored() {
    let path = "/api/v1/namespaces/shop/persistentvolumeclaims/disk".to_owned();
    let claim = |labels: Value| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk", "namespace": "shop", "labels": labels}});
    let small = object("VirtualMachineClusterInstancetype", None, "small", "1Gi");
    let labelled = claim(json!({"instancetype.kubevirt.io/default-instancetype": "small"}));
    let vm = machine(&json!({"inferFromVolume": "root"}), &json!({}));
    let inferred = found(&[small, (path.clone(), labelled)], &vm)
        .await
        .unwrap();
    assert_eq!(memory(&inferred, &vm), "1Gi");
    let reference = inferred.of(Role::Instancetype).unwrap().reference("r");
    assert_eq!(reference.infer_from_volume.as_deref(), Some("root"));

    let plain = [(path, claim(json!({})))];
    let words = found(&plain, &vm).await.unwrap_err();
    assert!(
        words.starts_with("spec.instancetype.inferFromVolume"),
        "{words}"
    );
    let ignoring = json!({"inferFromVolume": "root", "inferFromVolumeFailurePolicy": "Ignore"});
    let vm = machine(&ignoring, &json!({}));
    assert_eq!(found(&plain, &vm).await, Ok(Resolved::default()));
}
