//! Images made by qemu-img come out as the disks they were made of.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::{Scatter, ScatterError};
use crate::image::{Header, Layout, Target, l2_places};

#[derive(Default)]
struct Memory(Vec<u8>);

impl Target for Memory {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        self.write(at, &vec![0; usize::try_from(length).unwrap()])
    }
}

/// A disk with data that can be packed, data that can't, and holes.
fn disk(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut state = 88_172_645_463_325_252_u64;
    for (number, block) in bytes.chunks_mut(48 << 10).enumerate() {
        match number % 4 {
            0 => block.fill_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            }),
            1 => block.fill(b'a' + u8::try_from(number % 26).unwrap()),
            _ => {}
        }
    }
    bytes
}

fn layout(file: &[u8]) -> Layout {
    let header = Header::parse(&file[..112]).unwrap();
    let part = |from: u64, length: u64| {
        let from = usize::try_from(from).unwrap();
        &file[from..from + usize::try_from(length).unwrap()]
    };
    let l1 = part(header.l1_offset, header.l1_bytes());
    let mut layout = Layout::new(header, &file[..112], l1);
    for (number, place) in l2_places(&header, l1).unwrap() {
        layout
            .l2(number, place, part(place, header.cluster()))
            .unwrap();
    }
    layout.finish().unwrap()
}

fn scatter(layout: Layout, file: &[u8], piece: usize) -> Result<Vec<u8>, ScatterError> {
    let size = usize::try_from(layout.header.size).unwrap();
    let mut target = Memory(vec![0xee; size]);
    let mut scatter = Scatter::start(layout, &mut target)?;
    for bytes in file.chunks(piece) {
        scatter.feed(bytes, &mut target)?;
    }
    scatter.finish(&mut target)?;
    Ok(target.0)
}

fn convert(folder: &Path, disk: &[u8], options: &[&str]) -> Vec<u8> {
    let (raw, qcow2) = (folder.join("raw"), folder.join("qcow2"));
    fs::write(&raw, disk).unwrap();
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args(options)
        .args([&raw, &qcow2])
        .status();
    assert!(
        status
            .expect("qemu-img (integration/setup/packages.sh runtime)")
            .success()
    );
    fs::read(qcow2).unwrap()
}

#[test]
fn images_of_all_kinds_come_out_as_their_disks() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk((5 << 20) + 512 * 7);
    for options in [
        &[][..],
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=4096"],
        &["-c"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "preallocation=metadata"],
    ] {
        let file = convert(folder.path(), &disk, options);
        for piece in [4096 + 13, 1 << 20, file.len()] {
            let written = scatter(layout(&file), &file, piece).unwrap();
            assert!(written == disk, "{options:?} in pieces of {piece}");
        }
    }
}

#[test]
fn tables_that_change_while_the_image_is_read_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = convert(folder.path(), &disk(1 << 20), &[]);
    let layout = layout(&file);
    let place = usize::try_from(layout.header.l1_offset).unwrap();
    file[place + 6] ^= 1;
    let error = scatter(layout, &file, 1 << 16).unwrap_err();
    assert!(
        matches!(error, ScatterError::Changed(at) if at == place as u64),
        "{error}"
    );
}

#[test]
fn a_broken_compressed_cluster_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = convert(folder.path(), &disk(1 << 20), &["-c"]);
    let layout = layout(&file);
    let packed = layout
        .extents
        .iter()
        .find(|extent| extent.kind == crate::image::Kind::Compressed)
        .unwrap();
    // An empty last block: nothing comes out of it.
    let place = usize::try_from(packed.host).unwrap();
    file[place..place + 2].copy_from_slice(&[0x03, 0x00]);
    let error = scatter(layout, &file, 1 << 16).unwrap_err();
    assert!(matches!(error, ScatterError::Unpack { .. }), "{error}");
}
