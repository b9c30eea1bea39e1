//! What can go wrong, with the thing, the value and what is allowed.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::expose::{Owner, Protocol};
use crate::key::Key;

/// Errors of this crate. The `source` is never part of the text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of [`crate::NetworkConfig`] is out of range.
    #[error("network: {field} is {value}; allowed: {allowed}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A namespace or name that cannot be a key.
    #[error("network key: {part} is {value:?}; allowed: 1 to 253 of a-z, 0-9, '-' and '.'")]
    Key {
        /// `namespace` or `name`.
        part: &'static str,
        /// Its value.
        value: String,
    },
    /// A text that is no MAC address.
    #[error(
        "MAC address {value:?}: expected six pairs of hexadecimal digits, unicast, such as 02:00:00:12:34:56"
    )]
    Mac {
        /// The text.
        value: String,
    },
    /// A name that is no interface name.
    #[error("interface name {value:?}: allowed: 1 to 15 of a-z, A-Z, 0-9, '-', '_' and '.'")]
    InterfaceName {
        /// The name.
        value: String,
    },
    /// rtnetlink refused a request.
    #[error("cannot {action}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A system call that names no file.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record of ours that does not parse: somebody edited it.
    #[error("{} is not a record of this network", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// `nft` or `ip` ended with an error.
    #[error("`{program}` could not {action}: {stderr}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What was tried.
        action: String,
        /// What it said.
        stderr: String,
    },
    /// The bridge's name belongs to something else.
    #[error("interface {name} is a {kind}, not a bridge; remove it or set another bridge name")]
    NotABridge {
        /// Name of the interface.
        name: String,
        /// What it is.
        kind: String,
    },
    /// Our subnet is in use on another interface of the host.
    #[error("subnet {subnet} overlaps with {address} on {interface}; set another subnet")]
    SubnetInUse {
        /// Our subnet.
        subnet: String,
        /// The address found.
        address: String,
        /// Where it was found.
        interface: String,
    },
    /// The lower half of the subnet is full.
    #[error(
        "no free address for {key} in the lower half of {subnet} ({used} in use); set a larger subnet or delete VMs"
    )]
    AddressesExhausted {
        /// Who asked.
        key: Key,
        /// The subnet.
        subnet: String,
        /// Number of leases.
        used: usize,
    },
    /// Two keys have the same interface name (a hash of 40 bits).
    #[error("{key} and {other} have the same interface name {interface}; rename one")]
    NameCollision {
        /// Who asked.
        key: Key,
        /// Who has it.
        other: Key,
        /// The name.
        interface: String,
    },
    /// Another process listens on the port.
    #[error("host port {port}/{protocol} on {} is in use by another process", address(*host_ip))]
    HostPortInUse {
        /// Address of the host; all when none.
        host_ip: Option<IpAddr>,
        /// The port.
        port: u16,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// Another VM or Pod has the port.
    #[error("host port {port}/{protocol} on {} is in use by {owner}", address(*host_ip))]
    HostPortTaken {
        /// Address of the host; all when none.
        host_ip: Option<IpAddr>,
        /// The port.
        port: u16,
        /// TCP or UDP.
        protocol: Protocol,
        /// Who has it.
        owner: Owner,
    },
    /// The namespace has no such interface.
    #[error("{} has no interface {interface}", netns.display())]
    NoInterface {
        /// The namespace.
        netns: PathBuf,
        /// The interface.
        interface: String,
    },
    /// The interface has no address that a guest could be given.
    #[error("interface {interface} in {} has no address", netns.display())]
    NoAddress {
        /// The namespace.
        netns: PathBuf,
        /// The interface.
        interface: String,
    },
    /// A worker thread died.
    #[error("the thread that should {action} ended without an answer")]
    Thread {
        /// What it should do.
        action: String,
    },
}

fn address(ip: Option<IpAddr>) -> String {
    ip.map_or_else(|| "all addresses".to_owned(), |ip| ip.to_string())
}

impl Error {
    /// Shapes an I/O error about `path`.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File {
            action,
            path,
            source,
        }
    }

    /// Shapes an error of a system call.
    pub(crate) fn system<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Error {
        let action = action.into();
        move |source| Error::System {
            action,
            source: source.into(),
        }
    }

    /// Shapes an answer of the kernel to a netlink request.
    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
        let action = action.into();
        move |source| Error::Netlink {
            action,
            source: Box::new(source),
        }
    }
}
