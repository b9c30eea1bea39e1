//! Memory that a start needed and the time after it does not.
//!
//! A launcher waits nearly always. Starting a domain makes the C allocator grow by some 5 MB and walks through most of libvirt's code; both
//! are given back, so that a waiting launcher costs what waiting needs.

use std::ops::Range;

/// Gives the free memory of the C allocator back to the system. Worth about 5 MB per launcher after a domain's start.
pub fn trim_memory() {
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes code that is not being run out of the process' page tables. It stays in the page cache, where other launchers share it, and comes
/// back by a minor fault when it is called. Worth about 10 MB for the only launcher of a host.
pub fn release_code() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for range in untouched_file_pages(&smaps) {
        // SAFETY: the mapping is of a file, private, not writable, and has no page of its own (`Anonymous: 0 kB`): what is dropped is read
        // again from the file. That it still is what the list said is certain since this process unloads no library and relocates one only
        // while it loads it, when the mapping is writable.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(range.start),
                range.end - range.start,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// Mappings of files that hold nothing but the files' bytes and cannot be written to.
fn untouched_file_pages(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(range) = header(line) {
            candidate = range;
        } else if line
            .strip_prefix("Anonymous:")
            .is_some_and(|size| size.trim() == "0 kB")
        {
            found.extend(candidate.take());
        }
    }
    found
}

/// The range of a mapping's first line: `None` = no first line, `Some(None)` = a mapping to be left alone.
fn header(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    let (permissions, inode) = (words.next()?, words.nth(2)?);
    let file = inode != "0" && matches!(permissions, "r-xp" | "r--p");
    Some(file.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-2000 r--p 00000000 fe:00 12 /usr/lib/a.so
Rss:                   4 kB
Anonymous:             0 kB
2000-5000 r-xp 00001000 fe:00 12 /usr/lib/a.so
Anonymous:             0 kB
5000-6000 r--p 00004000 fe:00 12 /usr/lib/a.so
Anonymous:             4 kB
6000-7000 rw-p 00005000 fe:00 12 /usr/lib/a.so
Anonymous:             0 kB
7000-8000 rw-p 00000000 00:00 0 [heap]
Anonymous:             0 kB
8000-9000 r--p 00000000 00:00 0 [vvar]
Anonymous:             0 kB
9000-a000 r-xs 00000000 fe:00 13 /usr/share/data
Anonymous:             0 kB
";

    #[test]
    fn relocated_written_and_anonymous_memory_is_left_alone() {
        let ranges = untouched_file_pages(SMAPS);
        assert_eq!(ranges, [0x1000..0x2000, 0x2000..0x5000]);
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        for _ in 0..2 {
            trim_memory();
            release_code();
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(
            maps.lines()
                .any(|line| header(line).is_some_and(|range| range.is_some()))
        );
    }
}
