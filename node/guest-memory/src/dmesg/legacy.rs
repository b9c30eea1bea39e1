//! The log buffer of kernels before 5.10: records one after another (`struct printk_log`), each with its own length.
//!
//! It can only be read forwards, so the limits drop records at the front.

use std::collections::VecDeque;

use super::layout::Layout;
use super::phys::to_usize;
use super::walk::Virtual;
use super::{DmesgError, KernelLog, Limits, Record, escape};

/// `log_buf_len` is at most 2 GiB.
const MAX_LENGTH: u64 = 1 << 31;
/// `dict_len` is followed by facility, then by 5 bits of flags and 3 of level.
const FACILITY: u64 = 2;
const LEVEL: u64 = 3;

/// Reads the newest records into `log`, oldest first.
pub(super) fn read(
    memory: &mut Virtual<'_>,
    layout: &Layout,
    limits: &Limits,
    log: &mut KernelLog,
) -> Result<(), DmesgError> {
    let buffer = memory.u64(layout.symbol("log_buf")?)?;
    let length = u64::from(memory.u32(layout.symbol("log_buf_len")?)?);
    let end = u64::from(memory.u32(layout.symbol("log_next_idx")?)?);
    let mut at = u64::from(memory.u32(layout.symbol("log_first_idx")?)?);
    let (ts_nsec, len) = (
        layout.offset("printk_log.ts_nsec")?,
        layout.offset("printk_log.len")?,
    );
    let (text_len, dict_len) = (
        layout.offset("printk_log.text_len")?,
        layout.offset("printk_log.dict_len")?,
    );
    let header = layout.size("printk_log")?;
    for (what, value, most) in [
        ("log_buf_len", length, MAX_LENGTH),
        ("log_first_idx", at, length),
        ("log_next_idx", end, length),
    ] {
        if value > most {
            return Err(DmesgError::Inconsistent {
                what,
                value,
                allowed: "it must lie within the log buffer",
            });
        }
    }

    let mut records = VecDeque::new();
    let (mut text_bytes, mut seen, mut seq) = (0_usize, 0_u64, 0_u64);
    let mut wrapped = false;
    while at != end {
        match memory.pay_step() {
            Err(DmesgError::OverBudget { .. }) if !records.is_empty() => {
                log.truncated = true;
                break;
            }
            other => other?,
        }
        let here = buffer.wrapping_add(at);
        let size = u64::from(memory.u16(here.wrapping_add(len))?);
        if size == 0 {
            // An empty record says that the next one is at the buffer's start; twice would be a loop.
            if wrapped {
                break;
            }
            (wrapped, at) = (true, 0);
            continue;
        }
        seen = seen.saturating_add(size);
        let next = at.saturating_add(size);
        if size < header || next > length || seen > length {
            return Err(DmesgError::Inconsistent {
                what: "the length of a record of the log buffer",
                value: size,
                allowed: "records must lie within the log buffer and not overlap",
            });
        }
        let room = size - header;
        let mut text =
            vec![0; to_usize(u64::from(memory.u16(here.wrapping_add(text_len))?).min(room))];
        memory.read(here.wrapping_add(header), &mut text)?;
        let flags = here.wrapping_add(dict_len);
        let record = Record {
            ts_nsec: memory.u64(here.wrapping_add(ts_nsec))?,
            seq,
            level: memory.u8(flags.wrapping_add(LEVEL))? >> 5,
            facility: memory.u8(flags.wrapping_add(FACILITY))?,
            text: escape(&text),
        };
        text_bytes = text_bytes.saturating_add(record.text.len());
        records.push_back(record);
        while records.len() > limits.records || text_bytes > limits.text_bytes {
            let Some(dropped) = records.pop_front() else {
                break;
            };
            text_bytes = text_bytes.saturating_sub(dropped.text.len());
            log.truncated = true;
        }
        seq += 1;
        at = next;
    }
    if records.is_empty() {
        return Err(DmesgError::Inconsistent {
            what: "the number of records in the log buffer",
            value: 0,
            allowed: "a kernel that runs has some",
        });
    }
    log.records = records.into();
    Ok(())
}
