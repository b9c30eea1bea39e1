//! Network cards, from `/sys/class/net`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use catamaran_deploy_wire::Nic;

use super::path::pci_address;
use super::text;

/// The cards below `root`, by name: what has a device behind it.
pub(super) fn read(
    root: &Path,
    addresses: &[(String, IpAddr)],
    towards: Option<IpAddr>,
) -> Vec<Nic> {
    let mut nics: Vec<Nic> = fs::read_dir(root.join("sys/class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            one(&entry.path(), name, addresses, towards)
        })
        .collect();
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    nics
}

fn one(
    folder: &Path,
    name: String,
    addresses: &[(String, IpAddr)],
    towards: Option<IpAddr>,
) -> Option<Nic> {
    let device = fs::canonicalize(folder.join("device")).ok()?;
    let file = |path: &str| text(&folder.join(path));
    let own: Vec<IpAddr> = addresses
        .iter()
        .filter(|(card, _)| *card == name)
        .map(|(_, address)| *address)
        .collect();
    // The one which others can use: not one of the link alone.
    let shown = own
        .iter()
        .find(|address| !is_link_local(address))
        .or(own.first());
    let ids = [file("device/vendor"), file("device/device")];
    Some(Nic {
        model: ids.join(" ").trim().to_owned(),
        mac: file("address").to_ascii_lowercase(),
        ip: shown.map(ToString::to_string).unwrap_or_default(),
        // -1, or an error, without a link.
        speed_gbps: file("speed").parse::<u32>().unwrap_or(0) / 1000,
        pxe: towards.is_some_and(|towards| own.contains(&towards)),
        pci_address: pci_address(&device.display().to_string())
            .unwrap_or_default()
            .to_owned(),
        name,
    })
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
