//! What an agent tells of a command.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a command is. Sent every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The command.
    pub id: u64,
    /// What is being done.
    pub step: Step,
    /// Bytes done.
    #[serde(default)]
    pub done: u64,
    /// Bytes in all; 0 where nobody knows.
    #[serde(default)]
    pub total: u64,
    /// What went wrong and is tried again, or what is being done, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Steps of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Looks at the disks.
    Examining,
    /// Writes the image.
    Writing,
    /// Writes what the kernel still holds to the disk.
    Syncing,
    /// Writes the config drive.
    ConfigDrive,
    /// Wipes.
    Wiping,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Examining => "examining disks",
            Self::Writing => "writing the image",
            Self::Syncing => "syncing the disk",
            Self::ConfigDrive => "writing the config drive",
            Self::Wiping => "wiping",
            Self::Other => "working",
        })
    }
}

/// The controller's answer to a [`Progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directive {
    /// Go on.
    Continue,
    /// The command is not wanted any more: stop, and ask for another one.
    Abort,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The command.
    pub id: u64,
    /// See there.
    pub result: Result,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Result {
    /// Well.
    Done(Answer),
    /// Not well.
    Failed(Failure),
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The inventory was posted.
    Inspected,
    /// The disk that a write would go to.
    #[serde(rename_all = "camelCase")]
    Chosen {
        /// Its name in the inventory.
        disk: String,
        /// The kernel's name at this boot.
        device: String,
        /// What is on it and would be lost: types of signatures, as `wipefs` names them.
        #[serde(default)]
        contents: Vec<String>,
    },
    /// The image is on the disk.
    #[serde(rename_all = "camelCase")]
    Written {
        /// Its name in the inventory.
        disk: String,
        /// The kernel's name at this boot.
        device: String,
        /// Size of the disk in the image, bytes.
        bytes: u64,
        /// Number of the partition with the config drive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config_drive_partition: Option<u32>,
    },
    /// These disks were wiped.
    Wiped {
        /// Their names in the inventory.
        disks: Vec<String>,
    },
    /// The host goes down now.
    GoingDown,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub reason: Reason,
    /// For people: what, where, and what would help.
    pub message: String,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No disk fits the hints.
    NoDisk,
    /// The disk has data and `overwrite` is not set.
    DiskHasData,
    /// The image, or image and config drive, don't fit.
    DiskTooSmall,
    /// The disk could not be read or written.
    Disk,
    /// The image could not be had.
    ImageUnreachable,
    /// The image is not what its format says, or uses what is not supported.
    ImageInvalid,
    /// The image has another checksum; what was written was made unbootable.
    ChecksumMismatch,
    /// The config drive could not be had or written.
    ConfigDrive,
    /// The hardware could not be looked at.
    Inspection,
    /// The controller wanted it stopped.
    Aborted,
    /// This version of the agent does not know the action.
    Unsupported,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}
