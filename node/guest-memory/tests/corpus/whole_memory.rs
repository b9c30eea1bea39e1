//! Memory that holds two kernels, or is cut under the reader.

use catamaran_guest_memory::guest_ram::{GuestRam, Machine};

use crate::image::{
    DATA, DESCS, IMAGE, INFOS, Image, NOTE, PHYS_BASE, Pages, SIZE, TABLES, memfd, note, ram,
};
use crate::meter::read;

#[test]
fn of_two_kernels_the_last_to_boot_is_read() {
    for old_first in [true, false] {
        let mut old = Image::new(Pages::Of2Mib, 5, 11);
        old.log(b"rtc_cmos 00:04: setting system clock to 2026-01-31T12:00:00 UTC (1769860800)");
        old.log(b"I am the old kernel");
        let mut new = Image::new(Pages::Of2Mib, 5, 11);
        new.log(b"rtc_cmos 00:04: setting system clock to 2026-01-31T12:05:00 UTC (1769861100)");
        new.log(b"I am the new kernel");
        // Two images in one memory: the second, moved up by its own length.
        let (first, second) = if old_first { (old, new) } else { (new, old) };
        let mut second = second.finish();
        relocate(&mut second);
        let mut bytes = first.finish();
        bytes.extend_from_slice(&second);
        let log = read(&ram(&bytes)).unwrap();
        assert_eq!(
            log.records.last().unwrap().text,
            "I am the new kernel",
            "old first: {old_first}"
        );
    }
}

/// Moves an image with pages of 2 MiB up by its own length: tables, the large page, and `phys_base`.
fn relocate(bytes: &mut [u8]) {
    for at in
        (usize::try_from(TABLES).unwrap()..usize::try_from(TABLES).unwrap() + 0x3000).step_by(8)
    {
        let entry = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        if entry & 1 != 0 {
            bytes[at..at + 8].copy_from_slice(&(entry + SIZE).to_le_bytes());
        }
    }
    let at = usize::try_from(NOTE).unwrap();
    let text = String::from_utf8(bytes[at + 24..at + 4096].to_vec()).unwrap();
    let old = format!("NUMBER(phys_base)={}", PHYS_BASE);
    let new = format!(
        "NUMBER(phys_base)={}",
        PHYS_BASE + i64::try_from(SIZE).unwrap()
    );
    let text = text.replace(&old, &new);
    let note = note(text.trim_end_matches('\0').as_bytes());
    bytes[at..at + note.len()].copy_from_slice(&note);
}

#[test]
fn memory_which_is_cut_under_the_reader_is_an_error() {
    let bytes = Image::valid().finish();
    for size in [
        0,
        1,
        4096,
        NOTE + 10,
        NOTE + 100,
        IMAGE,
        IMAGE + 0x1800,
        DESCS,
        INFOS,
        DATA + 5,
    ] {
        let file = memfd(&bytes);
        let ram = GuestRam::from_file(file.try_clone().unwrap(), Machine::Q35).unwrap();
        file.set_len(size).unwrap();
        assert!(read(&ram).is_err(), "{size}");
    }
}
