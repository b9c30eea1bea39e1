//! Broken guest memory: whatever a guest writes, reading its log ends within 100 ms and 8 MiB and never panics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy allows them in test functions, not in what these call"
)]

mod bounds;
mod changes;
mod image;
mod meter;
mod whole_memory;

use catamaran_guest_memory::dmesg::{DmesgError, KernelLog, escape};
use image::{
    COUNT_BITS, DATA, HEAD_ID, IMAGE, Image, NOTE, Pages, SIZE, SIZE_BITS, TABLES, TAIL_ID, note,
    ram,
};
use meter::read;

/// The log is exactly what was written and is still there.
pub(crate) fn assert_whole(image: &Image) {
    let log = read(&image.ram()).unwrap();
    let texts: Vec<(u64, u64, String)> = log
        .records
        .iter()
        .map(|r| (r.seq, r.ts_nsec, r.text.clone()))
        .collect();
    let written: Vec<(u64, u64, String)> = image
        .records
        .iter()
        .map(|w| (w.seq, w.ts_nsec, escape(&w.text)))
        .collect();
    assert_eq!(texts, written);
    assert!(
        log.records
            .iter()
            .all(|record| record.level == 6 && record.facility == 0)
    );
    assert_eq!(log.os_release, "6.1.0-test");
    assert!(!log.crashed && !log.truncated);
}

pub(crate) fn texts(log: &KernelLog) -> Vec<&str> {
    log.records
        .iter()
        .map(|record| record.text.as_str())
        .collect()
}

#[test]
fn a_sound_image_is_read_with_every_kind_of_page() {
    for pages in [
        Pages::Small,
        Pages::Of2Mib,
        Pages::Of1Gib,
        Pages::FiveLevels,
    ] {
        let mut image = Image::new(pages, 5, 11);
        for n in 0..20 {
            image.log(format!("record {n}").as_bytes());
        }
        assert_eq!(image.records.len(), 20);
        assert_whole(&image);
    }
}

#[test]
fn a_ring_whose_ids_wrapped_is_read() {
    let mut image = Image::new(Pages::Small, 3, 11);
    for n in 0..100 {
        image.log(format!("record {n}").as_bytes());
        assert_whole(&image);
    }
    assert_eq!(image.records.len(), 8);
}

#[test]
fn a_ring_whose_text_wrapped_is_read() {
    let mut image = Image::new(Pages::Small, 8, 9);
    for n in 0..200_usize {
        image.log("x".repeat(n * 7 % 100).as_bytes());
        assert_whole(&image);
    }
}

#[test]
fn text_which_is_no_utf8_is_escaped() {
    let mut image = Image::valid();
    image.log(b"bad \xff\xfe \x1b[0m text\nsecond line");
    let log = read(&image.ram()).unwrap();
    assert_eq!(
        log.records.last().unwrap().text,
        "bad \\xff\\xfe \\x1b[0m text\nsecond line"
    );
}

#[test]
fn a_log_before_5_10_is_read() {
    let image = Image::legacy(4096, &["first", "second", "third"]);
    let log = read(&image.ram()).unwrap();
    assert_eq!(texts(&log), ["first", "second", "third"]);
    assert!(
        log.records
            .iter()
            .all(|record| record.level == 5 && record.facility == 0)
    );
}

#[test]
fn a_log_before_5_10_which_wrapped_is_read() {
    let written: Vec<String> = (0..100)
        .map(|n| format!("record {n} {}", "y".repeat(n)))
        .collect();
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    let log = read(&Image::legacy(1024, &written).ram()).unwrap();
    let read = texts(&log);
    assert!(read.len() > 3 && read.len() < 20, "{read:?}");
    assert_eq!(read, written[100 - read.len()..]);
}

#[test]
fn a_panic_of_the_kernel_is_seen_and_one_of_a_program_is_not() {
    let mut image = Image::valid();
    image.log(b"Kernel panic - not syncing: it is over");
    let info = image.info_of(image.records.len() - 1);
    image.put(info + 18, &[1, 0]);
    assert!(!read(&image.ram()).unwrap().crashed, "a program wrote it");
    image.put(info + 18, &[0, 0]);
    assert!(read(&image.ram()).unwrap().crashed);

    let mut image = Image::valid();
    image.lines.push("CRASHTIME=1769860800".to_owned());
    assert!(read(&image.ram()).unwrap().crashed);
}

#[test]
fn a_note_is_found_wherever_it_lies() {
    for at in [0, 0x1000, IMAGE - 0x1000, SIZE / 4, SIZE - 0x1000] {
        let mut image = Image::valid();
        image.note_at = at;
        assert_whole(&image);
    }
}

#[test]
fn a_note_longer_than_a_page_is_read() {
    let mut image = Image::valid();
    for n in 0..100 {
        image
            .lines
            .insert(0, format!("SYMBOL(filler_{n})={:x}", u64::MAX));
    }
    assert!(image.note().len() > 4096);
    assert_whole(&image);
}

#[test]
fn a_note_which_the_end_of_memory_cuts_is_an_error() {
    let mut image = Image::valid();
    image.note_at = SIZE - 0x1000;
    for n in 0..200 {
        image
            .lines
            .insert(1, format!("SYMBOL(filler_{n})={:x}", u64::MAX));
    }
    assert!(matches!(
        read(&image.ram()),
        Err(DmesgError::Missing { .. })
    ));
}

#[test]
fn a_header_in_the_last_bytes_of_memory_is_no_note() {
    for keep in [12, 20, 23, 24, 25] {
        let mut bytes = Image::valid().bytes;
        bytes.extend_from_slice(&note(b"OSRELEASE=x")[..keep]);
        assert!(read(&ram(&bytes)).is_err());
    }
}

#[test]
fn a_note_not_at_a_pages_start_is_not_seen() {
    let mut image = Image::valid();
    image.note_at = NOTE + 8;
    assert!(matches!(
        read(&image.ram()),
        Err(DmesgError::NoKernel { .. })
    ));
}

#[test]
fn a_huge_description_is_cut() {
    let mut bytes = Image::valid().finish();
    let at = usize::try_from(NOTE).unwrap();
    for size in [u32::MAX, 1 << 31, 70_000] {
        bytes[at + 4..at + 8].copy_from_slice(&size.to_le_bytes());
        assert_eq!(read(&ram(&bytes)).unwrap().records.len(), 20);
    }
}

#[test]
fn each_line_that_is_missing_is_named() {
    let image = Image::valid();
    for n in 0..image.lines.len() {
        let mut broken = image.clone();
        let line = broken.lines.remove(n);
        let key = line.split_once('=').unwrap().0.to_owned();
        match read(&broken.ram()) {
            Err(DmesgError::Missing { key: missing, .. }) => {
                assert!(
                    missing == key || key == "SYMBOL(init_top_pgt)" || key == "SYMBOL(prb)",
                    "{missing} instead of {key}"
                );
            }
            Ok(_) => assert!(
                ["BUILD-ID", "PAGESIZE", "NUMBER(pgtable_l5_enabled)"].contains(&key.as_str()),
                "{key}"
            ),
            Err(_) => assert_eq!(key, "NUMBER(phys_base)"),
        }
    }
}

#[test]
fn absurd_values_of_lines_give_errors() {
    for key in [
        "SYMBOL(prb)",
        "SYMBOL(init_top_pgt)",
        "NUMBER(phys_base)",
        "SIZE(prb_desc)",
        "SIZE(printk_info)",
    ] {
        for value in [
            "0",
            "-1",
            "ffffffffffffffff",
            "7fffffffffffffff",
            "-9223372036854775808",
            "9223372036854775807",
            "",
            "x",
            "1",
        ] {
            let mut image = Image::valid();
            image.set_line(key, value);
            assert!(
                read(&image.ram()).is_err() || key.starts_with("SIZE"),
                "{key}={value}"
            );
        }
    }
}

#[test]
fn page_tables_which_loop_end_the_walk() {
    for table in 0..4 {
        let mut image = Image::valid();
        for entry in 0..512 {
            for page in 0..=table {
                image.put_u64(TABLES + page * 0x1000 + entry * 8, TABLES | 0x63);
            }
        }
        let _ = read(&image.ram());
    }
}

#[test]
fn page_tables_which_lead_out_of_memory_are_an_error() {
    for target in [SIZE, 1 << 32, 0x000f_ffff_ffff_f000, 0x8000_0000] {
        let mut image = Image::valid();
        for entry in 0..512 {
            image.put_u64(TABLES + entry * 8, target | 0x63);
        }
        assert!(matches!(
            read(&image.ram()),
            Err(DmesgError::NotMapped { .. })
        ));
    }
}

#[test]
fn a_wrong_number_of_levels_is_an_error() {
    let mut image = Image::valid();
    image.set_line("NUMBER(pgtable_l5_enabled)", "1");
    assert!(read(&image.ram()).is_err());
}

#[test]
fn absurd_sizes_of_the_ring_are_errors() {
    for bits in [0_u32, 27, 32, 63, 64, u32::MAX] {
        let mut image = Image::valid();
        image.put(COUNT_BITS, &bits.to_le_bytes());
        assert!(
            matches!(read(&image.ram()), Err(DmesgError::Inconsistent { .. })),
            "{bits}"
        );
    }
    for bits in [0_u32, 32, 63, 64, u32::MAX] {
        let mut image = Image::valid();
        image.put(SIZE_BITS, &bits.to_le_bytes());
        assert!(
            matches!(read(&image.ram()), Err(DmesgError::Inconsistent { .. })),
            "{bits}"
        );
    }
    // The largest which are allowed: what is there is still bounded.
    let mut image = Image::valid();
    image.put(COUNT_BITS, &26_u32.to_le_bytes());
    image.put(SIZE_BITS, &31_u32.to_le_bytes());
    image.put_u64(TAIL_ID, 0);
    let _ = read(&image.ram());
}

#[test]
fn ids_which_never_meet_end() {
    for (head, tail) in [
        (0, 1),
        (u64::MAX, 0),
        (1 << 62, 5),
        (1 << 63, u64::MAX),
        (7, 7),
    ] {
        let mut image = Image::valid();
        image.put_u64(HEAD_ID, head);
        image.put_u64(TAIL_ID, tail);
        let _ = read(&image.ram());
    }
}

#[test]
fn a_text_length_beyond_its_block_is_cut() {
    let mut image = Image::valid();
    let info = image.info_of(7);
    image.put(info + 16, &u16::MAX.to_le_bytes());
    let log = read(&image.ram()).unwrap();
    assert_eq!(log.records.len(), 20);
    assert!(log.records[7].text.starts_with("record 7: xxxxxxx") && log.records[7].text.len() < 60);
}

#[test]
fn a_record_of_which_a_part_is_wrong_is_left_out() {
    let cases: [fn(&mut Image); 6] = [
        |image| image.put_u64(image.desc_of(7), image.bytes.len() as u64),
        |image| image.put(image.desc_of(7) + 7, &[0x3f]),
        |image| image.put_u64(image.desc_of(7) + 8, 0),
        |image| image.put_u64(image.desc_of(7) + 16, 8),
        |image| image.put_u64(image.desc_of(7) + 16, 1 << 20),
        |image| image.put_u64(image.block_of(7), 12345),
    ];
    for (n, case) in cases.iter().enumerate() {
        let mut image = Image::valid();
        case(&mut image);
        let log = read(&image.ram()).unwrap();
        assert_eq!(log.records.len(), 19, "case {n}");
        assert!(
            !log.records.iter().any(|record| record.seq == 7),
            "case {n}"
        );
    }
}

#[test]
fn a_record_without_text_is_empty() {
    for lpos in [1, 3] {
        let mut image = Image::valid();
        let desc = image.desc_of(7);
        image.put_u64(desc + 8, lpos);
        image.put_u64(desc + 16, lpos);
        let log = read(&image.ram()).unwrap();
        assert_eq!((log.records.len(), log.records[7].text.as_str()), (20, ""));
    }
}

#[test]
fn a_buffer_before_5_10_which_loops_ends() {
    let mut image = Image::legacy(4096, &["first", "second", "third"]);
    image.put_u64(IMAGE + 0x218, 2); // the end is never met
    assert!(read(&image.ram()).is_ok());
    image.put(DATA + 8, &0_u16.to_le_bytes()); // "go to the start", at the start
    assert!(read(&image.ram()).is_err());
    for (length, first, next) in [
        (u32::MAX, 0, 0),
        (4096, 5000, 0),
        (4096, 0, u64::from(u32::MAX)),
        (0, 0, 0),
    ] {
        let mut image = Image::legacy(4096, &["first"]);
        image.put(IMAGE + 0x208, &length.to_le_bytes());
        image.put_u64(IMAGE + 0x210, first);
        image.put_u64(IMAGE + 0x218, next);
        assert!(read(&image.ram()).is_err());
    }
}

#[test]
fn memory_without_a_kernel_says_so() {
    for bytes in [
        vec![],
        vec![0; 4096],
        vec![0xff; 1 << 20],
        b"VMCOREINFO\0".repeat(9999),
    ] {
        assert!(matches!(
            read(&ram(&bytes)),
            Err(DmesgError::NoKernel { .. })
        ));
    }
}
