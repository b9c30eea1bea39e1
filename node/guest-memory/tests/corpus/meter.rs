//! Measures what a reading costs: heap memory by an allocator that counts per thread, and processor time, which a busy machine does
//! not change.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use catamaran_guest_memory::dmesg::{self, DmesgError, KernelLog, Limits};
use catamaran_guest_memory::guest_ram::GuestRam;
use rustix::time::{ClockId, clock_gettime};

/// What a reading may use.
const MOST_BYTES: usize = 8 << 20;
const MOST_TIME: Duration = Duration::from_millis(100);

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn grow(bytes: usize) {
    // A thread that is ending has no counters any more, and counts nothing.
    let _ = NOW.try_with(|now| {
        now.set(now.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

fn shrink(bytes: usize) {
    let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(bytes)));
}

// SAFETY: every call is passed on to the system's allocator unchanged; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there while the system copies.
        grow(size);
        shrink(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap(),
        u32::try_from(now.tv_nsec).unwrap(),
    )
}

/// Reads with the limits that are used by default, and fails if that takes more than it may.
pub(crate) fn read(ram: &GuestRam) -> Result<KernelLog, DmesgError> {
    read_with(ram, &Limits::default())
}

/// As [`read`], with other limits, and only memory is looked at.
pub(crate) fn read_with_memory(ram: &GuestRam, limits: &Limits) -> Result<KernelLog, DmesgError> {
    let before = NOW.get();
    PEAK.set(before);
    let result = dmesg::read(ram, limits);
    let used = PEAK.get().saturating_sub(before);
    assert!(used <= MOST_BYTES, "used {used} bytes");
    result
}

/// As [`read`], with other limits.
pub(crate) fn read_with(ram: &GuestRam, limits: &Limits) -> Result<KernelLog, DmesgError> {
    let started = cpu_time();
    let result = read_with_memory(ram, limits);
    let took = cpu_time() - started;
    assert!(
        took <= MOST_TIME,
        "took {took:?} of processor time: {:?}",
        result.as_ref().err()
    );
    result
}
