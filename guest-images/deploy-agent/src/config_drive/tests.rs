//! Places of config drives, and config drives on files that stand for disks.

use std::fs;
use std::process::Command;

use super::{Place, PlaceError, place, write};
use crate::disk::{self, parse_table};

const MIB: u64 = 1 << 20;

fn table(label: &str, partitions: &[(u32, u64, u64, &str)]) -> disk::Table {
    let partitions: Vec<_> = partitions
        .iter()
        .map(|(number, start, size, name)| {
            serde_json::json!({"node": format!("/dev/sda{number}"), "start": start, "size": size, "name": name})
        })
        .collect();
    let answer = serde_json::json!({"partitiontable": {"label": label, "sectorsize": 512, "partitions": partitions}});
    parse_table("/dev/sda", &answer.to_string()).unwrap()
}

#[test]
fn a_new_partition_stands_at_the_end_of_the_disk() {
    let gpt = table("gpt", &[(1, 2048, 81920, "")]);
    assert_eq!(
        place(&gpt, 256 * MIB + 512, 400_000, None).unwrap(),
        Place::Add {
            begin: 254 * MIB,
            line: "start=520192, size=2048, type=L, name=\"config-2\"\n".into()
        }
    );
    let dos = table("dos", &[(1, 2048, 81920, "")]);
    // Only so much can an MBR name.
    assert_eq!(
        place(&dos, 4 << 40, 3 * MIB, None).unwrap(),
        Place::Add {
            begin: (2 << 40) - 4 * MIB,
            line: "start=4294959104, size=6144, type=83\n".into()
        }
    );
}

#[test]
fn a_partition_with_a_config_drive_is_used_again() {
    let gpt = table(
        "gpt",
        &[(1, 2048, 81920, ""), (7, 100_000, 4096, "config-2")],
    );
    let begin = 100_000 * 512;
    assert_eq!(
        place(&gpt, 256 * MIB, 2 * MIB, None),
        Ok(Place::Reuse { begin })
    );
    // Too small: another one is made.
    assert!(matches!(
        place(&gpt, 256 * MIB, 3 * MIB, None),
        Ok(Place::Add { .. })
    ));
    let dos = table("dos", &[(2, 100_000, 4096, "")]);
    assert_eq!(
        place(&dos, 256 * MIB, MIB, Some(2)),
        Ok(Place::Reuse { begin })
    );
}

#[test]
fn where_there_is_no_place_the_error_says_what_is_missing() {
    let four = [(1, 1, 1, ""), (2, 2, 1, ""), (3, 3, 1, ""), (4, 4, 1, "")];
    assert_eq!(
        place(&table("dos", &four), 256 * MIB, MIB, None),
        Err(PlaceError::Full)
    );
    assert!(place(&table("gpt", &four), 256 * MIB, MIB, None).is_ok());
    let full = table("gpt", &[(1, 2048, 520_000, "")]);
    assert_eq!(
        place(&full, 256 * MIB, 3 * MIB, None),
        Err(PlaceError::Room { needed: 4, left: 1 })
    );
    assert_eq!(
        place(&table("bsd", &[]), 256 * MIB, MIB, None),
        Err(PlaceError::Label("bsd".into()))
    );
}

/// Only where `sfdisk` can be run on a file, which is everywhere.
fn written(label: &str) -> (Vec<u8>, disk::Table, [Option<u32>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk1");
    fs::write(&path, vec![0; 64 << 20]).unwrap();
    let name = path.to_str().unwrap();
    let script = format!("printf 'label: {label}\\nsize=40M, type=L\\n' | sfdisk -q {name}");
    assert!(
        Command::new("sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .success()
    );
    // The disk is larger than the image was.
    let size = 256 << 20;
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(size)
        .unwrap();
    let mut drive = vec![7; 100_000];
    drive[32808..32816].copy_from_slice(b"config-2");
    drive[32816] = b' ';
    let first = write(name, size, &drive).unwrap();
    drive[0] = 8;
    let second = write(name, size, &drive).unwrap();
    let bytes = fs::read(&path).unwrap();
    let at = 254 << 20;
    assert_eq!(&bytes[at..at + drive.len()], drive);
    (bytes, disk::table(name).unwrap(), [first, second])
}

#[test]
fn a_gpt_of_a_smaller_image_is_mended_and_added_to() {
    let (bytes, table, numbers) = written("gpt");
    assert_eq!(numbers, [Some(2), Some(2)]);
    assert_eq!(table.partitions.len(), 2);
    assert_eq!(&bytes[bytes.len() - 512..][..8], b"EFI PART");
}

#[test]
fn an_mbr_is_added_to_once() {
    let (_, table, numbers) = written("dos");
    assert_eq!(table.partitions.len(), 2);
    assert_eq!(numbers[0], numbers[1]);
}
