//! Memory that would cost much to read, and what is kept of it.

use std::time::Duration;

use catamaran_guest_memory::dmesg::{DmesgError, Limits};

use crate::image::{DESCS, Image, Pages, SIZE, note, ram};
use crate::meter::{self, read};
use crate::{assert_whole, texts};

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
