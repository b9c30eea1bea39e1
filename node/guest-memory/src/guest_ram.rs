//! A guest's RAM as a file: where it is found, and how guest-physical addresses lie in it.
//!
//! QEMU keeps the guest's RAM in a memfd that it shares (the plan always asks for that). Whoever has QEMU's uid may open it again
//! through `/proc/PID/fd`. It is only ever read with `pread`: a file that shrinks under the reader gives a short read, where a
//! mapping would give SIGBUS.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// RAM above the hole for devices starts here, at 4 GiB.
const HIGH_RAM: u64 = 1 << 32;
/// So many descriptors of a process are looked at.
const MAX_FDS: usize = 4096;

/// QEMU's machine types differ in how much RAM lies below the hole for devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// `q35` of any version.
    #[default]
    Q35,
    /// `pc` (i440fx) of any version.
    Pc,
}

impl Machine {
    /// The machine of a libvirt or QEMU name: `q35`, `pc-q35-10.0`, `pc`, `pc-i440fx-9.2`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Machine> {
        if name == "q35" || name.starts_with("pc-q35-") {
            Some(Machine::Q35)
        } else if name == "pc" || name.starts_with("pc-i440fx-") {
            Some(Machine::Pc)
        } else {
            None
        }
    }

    /// How much of `size` bytes of RAM lies below the hole (QEMU: `pc_q35_init`, `pc_init1`).
    #[must_use]
    pub fn low_ram(self, size: u64) -> u64 {
        let low = match self {
            Machine::Q35 if size >= 0xb000_0000 => 0x8000_0000,
            Machine::Q35 => 0xb000_0000,
            Machine::Pc if size >= 0xe000_0000 => 0xc000_0000,
            Machine::Pc => 0xe000_0000,
        };
        low.min(size)
    }
}

/// Why a guest's RAM could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GuestRamError {
    /// The process has no descriptor that could be a guest's RAM.
    #[error(
        "process {pid} holds no memfd or file of guest RAM ({seen} descriptors looked at): its RAM is not shared, or it is no QEMU"
    )]
    NoRam {
        /// The process.
        pid: u32,
        /// How many descriptors were looked at.
        seen: usize,
    },
    /// The kernel refused something.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A guest's RAM, open for reading.
#[derive(Debug)]
pub struct GuestRam {
    file: File,
    size: u64,
    low: u64,
}

impl GuestRam {
    /// Opens the RAM of the QEMU process `pid`: the largest memfd (or file below `/dev/shm`, or libvirt's file in a folder `ram`)
    /// that it holds. Needs QEMU's uid, or the right to trace it.
    ///
    /// # Errors
    /// There is none, or the kernel does not let this process look.
    pub fn of_process(pid: u32, machine: Machine) -> Result<GuestRam, GuestRamError> {
        let folder = PathBuf::from(format!("/proc/{pid}/fd"));
        let list = fs::read_dir(&folder).map_err(|source| GuestRamError::Io {
            what: "cannot list",
            path: folder.clone(),
            source,
        })?;
        let mut largest: Option<(u64, PathBuf)> = None;
        let mut seen = 0;
        for entry in list.flatten().take(MAX_FDS) {
            seen += 1;
            // A descriptor may be closed meanwhile; only a link that names RAM is ever opened, since opening others could block.
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            if !is_ram(&target) {
                continue;
            }
            let Ok(meta) = fs::metadata(entry.path()) else {
                continue;
            };
            if meta.is_file() && largest.as_ref().is_none_or(|(size, _)| meta.len() > *size) {
                largest = Some((meta.len(), entry.path()));
            }
        }
        let (_, path) = largest.ok_or(GuestRamError::NoRam { pid, seen })?;
        let file = File::open(&path).map_err(|source| GuestRamError::Io {
            what: "cannot open",
            path: path.clone(),
            source,
        })?;
        GuestRam::from_file(file, machine).map_err(|source| GuestRamError::Io {
            what: "cannot read the size of",
            path,
            source,
        })
    }

    /// Takes a file that holds a guest's RAM, as QEMU lays it out.
    ///
    /// # Errors
    /// The file's size cannot be read.
    pub fn from_file(file: File, machine: Machine) -> io::Result<GuestRam> {
        let size = file.metadata()?.len();
        Ok(GuestRam {
            file,
            size,
            low: machine.low_ram(size),
        })
    }

    /// The RAM's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How much of the RAM lies below the hole for devices, in bytes.
    #[must_use]
    pub fn low(&self) -> u64 {
        self.low
    }

    /// Where a guest-physical address lies in the file; `None` for the hole, devices and what is beyond the RAM.
    #[must_use]
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        if address < self.low {
            return Some(address);
        }
        let above = address.checked_sub(HIGH_RAM)?;
        self.low
            .checked_add(above)
            .filter(|offset| *offset < self.size)
    }

    /// The guest-physical address of a place in the file.
    #[must_use]
    pub fn address_of(&self, offset: u64) -> u64 {
        if offset < self.low {
            offset
        } else {
            (offset - self.low).saturating_add(HIGH_RAM)
        }
    }

    /// Reads up to `into.len()` bytes at a place in the file; fewer at its end.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// The first part of the file within `start..limit` that holds memory, as (start, end); `None` when there is none. Reading what
    /// is not there would give zeros; asking keeps the scan short and allocates nothing.
    pub(crate) fn next_data(&self, start: u64, limit: u64) -> io::Result<Option<(u64, u64)>> {
        let limit = limit.min(self.size);
        if start >= limit {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(start)) {
            Ok(start) => start,
            // A file system which does not know holes: all of it is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((start, limit))),
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if start >= limit {
            return Ok(None);
        }
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(limit);
        Ok(Some((start, end.min(limit))))
    }
}

/// Whether a link in `/proc/PID/fd` names a file of guest RAM.
fn is_ram(target: &Path) -> bool {
    let name = target.as_os_str().as_encoded_bytes();
    name.starts_with(b"/memfd:")
        || name.starts_with(b"/dev/shm/")
        || (name.starts_with(b"/") && name.windows(5).any(|w| w == b"/ram/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn ram(size: u64, machine: Machine) -> GuestRam {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        GuestRam::from_file(file, machine).unwrap()
    }

    #[test]
    fn small_ram_lies_below_the_hole() {
        for machine in [Machine::Q35, Machine::Pc] {
            let ram = ram(GIB, machine);
            assert_eq!(ram.offset_of(0), Some(0));
            assert_eq!(ram.offset_of(GIB - 1), Some(GIB - 1));
            assert_eq!(ram.offset_of(GIB), None);
            assert_eq!(ram.offset_of(4 * GIB), None);
        }
    }

    #[test]
    fn large_ram_goes_on_at_4_gib() {
        for (machine, low) in [(Machine::Q35, 2 * GIB), (Machine::Pc, 3 * GIB)] {
            let ram = ram(5 * GIB, machine);
            assert_eq!(ram.offset_of(low - 1), Some(low - 1));
            assert_eq!(ram.offset_of(low), None);
            assert_eq!(ram.offset_of(4 * GIB), Some(low));
            assert_eq!(ram.address_of(low), 4 * GIB);
            assert_eq!(
                ram.offset_of(4 * GIB + 5 * GIB - low - 1),
                Some(5 * GIB - 1)
            );
            assert_eq!(ram.offset_of(4 * GIB + 5 * GIB - low), None);
            assert_eq!(ram.offset_of(u64::MAX), None);
        }
    }

    #[test]
    fn the_split_of_q35_changes_at_2816_mib() {
        assert_eq!(Machine::Q35.low_ram(0xb000_0000 - 4096), 0xb000_0000 - 4096);
        assert_eq!(Machine::Q35.low_ram(0xb000_0000), 0x8000_0000);
        assert_eq!(Machine::Pc.low_ram(0xe000_0000 - 4096), 0xe000_0000 - 4096);
        assert_eq!(Machine::Pc.low_ram(0xe000_0000), 0xc000_0000);
    }

    #[test]
    fn machine_names_are_understood() {
        for name in ["q35", "pc-q35-10.0"] {
            assert_eq!(Machine::from_name(name), Some(Machine::Q35));
        }
        for name in ["pc", "pc-i440fx-9.2"] {
            assert_eq!(Machine::from_name(name), Some(Machine::Pc));
        }
        assert_eq!(Machine::from_name("microvm"), None);
    }

    #[test]
    fn a_process_without_guest_ram_is_named() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let outcome = GuestRam::of_process(child.id(), Machine::Q35);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            matches!(outcome, Err(GuestRamError::NoRam { .. })),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_process_which_is_gone_is_an_error() {
        let outcome = GuestRam::of_process(u32::MAX - 1, Machine::Q35);
        assert!(
            matches!(outcome, Err(GuestRamError::Io { .. })),
            "{outcome:?}"
        );
    }
}
