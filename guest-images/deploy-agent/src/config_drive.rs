//! The partition with the config drive: at the end of the disk, behind all that the image brought.
//!
//! Idempotent: a partition that has a config drive, or is named as one, is used again where it is large enough.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use crate::disk::{self, DiskError, Table};

/// The label that cloud-init looks for, and the name of the partition in a GPT.
pub const LABEL: &str = "config-2";
const MIB: u64 = 1 << 20;
/// An MBR names sectors by 32 bits.
const MBR_SECTORS: u64 = 1 << 32;
/// Where an ISO 9660 file system has its label.
const LABEL_PLACE: u64 = 16 * 2048 + 40;

/// Where the config drive goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into a partition that there is, from this byte of the disk on.
    Reuse {
        /// First byte.
        begin: u64,
    },
    /// Into a new partition, which this line for `sfdisk` makes.
    Add {
        /// First byte.
        begin: u64,
        /// What `sfdisk --append` is told.
        line: String,
    },
}

/// No place for it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The image has no partition table that could be added to.
    #[error("the image has a {0:?} partition table; a config drive needs gpt or dos")]
    Label(String),
    /// All four are taken.
    #[error(
        "the image's MBR has 4 primary partitions already: none can be added for the config drive; use an image with a GPT"
    )]
    Full,
    /// No room.
    #[error(
        "the config drive needs {needed} MiB at the end of the disk; the image's last partition ends {left} MiB before it"
    )]
    Room {
        /// What it needs.
        needed: u64,
        /// What is free.
        left: u64,
    },
}

/// Bytes that a config drive of this size takes of a disk, with what a GPT keeps at the end.
#[must_use]
pub fn room(size: u64) -> u64 {
    size.next_multiple_of(MIB).max(MIB) + MIB
}

/// Where a config drive of `size` bytes goes on a disk of `disk` bytes. `labelled`: number of a partition that has a config drive in it.
///
/// # Errors
/// There is no place.
pub fn place(
    table: &Table,
    disk: u64,
    size: u64,
    labelled: Option<u32>,
) -> Result<Place, PlaceError> {
    let gpt = match table.label.as_str() {
        "gpt" => true,
        "dos" => false,
        other => return Err(PlaceError::Label(other.to_owned())),
    };
    let sector = table.sector_size;
    let used = table.partitions.iter().find(|partition| {
        let named = gpt && partition.name == LABEL;
        let labelled = labelled.is_some() && partition.number() == labelled;
        (named || labelled) && partition.size * sector >= size
    });
    if let Some(partition) = used {
        return Ok(Place::Reuse {
            begin: partition.start * sector,
        });
    }
    let primary = table
        .partitions
        .iter()
        .filter(|partition| partition.number().is_some_and(|number| number <= 4));
    if !gpt && primary.count() >= 4 {
        return Err(PlaceError::Full);
    }
    let end = if gpt {
        disk
    } else {
        disk.min(MBR_SECTORS * sector)
    };
    let needed = room(size);
    let last = table
        .partitions
        .iter()
        .map(|partition| (partition.start + partition.size) * sector)
        .max()
        .unwrap_or(MIB);
    // The end of the last whole MiB before what a GPT keeps.
    let begin = (end / MIB * MIB).saturating_sub(needed);
    if begin < last {
        return Err(PlaceError::Room {
            needed: needed / MIB,
            left: end.saturating_sub(last) / MIB,
        });
    }
    let (start, sectors) = (begin / sector, (needed - MIB) / sector);
    let line = if gpt {
        format!("start={start}, size={sectors}, type=L, name=\"{LABEL}\"\n")
    } else {
        format!("start={start}, size={sectors}, type=83\n")
    };
    Ok(Place::Add { begin, line })
}

/// Writes a config drive to a disk with a partition table; returns the number of its partition.
///
/// # Errors
/// There is no place, or the disk can't be written.
pub fn write(device: &str, disk: u64, drive: &[u8]) -> Result<Option<u32>, ConfigDriveError> {
    let table = disk::table(device)?;
    let io = |source| DiskError::Io {
        device: device.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(io)?;
    let labelled = labelled(&file, &table);
    let begin = match place(&table, disk, drive.len() as u64, labelled)? {
        Place::Reuse { begin } => begin,
        Place::Add { begin, line } => {
            disk::append(device, &line)?;
            begin
        }
    };
    file.write_all_at(drive, begin).map_err(io)?;
    file.sync_data().map_err(io)?;
    let table = disk::table(device)?;
    Ok(table
        .partitions
        .iter()
        .find(|partition| partition.start * table.sector_size == begin)
        .and_then(disk::Partition::number))
}

/// Why there is no config drive.
#[derive(Debug, thiserror::Error)]
pub enum ConfigDriveError {
    /// See there.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// See there.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The number of the partition with a file system of the label in it.
fn labelled(file: &File, table: &Table) -> Option<u32> {
    table.partitions.iter().find_map(|partition| {
        let mut label = [0; LABEL.len() + 1];
        let at = partition.start * table.sector_size + LABEL_PLACE;
        file.read_exact_at(&mut label, at).ok()?;
        let label = String::from_utf8_lossy(&label).to_ascii_lowercase();
        (label.trim_end() == LABEL).then(|| partition.number())?
    })
}

#[cfg(test)]
mod tests;
