//! The plan itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::given::Format;

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM.
    Kvm,
    /// QEMU's translator (`domain type='qemu'`).
    Tcg,
}

/// Identifies a plan; a launcher refuses one that is older than what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// uid of the VMI (one run of the VM).
    pub vmi_uid: Uuid,
    /// Grows with each plan of this run.
    pub counter: u64,
    /// SHA-256 of the spec, hex.
    pub spec_digest: String,
}

/// Everything a launcher does to bring a machine up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which plan this is.
    pub generation: Generation,
    /// libvirt's domain name, `<namespace>_<name>`.
    pub domain: String,
    /// Guest host name.
    pub hostname: String,
    /// What runs the guest's code.
    pub accelerator: Accelerator,
    /// Host files that the sandbox shows, for whoever builds it.
    pub views: Vec<FileView>,
    /// Steps before the start, in order, each idempotent.
    pub prepare: Vec<Prepare>,
    /// Interfaces to bind, for whoever does the binding.
    pub nics: Vec<NicPlan>,
    /// What the guest agent is told once it answers.
    pub agent_access: Vec<AgentAccess>,
    /// The domain.
    pub domain_xml: String,
    /// Resolved hardware, to be stored and given back at the next run.
    pub hardware: Hardware,
    /// Seconds between the ACPI power button and destroy.
    pub grace_period_seconds: u32,
    /// The guest waits for `unpause`.
    pub start_paused: bool,
    /// A serial console is there.
    pub serial_console: bool,
    /// A screen is there.
    pub graphics: bool,
    /// Guest memory in bytes.
    pub guest_memory: u64,
    /// Estimated host memory besides guest memory, bytes.
    pub overhead: u64,
    /// What differs from the manifest on this host and why, for people.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A host file or folder that the sandbox shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// What it is.
    pub source: FileSource,
    /// Absolute path inside the sandbox.
    pub inside: String,
    /// Whether the sandbox may write to it.
    pub writable: bool,
}

/// What a view shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileSource {
    /// A file of the host by its path.
    HostFile(String),
    /// The files of a Secret.
    Secret(String),
    /// The files of a ConfigMap.
    ConfigMap(String),
}

/// A step before the start. All paths are inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prepare {
    /// A qcow2 overlay over a read-only base; kept when it is there already.
    Overlay {
        /// File to make.
        path: String,
        /// Base file.
        base: String,
        /// Format of the base.
        base_format: Format,
        /// Virtual size in bytes; at least the base's.
        size: u64,
        /// Bytes that the file may grow to: once made, the file is cut (sparse, with `truncate`) to exactly this length, and QEMU answers
        /// writes beyond it with "no space left". `None` = no limit, the length stays as it is.
        #[serde(default)]
        limit: Option<u64>,
    },
    /// An empty qcow2 disk; kept when it is there already.
    EmptyDisk {
        /// File to make.
        path: String,
        /// Virtual size in bytes.
        size: u64,
    },
    /// A small read-only ISO 9660 disk (with Joliet and Rock Ridge names) made anew at each start.
    Seed {
        /// File to make.
        path: String,
        /// Volume label, such as `cidata`.
        label: String,
        /// Its files.
        files: Vec<SeedFile>,
    },
    /// A copy of a firmware variable template; kept when it is there already.
    Nvram {
        /// File to make.
        path: String,
        /// Template on the host (visible in the sandbox at the same path).
        template: String,
    },
    /// A folder, made when missing.
    Folder {
        /// Path.
        path: String,
    },
}

/// One file of a seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFile {
    /// Path in the seed, such as `meta-data` or `openstack/latest/user_data`.
    pub path: String,
    /// Its content.
    pub content: SeedSource,
}

/// Content of a seed file. Plans are printed: secrets are named, not held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeedSource {
    /// Text from the manifest.
    Inline(String),
    /// A file in the sandbox, the first of these that is there.
    FirstOf(Vec<String>),
    /// Meta-data as one JSON object, with the SSH keys found in these folders (every file of a folder is a key) put in at `keys_at`.
    MetaData {
        /// The rest of the meta-data.
        base: BTreeMap<String, serde_json::Value>,
        /// Folders with SSH public keys; with none, nothing is put in.
        key_folders: Vec<String>,
        /// Where the keys go, as an object from `"0"`, `"1"`, … to the key: `public-keys` (NoCloud) or `public_keys` (config drive).
        #[serde(default)]
        keys_at: String,
    },
}

/// What the guest agent is told once it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentAccess {
    /// Every file of the folder is an SSH public key for these users.
    SshKeys {
        /// Folder in the sandbox.
        folder: String,
        /// Users.
        users: Vec<String>,
    },
    /// Every file of the folder is a user's password.
    Passwords {
        /// Folder in the sandbox.
        folder: String,
    },
}

/// An interface to bind in the VM's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicPlan {
    /// Interface name of the manifest.
    pub name: String,
    /// Tap to make, owned by uid 107.
    pub tap: String,
    /// MAC address of the guest.
    pub mac: String,
    /// MTU.
    pub mtu: u32,
    /// Binding.
    pub binding: NicBinding,
    /// Several queue pairs.
    pub multi_queue: bool,
}

/// How an interface is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NicBinding {
    /// NAT; empty ports = all. `(protocol, first, last)`.
    Masquerade {
        /// Guest network.
        v4: String,
        /// Guest network.
        v6: String,
        /// Ports passed on.
        ports: Vec<(String, u16, u16)>,
    },
    /// The pod's address moves into the guest.
    Bridge,
    /// The guest is a member of another network than the pod's; whatever gives addresses there gives one to it.
    Segment,
}

/// What must not change while the spec does not: resolved once, stored, given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Digest of the spec it was resolved from.
    pub spec_digest: String,
    /// Versioned machine type.
    pub machine: String,
    /// Concrete CPU model, or `maximum` (everything that the emulator can do); `None` = host-passthrough.
    pub cpu_model: Option<String>,
    /// Features that came with `host-model`, as (name, policy).
    #[serde(default)]
    pub cpu_features: Vec<(String, String)>,
    /// PCI address of each device by its alias (`ua-…`), controller or root port (`pci.<bus>`), `dddd:bb:ss.f`.
    pub addresses: BTreeMap<String, String>,
}
