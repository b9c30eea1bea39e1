//! The printk ring buffer of kernels from 5.10 on (`kernel/printk/printk_ringbuffer.c`).
//!
//! Three rings: descriptors (state and place of the text), infos (time, level) beside them, and text blocks. A descriptor's state word
//! holds its id and two bits of state; a text block starts with the id of its descriptor. Both are compared, so that a slot that the
//! guest reuses while it is read is left out and not shown wrong.
//!
//! Read from the newest record backwards, so that what the limits cut is old.

use super::layout::Layout;
use super::phys::to_usize;
use super::walk::Virtual;
use super::{DmesgError, KernelLog, Limits, Record, escape};

/// Ids and states share a word: the upper two bits are the state.
const ID: u64 = (1 << 62) - 1;
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
/// `log_buf_len` is at most 2 GiB, with 32 bytes of text for each descriptor.
const MAX_COUNT_BITS: u32 = 26;
const MAX_SIZE_BITS: u32 = 31;
/// A text block starts with its descriptor's id.
const BLOCK_HEADER: u64 = 8;
/// `text_len` is followed by facility, then by 5 bits of flags and 3 of level.
const FACILITY: u64 = 2;
const LEVEL: u64 = 3;

/// The offsets of a kernel's ring.
struct Members {
    desc_size: u64,
    state: u64,
    begin: u64,
    next: u64,
    info_size: u64,
    ts_nsec: u64,
    seq: u64,
    text_len: u64,
}

impl Members {
    fn of(layout: &Layout) -> Result<Members, DmesgError> {
        let block = layout.offset("prb_desc.text_blk_lpos")?;
        Ok(Members {
            desc_size: layout.size("prb_desc")?,
            state: layout.offset("prb_desc.state_var")?,
            begin: block + layout.offset("prb_data_blk_lpos.begin")?,
            next: block + layout.offset("prb_data_blk_lpos.next")?,
            info_size: layout.size("printk_info")?,
            ts_nsec: layout.offset("printk_info.ts_nsec")?,
            seq: layout.offset("printk_info.seq")?,
            text_len: layout.offset("printk_info.text_len")?,
        })
    }
}

/// The places and sizes of a guest's ring.
struct Ring {
    members: Members,
    count_bits: u32,
    descs: u64,
    infos: u64,
    size_bits: u32,
    data: u64,
}

/// Reads the newest records into `log`, oldest first.
pub(super) fn read(
    memory: &mut Virtual<'_>,
    layout: &Layout,
    limits: &Limits,
    log: &mut KernelLog,
) -> Result<(), DmesgError> {
    let prb = memory.u64(layout.symbol("prb")?)?;
    let desc_ring = prb.wrapping_add(layout.offset("printk_ringbuffer.desc_ring")?);
    let text_ring = prb.wrapping_add(layout.offset("printk_ringbuffer.text_data_ring")?);
    let in_descs = |name: &str| {
        Ok::<u64, DmesgError>(
            desc_ring.wrapping_add(layout.offset(&format!("prb_desc_ring.{name}"))?),
        )
    };
    let in_texts = |name: &str| {
        Ok::<u64, DmesgError>(
            text_ring.wrapping_add(layout.offset(&format!("prb_data_ring.{name}"))?),
        )
    };
    let ring = Ring {
        members: Members::of(layout)?,
        count_bits: bits(
            "count_bits of the printk ring",
            memory.u32(in_descs("count_bits")?)?,
            MAX_COUNT_BITS,
        )?,
        descs: memory.u64(in_descs("descs")?)?,
        infos: memory.u64(in_descs("infos")?)?,
        size_bits: bits(
            "size_bits of the printk ring",
            memory.u32(in_texts("size_bits")?)?,
            MAX_SIZE_BITS,
        )?,
        data: memory.u64(in_texts("data")?)?,
    };
    let tail = memory.u64(in_descs("tail_id")?)? & ID;
    let head = memory.u64_now(in_descs("head_id")?)? & ID;
    // Of a live guest the head may have moved on since the tail was read: there are never more records than slots.
    let slots = 1_u64 << ring.count_bits;
    let span = (head.wrapping_sub(tail) & ID).saturating_add(1).min(slots);

    let mut text_bytes = 0_usize;
    let mut lost = None;
    for back in 0..span {
        if log.records.len() >= limits.records || text_bytes >= limits.text_bytes {
            log.truncated = true;
            break;
        }
        match ring.record(memory, head.wrapping_sub(back) & ID) {
            Ok(Some(record)) => {
                text_bytes = text_bytes.saturating_add(record.text.len());
                log.records.push(record);
            }
            Ok(None) => {}
            // What is there so far is the newest part, which is worth more than an error.
            Err(DmesgError::OverBudget { .. }) if !log.records.is_empty() => {
                log.truncated = true;
                break;
            }
            Err(error @ (DmesgError::OverBudget { .. } | DmesgError::Io { .. })) => {
                return Err(error);
            }
            Err(error) => lost = Some(error),
        }
    }
    log.records.reverse();
    if log.records.is_empty() {
        return Err(lost.unwrap_or(DmesgError::Inconsistent {
            what: "the number of readable records among those of the printk ring",
            value: 0,
            allowed: "a kernel that runs has some",
        }));
    }
    Ok(())
}

/// A number of bits, if it is not absurd.
fn bits(what: &'static str, value: u32, most: u32) -> Result<u32, DmesgError> {
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(DmesgError::Inconsistent {
            what,
            value: u64::from(value),
            allowed: "a Linux kernel has 1 to 31",
        })
    }
}

impl Ring {
    /// The record `id`; `None` if it is not (or no longer) there.
    fn record(&self, memory: &mut Virtual<'_>, id: u64) -> Result<Option<Record>, DmesgError> {
        memory.pay_step()?;
        let slot = id & ((1 << self.count_bits) - 1);
        let desc = self
            .descs
            .wrapping_add(slot.wrapping_mul(self.members.desc_size));
        let state = memory.u64(desc.wrapping_add(self.members.state))?;
        if state & ID != id || !matches!(state >> 62, COMMITTED | FINALIZED) {
            return Ok(None);
        }
        let begin = memory.u64(desc.wrapping_add(self.members.begin))?;
        let next = memory.u64(desc.wrapping_add(self.members.next))?;
        let info = self
            .infos
            .wrapping_add(slot.wrapping_mul(self.members.info_size));
        let length = info.wrapping_add(self.members.text_len);
        let text_len = u64::from(memory.u16(length)?);
        let mut record = Record {
            ts_nsec: memory.u64(info.wrapping_add(self.members.ts_nsec))?,
            seq: memory.u64(info.wrapping_add(self.members.seq))?,
            level: memory.u8(length.wrapping_add(LEVEL))? >> 5,
            facility: memory.u8(length.wrapping_add(FACILITY))?,
            text: String::new(),
        };
        // An odd place says that the record has no text.
        if begin & 1 == 0 {
            let Some((at, room)) = self.block(begin, next) else {
                return Ok(None);
            };
            if memory.u64(self.data.wrapping_add(at))? & ID != id {
                return Ok(None);
            }
            let mut bytes = vec![0; to_usize(text_len.min(room))];
            memory.read(
                self.data.wrapping_add(at).wrapping_add(BLOCK_HEADER),
                &mut bytes,
            )?;
            record.text = escape(&bytes);
        }
        // The guest runs on: was the slot reused while it was read?
        let still = memory.u64_now(desc.wrapping_add(self.members.state))?;
        Ok((still & ID == id && matches!(still >> 62, COMMITTED | FINALIZED)).then_some(record))
    }

    /// Where in the text ring a block starts, and how many bytes of text it has room for. Positions count on and on, past 2^64 too.
    fn block(&self, begin: u64, next: u64) -> Option<(u64, u64)> {
        let ring = 1_u64 << self.size_bits;
        let (index, lap) = (
            |position: u64| position & (ring - 1),
            |position: u64| position >> self.size_bits,
        );
        let last = next.wrapping_sub(1);
        let (at, end) = if lap(begin) == lap(last) {
            (index(begin), index(last) + 1)
        } else if lap(begin.wrapping_add(ring)) == lap(last) {
            // A block which does not fit before the ring's end is stored at its start.
            (0, index(last) + 1)
        } else {
            return None;
        };
        Some((at, end.checked_sub(at)?.checked_sub(BLOCK_HEADER)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        let members = Members {
            desc_size: 24,
            state: 0,
            begin: 8,
            next: 16,
            info_size: 88,
            ts_nsec: 8,
            seq: 0,
            text_len: 16,
        };
        Ring {
            members,
            count_bits: 4,
            descs: 0,
            infos: 0,
            size_bits: 8,
            data: 0,
        }
    }

    #[test]
    fn a_block_lies_where_it_begins() {
        assert_eq!(ring().block(0x120, 0x140), Some((0x20, 0x18)));
    }

    #[test]
    fn a_block_may_end_at_the_rings_end() {
        assert_eq!(ring().block(0x1e0, 0x200), Some((0xe0, 0x18)));
    }

    #[test]
    fn a_wrapped_block_lies_at_the_rings_start() {
        assert_eq!(ring().block(0x1f0, 0x220), Some((0, 0x18)));
    }

    #[test]
    fn absurd_blocks_are_none() {
        assert_eq!(ring().block(0x140, 0x120), None);
        assert_eq!(ring().block(0x120, 0x124), None);
        assert_eq!(ring().block(0x120, 0x420), None);
        assert_eq!(ring().block(0, 0), None);
        assert_eq!(ring().block(u64::MAX - 1, 0), None);
    }

    #[test]
    fn positions_go_on_past_2_to_the_64() {
        assert_eq!(
            ring().block(0_u64.wrapping_sub(0x20), 0),
            Some((0xe0, 0x18))
        );
        assert_eq!(
            ring().block(0_u64.wrapping_sub(0x20), 0x30),
            Some((0, 0x28))
        );
    }
}
