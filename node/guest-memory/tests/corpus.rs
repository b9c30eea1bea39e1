//! Broken guest memory: whatever a guest writes, reading its log ends within 100 ms and 8 MiB and never panics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy allows them in test functions, not in what these call"
)]

#[path = "corpus/image.rs"]
mod image;
#[path = "corpus/meter.rs"]
mod meter;

use std::time::Duration;

use catamaran_guest_memory::dmesg::{DmesgError, KernelLog, Limits, escape};
use catamaran_guest_memory::guest_ram::{GuestRam, Machine};
use image::{
    COUNT_BITS, DATA, DESCS, HEAD_ID, IMAGE, INFOS, Image, NOTE, PRB, PRB_POINTER, Pages, SIZE,
    SIZE_BITS, TABLES, TAIL_ID, memfd, note, ram,
};
use meter::read;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// The log is exactly what was written and is still there.
fn assert_whole(image: &Image) {
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

fn texts(log: &KernelLog) -> Vec<&str> {
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

#[test]
fn memory_full_of_forged_notes_ends_in_time() {
    let mut page = note(
        b"OSRELEASE=forged\nSYMBOL(prb)=ffffffff81000000\nSYMBOL(init_top_pgt)=ffffffff81001000",
    );
    page.resize(4096, b'\n');
    assert!(read(&ram(&page.repeat(8192))).is_err());
}

#[test]
fn a_sound_note_among_forged_ones_is_found() {
    let mut image = Image::valid();
    image.note_at = SIZE - 0x1000;
    for n in 0..64 {
        image.put(
            n * 0x1000,
            &note(b"OSRELEASE=forged\nSYMBOL(prb)=ffffffff81000000"),
        );
    }
    assert_whole(&image);
}

#[test]
fn full_copies_of_one_large_log_stay_within_memory() {
    let mut image = Image::large(14, 21);
    for n in 0..1 << 14 {
        image.log("z".repeat(100 + n % 2).as_bytes());
    }
    for page in 0..16 {
        image.put(page * 0x1000, &image.note());
    }
    let patient = Limits {
        time: Duration::from_secs(20),
        ..Limits::default()
    };
    let log = meter::read_with_memory(&image.ram(), &patient).unwrap();
    assert!(
        log.truncated && log.records.len() > 10_000,
        "{}",
        log.records.len()
    );
    // In debug builds this is too much for the limit of time: what was read until then is the newest part.
    let log = read(&image.ram()).unwrap();
    assert_eq!(log.records.last().unwrap().seq, (1 << 14) - 1);
}

#[test]
fn a_ring_that_claims_to_be_huge_stays_within_memory() {
    // Every descriptor is the same page of memory, which says that it is committed; texts are as long as can be.
    let mut image = Image::new(Pages::Of2Mib, 26, 20);
    image.set_line("SIZE(prb_desc)", "1");
    image.set_line("SIZE(printk_info)", "1");
    for at in (DESCS..SIZE).step_by(8) {
        image.put_u64(at, u64::MAX / 2);
    }
    let _ = read(&image.ram());
}

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
    let old = format!("NUMBER(phys_base)={}", image::PHYS_BASE);
    let new = format!(
        "NUMBER(phys_base)={}",
        image::PHYS_BASE + i64::try_from(SIZE).unwrap()
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

#[test]
fn limits_keep_the_newest_records() {
    let image = Image::valid();
    let log = meter::read_with(
        &image.ram(),
        &Limits {
            records: 3,
            ..Limits::default()
        },
    )
    .unwrap();
    assert!(log.truncated);
    assert_eq!(
        log.records.iter().map(|r| r.seq).collect::<Vec<_>>(),
        [17, 18, 19]
    );
    let log = meter::read_with(
        &image.ram(),
        &Limits {
            text_bytes: 40,
            ..Limits::default()
        },
    )
    .unwrap();
    assert!(log.truncated);
    assert_eq!(
        log.records.iter().map(|r| r.seq).collect::<Vec<_>>(),
        [18, 19]
    );
    let written = ["first", "second", "third"];
    let log = meter::read_with(
        &Image::legacy(4096, &written).ram(),
        &Limits {
            records: 2,
            ..Limits::default()
        },
    )
    .unwrap();
    assert!(log.truncated);
    assert_eq!(texts(&log), ["second", "third"]);
}

#[test]
fn a_spent_budget_is_named() {
    let ram = Image::valid().ram();
    let none = Limits {
        time: Duration::ZERO,
        ..Limits::default()
    };
    assert!(matches!(
        meter::read_with(&ram, &none),
        Err(DmesgError::NotFoundInTime { .. })
    ));
    let few = Limits {
        steps: 40,
        ..Limits::default()
    };
    assert!(matches!(
        meter::read_with(&ram, &few),
        Err(DmesgError::OverBudget { limit: "steps" })
    ));
}

/// One change to an image.
#[derive(Debug, Clone)]
enum Change {
    Byte(u64, u8),
    Number(u64, u64),
    Line(usize, String),
    Cut(u64),
}

/// Places that matter, in pieces of 8 bytes: (start, how many).
const PLACES: [(u64, u64); 8] = [
    (NOTE, 300),
    (PRB_POINTER, 1),
    (PRB, 16),
    (TABLES, 512 * 4),
    (DESCS, 96),
    (INFOS, 352),
    (DATA, 256),
    (IMAGE + 0x200, 4),
];

fn place() -> impl Strategy<Value = u64> {
    (0..PLACES.len()).prop_flat_map(|n| {
        let (start, count) = PLACES[n];
        (0..count).prop_map(move |piece| start + piece * 8)
    })
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u32..64).prop_map(|bit| 1 << bit),
        (0_u32..64).prop_map(|bit| (1_u64 << bit).wrapping_sub(1)),
        place().prop_map(|at| at | 0x63),
        place().prop_map(|at| at + 0xffff_8880_0000_0000),
        place().prop_map(|at| at.wrapping_add(0xffff_ffff_8100_0000)),
        (0_u64..4, 0_u64..64)
            .prop_map(|(state, id)| state << 62 | id.wrapping_sub(32) & ((1 << 62) - 1)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (place(), 0_u64..8, any::<u8>()).prop_map(|(at, byte, value)| Change::Byte(at + byte, value)),
        8 => (place(), number()).prop_map(|(at, value)| Change::Number(at, value)),
        3 => (any::<usize>(), prop_oneof![
            number().prop_map(|n| format!("{n:x}")),
            any::<i64>().prop_map(|n| n.to_string()),
            (0_u32..100).prop_map(|n| n.to_string()),
            "\\PC{0,20}",
        ])
            .prop_map(|(line, value)| Change::Line(line, value)),
        1 => (0..=SIZE).prop_map(Change::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_change_to_memory_is_survived(legacy in any::<bool>(), changes in prop::collection::vec(change(), 1..12)) {
        let mut image = if legacy { Image::legacy(1024, &["first", "second", "third", "fourth"]) } else { Image::valid() };
        for change in &changes {
            if let Change::Line(line, value) = change {
                let line = line % image.lines.len();
                let key = image.lines[line].split_once('=').unwrap().0.to_owned();
                image.set_line(&key, value);
            }
        }
        let mut bytes = image.finish();
        for change in &changes {
            match change {
                Change::Byte(at, value) => bytes[usize::try_from(*at).unwrap()] = *value,
                Change::Number(at, value) => {
                    let at = usize::try_from(*at).unwrap();
                    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
                Change::Line(..) | Change::Cut(_) => {}
            }
        }
        for change in &changes {
            if let Change::Cut(size) = change {
                bytes.truncate(usize::try_from(*size).unwrap());
            }
        }
        let _ = read(&ram(&bytes));
    }
}
