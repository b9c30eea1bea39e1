//! The manifest of a machine from what was typed. Pure.

use std::collections::BTreeMap;

use catamaran_api::{
    CloudInitNoCloudSource, ContainerDiskSource, Cpu, Devices, Disk, DiskTarget, DomainSpec,
    Interface, InterfaceBridge, InterfaceMasquerade, Memory, Network,
    PersistentVolumeClaimVolumeSource, PodNetwork, Port, Quantity, VirtualMachine,
    VirtualMachineInstanceSpec, VirtualMachineInstanceTemplateSpec, VirtualMachineSpec, Volume,
};
use catamaran_spec::quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::args::{Binding, Create};

/// Memory where nobody says how much, as the peer's `create vm`.
const MEMORY: &str = "512Mi";

/// What is wanted; every file is read already.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// Only if it was typed: a manifest for pipes holds no other.
    pub(super) namespace: Option<String>,
    pub(super) user_data: Option<String>,
    pub(super) args: Create,
}

/// The machine.
///
/// # Errors
/// All flags that can't be, one in a line.
pub(super) fn machine(wanted: &Wanted) -> Result<VirtualMachine, String> {
    let Wanted {
        name,
        namespace,
        user_data,
        args,
    } = wanted;
    let mut errors = Vec::new();
    let mut keep = |error| errors.push(error);
    if !is_name(name) {
        keep(format!(
            "name {name:?}: must be at most 63 lower-case letters, digits and '-', and begin and end with a letter or digit"
        ));
    }
    if args.image.is_none() && args.claims.is_empty() {
        keep("--image IMAGE or --pvc CLAIM is missing: a machine needs a disk".to_owned());
    }
    if let Some(memory) = &args.memory
        && quantity::units(memory).is_none_or(|bytes| bytes == 0)
    {
        keep(format!(
            "--memory {memory:?}: must be a quantity above 0 such as 512Mi or 2Gi"
        ));
    }
    let mut labels = BTreeMap::from([("app".to_owned(), name.clone())]);
    for label in &args.labels {
        match self::label(label) {
            Ok((key, value)) => drop(labels.insert(key, value)),
            Err(wrong) => keep(wrong),
        }
    }
    let ports: Vec<Port> = args
        .ports
        .iter()
        .filter_map(|word| port(word).map_err(&mut keep).ok())
        .collect();
    let matcher = |flag, word: &Option<String>, kinds, errors: &mut dyn FnMut(String)| {
        let word = word.as_ref()?;
        matcher(flag, word, kinds).map_err(errors).ok()
    };
    let instancetype = matcher(
        "--instancetype",
        &args.instancetype,
        INSTANCETYPES,
        &mut keep,
    );
    let preference = matcher("--preference", &args.preference, PREFERENCES, &mut keep);
    if !errors.is_empty() {
        return Err(errors.join("\nerror: "));
    }
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: namespace.clone(),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    let template = VirtualMachineInstanceTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(instance(args, user_data.as_deref(), ports)),
        ..VirtualMachineInstanceTemplateSpec::default()
    };
    let spec = VirtualMachineSpec {
        template,
        run_strategy: Some(args.run_strategy.clone()),
        ..VirtualMachineSpec::default()
    };
    let mut value = json!({
        "apiVersion": catamaran_api::API_VERSION,
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": spec,
    });
    for (field, matcher) in [("instancetype", instancetype), ("preference", preference)] {
        if let Some(matcher) = matcher {
            value["spec"][field] = matcher;
        }
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn instance(
    args: &Create,
    user_data: Option<&str>,
    ports: Vec<Port>,
) -> VirtualMachineInstanceSpec {
    let mut volumes = Vec::new();
    if let Some(image) = &args.image {
        volumes.push(Volume {
            name: "image".to_owned(),
            container_disk: Some(ContainerDiskSource {
                image: image.clone(),
                ..ContainerDiskSource::default()
            }),
            ..Volume::default()
        });
    }
    for (number, claim) in args.claims.iter().enumerate() {
        volumes.push(Volume {
            name: format!("claim-{number}"),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    if let Some(text) = user_data {
        volumes.push(Volume {
            name: "cloud-init".to_owned(),
            cloud_init_no_cloud: Some(CloudInitNoCloudSource {
                user_data: Some(text.to_owned()),
                ..CloudInitNoCloudSource::default()
            }),
            ..Volume::default()
        });
    }
    let disks = volumes
        .iter()
        .enumerate()
        .map(|(number, volume)| Disk {
            name: volume.name.clone(),
            boot_order: Some(1).filter(|_| number == 0),
            disk: Some(DiskTarget {
                bus: Some("virtio".to_owned()),
                ..DiskTarget::default()
            }),
            ..Disk::default()
        })
        .collect();
    let own = args.instancetype.is_none();
    VirtualMachineInstanceSpec {
        domain: DomainSpec {
            cpu: own.then(|| Cpu {
                cores: Some(args.cpu.unwrap_or(1)),
                ..Cpu::default()
            }),
            memory: own.then(|| Memory {
                guest: Some(Quantity::from(args.memory.as_deref().unwrap_or(MEMORY))),
                ..Memory::default()
            }),
            devices: Devices {
                disks,
                interfaces: vec![interface(args.network, ports)],
                ..Devices::default()
            },
            ..DomainSpec::default()
        },
        networks: vec![Network {
            name: "default".to_owned(),
            pod: Some(PodNetwork::default()),
            ..Network::default()
        }],
        volumes,
        termination_grace_period_seconds: args.termination_grace_period.map(i64::from),
        ..VirtualMachineInstanceSpec::default()
    }
}

fn interface(binding: Binding, ports: Vec<Port>) -> Interface {
    let mut interface = Interface {
        name: "default".to_owned(),
        ports,
        ..Interface::default()
    };
    match binding {
        Binding::Masquerade => interface.masquerade = Some(InterfaceMasquerade::default()),
        Binding::Bridge => interface.bridge = Some(InterfaceBridge::default()),
    }
    interface
}

/// Reads `PORT[/tcp|/udp]`.
fn port(word: &str) -> Result<Port, String> {
    let (number, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let number = number.parse::<u16>().ok().filter(|number| *number != 0);
    let protocol = protocol.to_ascii_uppercase();
    match (number, protocol.as_str()) {
        (Some(number), "TCP" | "UDP") => Ok(Port {
            port: i32::from(number),
            protocol: Some(protocol).filter(|p| p == "UDP"),
            ..Port::default()
        }),
        _ => Err(format!(
            "--port {word:?}: must be PORT, PORT/tcp or PORT/udp with a port of 1 to 65535"
        )),
    }
}

/// Kinds that a matcher may name: that of the cluster and that of a namespace.
type Kinds = [&'static str; 2];
const INSTANCETYPES: Kinds = [
    "VirtualMachineClusterInstancetype",
    "VirtualMachineInstancetype",
];
const PREFERENCES: Kinds = [
    "VirtualMachineClusterPreference",
    "VirtualMachinePreference",
];

/// Reads `[KIND/]NAME`.
fn matcher(flag: &str, word: &str, kinds: Kinds) -> Result<Value, String> {
    let (kind, name) = word.split_once('/').unwrap_or((kinds[0], word));
    let kind = kinds
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(kind));
    match kind {
        Some(kind) if !name.is_empty() => Ok(json!({"kind": kind, "name": name})),
        _ => Err(format!(
            "{flag} {word:?}: must be NAME or KIND/NAME with a kind of {} or {}",
            kinds[0], kinds[1]
        )),
    }
}

/// Key and value of one `--label`.
pub(crate) fn label(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("--label {word:?}: must be KEY=VALUE")),
    }
}

/// A DNS label: machines give their names to labels and host names.
fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|c| plain(*c) || *c == b'-')
        && bytes.first().is_some_and(|c| plain(*c))
        && bytes.last().is_some_and(|c| plain(*c))
}

#[cfg(test)]
mod tests {
    use catamaran_client::Format;
    use catamaran_spec::Context;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        create: Create,
    }

    fn wanted(words: &[&str]) -> Wanted {
        let words = ["create"].iter().chain(words);
        Wanted {
            name: "demo".to_owned(),
            namespace: None,
            user_data: None,
            args: Words::parse_from(words).create,
        }
    }

    /// What `-o yaml` prints.
    fn yaml(wanted: &Wanted) -> String {
        let value = serde_json::to_value(machine(wanted).unwrap()).unwrap();
        Format::Yaml.print(&value).unwrap().unwrap()
    }

    #[test]
    fn an_image_alone_is_enough() {
        let golden = include_str!("../../tests/golden/create-image.yaml");
        assert_eq!(yaml(&wanted(&["--image", "registry.example/os:1"])), golden);
    }

    #[test]
    fn every_flag_reaches_the_manifest() {
        let mut wanted = wanted(&[
            "--image",
            "registry.example/os:1",
            "--pvc",
            "data",
            "--memory",
            "2Gi",
            "--cpu",
            "4",
            "--preference",
            "virtualmachinepreference/linux",
            "--run-strategy",
            "Manual",
            "--network",
            "bridge",
            "--port",
            "80",
            "--port",
            "53/udp",
            "--label",
            "tier=web",
            "--termination-grace-period",
            "60",
        ]);
        wanted.namespace = Some("shop".to_owned());
        wanted.user_data = Some("#cloud-config\nhostname: demo\n".to_owned());
        let golden = include_str!("../../tests/golden/create-everything.yaml");
        assert_eq!(yaml(&wanted), golden);
    }

    #[test]
    fn an_instancetype_replaces_processors_and_memory() {
        let golden = include_str!("../../tests/golden/create-instancetype.yaml");
        let words = ["--pvc", "root", "--instancetype", "u1.small"];
        assert_eq!(yaml(&wanted(&words)), golden);
    }

    #[test]
    fn all_mistakes_are_said_at_once() {
        let mut wrong = wanted(&["--memory", "much", "--port", "http", "--label", "x"]);
        wrong.name = "Demo".to_owned();
        let said = machine(&wrong).unwrap_err();
        for part in [
            "name \"Demo\"",
            "--image IMAGE or --pvc CLAIM is missing",
            "--memory \"much\"",
            "--port \"http\"",
            "--label \"x\"",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let wrong = wanted(&["--image", "a", "--instancetype", "Pod/a"]);
        let said = machine(&wrong).unwrap_err();
        assert!(said.contains("VirtualMachineInstancetype"), "{said}");
    }

    #[test]
    fn what_is_printed_is_what_the_server_accepts() {
        let mut wanted = wanted(&["--image", "registry.example/os:1", "--pvc", "data"]);
        wanted.user_data = Some("#cloud-config\n".to_owned());
        let value = serde_json::to_value(machine(&wanted).unwrap()).unwrap();
        let (_, _, warnings) =
            catamaran_spec::read::virtual_machine(&value, Context::Cluster).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}
