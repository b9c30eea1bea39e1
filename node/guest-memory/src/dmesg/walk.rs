//! The guest kernel's virtual memory: translated by its own page tables, within the budget.

use super::DmesgError;
use super::layout::Layout;
use super::phys::{PAGE, Phys, to_usize};

/// The kernel's text and data are mapped in this one range, shifted by `phys_base`.
const KERNEL_IMAGE: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;
/// The address bits of a page table entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
/// At level 2 a page of 2 MiB, at level 3 one of 1 GiB.
const LARGE: u64 = 1 << 7;
/// Translations kept; the slot of a page is its number's rest.
const SLOTS: usize = 64;

/// Reads a guest kernel's virtual memory.
#[derive(Debug)]
pub(super) struct Virtual<'a> {
    phys: Phys<'a>,
    phys_base: u64,
    root: u64,
    levels: u32,
    known: [Option<(u64, u64)>; SLOTS],
}

impl<'a> Virtual<'a> {
    pub(super) fn new(phys: Phys<'a>, layout: &Layout) -> Result<Virtual<'a>, DmesgError> {
        let mut memory = Virtual {
            phys,
            phys_base: layout.phys_base(),
            root: 0,
            levels: if layout.five_levels() { 5 } else { 4 },
            known: [None; SLOTS],
        };
        let table = layout.page_table()?;
        memory.root = memory.in_image(table).ok_or(DmesgError::Inconsistent {
            what: "the address of the kernel's page table",
            value: table,
            allowed: "it must lie in the kernel's image",
        })?;
        Ok(memory)
    }

    /// The physical address of one within the kernel's image.
    fn in_image(&self, address: u64) -> Option<u64> {
        KERNEL_IMAGE.contains(&address).then(|| {
            address
                .wrapping_sub(KERNEL_IMAGE.start)
                .wrapping_add(self.phys_base)
        })
    }

    /// The physical address of a virtual one.
    pub(super) fn translate(&mut self, address: u64) -> Result<u64, DmesgError> {
        if let Some(physical) = self.in_image(address) {
            return Ok(physical);
        }
        let (number, within) = (address / PAGE, address % PAGE);
        let slot = to_usize(number % SLOTS as u64);
        if let Some(Some((known, page))) = self.known.get(slot)
            && *known == number
        {
            return Ok(page | within);
        }
        let page = self.walk(address)? & !(PAGE - 1);
        if let Some(slot) = self.known.get_mut(slot) {
            *slot = Some((number, page));
        }
        Ok(page | within)
    }

    /// Walks the tables: at most one step per level, whatever they hold.
    fn walk(&mut self, address: u64) -> Result<u64, DmesgError> {
        let mut table = self.root;
        for level in (1..=self.levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let mut entry = [0; 8];
            self.phys.read_in_page(
                (table & ADDRESS).wrapping_add(((address >> shift) & 511) * 8),
                &mut entry,
            )?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                break;
            }
            if level == 1 || (entry & LARGE != 0 && level <= 3) {
                let within = (1_u64 << shift) - 1;
                return Ok((entry & ADDRESS & !within) | (address & within));
            }
            table = entry;
        }
        Err(DmesgError::NotMapped { address })
    }

    /// Pays for one value of work that reads nothing.
    pub(super) fn pay_step(&mut self) -> Result<(), DmesgError> {
        self.phys.pay_step()
    }

    /// Fills `into` from `address`, over any page ends.
    pub(super) fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), DmesgError> {
        let mut at = address;
        let mut rest = into;
        while !rest.is_empty() {
            let here = to_usize(PAGE - at % PAGE).min(rest.len());
            let (now, later) = rest.split_at_mut(here);
            let physical = self.translate(at)?;
            self.phys.read_in_page(physical, now)?;
            at = at.wrapping_add(here as u64);
            rest = later;
        }
        Ok(())
    }

    /// The 8 bytes at `address`, as they are now and not as they were when their page was cached.
    pub(super) fn u64_now(&mut self, address: u64) -> Result<u64, DmesgError> {
        let physical = self.translate(address)?;
        self.phys.forget(physical);
        self.u64(address)
    }

    /// The 8-byte number at `address`.
    pub(super) fn u64(&mut self, address: u64) -> Result<u64, DmesgError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The 4-byte number at `address`.
    pub(super) fn u32(&mut self, address: u64) -> Result<u32, DmesgError> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The 2-byte number at `address`.
    pub(super) fn u16(&mut self, address: u64) -> Result<u16, DmesgError> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// The byte at `address`.
    pub(super) fn u8(&mut self, address: u64) -> Result<u8, DmesgError> {
        let mut byte = [0; 1];
        self.read(address, &mut byte)?;
        Ok(u8::from_le_bytes(byte))
    }
}
