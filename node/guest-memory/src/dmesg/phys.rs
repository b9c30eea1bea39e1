//! Guest-physical memory, read by the page through a small cache, so that walking structs costs few system calls.

use super::DmesgError;
use super::budget::Budget;
use crate::guest_ram::GuestRam;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
/// Pages kept: 256 KiB. The slot of a page is its number's rest.
const SLOTS: usize = 64;
/// No page has this number: it lies beyond any physical address.
const NO_PAGE: u64 = u64::MAX;

/// Reads a guest's physical memory within a budget.
#[derive(Debug)]
pub(super) struct Phys<'a> {
    ram: &'a GuestRam,
    budget: &'a mut Budget,
    /// The page's number, how much of it was there, and its bytes.
    pages: Vec<(u64, usize, Box<[u8]>)>,
}

impl<'a> Phys<'a> {
    pub(super) fn new(ram: &'a GuestRam, budget: &'a mut Budget) -> Phys<'a> {
        Phys {
            ram,
            budget,
            pages: (0..SLOTS).map(|_| (NO_PAGE, 0, Box::default())).collect(),
        }
    }

    /// Pays for one value of work that reads nothing.
    pub(super) fn pay_step(&mut self) -> Result<(), DmesgError> {
        self.budget.pay_step()
    }

    /// Fills `into` from `address`; must not cross a page's end.
    pub(super) fn read_in_page(&mut self, address: u64, into: &mut [u8]) -> Result<(), DmesgError> {
        self.budget.pay_step()?;
        let (number, start) = (address / PAGE, to_usize(address % PAGE));
        let slot = self
            .pages
            .get_mut(to_usize(number % SLOTS as u64))
            .ok_or(DmesgError::NotMapped { address })?;
        if slot.0 != number {
            let offset = self
                .ram
                .offset_of(number.saturating_mul(PAGE))
                .ok_or(DmesgError::NotMapped { address })?;
            self.budget.pay_read(PAGE)?;
            slot.0 = NO_PAGE;
            if slot.2.is_empty() {
                slot.2 = vec![0; PAGE_BYTES].into_boxed_slice();
            }
            slot.1 = self
                .ram
                .read_at(offset, &mut slot.2)
                .map_err(|source| DmesgError::Io { source })?;
            slot.0 = number;
        }
        let end = start.saturating_add(into.len());
        let bytes = slot
            .2
            .get(..slot.1)
            .and_then(|page| page.get(start..end))
            .ok_or(DmesgError::NotMapped { address })?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    /// Forgets what is cached of the page at `address`, so that the next read sees what the guest wrote meanwhile.
    pub(super) fn forget(&mut self, address: u64) {
        let number = address / PAGE;
        if let Some(slot) = self.pages.get_mut(to_usize(number % SLOTS as u64)) {
            slot.0 = NO_PAGE;
        }
    }
}

/// On x86-64, where this crate runs, nothing is lost; elsewhere the value would be out of every range.
pub(super) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
