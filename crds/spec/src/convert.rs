//! From wire types to [`MachineSpec`]: every mistake at once, each with its path.
//!
//! Called by the daemon for manifests, by `plan`, and by the admission webhook.

mod access;
mod devices;
mod disks;
mod firmware;
mod host_ports;
mod hotplug;
mod network;
mod probe;
mod processor;
mod volumes;

use std::collections::BTreeMap;

use catamaran_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::defaults;
use crate::field::{Fault, Faults, FieldErrors, FieldPath, Warning};
use crate::instancetype::Role;
use crate::machine::{Chassis, MachineSpec, StartStrategy};
use crate::names;
use crate::network::HOST_PORTS_ANNOTATION;
use crate::support::{self, Context};

/// Run strategies that are carried out.
const RUN_STRATEGIES: [(&str, ()); 5] = [
    ("Always", ()),
    ("Halted", ()),
    ("Manual", ()),
    ("RerunOnFailure", ()),
    ("Once", ()),
];

impl MachineSpec {
    /// The machine that a run of this `VirtualMachine` is.
    ///
    /// # Errors
    /// Every mistake of the object, and every field that is not carried out in this context, with paths that begin with `spec.template`.
    pub fn from_vm(
        vm: &VirtualMachine,
        context: Context,
    ) -> Result<(Self, Vec<Warning>), FieldErrors> {
        let mut faults = Faults::default();
        let mut warnings = support::of_vm(vm, context, &mut faults);
        let root = FieldPath::new("spec");
        run_strategy(vm, &root, &mut faults);
        for role in Role::ALL
            .into_iter()
            .filter(|role| role.matcher(vm).is_some())
        {
            let words = "is resolved before a machine is read; this one was not";
            faults.push(
                &root.child(role.field()),
                Fault::Forbidden(words.to_owned()),
            );
        }
        let template = &vm.spec.template;
        let path = root.child("template");
        let Some(spec) = &template.spec else {
            faults.required(&path.child("spec"), "");
            return Err(FieldErrors(faults.0));
        };
        let empty = ObjectMeta::default();
        let metadata = template.metadata.as_ref().unwrap_or(&empty);
        let identity = Identity {
            object: &vm.metadata,
            instance: metadata,
            at: path.child("metadata"),
        };
        misplaced(vm, &identity, &mut faults);
        warnings.extend(identity.warnings(context));
        finish(
            &identity,
            spec,
            context,
            &path.child("spec"),
            faults,
            warnings,
        )
    }

    /// The machine that this `VirtualMachineInstance` is.
    ///
    /// # Errors
    /// Every mistake of the object, and every field that is not carried out in this context, with paths that begin with `spec`.
    pub fn from_vmi(
        vmi: &VirtualMachineInstance,
        context: Context,
    ) -> Result<(Self, Vec<Warning>), FieldErrors> {
        let mut faults = Faults::default();
        let mut warnings = support::of_vmi(vmi, context, &mut faults);
        let identity = Identity {
            object: &vmi.metadata,
            instance: &vmi.metadata,
            at: FieldPath::new("metadata"),
        };
        warnings.extend(identity.warnings(context));
        finish(
            &identity,
            &vmi.spec,
            context,
            &FieldPath::new("spec"),
            faults,
            warnings,
        )
    }
}

/// Whose names and whose labels.
struct Identity<'a> {
    object: &'a ObjectMeta,
    instance: &'a ObjectMeta,
    /// Where the instance's metadata are.
    at: FieldPath,
}

impl Identity<'_> {
    fn warnings(&self, context: Context) -> Vec<Warning> {
        let keys = self.instance.annotations.iter().flatten();
        support::annotations(keys.map(|(key, _)| key.as_str()), &self.at, context)
    }

    /// An annotation of the instance, and where it is.
    fn annotation(&self, key: &str) -> Option<(&str, FieldPath)> {
        let value = self.instance.annotations.as_ref()?.get(key)?;
        Some((value, self.at.child("annotations").key(key)))
    }
}

/// Annotations of the machine itself that mean something for its instances only: they would be ignored.
fn misplaced(vm: &VirtualMachine, identity: &Identity<'_>, faults: &mut Faults) {
    let here = FieldPath::new("metadata.annotations");
    let keys = vm.metadata.annotations.iter().flat_map(|all| all.keys());
    for key in keys.filter(|key| support::is_annotation(key)) {
        let words = format!("belongs into {}", identity.at.child("annotations"));
        faults.push(&here.key(key), Fault::Forbidden(words));
    }
}

fn finish(
    identity: &Identity<'_>,
    spec: &VirtualMachineInstanceSpec,
    context: Context,
    path: &FieldPath,
    mut faults: Faults,
    warnings: Vec<Warning>,
) -> Result<(MachineSpec, Vec<Warning>), FieldErrors> {
    let machine = machine(identity, spec, context, path, &mut faults);
    match machine {
        Some(machine) if faults.0.is_empty() => Ok((machine, warnings)),
        _ => Err(FieldErrors(faults.0)),
    }
}

fn run_strategy(vm: &VirtualMachine, path: &FieldPath, faults: &mut Faults) {
    if vm.spec.running.is_some() && vm.spec.run_strategy.is_some() {
        faults.push(
            &path.child("running"),
            Fault::Forbidden("Running and RunStrategy are mutually exclusive".to_owned()),
        );
    }
    faults.word(
        &path.child("runStrategy"),
        vm.spec.run_strategy.as_deref(),
        &RUN_STRATEGIES,
    );
    faults.word(
        &path.child("updateVolumesStrategy"),
        vm.spec.update_volumes_strategy.as_deref(),
        &[("Replacement", ())],
    );
}

fn machine(
    identity: &Identity<'_>,
    spec: &VirtualMachineInstanceSpec,
    context: Context,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<MachineSpec> {
    let (namespace, name) = object_names(identity.object, faults);
    let mut spec = spec.clone();
    defaults::add_missing_disks(&mut spec);
    let (spec, domain) = (&spec, &spec.domain);
    let at = path.child("domain");

    let architecture = spec.architecture.as_deref();
    faults.word(&path.child("architecture"), architecture, &[("amd64", ())]);
    let machine_type = machine_type(spec, &at, faults);
    let cpu = processor::cpu(domain, &at, faults);
    let memory = processor::memory(domain, &at, faults);
    let resources = processor::resources(domain, &at, faults);
    let io_threads = processor::io_threads(domain, &at, faults);
    let features = firmware::features(domain, &at, faults);
    let firmware = firmware::firmware(domain, &features, &at, faults);
    let clock = firmware::clock(domain, &at, faults);
    let disks = disks::disks(&domain.devices, &at.child("devices"), faults);
    let volumes = volumes::volumes(spec, path, faults);
    disks::join(&domain.devices, &at.child("devices"), spec, path, faults);
    let (disks, volumes, hotplug) = hotplug::split(spec, (disks, volumes), context, path, faults);
    let interfaces = network::interfaces(spec, path, faults);
    let host_ports = host_ports::host_ports(
        identity.annotation(HOST_PORTS_ANNOTATION),
        network::joins_pods(spec),
        &interfaces,
        faults,
    );
    boot_orders(spec, &at.child("devices"), faults);
    let devices = devices::devices(&domain.devices, &at.child("devices"), faults);
    let access_credentials = access::credentials(spec, path, faults);
    let (hostname, subdomain) = dns_names(spec, &name, path, faults);
    let liveness_probe = spec
        .liveness_probe
        .as_ref()
        .and_then(|p| probe::probe(p, &interfaces, true, &path.child("livenessProbe"), faults));
    let readiness_probe = spec
        .readiness_probe
        .as_ref()
        .and_then(|p| probe::probe(p, &interfaces, false, &path.child("readinessProbe"), faults));
    let start_strategy = faults
        .word(
            &path.child("startStrategy"),
            spec.start_strategy.as_deref(),
            &[("Paused", StartStrategy::Paused)],
        )
        .unwrap_or_default();
    let grace = grace_period(spec, path, faults);
    eviction_strategy(spec, path, faults);

    Some(MachineSpec {
        namespace,
        name,
        labels: map(identity.instance.labels.as_ref()),
        annotations: map(identity.instance.annotations.as_ref()),
        cpu,
        memory: memory?,
        machine_type,
        firmware: firmware?,
        chassis: chassis(spec),
        features,
        clock,
        disks,
        volumes,
        hotplug,
        interfaces,
        host_ports,
        devices,
        io_threads,
        access_credentials,
        hostname,
        subdomain,
        resources,
        termination_grace_period_seconds: grace,
        start_strategy,
        liveness_probe,
        readiness_probe,
    })
}

fn map(entries: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    entries.cloned().unwrap_or_default()
}

/// Namespace (`default` when absent) and name.
fn object_names(metadata: &ObjectMeta, faults: &mut Faults) -> (String, String) {
    let at = FieldPath::new("metadata");
    let namespace = metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    if !names::is_label(&namespace) {
        faults.invalid(&at.child("namespace"), &namespace, names::LABEL);
    }
    let name = metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        faults.required(&at.child("name"), "");
    } else if !names::is_subdomain(&name) {
        faults.invalid(&at.child("name"), &name, names::SUBDOMAIN);
    } else if name.len() > 63 {
        faults.invalid(
            &at.child("name"),
            &name,
            "must be no more than 63 characters",
        );
    }
    (namespace, name)
}

fn machine_type(spec: &VirtualMachineInstanceSpec, at: &FieldPath, faults: &mut Faults) -> String {
    let given = spec
        .domain
        .machine
        .as_ref()
        .and_then(|m| m.type_.clone())
        .filter(|t| !t.is_empty());
    let machine_type = given.unwrap_or_else(|| defaults::MACHINE_TYPE.to_owned());
    let version = machine_type.strip_prefix("pc-q35-");
    let known = machine_type == "q35"
        || version.is_some_and(|v| {
            !v.is_empty()
                && v.chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
        });
    if !known {
        faults.invalid(
            &at.child("machine").child("type"),
            &machine_type,
            "must be q35 or a versioned type such as pc-q35-10.0",
        );
    }
    machine_type
}

fn chassis(spec: &VirtualMachineInstanceSpec) -> Chassis {
    let Some(chassis) = spec.domain.chassis.clone() else {
        return Chassis::default();
    };
    Chassis {
        manufacturer: chassis.manufacturer,
        version: chassis.version,
        serial: chassis.serial,
        asset: chassis.asset,
        sku: chassis.sku,
    }
}

/// Boot orders are positive and unique over disks and interfaces.
fn boot_orders(spec: &VirtualMachineInstanceSpec, at: &FieldPath, faults: &mut Faults) {
    let devices = &spec.domain.devices;
    let disks = devices
        .disks
        .iter()
        .enumerate()
        .map(|(i, d)| (at.child("disks").index(i).child("bootOrder"), d.boot_order));
    let interfaces = devices.interfaces.iter().enumerate().map(|(i, n)| {
        (
            at.child("interfaces").index(i).child("bootOrder"),
            n.boot_order,
        )
    });
    let mut seen = Vec::new();
    for (path, order) in disks.chain(interfaces) {
        let Some(order) = order else { continue };
        if order == 0 {
            faults.invalid(&path, order, "must be greater than 0");
        } else if seen.contains(&order) {
            faults.duplicate(&path, order);
        }
        seen.push(order);
    }
}

fn dns_names(
    spec: &VirtualMachineInstanceSpec,
    name: &str,
    path: &FieldPath,
    faults: &mut Faults,
) -> (String, Option<String>) {
    if let Some(hostname) = spec.hostname.as_ref().filter(|h| !names::is_label(h)) {
        faults.invalid(&path.child("hostname"), hostname, names::LABEL);
    }
    if let Some(subdomain) = spec.subdomain.as_ref().filter(|s| !names::is_subdomain(s)) {
        faults.invalid(&path.child("subdomain"), subdomain, names::SUBDOMAIN);
    }
    (
        spec.hostname
            .clone()
            .unwrap_or_else(|| defaults::hostname(name)),
        spec.subdomain.clone(),
    )
}

fn grace_period(spec: &VirtualMachineInstanceSpec, path: &FieldPath, faults: &mut Faults) -> u32 {
    let Some(seconds) = spec.termination_grace_period_seconds else {
        return defaults::GRACE_PERIOD_SECONDS;
    };
    u32::try_from(seconds).unwrap_or_else(|_| {
        faults.invalid(
            &path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be between 0 and 4294967295, inclusive",
        );
        defaults::GRACE_PERIOD_SECONDS
    })
}

fn eviction_strategy(spec: &VirtualMachineInstanceSpec, path: &FieldPath, faults: &mut Faults) {
    let words = [
        ("None", ()),
        ("LiveMigrate", ()),
        ("LiveMigrateIfPossible", ()),
        ("External", ()),
    ];
    faults.word(
        &path.child("evictionStrategy"),
        spec.eviction_strategy.as_deref(),
        &words,
    );
}
