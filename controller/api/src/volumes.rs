//! addvolume, removevolume: the volumes of a machine's template, or of an instance without a machine, which the controllers then follow.
//!
//! What is added to a machine is there in its next run too: the peer's `--persist`, which it has made its only way.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use catamaran_api::{
    AddVolumeOptions, RemoveVolumeOptions, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceSpec, Volume,
};
use catamaran_lifecycle::{Phase, VmiView, hot_claim};
use catamaran_spec::{Context, FieldErrors, MachineSpec};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::objects::{self, INSTANCE, MACHINE, is_dry_run, read_body};

/// How often a change is made anew because the object changed meanwhile.
const ATTEMPTS: usize = 5;

/// A change of the volumes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// Plug it in.
    Add(Box<AddVolumeOptions>),
    /// Unplug it.
    Remove(RemoveVolumeOptions),
}

impl Order {
    /// `PUT …/addvolume`.
    pub(crate) fn add(body: &[u8]) -> Result<Self, Refusal> {
        let options: AddVolumeOptions = read_body(body)?;
        let requires = |what: &str| {
            let words = format!("AddVolumeOptions requires {what}");
            Err(Refusal::bad_request(words))
        };
        if options.name.as_deref().unwrap_or_default().is_empty() {
            return requires("name to be set");
        }
        if options.disk.is_none() {
            return requires("disk to not be nil");
        }
        let source = options.volume_source.as_ref();
        match source.map(|s| (&s.data_volume, &s.persistent_volume_claim)) {
            Some((Some(_), None) | (None, Some(_))) => Ok(Self::Add(Box::new(options))),
            Some((Some(_), Some(_))) => {
                requires("one volume source: persistentVolumeClaim or dataVolume")
            }
            Some((None, None)) | None => requires("VolumeSource to not be nil"),
        }
    }

    /// `PUT …/removevolume`.
    pub(crate) fn remove(body: &[u8]) -> Result<Self, Refusal> {
        let options: RemoveVolumeOptions = read_body(body)?;
        if options.name.as_deref().unwrap_or_default().is_empty() {
            let words = "RemoveVolumeOptions requires name to be set";
            return Err(Refusal::bad_request(words));
        }
        Ok(Self::Remove(options))
    }

    fn is_dry_run(&self) -> bool {
        is_dry_run(match self {
            Self::Add(options) => &options.dry_run,
            Self::Remove(options) => &options.dry_run,
        })
    }

    /// Changes a spec; the words of a refusal.
    fn apply(&self, spec: &mut VirtualMachineInstanceSpec) -> Result<(), String> {
        match self {
            Self::Add(options) => add(spec, options),
            Self::Remove(options) => remove(spec, options.name.as_deref().unwrap_or_default()),
        }
    }
}

fn add(spec: &mut VirtualMachineInstanceSpec, options: &AddVolumeOptions) -> Result<(), String> {
    let name = options.name.clone().unwrap_or_default();
    let source = options.volume_source.clone().unwrap_or_default();
    let mut volume = Volume {
        name: name.clone(),
        persistent_volume_claim: source.persistent_volume_claim,
        data_volume: source.data_volume,
        ..Volume::default()
    };
    if let Some(claim) = &mut volume.persistent_volume_claim {
        claim.hotpluggable = Some(true);
    }
    if let Some(data) = &mut volume.data_volume {
        data.hotpluggable = Some(true);
    }
    for there in &spec.volumes {
        if there.name == name {
            return Err(format!(
                "Unable to add volume [{name}] because volume with that name already exists"
            ));
        }
        if claim(there).is_some() && claim(there) == claim(&volume) {
            let claim = claim(there).unwrap_or_default();
            return Err(format!(
                "Unable to add volume source [{claim}] because it already exists as volume [{}]",
                there.name
            ));
        }
    }
    let mut disk = options.disk.clone().unwrap_or_default();
    disk.name.clone_from(&name);
    spec.volumes.push(volume);
    spec.domain.devices.disks.push(disk);
    Ok(())
}

/// Claim of any volume.
pub(crate) fn claim(volume: &Volume) -> Option<&str> {
    let claim = volume.persistent_volume_claim.as_ref();
    let data = volume.data_volume.as_ref();
    claim
        .map(|claim| claim.claim_name.as_str())
        .or(data.map(|data| data.name.as_str()))
}

fn remove(spec: &mut VirtualMachineInstanceSpec, name: &str) -> Result<(), String> {
    let Some(volume) = spec.volumes.iter().find(|volume| volume.name == name) else {
        return Err(format!(
            "Unable to remove volume [{name}] because it does not exist"
        ));
    };
    if hot_claim(volume).is_none() {
        return Err(format!(
            "Unable to remove volume [{name}] because it is not hotpluggable"
        ));
    }
    spec.volumes.retain(|volume| volume.name != name);
    spec.domain.devices.disks.retain(|disk| disk.name != name);
    Ok(())
}

/// The part of a spec that an order changes.
fn changed(spec: &VirtualMachineInstanceSpec) -> Value {
    json!({"volumes": spec.volumes, "domain": {"devices": {"disks": spec.domain.devices.disks}}})
}

fn params(order: &Order) -> PatchParams {
    PatchParams {
        dry_run: order.is_dry_run(),
        field_manager: Some("catamaran-api".to_owned()),
        ..PatchParams::default()
    }
}

/// Carries an order out on a machine.
pub(crate) async fn of_machine(
    client: &Client,
    namespace: &str,
    name: &str,
    order: &Order,
) -> Result<Response, Refusal> {
    let api = Api::<VirtualMachine>::namespaced(client.clone(), namespace);
    let decide = || async {
        let vm = objects::machine(client, namespace, name).await?;
        let after = machine_after(&vm, order)?;
        check(client, namespace, &after).await?;
        Ok(machine_patch(&after))
    };
    carry_out(&api, name, order, decide).await
}

/// Patches an object with what is decided about it, anew as long as somebody writes in between: what was decided may not hold any more.
async fn carry_out<K, F>(
    api: &Api<K>,
    name: &str,
    order: &Order,
    decide: impl Fn() -> F,
) -> Result<Response, Refusal>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    F: Future<Output = Result<Value, Refusal>>,
{
    let mut attempt = 1;
    loop {
        let patch = decide().await?;
        match api.patch(name, &params(order), &Patch::Merge(&patch)).await {
            // The peer answers so for machines and instances.
            Ok(_) => return Ok(StatusCode::ACCEPTED.into_response()),
            Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The machine when the order is carried out.
fn machine_after(vm: &VirtualMachine, order: &Order) -> Result<VirtualMachine, Refusal> {
    let mut after = vm.clone();
    let spec = after.spec.template.spec.get_or_insert_default();
    let refused = |words: String| Refusal::conflict(MACHINE, &vm.name_any(), &words);
    order.apply(spec).map_err(refused)?;
    Ok(after)
}

fn machine_patch(after: &VirtualMachine) -> Value {
    let spec = after.spec.template.spec.clone().unwrap_or_default();
    json!({
        "metadata": {"resourceVersion": after.resource_version()},
        "spec": {"template": {"spec": changed(&spec)}},
    })
}

/// Whether a machine is one that may be stored: admission leaves our own writes to us.
async fn check(client: &Client, namespace: &str, vm: &VirtualMachine) -> Result<(), Refusal> {
    let whole = objects::expanded(client, namespace, vm).await?;
    MachineSpec::from_vm(&whole, Context::Cluster)
        .map(drop)
        .map_err(|errors| wrong(&errors))
}

fn wrong(errors: &FieldErrors) -> Refusal {
    let words: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    Refusal::bad_request(words.join(", "))
}

/// Carries an order out on an instance.
pub(crate) async fn of_instance(
    client: &Client,
    namespace: &str,
    name: &str,
    order: &Order,
) -> Result<Response, Refusal> {
    let api = Api::<VirtualMachineInstance>::namespaced(client.clone(), namespace);
    let decide = || async {
        let vmi = objects::instance(client, namespace, name).await?;
        instance_patch(&vmi, order)
    };
    carry_out(&api, name, order, decide).await
}

fn instance_patch(vmi: &VirtualMachineInstance, order: &Order) -> Result<Value, Refusal> {
    let name = vmi.name_any();
    let mut owners = vmi.metadata.owner_references.iter().flatten();
    if let Some(owner) = owners.find(|owner| owner.kind == "VirtualMachine") {
        return Err(Refusal::bad_request(format!(
            "VMI {name:?} is owned by VM {:?}: its volumes are added to and removed from the VM",
            owner.name
        )));
    }
    if VmiView::of(vmi).phase != Phase::Running {
        return Err(Refusal::conflict(INSTANCE, &name, "VMI is not running"));
    }
    let mut after = vmi.clone();
    let refused = |words: String| Refusal::conflict(INSTANCE, &name, &words);
    order.apply(&mut after.spec).map_err(refused)?;
    // Admission leaves our own writes to us.
    MachineSpec::from_vmi(&after, Context::Cluster).map_err(|errors| wrong(&errors))?;
    Ok(json!({
        "metadata": {"resourceVersion": vmi.resource_version(), "uid": vmi.uid()},
        "spec": changed(&after.spec),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Full;
    use hyper::{Method, Request};

    use super::*;

    fn spec() -> Value {
        json!({
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "root"}, {"name": "d"}]}},
            "volumes": [
                {"name": "root", "persistentVolumeClaim": {"claimName": "c0"}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "c1", "hotpluggable": true}},
            ],
        })
    }

    fn vm() -> VirtualMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7"},
            "spec": {"runStrategy": "Always", "template": {"spec": spec()}},
        }))
        .unwrap()
    }

    fn vmi(phase: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7", "uid": "u"},
            "spec": spec(), "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn adding(name: &str, claim: &str, bus: &str) -> Order {
        let body = json!({
            "name": name, "disk": {"name": "", "disk": {"bus": bus}},
            "volumeSource": {"persistentVolumeClaim": {"claimName": claim}},
        });
        Order::add(body.to_string().as_bytes()).unwrap()
    }

    fn removing(name: &str) -> Order {
        Order::remove(json!({ "name": name }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn bodies_that_lack_something_say_what() {
        let disk = json!({"name": "", "disk": {}});
        for (body, words) in [
            (json!({}), "requires name to be set"),
            (json!({"name": "e"}), "requires disk to not be nil"),
            (
                json!({"name": "e", "disk": disk}),
                "requires VolumeSource to not be nil",
            ),
            (
                json!({"name": "e", "disk": disk, "volumeSource": {}}),
                "requires VolumeSource to not be nil",
            ),
        ] {
            let refusal = Order::add(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(refusal.0.code, 400);
            assert!(refusal.0.message.ends_with(words), "{}", refusal.0.message);
        }
        assert_eq!(Order::remove(b"").unwrap_err().0.code, 400);
    }

    #[test]
    fn what_is_added_can_be_removed_again() {
        let patch = machine_patch(&machine_after(&vm(), &adding("e", "c2", "scsi")).unwrap());
        let after = &patch["spec"]["template"]["spec"];
        assert_eq!(
            after["volumes"][2],
            json!({"name": "e", "persistentVolumeClaim": {"claimName": "c2", "hotpluggable": true}})
        );
        assert_eq!(
            after["domain"]["devices"]["disks"][2],
            json!({"name": "e", "disk": {"bus": "scsi"}})
        );
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let patch = machine_patch(&machine_after(&vm(), &removing("d")).unwrap());
        let after = &patch["spec"]["template"]["spec"];
        assert_eq!(after["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(
            after["domain"]["devices"]["disks"],
            json!([{"name": "root"}])
        );
    }

    #[test]
    fn a_data_volume_is_the_claim_of_its_name() {
        let body = br#"{"name": "e", "disk": {"name": "e"}, "volumeSource": {"dataVolume": {"name": "c2"}}}"#;
        let patch = machine_patch(&machine_after(&vm(), &Order::add(body).unwrap()).unwrap());
        assert_eq!(
            patch["spec"]["template"]["spec"]["volumes"][2]["dataVolume"],
            json!({"name": "c2", "hotpluggable": true})
        );
    }

    #[test]
    fn what_contradicts_the_machine_is_a_conflict() {
        for (order, words) in [
            (
                adding("d", "c2", "scsi"),
                "volume with that name already exists",
            ),
            (adding("e", "c1", "scsi"), "already exists as volume [d]"),
            (removing("e"), "because it does not exist"),
            (removing("root"), "because it is not hotpluggable"),
        ] {
            let refusal = machine_after(&vm(), &order).unwrap_err();
            assert_eq!(refusal.0.code, 409);
            assert!(refusal.0.message.ends_with(words), "{}", refusal.0.message);
        }
    }

    #[tokio::test]
    async fn a_machine_that_would_be_refused_is_not_made() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let refused = async |order: Order| {
            let after = machine_after(&vm(), &order).unwrap();
            check(&client, "n", &after)
                .await
                .err()
                .map(|refusal| refusal.0)
        };
        assert_eq!(refused(adding("e", "c2", "scsi")).await, None);
        let status = refused(adding("e", "c2", "sata")).await.unwrap();
        assert_eq!(status.code, 400);
        let path = "spec.template.spec.domain.devices.disks[2].disk.bus";
        assert!(status.message.contains(path), "{}", status.message);
        let status = refused(adding("No Label", "c2", "scsi")).await.unwrap();
        assert_eq!(status.code, 400);
    }

    /// Patches that reach an API server which answers so many of them with a conflict, and what comes of the order.
    async fn tries(conflicts: usize, of_machine: bool) -> (usize, Result<u16, u16>) {
        let patches = Arc::new(AtomicUsize::new(0));
        let counted = patches.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let patch = request.method() == Method::PATCH;
            let earlier = if patch {
                counted.fetch_add(1, Ordering::SeqCst)
            } else {
                0
            };
            let (code, answer) = match () {
                () if patch && earlier < conflicts => {
                    let status = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "m"});
                    (409, status)
                }
                () if request.uri().path().contains("instances") => (200, json!(vmi("Running"))),
                () => (200, json!(vm())),
            };
            let response = hyper::Response::builder()
                .status(code)
                .header("content-type", "application/json")
                .body(Full::new(bytes::Bytes::from(answer.to_string())));
            async move { response }
        });
        let client = Client::new(service, "n");
        let order = adding("e", "c2", "scsi");
        let result = if of_machine {
            super::of_machine(&client, "n", "a", &order).await
        } else {
            super::of_instance(&client, "n", "a", &order).await
        };
        let result = result.map(|answer| answer.status().as_u16());
        let result = result.map_err(|refusal| refusal.0.code);
        (patches.load(Ordering::SeqCst), result)
    }

    #[tokio::test]
    async fn an_order_is_decided_anew_when_somebody_writes_in_between() {
        for of_machine in [true, false] {
            assert_eq!(tries(0, of_machine).await, (1, Ok(202)));
            assert_eq!(tries(2, of_machine).await, (3, Ok(202)));
            assert_eq!(tries(9, of_machine).await, (ATTEMPTS, Err(409)));
        }
    }

    #[test]
    fn an_instance_of_a_machine_is_changed_by_its_machine() {
        let order = adding("e", "c2", "scsi");
        assert!(instance_patch(&vmi("Running"), &order).is_ok());
        let refusal = instance_patch(&vmi("Scheduled"), &order).unwrap_err();
        assert_eq!(refusal.0.code, 409);
        let refusal = instance_patch(&vmi("Running"), &adding("e", "c2", "sata")).unwrap_err();
        assert_eq!(refusal.0.code, 400);
        assert!(refusal.0.message.contains("disks[2].disk.bus"));
        let mut owned = vmi("Running");
        let owner = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "a", "uid": "m"}]);
        owned.metadata.owner_references = serde_json::from_value(owner).unwrap();
        assert_eq!(instance_patch(&owned, &order).unwrap_err().0.code, 400);
    }
}
