//! Finds VMCOREINFO notes in a guest's RAM without touching memory that the guest never used.
//!
//! The kernel allocates the note early, in whole pages, so that it starts at a page's start. Where it lands depends on kernel and
//! size; the places seen most are searched first, then everything else.

use super::DmesgError;
use super::budget::Budget;
use super::phys::to_usize;
use crate::guest_ram::GuestRam;

/// Read at once; small enough for the processor's second cache.
const CHUNK: usize = 256 << 10;
const PAGE: usize = 4096;
/// The name with its terminating zero, as the note stores it.
const NAME: &[u8] = b"VMCOREINFO\0";
/// Header of a note: the sizes of name and description, and a type; then the name, padded to 4 bytes.
const DESCRIPTION: usize = 24;
/// The kernel's own limit is a page; a larger claim is cut here.
const MAX_DESCRIPTION: usize = 16 << 10;

/// A scan that goes on where it stopped.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    ram: &'a GuestRam,
    /// Parts of the file still to be searched, the next one last.
    todo: Vec<(u64, u64)>,
    /// What is left of the part that holds memory.
    data: (u64, u64),
    chunk: Vec<u8>,
    /// Where in the file `chunk` was read, how much of it is filled, and how far that has been looked at.
    chunk_at: u64,
    filled: usize,
    looked: usize,
    scanned: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(ram: &'a GuestRam) -> Scan<'a> {
        let mut todo = order(ram);
        todo.reverse();
        Scan {
            ram,
            todo,
            data: (0, 0),
            chunk: vec![0; CHUNK],
            chunk_at: 0,
            filled: 0,
            looked: 0,
            scanned: 0,
        }
    }

    /// Bytes searched so far.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// The next note's description; `None` at the end. With `only_quarter`, also ends when a quarter of the budget's time is gone.
    pub(super) fn next(
        &mut self,
        budget: &mut Budget,
        only_quarter: bool,
    ) -> Result<Option<Vec<u8>>, DmesgError> {
        loop {
            while let Some(page) = self
                .chunk
                .get(self.looked..self.filled)
                .filter(|rest| !rest.is_empty())
            {
                let offset = self.chunk_at.saturating_add(self.looked as u64);
                let size = description_size(page);
                self.looked = self.looked.saturating_add(PAGE);
                if let Some(size) = size {
                    return self.description(offset, size, budget).map(Some);
                }
            }
            if only_quarter && budget.quarter_spent() {
                return Ok(None);
            }
            if !self.fill(budget)? {
                return Ok(None);
            }
        }
    }

    /// Reads the next chunk; false at the end.
    fn fill(&mut self, budget: &mut Budget) -> Result<bool, DmesgError> {
        let io = |source| DmesgError::Io { source };
        (self.filled, self.looked) = (0, 0);
        while let Some((start, end)) = self.next_data(budget)? {
            let stop = start.saturating_add(CHUNK as u64).min(end);
            self.data = (stop, end);
            let length = to_usize(stop.saturating_sub(start)).min(CHUNK);
            budget.pay_read(length as u64)?;
            let into = self.chunk.get_mut(..length).unwrap_or_default();
            let count = self.ram.read_at(start, into).map_err(io)?;
            (self.filled, self.chunk_at) = (count, start);
            self.scanned = self.scanned.saturating_add(count as u64);
            if count > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rest of the current part that holds memory, or the next one. Asked once per part: the kernel walks the part to answer.
    fn next_data(&mut self, budget: &mut Budget) -> Result<Option<(u64, u64)>, DmesgError> {
        if self.data.0 < self.data.1 {
            return Ok(Some(self.data));
        }
        while let Some((start, end)) = self.todo.pop() {
            budget.pay_read(0)?;
            let data = self
                .ram
                .next_data(start, end)
                .map_err(|source| DmesgError::Io { source })?;
            let Some((data, data_end)) = data else {
                continue;
            };
            // Notes start at page starts; data begins within a page only in a file that is not a guest's RAM.
            let part = (data - data % PAGE as u64, data_end);
            self.todo.push((data_end, end));
            return Ok(Some(part));
        }
        Ok(None)
    }

    /// Reads a note's description; shorter where the file ends.
    fn description(
        &self,
        note: u64,
        size: usize,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, DmesgError> {
        budget.pay_read(size as u64)?;
        let mut description = vec![0; size];
        let at = note.saturating_add(DESCRIPTION as u64);
        let count = self
            .ram
            .read_at(at, &mut description)
            .map_err(|source| DmesgError::Io { source })?;
        description.truncate(count);
        Ok(description)
    }
}

/// The size of the description, if a note starts here.
fn description_size(page: &[u8]) -> Option<usize> {
    let name_size = u32::from_le_bytes(*page.first_chunk()?);
    if to_usize(u64::from(name_size)) != NAME.len() || page.get(12..12 + NAME.len())? != NAME {
        return None;
    }
    let size = u32::from_le_bytes(*page.get(4..)?.first_chunk()?);
    Some(to_usize(u64::from(size)).min(MAX_DESCRIPTION)).filter(|size| *size > 0)
}

/// The parts of the file in the order in which they are searched: all of it, each byte once.
///
/// Seen with kernels 6.1 and 6.12: just above 4 GiB where there is RAM, between 16 and 32 MiB, or near the end of the low or of all
/// RAM.
fn order(ram: &GuestRam) -> Vec<(u64, u64)> {
    const MIB: u64 = 1 << 20;
    let (size, low) = (ram.size(), ram.low());
    let likely = [
        (low, low + 64 * MIB),
        (16 * MIB, 64 * MIB),
        (low.saturating_sub(32 * MIB), low),
        (size.saturating_sub(96 * MIB), size),
    ];
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for (start, end) in likely.into_iter().chain([(0, size)]) {
        // What earlier parts cover is cut out.
        let mut rest = vec![(start.min(size), end.min(size))];
        for (from, to) in &parts {
            rest = rest
                .iter()
                .flat_map(|(a, b)| [(*a, *b.min(from)), (*a.max(to), *b)])
                .filter(|(a, b)| a < b)
                .collect();
        }
        parts.extend(rest.into_iter().filter(|(a, b)| a < b));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(size: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[..4].copy_from_slice(&11_u32.to_le_bytes());
        page[4..8].copy_from_slice(&size.to_le_bytes());
        page[12..23].copy_from_slice(NAME);
        page
    }

    #[test]
    fn a_note_is_known_by_its_header() {
        assert_eq!(description_size(&note(100)), Some(100));
        assert_eq!(description_size(&note(u32::MAX)), Some(MAX_DESCRIPTION));
        assert_eq!(description_size(&note(0)), None);
        assert_eq!(description_size(&vec![0; PAGE]), None);
    }

    #[test]
    fn every_byte_is_searched_once() {
        for mib in [0, 1, 20, 48, 64, 100, 512, 2800, 2816, 5120] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(mib << 20).unwrap();
            let ram = GuestRam::from_file(file, crate::guest_ram::Machine::Q35).unwrap();
            let mut parts = order(&ram);
            parts.sort_unstable();
            let mut at = 0;
            for (start, end) in parts {
                assert_eq!(start, at, "{mib} MiB");
                assert!(end > start);
                at = end;
            }
            assert_eq!(at, mib << 20);
        }
    }

    #[test]
    fn a_page_which_is_cut_short_is_no_note() {
        for length in 0..23 {
            assert_eq!(description_size(&note(100)[..length]), None, "{length}");
        }
    }
}
