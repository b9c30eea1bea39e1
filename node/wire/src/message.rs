//! Requests and replies.

use std::net::{Ipv4Addr, Ipv6Addr};

use catamaran_plan::Plan;
use serde::{Deserialize, Serialize};

use crate::report::VmReport;

/// Oldest protocol that this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Newest protocol that this build speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// Feature of a launcher that plugs devices in and out ([`Verb::Plug`], [`Verb::Unplug`]).
pub const HOTPLUG: &str = "hotplug";

/// First frame of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol spoken.
    pub min: u32,
    /// Newest protocol spoken.
    pub max: u32,
    /// Version of the program.
    pub version: String,
    /// Optional abilities by name.
    #[serde(default)]
    pub features: Vec<String>,
}

/// A request of the daemon. `id` comes back in the reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller, unique on the connection.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub verb: Verb,
}

/// What is asked of a launcher. Every verb is idempotent: a second `start` of the same generation is ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "verb",
    content = "body",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Verb {
    /// Prepare and start this plan. Refused when a newer generation is known or another VMI runs.
    Start {
        /// The plan.
        plan: Box<Plan>,
    },
    /// ACPI power-off, then destroy when the grace period is over. A shorter grace period replaces a longer one.
    Stop {
        /// Seconds; `None` = the plan's.
        grace_period_seconds: Option<u32>,
    },
    /// Pull the plug.
    Destroy,
    /// Stop the vCPUs.
    Pause,
    /// Let the vCPUs go on.
    Unpause,
    /// Hard reset.
    Reset,
    /// Reboot by guest agent, else ACPI.
    SoftReboot,
    /// PNG of the screen, base64 in the reply.
    Screenshot,
    /// Counters ([`crate::Statistics`]).
    Statistics,
    /// Kernel log of the guest read from its memory; text.
    Dmesg {
        /// Newest bytes at most.
        tail_bytes: Option<u64>,
    },
    /// A guest agent command (QGA JSON), its answer in the reply. Bounded in size and time.
    Agent {
        /// The command, such as `{"execute":"guest-ping"}`.
        command: serde_json::Value,
        /// Seconds to wait.
        timeout_seconds: u32,
    },
    /// Send a [`VmReport`] now and after each change, until the connection ends.
    Watch,
    /// Serve DHCP, DHCPv6 and router advertisements on the sockets that come with this frame, in the order of the `sockets` fields.
    ServeNetwork {
        /// One for each interface.
        serve: Vec<DhcpServe>,
    },
    /// Turn this connection into a raw stream after the reply.
    Attach {
        /// Which one.
        stream: Stream,
    },
    /// Look for disks, kernels and configuration in the sandbox ([`crate::Inspected`]), making files that are to be made.
    Inspect {
        /// Disks.
        disks: Vec<catamaran_plan::pod::Look>,
        /// Files whose size is asked.
        files: Vec<String>,
        /// Folders whose file names are asked.
        folders: Vec<String>,
    },
    /// Plug devices in, in this order; those that are there already are left alone.
    Plug {
        /// The devices.
        devices: Vec<catamaran_plan::hotplug::Device>,
    },
    /// Whether a device is gone ([`Unplugged`]), or is to go.
    Unplug {
        /// Its name.
        alias: String,
        /// Ask the guest to let it go, if it is there; else only look.
        ask: bool,
    },
    /// Save memory to a file below `/state` and end.
    Save,
    /// End the launcher once the guest is gone; init then ends with the VM's result.
    Finish,
}

/// Answer to [`Verb::Unplug`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unplugged {
    /// Neither the guest nor QEMU has it any more.
    Gone,
    /// The guest has not let it go yet.
    Leaving,
}

/// A raw stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stream {
    /// Serial console.
    Serial {
        /// Begin with the history.
        replay: bool,
        /// Input is thrown away.
        read_only: bool,
    },
    /// RFB.
    Vnc {
        /// Input is thrown away.
        read_only: bool,
    },
}

/// Sockets and addresses for one interface. `sockets` says which descriptors came along: any of `dhcp4`, `ra`, `dhcp6`, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpServe {
    /// Name of the interface in the VM's network namespace that the sockets are bound to.
    pub device: String,
    /// Its index.
    pub device_index: u32,
    /// Its MAC address, for router advertisements.
    pub device_mac: [u8; 6],
    /// Kinds of the descriptors that came along.
    pub sockets: Vec<String>,
    /// MAC address of the guest; nobody else is answered.
    pub mac: [u8; 6],
    /// Guest's IPv4 address and prefix length.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// IPv4 router.
    pub v4_gateway: Option<Ipv4Addr>,
    /// DHCPv4 server identifier.
    pub v4_server: Option<Ipv4Addr>,
    /// Further routes (option 121): destination, prefix length, gateway (on link when none).
    #[serde(default)]
    pub v4_routes: Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)>,
    /// Guest's IPv6 address and prefix length.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Link-local address of the IPv6 router; the advertisement socket is bound to it. `None` = no default route is announced.
    pub v6_gateway: Option<Ipv6Addr>,
    /// `device` has the router's address. With a bridge binding it is another machine's: then the advertisement must not carry
    /// `device_mac`, and the guest asks for the router's.
    #[serde(default)]
    pub v6_gateway_is_ours: bool,
    /// Name servers.
    pub dns: Vec<std::net::IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Host name of the guest.
    pub hostname: String,
    /// MTU.
    pub mtu: u32,
    /// Lease in seconds; `None` = infinite.
    pub lease_seconds: Option<u32>,
}

/// What a launcher sends after its hello.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Incoming {
    /// Answer to a request.
    Reply(Reply),
    /// State of the machine (after [`Verb::Watch`]).
    Report {
        /// The state.
        report: Box<VmReport>,
    },
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the request.
    pub id: u64,
    /// Result; `null` for verbs without one.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub ok: serde_json::Value,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// Kind.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// The verb is not known to this launcher.
    Unsupported,
    /// The plan is older than what the launcher has.
    Stale,
    /// Not possible in this state.
    Denied,
    /// Tried and failed.
    Failed,
    /// Something on the way is missing (agent not connected, no screen).
    Unavailable,
    /// Took too long.
    Timeout,
    /// A kind that this build does not know.
    #[serde(other)]
    Other,
}

impl WireError {
    /// An error of that kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}
