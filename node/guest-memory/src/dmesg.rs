//! The kernel log of a live, hung or panicked Linux guest, read from its memory without an agent.
//!
//! Everything needed stands in the guest's own VMCOREINFO note (the one that crash dumps use): where the kernel's page tables and its
//! printk ring buffer are, and the offsets of the members in their structs.
//!
//! ```text
//!   GuestRam ──note: scan for VMCOREINFO──> layout: symbols, offsets ──walk: page tables──> ring (5.10 on) / legacy ──text──> Record
//! ```
//!
//! **The guest is hostile input.** No value from its memory is used as an index or a size without a bound; every read goes through a
//! `Budget` of time, bytes and steps; memory use is bounded by `Limits`. And what is read is what the guest *says*: a guest's
//! root, or a program in it that forges a note, can make it say anything.
//!
//! Called inside the VM's sandbox, with QEMU's uid.

mod budget;
mod layout;
mod legacy;
mod note;
mod phys;
mod ring;
mod text;
mod walk;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use budget::Budget;
use layout::Layout;
use phys::Phys;
pub use text::{escape, render_tail};
use walk::Virtual;

use crate::guest_ram::GuestRam;

/// What one reading may cost. Whatever the guest's memory holds, it stays within these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock time; the log read until then is returned.
    pub time: Duration,
    /// Bytes read from the guest's memory.
    pub bytes: u64,
    /// Single reads of values and page table entries.
    pub steps: u64,
    /// The newest so many records are kept.
    pub records: usize,
    /// The newest so many bytes of text are kept.
    pub text_bytes: usize,
    /// So many VMCOREINFO notes are tried: after a reset the old kernel's may still lie in memory, and anyone may forge one.
    pub notes: usize,
}

impl Default for Limits {
    /// At most 100 ms and 8 MiB of memory.
    fn default() -> Self {
        Limits {
            time: Duration::from_millis(90),
            bytes: 4 << 30,
            steps: 1 << 20,
            records: 16_384,
            text_bytes: 3 << 19,
            notes: 256,
        }
    }
}

impl Limits {
    /// For a guest that waits anyway (panicked, paused): 2 s, so that the note is found in large RAM that is all in use.
    #[must_use]
    pub fn patient() -> Self {
        Limits {
            time: Duration::from_secs(2),
            bytes: 64 << 30,
            ..Limits::default()
        }
    }
}

/// A guest's kernel log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelLog {
    /// The kernel's release, as `uname -r` says it.
    pub os_release: String,
    /// The kernel's build ID in hexadecimal, where its note holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The kernel has panicked.
    pub crashed: bool,
    /// The log was cut at its old end by [`Limits`] (not by the guest's own ring, which forgets old records by itself).
    #[serde(default)]
    pub truncated: bool,
    /// The records, oldest first.
    pub records: Vec<Record>,
}

/// One record of a kernel log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Nanoseconds since the guest's boot.
    pub ts_nsec: u64,
    /// The kernel's running number of the record.
    pub seq: u64,
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// 0 is the kernel, others are programs (syslog's numbers).
    pub facility: u8,
    /// The text; may hold several lines. Already safe to print: control characters are escaped as `\x1b`.
    pub text: String,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum DmesgError {
    /// No note was found in all of the memory.
    #[error(
        "no Linux kernel in the guest's memory ({scanned} bytes searched): it has not booted so far, is not Linux, or its memory is encrypted"
    )]
    NoKernel {
        /// How many bytes were searched.
        scanned: u64,
    },
    /// No note was found in the part of the memory that there was time for.
    #[error(
        "no Linux kernel found in the {scanned} bytes of the guest's memory that could be searched within the limits"
    )]
    NotFoundInTime {
        /// How many bytes were searched.
        scanned: u64,
    },
    /// The note lacks something.
    #[error(
        "the guest's kernel {release} does not say where its log is: {key} is missing in its VMCOREINFO"
    )]
    Missing {
        /// The kernel's release.
        release: String,
        /// The line that is missing.
        key: String,
    },
    /// A value in the guest's memory makes no sense.
    #[error("the guest's kernel log cannot be read: {what} is {value:#x}; {allowed}")]
    Inconsistent {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: u64,
        /// What would be right.
        allowed: &'static str,
    },
    /// An address in the guest does not lead to memory.
    #[error("the guest's kernel log cannot be read: address {address:#x} is not mapped")]
    NotMapped {
        /// The guest's virtual or physical address.
        address: u64,
    },
    /// The limits were reached before there was any record.
    #[error("the guest's kernel log could not be read within the limit of {limit}")]
    OverBudget {
        /// Which limit.
        limit: &'static str,
    },
    /// The RAM's file cannot be read.
    #[error("cannot read the guest's memory")]
    Io {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads the kernel log of the guest whose RAM this is.
///
/// Where there are several notes (after a reset the old kernel may still lie in memory), the one of the kernel that booted last
/// counts.
///
/// # Errors
/// There is no readable log of a Linux kernel, or none was found within the limits.
pub fn read(ram: &GuestRam, limits: &Limits) -> Result<KernelLog, DmesgError> {
    let mut budget = Budget::new(limits);
    let mut scan = note::Scan::new(ram);
    let mut best: Option<KernelLog> = None;
    let mut first_error = None;
    for _ in 0..limits.notes {
        // With a log in hand, look for a newer one only for a quarter of the time.
        if best.is_some() && budget.quarter_spent() {
            break;
        }
        let found = match scan.next(&mut budget, best.is_some()) {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(DmesgError::OverBudget { .. }) if best.is_none() && first_error.is_none() => {
                return Err(DmesgError::NotFoundInTime {
                    scanned: scan.scanned(),
                });
            }
            Err(error) => {
                first_error.get_or_insert(error);
                break;
            }
        };
        match read_one(ram, &found, &mut budget, limits) {
            Ok(log) => best = Some(newer(best, log)),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    match (best, first_error) {
        (Some(log), _) => Ok(log),
        (None, Some(error)) => Err(error),
        (None, None) => Err(DmesgError::NoKernel {
            scanned: scan.scanned(),
        }),
    }
}

/// Reads the log that one note leads to.
fn read_one(
    ram: &GuestRam,
    note: &[u8],
    budget: &mut Budget,
    limits: &Limits,
) -> Result<KernelLog, DmesgError> {
    let layout = Layout::parse(note)?;
    let mut memory = Virtual::new(Phys::new(ram, budget), &layout)?;
    let mut log = KernelLog {
        os_release: escape(layout.os_release().as_bytes()),
        build_id: layout.build_id(),
        crashed: layout.has_crash_time(),
        ..KernelLog::default()
    };
    if layout.has_ring() {
        ring::read(&mut memory, &layout, limits, &mut log)?;
    } else {
        legacy::read(&mut memory, &layout, limits, &mut log)?;
    }
    // CRASHTIME is written only where a crash kernel is loaded. Programs in the guest cannot write records of the kernel's facility.
    log.crashed |= log.records.iter().rev().any(|record| {
        record.facility == 0
            && record.level == 0
            && record.text.starts_with("Kernel panic - not syncing")
    });
    Ok(log)
}

/// Of two logs, the one whose kernel booted later, where both say so; else the one that was found first.
fn newer(best: Option<KernelLog>, log: KernelLog) -> KernelLog {
    match best {
        None => log,
        Some(best) => match (boot_time(&best), boot_time(&log)) {
            (Some(old), Some(new)) if new > old => log,
            (None, Some(_)) => log,
            _ => best,
        },
    }
}

/// When a kernel booted, in seconds of its own real-time clock, from its line
/// `rtc_cmos 00:04: setting system clock to 2026-01-31T12:00:00 UTC (1769860800)`.
fn boot_time(log: &KernelLog) -> Option<u64> {
    let record = log
        .records
        .iter()
        .find(|record| record.facility == 0 && record.text.contains("setting system clock to "))?;
    let (_, tail) = record.text.rsplit_once('(')?;
    let epoch: u64 = tail.trim_end().strip_suffix(')')?.parse().ok()?;
    epoch.checked_sub(record.ts_nsec / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_at(clock: &str, ts_nsec: u64) -> KernelLog {
        KernelLog {
            os_release: clock.to_owned(),
            records: vec![Record {
                text: format!("rtc_cmos 00:04: setting system clock to {clock}"),
                ts_nsec,
                ..Record::default()
            }],
            ..KernelLog::default()
        }
    }

    #[test]
    fn of_two_kernels_the_one_that_booted_last_counts() {
        let old = log_at("2026-01-31T12:00:00 UTC (1769860800)", 1_000_000_000);
        let new = log_at("2026-01-31T12:05:00 UTC (1769861100)", 900_000_000);
        assert_eq!(newer(Some(old.clone()), new.clone()), new);
        assert_eq!(newer(Some(new.clone()), old), new);
    }

    #[test]
    fn without_clocks_the_first_found_counts() {
        let (a, b) = (log_at("nonsense", 0), log_at("other nonsense (x)", 0));
        assert_eq!(newer(Some(a.clone()), b), a);
    }

    #[test]
    fn a_clock_before_its_own_boot_is_no_clock() {
        assert_eq!(boot_time(&log_at("1970-01-01 (1)", u64::MAX)), None);
    }
}
