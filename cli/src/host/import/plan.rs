//! From an Ironic's nodes to hosts. Pure: all that is wrong is told at once, and nothing is made then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use catamaran_api::metal3::annotations::{HARDWARE, PAUSED};
use catamaran_api::metal3::{BareMetalHost, BareMetalHostSpec, BmcDetails};
use catamaran_redfish::Address;
use serde_json::Value;

use super::address::Bmc;
use super::credentials::{Credentials, Login};
use super::node::{Node, Port, Use, truth};
use super::{hints, inventory, names};
use crate::host::enroll::{is_mac, secret};
use crate::host::view;

/// The UUID of the node that a host was imported from.
const NODE: &str = "catamaran.dev/ironic-node";

/// What Ironic tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Those that are wanted.
    pub(super) nodes: Vec<Node>,
    /// The others.
    pub(super) unwanted: Vec<Node>,
    pub(super) ports: Vec<Port>,
    /// By UUID of the node.
    pub(super) inventories: BTreeMap<String, Value>,
}

/// What counts besides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) credentials: &'a Credentials,
    /// Hosts of the namespace.
    pub(super) existing: &'a [BareMetalHost],
    /// Hosts are managed at once.
    pub(super) unpaused: bool,
}

/// What is to be made, and what is to be said.
#[derive(Default)]
pub(super) struct Plan {
    /// Each host behind its Secret.
    pub(super) objects: Vec<Value>,
    /// One line for each host.
    pub(super) hosts: Vec<String>,
    /// Nodes that no host is made of, and why.
    pub(super) left_out: Vec<String>,
    /// What hosts don't keep of their nodes.
    pub(super) notes: Vec<String>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the objects: Secrets are among them.
        let Self { hosts, .. } = self;
        let mut shown = formatter.debug_struct("Plan");
        shown.field("hosts", hosts).finish_non_exhaustive()
    }
}

/// Nodes of which hosts can be made, with their BMCs; and why not of the others.
pub(super) fn sort<'a>(
    nodes: &'a [Node],
    existing: &[BareMetalHost],
) -> (Vec<(&'a Node, Bmc)>, Vec<String>) {
    let (mut fit, mut left_out) = (Vec::new(), Vec::new());
    for node in nodes {
        let title = node.title();
        let imported = existing
            .iter()
            .find(|host| view::annotation(host, NODE) == Some(&node.uuid));
        if let Some(host) = imported {
            let name = host.metadata.name.as_deref().unwrap_or_default();
            left_out.push(format!("{title}: is the host {name} already"));
        } else if node.usage() == Use::Moving {
            let state = node.state();
            left_out.push(format!(
                "{title}: Ironic is at work on it (state '{state}'); import it when that is over"
            ));
        } else {
            match Bmc::of(node) {
                Ok(bmc) => fit.push((node, bmc)),
                Err(why) => left_out.push(format!("{title}: {why}")),
            }
        }
    }
    (fit, left_out)
}

/// The plan; or all that is wrong.
pub(super) fn plan(found: &Found, setting: Setting<'_>) -> Result<Plan, Vec<String>> {
    let (fit, left_out) = sort(&found.nodes, setting.existing);
    let mut plan = Plan {
        left_out,
        ..Plan::default()
    };
    let all = [found.nodes.as_slice(), &found.unwanted].concat();
    let mut wrong: Vec<String> = setting
        .credentials
        .strangers(&all)
        .into_iter()
        .map(|key| format!("--credentials: '{key}' is neither name nor UUID of a node"))
        .collect();
    let mut taken: BTreeSet<String> = setting
        .existing
        .iter()
        .filter_map(|host| host.metadata.name.clone())
        .collect();
    let names = names::all(fit.iter().map(|(node, _)| *node), &mut taken);
    let mut bmcs: BTreeMap<String, String> = setting.existing.iter().filter_map(known).collect();
    for (node, bmc) in &fit {
        let title = node.title();
        let name = names[&node.uuid].clone();
        if let Some(other) = bmcs.insert(key(&bmc.address), format!("the node {title}")) {
            wrong.push(format!(
                "{title}: its BMC {} is that of {other}, too",
                bmc.address
            ));
        }
        let login = match setting.credentials.login(node, bmc) {
            Ok(login) => login,
            Err(missing) => {
                wrong.push(format!("{title}: its BMC's {missing} is missing: Ironic does not tell it; give it by --credentials"));
                continue;
            }
        };
        let details = match trust(node, bmc, &login, &name) {
            Ok(details) => details,
            Err(why) => {
                wrong.push(format!("{title}: {why}"));
                continue;
            }
        };
        let (host, notes) = host(node, &name, details, found, setting);
        plan.notes
            .extend(notes.into_iter().map(|note| format!("{title}: {note}")));
        plan.hosts.push(format!(
            "{name}: node {}, {}{}",
            node.uuid,
            node.state(),
            if node.usage() == Use::Taken {
                ", externally provisioned"
            } else {
                ""
            }
        ));
        let pair = (login.username.as_str(), login.password.as_str());
        let secret_name = format!("{name}-bmc");
        plan.objects.push(secret(
            &secret_name,
            setting.namespace,
            pair,
            login.ca.as_deref(),
        ));
        match serde_json::to_value(host) {
            Ok(host) => plan.objects.push(host),
            Err(error) => wrong.push(format!("{title}: {error}")),
        }
    }
    if wrong.is_empty() {
        Ok(plan)
    } else {
        Err(wrong)
    }
}

/// A BMC by which two addresses of it are the same.
fn key(address: &str) -> String {
    let parsed = address
        .parse::<Address>()
        .map(|address| address.to_string());
    parsed.unwrap_or_else(|_| address.to_owned()).to_lowercase()
}

fn known(host: &BareMetalHost) -> Option<(String, String)> {
    let name = host.metadata.name.as_deref()?;
    let bmc = host.spec.bmc.as_ref()?;
    Some((key(&bmc.address), format!("the host {name}")))
}

/// How the BMC's certificate is checked.
fn trust(node: &Node, bmc: &Bmc, login: &Login, name: &str) -> Result<BmcDetails, String> {
    let field = format!("{}_verify_ca", bmc.prefix);
    let verify = node.driver_info.get(&field);
    let own = login.ca.is_some() || login.fingerprint.is_some();
    let any = verify.and_then(truth) == Some(false);
    if let Some(Value::String(file)) = verify
        && truth(&Value::String(file.clone())).is_none()
        && !own
    {
        return Err(format!(
            "driver_info.{field} is the file {file} of Ironic's machine: give its content as 'ca' by --credentials, or the certificate's 'fingerprint'"
        ));
    }
    if let Some(fingerprint) = &login.fingerprint {
        let parsed = fingerprint.parse::<catamaran_redfish::Fingerprint>();
        parsed.map_err(|error| format!("--credentials: fingerprint: {error}"))?;
    }
    Ok(BmcDetails {
        address: bmc.address.clone(),
        credentials_name: format!("{name}-bmc"),
        certificate_fingerprint: login.fingerprint.clone(),
        disable_certificate_verification: (any && !own).then_some(true),
    })
}

fn host(
    node: &Node,
    name: &str,
    bmc: BmcDetails,
    found: &Found,
    setting: Setting<'_>,
) -> (BareMetalHost, Vec<String>) {
    let nothing = Value::Null;
    let root_device = node.properties.get("root_device").unwrap_or(&nothing);
    let (root_device_hints, lost) = hints::hints(root_device);
    let mut notes: Vec<String> = lost
        .into_iter()
        .map(|lost| format!("properties.{lost} is not kept: look at spec.rootDeviceHints before an image is written"))
        .collect();
    let in_use = node.usage() == Use::Taken;
    // Where that is not known, the host is paused.
    let online = power(node).unwrap_or(in_use);
    let (boot_mac_address, note) = boot_mac(node, found);
    notes.extend(note);
    let spec = BareMetalHostSpec {
        online,
        bmc: Some(bmc),
        automated_cleaning_mode: (node.automated_clean == Some(false))
            .then(|| "disabled".to_owned()),
        boot_mac_address,
        boot_mode: boot_mode(node),
        description: node.description.clone().filter(|text| !text.is_empty()),
        externally_provisioned: in_use.then_some(true),
        root_device_hints,
        ..BareMetalHostSpec::default()
    };
    let mut annotations = BTreeMap::from([(NODE.to_owned(), node.uuid.clone())]);
    let details = found
        .inventories
        .get(&node.uuid)
        .and_then(inventory::details);
    if let Some(Ok(details)) = details.map(|details| serde_json::to_string(&details)) {
        annotations.insert(HARDWARE.to_owned(), details);
    }
    if let Some(why) =
        pause(node).or_else(|| (!setting.unpaused).then(|| "imported from Ironic".to_owned()))
    {
        annotations.insert(PAUSED.to_owned(), why);
    }
    let mut host = BareMetalHost::new(name, spec);
    host.metadata.namespace = setting.namespace.map(str::to_owned);
    host.metadata.annotations = Some(annotations);
    (host, notes)
}

/// Whether it is on, as far as Ironic knows.
fn power(node: &Node) -> Option<bool> {
    match node.power_state.as_deref() {
        Some("power off") => Some(false),
        Some("power on") => Some(true),
        _ => None,
    }
}

/// Why it is left alone: Ironic's people want that, or whatever its object said of power might switch it.
fn pause(node: &Node) -> Option<String> {
    let unknown = || {
        let why = "Ironic does not know its power: see to spec.online first";
        power(node).is_none().then(|| why.to_owned())
    };
    [
        ("in maintenance", node.maintenance, &node.maintenance_reason),
        ("retired", node.retired, &node.retired_reason),
        ("protected", node.protected, &node.protected_reason),
    ]
    .into_iter()
    .find(|(_, is, _)| *is)
    .map(|(word, _, reason)| match reason {
        Some(reason) if !reason.is_empty() => format!("{word} at Ironic: {reason}"),
        _ => format!("{word} at Ironic"),
    })
    .or_else(unknown)
}

fn boot_mode(node: &Node) -> Option<String> {
    let mode = node
        .capability("boot_mode")
        .or_else(|| node.boot_mode.clone());
    let secure = node.capability("secure_boot").map(Value::String);
    let secure = secure.and_then(|word| truth(&word)).or(node.secure_boot);
    let word = match (mode?.as_str(), secure) {
        ("uefi", Some(true)) => "UEFISecureBoot",
        ("uefi", _) => "UEFI",
        ("bios", _) => "legacy",
        _ => return None,
    };
    Some(word.to_owned())
}

/// The interface that it boots from: the one that Ironic boots by; of several the one that the inventory names, else the first.
fn boot_mac(node: &Node, found: &Found) -> (Option<String>, Option<String>) {
    let mut macs: Vec<String> = found
        .ports
        .iter()
        .filter(|port| port.node_uuid.as_deref() == Some(&node.uuid))
        .filter(|port| port.pxe_enabled != Some(false) && is_mac(&port.address))
        .map(|port| port.address.to_lowercase())
        .collect();
    macs.sort();
    macs.dedup();
    let details = found
        .inventories
        .get(&node.uuid)
        .and_then(inventory::details);
    let booted = details
        .into_iter()
        .flat_map(|details| details.nics)
        .find(|nic| nic.pxe == Some(true))
        .and_then(|nic| nic.mac)
        .filter(|mac| macs.contains(mac));
    let several = macs.len() > 1 && booted.is_none();
    let chosen = booted.or_else(|| macs.first().cloned());
    let note = chosen.as_ref().filter(|_| several).map(|mac| {
        format!(
            "{} ports boot ({}): spec.bootMACAddress is the first, {mac}",
            macs.len(),
            macs.join(", ")
        )
    });
    (chosen, note)
}

#[cfg(test)]
mod tests;
