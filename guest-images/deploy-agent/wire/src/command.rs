//! What the controller asks of an agent.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hints::RootDeviceHints;

/// One thing to do. The agent does one at a time and tells its [`Outcome`](crate::Outcome).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Rises with each command for this host; never 0.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
}

/// Kinds of commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Look at the hardware again and post the inventory.
    Inspect,
    /// Tell which disk a write would go to; change nothing.
    ChooseDisk {
        /// See there.
        #[serde(default)]
        hints: Box<RootDeviceHints>,
    },
    /// Write an image and a config drive to the disk that the hints choose.
    Write(Box<WriteImage>),
    /// Wipe partition tables and signatures of file systems, RAIDs and volume groups; data in between stays.
    Wipe {
        /// Which disks.
        disks: WipeScope,
    },
    /// Shut the host down.
    PowerOff,
    /// Start the host anew.
    Reboot,
    /// An action that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Action {
    /// Its name on the wire, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::ChooseDisk { .. } => "choose-disk",
            Self::Write(_) => "write",
            Self::Wipe { .. } => "wipe",
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Unknown => "unknown",
        }
    }
}

/// Which disks are wiped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WipeScope {
    /// Every disk of the inventory.
    All,
    /// Only the one that the hints choose.
    Root(Box<RootDeviceHints>),
}

/// An image to write to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteImage {
    /// The image.
    pub image: Image,
    /// Which disk.
    #[serde(default)]
    pub hints: RootDeviceHints,
    /// Written to a partition at the end of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_drive: Option<ConfigDrive>,
    /// Whether a disk with a partition table or a file system may be overwritten.
    #[serde(default)]
    pub overwrite: bool,
}

/// Where an image is, and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// `http` or `https`. The server has to answer ranges for `qcow2`.
    pub url: String,
    /// How the disk is in it.
    pub format: Format,
    /// Of the file at the URL, whatever its format.
    pub checksum: Checksum,
    /// PEM certificates that the image server's certificate may be signed by, besides the controller's CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Formats of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The disk, byte for byte.
    Raw,
    /// QEMU's format, version 2 or 3, without a backing file; clusters may be compressed.
    Qcow2,
}

/// A digest that has to come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it is made; without it, the number of digits tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ChecksumKind>,
    /// In hex, either case; or the URL (`http`, `https`) of a file that has it, alone or on the line with the image's name.
    pub value: String,
}

/// How a digest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumKind {
    /// MD5: it tells a broken image, and not a forged one.
    Md5,
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
}

impl ChecksumKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512];

    /// The kind of a digest in hex: the wanted one if it can be that, or the one that its number of digits tells.
    #[must_use]
    pub fn of(digest: &str, wanted: Option<Self>) -> Option<Self> {
        let hex = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut kinds = Self::ALL.into_iter().filter(|_| hex);
        kinds.find(|kind| {
            kind.digits() == digest.len() && wanted.is_none_or(|wanted| wanted == *kind)
        })
    }

    /// Hexadecimal digits of one.
    #[must_use]
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for ChecksumKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        })
    }
}

/// A config drive that `GET config-drive/ID` answers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigDrive {
    /// Bytes; at most 64 MiB.
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

impl ConfigDrive {
    /// Largest config drive: 64 MiB.
    pub const MAX: u64 = 64 << 20;
}
