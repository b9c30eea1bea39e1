//! Addresses of our own, keyed by namespace and name, kept as one file each.
//!
//! The lower half of the subnet is ours, the upper half is for the `host-local` plugin of Pods ([`crate::cni`]). The same
//! offset is used in both families. The search begins at a hash of the key, so that a VM mostly gets the same address
//! even when the folder was lost.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::files;
use crate::key::Key;
use crate::mac::MacAddr;

/// What a VM keeps from its first attachment to its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose it is.
    pub key: Key,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address, where the subnet has one.
    pub v6: Option<Ipv6Addr>,
    /// MAC address of `eth0`.
    pub mac: MacAddr,
    /// The host's end of the veth pair.
    pub host_interface: String,
}

impl Lease {
    /// Its addresses of both families.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        std::iter::once(IpAddr::V4(self.v4))
            .chain(self.v6.map(IpAddr::V6))
            .collect()
    }
}

/// Offsets 0 (the network) and 1 (the gateway) are not for VMs.
const FIRST: u32 = 2;

fn path(config: &NetworkConfig, key: &Key) -> PathBuf {
    folder(config).join(format!("{}.json", key.file_stem()))
}

fn folder(config: &NetworkConfig) -> PathBuf {
    config.folder.join("leases")
}

/// Every lease.
pub(crate) fn all(config: &NetworkConfig) -> Result<Vec<Lease>, Error> {
    files::read_records(&folder(config))
}

/// The lease of `key`, if it has one.
pub(crate) fn get(config: &NetworkConfig, key: &Key) -> Result<Option<Lease>, Error> {
    files::read_record(&path(config, key))
}

/// The lease of `key`, made on the first call. The caller holds the network's lock.
pub(crate) fn ensure(config: &NetworkConfig, key: &Key) -> Result<Lease, Error> {
    let leases = all(config)?;
    let known = leases.iter().find(|lease| lease.key == *key);
    if let Some(lease) = known.filter(|lease| fits(config, lease)) {
        return Ok(lease.clone());
    }
    let host_interface = key.host_interface(&config.bridge);
    if let Some(other) = leases
        .iter()
        .find(|lease| lease.key != *key && lease.host_interface == host_interface)
    {
        return Err(Error::NameCollision {
            key: key.clone(),
            other: other.key.clone(),
            interface: host_interface,
        });
    }
    let used: HashSet<Ipv4Addr> = leases
        .iter()
        .filter(|lease| lease.key != *key)
        .map(|lease| lease.v4)
        .collect();
    let count = config.half() - FIRST;
    let start = key.address_hint() % count;
    let offset = (0..count)
        .map(|step| FIRST + (start + step) % count)
        .find(|offset| !used.contains(&config.v4_at(*offset)))
        .ok_or_else(|| Error::AddressesExhausted {
            key: key.clone(),
            subnet: config.subnet_v4.to_string(),
            used: used.len(),
        })?;
    let lease = Lease {
        key: key.clone(),
        v4: config.v4_at(offset),
        v6: config.v6_at(offset),
        mac: key.mac(&config.bridge),
        host_interface,
    };
    files::make_folder(&folder(config))?;
    files::write_record(&path(config, key), &lease)?;
    Ok(lease)
}

/// Frees the address of `key`; none there is fine.
pub(crate) fn release(config: &NetworkConfig, key: &Key) -> Result<(), Error> {
    files::remove_file(&path(config, key))
}

/// Whether a lease belongs to the subnets and the bridge of today's settings.
fn fits(config: &NetworkConfig, lease: &Lease) -> bool {
    let offset = lease
        .v4
        .to_bits()
        .wrapping_sub(config.subnet_v4.network().to_bits());
    (FIRST..config.half()).contains(&offset)
        && lease.v6 == config.v6_at(offset)
        && lease.host_interface == lease.key.host_interface(&config.bridge)
}

/// Where the namespace of `key` is mounted.
pub(crate) fn netns_path(folder: &Path, key: &Key) -> PathBuf {
    folder.join("netns").join(key.file_stem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, prefix: u8) -> NetworkConfig {
        let mut config = NetworkConfig::new(folder);
        config.subnet_v4 = ipnet::Ipv4Net::new(Ipv4Addr::new(10, 1, 0, 0), prefix).unwrap();
        config
    }

    fn key(name: &str) -> Key {
        Key::new("default", name).unwrap()
    }

    #[test]
    fn same_key_gets_same_address_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), 16);
        let first = ensure(&config, &key("a")).unwrap();
        assert_eq!(ensure(&config, &key("a")).unwrap(), first);
        assert_ne!(ensure(&config, &key("b")).unwrap().v4, first.v4);
    }

    #[test]
    fn vms_never_get_an_address_of_the_upper_half_and_the_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), 28);
        let mut seen = HashSet::new();
        for n in 0..6 {
            let lease = ensure(&config, &key(&format!("vm{n}"))).unwrap();
            let last = lease.v4.octets()[3];
            assert!(
                (2..8).contains(&last),
                "{} is not in the lower half",
                lease.v4
            );
            assert_eq!(lease.v6.unwrap().segments()[7], u16::from(last));
            assert!(seen.insert(lease.v4));
        }
        let error = ensure(&config, &key("one-more")).unwrap_err();
        assert!(error.to_string().contains("10.1.0.0/28"), "{error}");
        release(&config, &key("vm3")).unwrap();
        ensure(&config, &key("one-more")).unwrap();
    }

    #[test]
    fn another_subnet_gives_another_address() {
        let folder = tempfile::tempdir().unwrap();
        let before = config(folder.path(), 16);
        ensure(&before, &key("a")).unwrap();
        let after = NetworkConfig {
            subnet_v4: "10.9.0.0/16".parse().unwrap(),
            ..before
        };
        assert!(
            after
                .subnet_v4
                .contains(&ensure(&after, &key("a")).unwrap().v4)
        );
    }
}
