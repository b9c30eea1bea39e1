//! CNI settings for Pods under `play`: the same bridge, addresses from the upper half of the subnet.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::files;

/// Name of the network in CNI.
pub const NETWORK: &str = "catamaran";

/// The list of plugins: `bridge` with `host-local` (kept in `data_dir`), then `portmap`.
///
/// The bridge is ours ([`crate::HostNetwork::ensure`]), so the plugin finds the gateway's address there, and masquerading
/// is done by our table.
#[must_use]
pub fn conflist(config: &NetworkConfig, data_dir: &Path) -> Value {
    let first = config.v4_at(config.half());
    // Without the broadcast address.
    let last = Ipv4Addr::from_bits(config.subnet_v4.broadcast().to_bits() - 1);
    let mut ranges = vec![json!([{
        "subnet": config.subnet_v4.trunc(),
        "rangeStart": first,
        "rangeEnd": last,
        "gateway": config.gateway_v4(),
    }])];
    let mut routes = vec![json!({ "dst": "0.0.0.0/0" })];
    if let Some(net) = config.subnet_v6 {
        let first = Ipv6Addr::from_bits(net.network().to_bits() | 1 << (127 - net.prefix_len()));
        ranges.push(json!([{
            "subnet": net.trunc(),
            "rangeStart": first,
            "rangeEnd": net.broadcast(),
            "gateway": config.gateway_v6(),
        }]));
        routes.push(json!({ "dst": "::/0" }));
    }
    json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": config.bridge,
                "isGateway": true,
                "ipMasq": false,
                "mtu": config.mtu,
                "ipam": { "type": "host-local", "dataDir": data_dir, "ranges": ranges, "routes": routes },
                "dns": { "nameservers": config.gateways(), "search": [config.zone] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// Writes `10-catamaran.conflist` into `folder`, for containerd's `conf_dir`.
///
/// # Errors
/// The file could not be written.
pub fn write_conflist(config: &NetworkConfig, folder: &Path) -> Result<PathBuf, Error> {
    files::make_folder(folder)?;
    let path = folder.join("10-catamaran.conflist");
    files::write_record(&path, &conflist(config, &config.folder.join("cni")))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_the_upper_half() {
        let mut config = NetworkConfig::new("/state/network");
        config.subnet_v4 = "10.1.0.0/16".parse().unwrap();
        config.subnet_v6 = Some("fd00:1::/64".parse().unwrap());
        let list = conflist(&config, Path::new("/state/network/cni"));
        let ranges = &list["plugins"][0]["ipam"]["ranges"];
        assert_eq!(ranges[0][0]["rangeStart"], "10.1.128.0");
        assert_eq!(ranges[0][0]["rangeEnd"], "10.1.255.254");
        assert_eq!(ranges[1][0]["rangeStart"], "fd00:1:0:0:8000::");
        assert_eq!(ranges[1][0]["gateway"], "fd00:1::1");
    }
}
