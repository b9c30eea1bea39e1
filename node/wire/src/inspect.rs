//! What a launcher finds in its sandbox before the start: bytes of images and claims are read there and nowhere else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use catamaran_plan::{Format, Hardware};
use serde::{Deserialize, Serialize};

/// Answer to [`crate::Verb::Inspect`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inspected {
    /// One for each disk that was asked for.
    pub disks: Vec<InspectedDisk>,
    /// Sizes in bytes of the files that are there.
    pub files: BTreeMap<String, u64>,
    /// File names of the folders that are there, without hidden ones, sorted.
    pub folders: BTreeMap<String, Vec<String>>,
    /// Name servers of the sandbox.
    pub nameservers: Vec<IpAddr>,
    /// Search domains of the sandbox.
    pub search: Vec<String>,
    /// `/dev/kvm` is there and opens.
    pub kvm: bool,
    /// Hardware of an earlier run, where the state folder outlived it.
    pub hardware: Option<Hardware>,
}

/// A disk that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedDisk {
    /// Volume.
    pub volume: String,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundDisk>,
    /// Why it can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A disk as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundDisk {
    /// Path in the sandbox.
    pub path: String,
    /// Format.
    pub format: Format,
    /// Bytes that a guest sees.
    pub virtual_size: u64,
    /// The file system takes `O_DIRECT`.
    pub direct_io: bool,
    /// It is a block device.
    #[serde(default)]
    pub block: bool,
}
