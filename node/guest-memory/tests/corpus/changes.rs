//! Random changes to sound memory.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::image::{DATA, DESCS, IMAGE, INFOS, Image, NOTE, PRB, PRB_POINTER, SIZE, TABLES, ram};
use crate::meter::read;

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
