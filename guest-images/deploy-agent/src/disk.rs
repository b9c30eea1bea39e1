//! What is on a disk: signatures by `wipefs`, partitions by `sfdisk`. Both are util-linux's, which knows more formats than we ever shall.

use std::path::Path;

use serde::Deserialize;

use crate::program::{self, ProgramError};

/// A partition table, as `sfdisk --json` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Table {
    /// `gpt` or `dos`.
    pub label: String,
    /// Bytes.
    #[serde(rename = "sectorsize", default = "sector")]
    pub sector_size: u64,
    /// In the table's order.
    #[serde(default)]
    pub partitions: Vec<Partition>,
}

fn sector() -> u64 {
    512
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Partition {
    /// `/dev/sda1`
    pub node: String,
    /// First sector.
    pub start: u64,
    /// Sectors.
    pub size: u64,
    /// Of GPT.
    #[serde(default)]
    pub name: String,
}

impl Partition {
    /// Its number, the digits at the end of its name.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        let digits = self.node.trim_end_matches(|c: char| c.is_ascii_digit());
        self.node[digits.len()..].parse().ok()
    }
}

/// An answer of a program that is not understood.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It answers in another shape.
    #[error("{program} on {device}: its answer is not understood")]
    Answer {
        /// Its name.
        program: &'static str,
        /// What it looked at.
        device: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The disk.
    #[error("{device} can't be read or written")]
    Io {
        /// Which.
        device: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Deserialize)]
struct Signatures {
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Tables {
    partitiontable: Table,
}

/// The types of all signatures on a device, each once: partition tables, file systems, RAIDs, volume groups.
///
/// # Errors
/// `wipefs` failed.
pub fn contents(device: &str) -> Result<Vec<String>, DiskError> {
    parse_signatures(device, &program::run("wipefs", &["--json", device], "")?)
}

fn parse_signatures(device: &str, answer: &str) -> Result<Vec<String>, DiskError> {
    // Nothing at all is printed where there is nothing.
    if answer.trim().is_empty() {
        return Ok(Vec::new());
    }
    let found: Signatures = serde_json::from_str(answer).map_err(|source| DiskError::Answer {
        program: "wipefs",
        device: device.to_owned(),
        source,
    })?;
    let mut kinds: Vec<String> = Vec::new();
    for signature in found.signatures {
        if !kinds.contains(&signature.kind) {
            kinds.push(signature.kind);
        }
    }
    Ok(kinds)
}

/// The partition table of a disk.
///
/// # Errors
/// It has none, or `sfdisk` failed.
pub fn table(device: &str) -> Result<Table, DiskError> {
    parse_table(device, &program::run("sfdisk", &["--json", device], "")?)
}

pub(crate) fn parse_table(device: &str, answer: &str) -> Result<Table, DiskError> {
    let tables: Tables = serde_json::from_str(answer).map_err(|source| DiskError::Answer {
        program: "sfdisk",
        device: device.to_owned(),
        source,
    })?;
    Ok(tables.partitiontable)
}

/// Adds a partition; a GPT whose end is not that of the disk is mended on the way.
///
/// # Errors
/// `sfdisk` says why not.
pub fn append(device: &str, line: &str) -> Result<(), DiskError> {
    program::run(
        "sfdisk",
        &[
            "--quiet",
            "--append",
            "--no-tell-kernel",
            "--wipe-partitions",
            "always",
            device,
        ],
        line,
    )?;
    Ok(())
}

/// Lets the kernel read the partition table again. That it can't is no harm: nothing here uses partitions through the kernel.
pub fn reread(device: &str) {
    if let Err(error) = program::run("blockdev", &["--rereadpt", device], "") {
        tracing::info!("{error}");
    }
}

/// The partitions of a disk that the kernel knows: `/dev/sda1`.
#[must_use]
pub fn partitions(sys: &Path, device: &str) -> Vec<String> {
    let name = device.trim_start_matches("/dev/");
    let mut found: Vec<String> = std::fs::read_dir(sys.join("block").join(name))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("partition").exists())
        .filter_map(|entry| Some(format!("/dev/{}", entry.file_name().to_str()?)))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::{Partition, contents, parse_signatures};

    #[test]
    fn partitions_have_the_number_at_the_end_of_their_name() {
        for (node, wanted) in [
            ("/dev/sda12", Some(12)),
            ("/dev/nvme0n1p3", Some(3)),
            ("/dev/sda", None),
        ] {
            let partition = Partition {
                node: node.into(),
                start: 0,
                size: 0,
                name: String::new(),
            };
            assert_eq!(partition.number(), wanted);
        }
    }

    #[test]
    fn each_type_of_signature_is_told_once() {
        let answer = r#"{"signatures":[{"device":"sda","type":"gpt"},{"device":"sda","type":"gpt"},{"device":"sda","type":"PMBR"}]}"#;
        assert_eq!(
            parse_signatures("/dev/sda", answer).unwrap(),
            ["gpt", "PMBR"]
        );
        assert!(parse_signatures("/dev/sda", "\n").unwrap().is_empty());
    }

    #[test]
    fn an_empty_disk_has_no_contents_and_an_iso_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let mut bytes = vec![0; 1 << 20];
        std::fs::write(&disk, &bytes).unwrap();
        let name = disk.to_str().unwrap();
        assert!(contents(name).unwrap().is_empty());
        bytes[0x8001..0x8006].copy_from_slice(b"CD001");
        bytes[0x8000] = 1;
        std::fs::write(&disk, &bytes).unwrap();
        assert_eq!(contents(name).unwrap(), ["iso9660"]);
    }
}
