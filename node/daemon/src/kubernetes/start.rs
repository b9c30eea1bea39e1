//! From an instance that was handed over to a started guest: every step idempotent, the session written down before the start.
//!
//! ```text
//! look (in the pod) -> network -> plan -> binding -> session on disk -> DHCP sockets -> Start{plan}
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use catamaran_api::{PersistentVolumeClaimInfo, VolumeStatus};
use catamaran_network::{Attachment, interface_mtu};
use catamaran_plan::hotplug::Plugged;
use catamaran_plan::pod::Look;
use catamaran_plan::{
    Generation, Given, GivenBoot, GivenNic, Hardware, HostFacts, Plan, PlanError, pod,
};
use catamaran_spec::{Context, MachineSpec, VolumeSource};
use catamaran_wire::{Inspected, Verb};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;

use crate::kubernetes::claims;
use crate::kubernetes::inside::Inside;
use crate::kubernetes::instance::Instance;
use crate::kubernetes::look;
use crate::kubernetes::machine::aside::Aside;
use crate::kubernetes::network::{self, Resolver};
use crate::kubernetes::session::{Session, Sizes, network_records};
use crate::kubernetes::world::World;
use crate::machine::error::StartError;
use crate::machine::launcher::Launcher;
use crate::machine::network::{given, serve};
use crate::machine::volumes::requested;

/// Plans an instance, binds its interfaces and asks for the start of its guest.
///
/// # Errors
/// The step that failed; what it left is completed by the next try.
pub async fn run(
    world: &World,
    instance: &Instance,
    pod_uid: &str,
    launcher: &Launcher,
    inside: &Arc<Inside>,
    aside: &mut Aside,
) -> Result<Session, StartError> {
    let spec = validated(instance)?;
    let claims = read_claims(world, &spec).await?;
    let disks = disks(&spec, &claims, inside, &world.run_folder(pod_uid), aside).await?;
    let inspected = inspect(&spec, disks, launcher).await?;
    let records = network_records(world, instance.uid);
    let attachment = network::attachment(inside, &records).await?;
    // Once the interface is bound, the gateway can't be asked any more.
    let before = Session::load(world, instance.uid, pod_uid)?;
    let router = before.and_then(|session| session.router);
    let facts = if inspected.kvm {
        &world.host.facts
    } else {
        &world.emulated
    };
    let interfaces = network::interfaces(world, instance, &spec, pod_uid).await?;
    let nics = nics(instance, &spec, &attachment, &interfaces, inside).await?;
    let plan = plan(instance, &spec, facts, nics, &inspected)?;
    let resolver = Resolver {
        nameservers: inspected.nameservers.clone(),
        search: inspected.search.clone(),
    };
    let session = Session {
        pod: pod_uid.to_owned(),
        addresses: attachment
            .addresses
            .iter()
            .map(ipnet::IpNet::addr)
            .collect(),
        router: attachment.gateway_link_local.or(router),
        interfaces,
        resolver,
        volumes: volumes(&spec, &plan, &claims, &inspected),
        sizes: Sizes {
            sockets: spec.cpu.sockets,
            cores: spec.cpu.cores,
            threads: spec.cpu.threads,
        },
        plugged: Plugged::default(),
        plan,
    };
    session.save(world, instance.uid)?;
    connect(world, instance, &session, launcher, inside).await?;
    launcher
        .ask(Verb::Start {
            plan: Box::new(session.plan.clone()),
        })
        .await?;
    Ok(session)
}

/// Binds the interfaces of a session and gives the launcher the sockets of its DHCP servers: a new launcher has none.
///
/// # Errors
/// The kernel's refusal, or the launcher's.
pub async fn connect(
    world: &World,
    instance: &Instance,
    session: &Session,
    launcher: &Launcher,
    inside: &Inside,
) -> Result<(), StartError> {
    let records = network_records(world, instance.uid);
    let mut attachment = network::attachment(inside, &records).await?;
    attachment.gateway_link_local = session.router;
    let plan = &session.plan;
    let bound = network::bind_all(
        &attachment,
        &records,
        &plan.hostname,
        &session.resolver,
        &session.interfaces,
        &plan.nics,
    )
    .await?;
    serve(launcher, &inside.netns(), &bound).await
}

pub(super) fn validated(instance: &Instance) -> Result<MachineSpec, StartError> {
    MachineSpec::from_vmi(&instance.object, Context::Cluster)
        .map(|(spec, _)| spec)
        .map_err(|errors| StartError::Plan(errors.to_string().replace('\n', "; ")))
}

/// The claims of a machine, by volume.
async fn read_claims(
    world: &World,
    spec: &MachineSpec,
) -> Result<BTreeMap<String, PersistentVolumeClaim>, StartError> {
    let mut found = BTreeMap::new();
    for volume in &spec.volumes {
        let (VolumeSource::PersistentVolumeClaim { claim, .. }
        | VolumeSource::Ephemeral { claim, .. }) = &volume.source
        else {
            continue;
        };
        let object = read_claim(world, &spec.namespace, &volume.name, claim).await?;
        found.insert(volume.name.clone(), object);
    }
    Ok(found)
}

/// The claim of a volume.
pub(super) async fn read_claim(
    world: &World,
    namespace: &str,
    volume: &str,
    claim: &str,
) -> Result<PersistentVolumeClaim, StartError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.0.clone(), namespace);
    let found = api.get_opt(claim).await;
    let found = found.map_err(|error| StartError::Volume {
        volume: volume.to_owned(),
        message: format!("claim {claim} can't be read: {error}"),
    })?;
    found.ok_or_else(|| StartError::ClaimNotFound(format!("{namespace}/{claim}")))
}

/// Bytes that a claim really has, else what it asks for.
fn capacity(claim: &PersistentVolumeClaim) -> Option<u64> {
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    let size = capacity.get("storage").map(|quantity| quantity.0.as_str());
    size.and_then(catamaran_spec::quantity::units)
        .or_else(|| requested(claim))
}

/// Bytes of the largest disk that a claim's file system takes.
pub(super) fn room(claim: &PersistentVolumeClaim) -> Option<u64> {
    capacity(claim).map(without_overhead)
}

/// The room of a file system that is left to the file system itself.
fn without_overhead(bytes: u64) -> u64 {
    const BLOCK: u64 = 1 << 20;
    (bytes - bytes / 18) / BLOCK * BLOCK
}

/// Where disks are looked for; those of claims are made usable before.
async fn disks(
    spec: &MachineSpec,
    claims: &BTreeMap<String, PersistentVolumeClaim>,
    inside: &Arc<Inside>,
    run: &Path,
    aside: &mut Aside,
) -> Result<Vec<Look>, StartError> {
    let mut disks = pod::looks(spec);
    for look in &mut disks {
        let Some(claim) = claims.get(&look.volume) else {
            continue;
        };
        let source = spec.volume(&look.volume).map(|volume| &volume.source);
        let writable = matches!(
            source,
            Some(VolumeSource::PersistentVolumeClaim {
                read_only: false,
                ..
            })
        );
        look.make = room(claim).filter(|_| writable);
        let (inside, run, mut corrected) = (Arc::clone(inside), run.to_owned(), look.clone());
        // The claim's storage may hang.
        let prepare = move || {
            claims::prepare(&inside, &run, &mut corrected, writable)?;
            Ok(corrected)
        };
        *look = aside.run(&look.volume, prepare).await?;
    }
    Ok(disks)
}

async fn inspect(
    spec: &MachineSpec,
    disks: Vec<Look>,
    launcher: &Launcher,
) -> Result<Inspected, StartError> {
    let (kernel, initrd) = pod::boot_files(spec);
    let files = kernel.into_iter().chain(initrd).collect();
    let folders = pod::config_folders(spec).into_iter();
    let folders = folders.map(|folder| folder.path).collect();
    look::inspect(launcher, disks, files, folders).await
}

/// What a plan must know of the interfaces.
async fn nics(
    instance: &Instance,
    spec: &MachineSpec,
    attachment: &Attachment,
    interfaces: &BTreeMap<String, String>,
    inside: &Inside,
) -> Result<BTreeMap<String, GivenNic>, StartError> {
    let mut nics = given(spec, &instance.identity(), attachment);
    for (name, interface) in interfaces {
        if let Some(nic) = nics.get_mut(name) {
            nic.mtu = interface_mtu(&inside.netns(), interface).await?;
            nic.addresses.clear();
        }
    }
    Ok(nics)
}

fn plan(
    instance: &Instance,
    spec: &MachineSpec,
    facts: &HostFacts,
    nics: BTreeMap<String, GivenNic>,
    inspected: &Inspected,
) -> Result<Plan, StartError> {
    let mut disks = BTreeMap::new();
    for disk in &inspected.disks {
        disks.insert(disk.volume.clone(), look::given(disk)?);
    }
    let (config_keys, absent) = config(spec, inspected);
    let given = Given {
        generation: Generation {
            vmi_uid: instance.uid,
            counter: 1,
            spec_digest: instance.spec_digest(),
        },
        nics,
        identity: instance.identity(),
        disks,
        absent,
        boot: boot(spec, inspected),
        config_keys,
        hardware: hardware(instance, inspected),
        overlay_limit: None,
    };
    catamaran_plan::plan(spec, facts, &given).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(PlanError::to_string).collect();
        StartError::Plan(texts.join("; "))
    })
}

/// Hardware of the last run: this pod's, when the daemon was killed in the middle of a start, else what came with the object.
fn hardware(instance: &Instance, inspected: &Inspected) -> Option<Hardware> {
    let digest = instance.spec_digest();
    let mut known = [inspected.hardware.clone(), instance.hardware()]
        .into_iter()
        .flatten();
    known
        .clone()
        .find(|hardware| hardware.spec_digest == digest)
        .or_else(|| known.next())
}

/// Keys of each Secret and ConfigMap, and the optional volumes whose object is missing.
fn config(
    spec: &MachineSpec,
    inspected: &Inspected,
) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
    let (mut keys, mut absent) = (BTreeMap::new(), Vec::new());
    for folder in pod::config_folders(spec) {
        let names = inspected
            .folders
            .get(&folder.path)
            .cloned()
            .unwrap_or_default();
        match folder.optional_volume {
            Some(volume) if names.is_empty() => absent.push(volume),
            _ => {
                keys.insert(folder.object, names);
            }
        }
    }
    (keys, absent)
}

fn boot(spec: &MachineSpec, inspected: &Inspected) -> Option<GivenBoot> {
    spec.firmware.kernel_boot.as_ref()?;
    let (kernel, initrd) = pod::boot_files(spec);
    let there = |path: &Option<String>| {
        path.clone()
            .filter(|path| inspected.files.contains_key(path))
    };
    Some(GivenBoot {
        kernel: there(&kernel),
        initrd: there(&initrd),
        inside: true,
        size: inspected.files.values().sum(),
    })
}

/// `status.volumeStatus`.
fn volumes(
    spec: &MachineSpec,
    plan: &Plan,
    claims: &BTreeMap<String, PersistentVolumeClaim>,
    inspected: &Inspected,
) -> Vec<VolumeStatus> {
    let targets = Session::targets(plan);
    let size = |name: &str| {
        let disk = inspected.disks.iter().find(|disk| disk.volume == name)?;
        i64::try_from(disk.found.as_ref()?.virtual_size).ok()
    };
    let volumes = spec.volumes.iter().filter_map(|volume| {
        Some(VolumeStatus {
            name: volume.name.clone(),
            target: targets.get(&volume.name)?.clone(),
            persistent_volume_claim_info: claims.get(&volume.name).map(claim_info),
            size: size(&volume.name),
            ..Default::default()
        })
    });
    volumes.collect()
}

pub(super) fn claim_info(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimInfo {
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let texts = |map: Option<
        &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >| {
        map.into_iter()
            .flatten()
            .map(|(name, quantity)| (name.clone(), catamaran_api::Quantity(quantity.0.clone())))
            .collect()
    };
    PersistentVolumeClaimInfo {
        access_modes: spec
            .and_then(|spec| spec.access_modes.clone())
            .unwrap_or_default(),
        capacity: texts(status.and_then(|status| status.capacity.as_ref())),
        claim_name: claim.metadata.name.clone(),
        filesystem_overhead: Some("0.055".to_owned()),
        preallocated: None,
        requests: texts(
            spec.and_then(|spec| spec.resources.as_ref())
                .and_then(|resources| resources.requests.as_ref()),
        ),
        volume_mode: spec.and_then(|spec| spec.volume_mode.clone()),
    }
}

#[cfg(test)]
mod tests;
