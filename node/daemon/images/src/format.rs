//! Disk formats told by their first bytes: raw and self-contained qcow2 are accepted, everything else is refused by name.
//!
//! Runs in the worker process only. The parser reads a header of at most 64 KiB and follows nothing. What QEMU would open besides the file
//! itself (backing file, external data file) is refused, and so is every feature that is not known here; QEMU is later told the format
//! explicitly and never probes.

use std::io;

use serde::{Deserialize, Serialize};

/// Format of a disk file that QEMU may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// qcow2, version 2 or 3, without backing file, data file and encryption.
    Qcow2,
}

/// What the header of a disk file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Format.
    pub format: Format,
    /// Size of the disk that a guest sees, bytes.
    pub virtual_size: u64,
}

/// Reads at an offset; a short count means the end of the file.
pub(crate) trait ReadAt {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Why a disk is not inspected.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not accepted; the text says why and what is.
    Refused(String),
    /// The file cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Refused(reason.into()))
}

/// Formats that are known and refused: offset, magic, name.
const FOREIGN: &[(u64, &[u8], &str)] = &[
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK (descriptor)"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format", "cloop"),
    (0, b"OOOM", "User Mode Linux COW"),
    (0, b"\x1f\x8b\x08", "gzip-compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"\xfd7zXZ\0", "xz-compressed data"),
    (0, b"BZh", "bzip2-compressed data"),
    (0, b"PK\x03\x04", "a zip archive"),
];

/// The same, counted from the end of the file.
const FOREIGN_FOOTER: &[(&[u8], &str)] = &[(b"conectix", "VHD (fixed)"), (b"koly", "DMG")];

/// Inspects the disk in `file` of `size` bytes.
pub(crate) fn inspect(
    file: &dyn ReadAt,
    size: u64,
    max_virtual_size: u64,
) -> Result<Inspection, Refusal> {
    if size == 0 {
        return refuse("it is empty");
    }
    let mut head = vec![0; 4096];
    read_full(file, &mut head, 0)?;
    let inspection = if head.starts_with(b"QFI\xfb") {
        inspect_qcow2(file, &head, size)?
    } else {
        for (offset, magic, name) in FOREIGN {
            let start = usize::try_from(*offset).unwrap_or(usize::MAX);
            if head.get(start..start + magic.len()) == Some(*magic) {
                return refuse(format!(
                    "it is {name}; only raw and qcow2 are supported (convert it with qemu-img)"
                ));
            }
        }
        if size >= 512 {
            let mut footer = [0; 16];
            read_full(file, &mut footer, size - 512)?;
            for (magic, name) in FOREIGN_FOOTER {
                if footer.starts_with(magic) {
                    return refuse(format!(
                        "it is {name}; only raw and qcow2 are supported (convert it with qemu-img)"
                    ));
                }
            }
        }
        Inspection {
            format: Format::Raw,
            virtual_size: size,
        }
    };
    if inspection.virtual_size == 0 || inspection.virtual_size > max_virtual_size {
        return refuse(format!(
            "its virtual size is {} bytes; allowed are 1 to {max_virtual_size}",
            inspection.virtual_size
        ));
    }
    Ok(inspection)
}

fn read_full(file: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            // What is behind the end of the file reads as zeros, which match no magic.
            0 => break,
            n => done += n,
        }
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

/// Incompatible feature bits (QEMU docs/interop/qcow2.rst).
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// QEMU refuses larger ones, too (QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE).
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFTABLE_BYTES: u64 = 8 << 20;

fn inspect_qcow2(file: &dyn ReadAt, head: &[u8], size: u64) -> Result<Inspection, Refusal> {
    if size < 72 {
        return refuse("its qcow2 header is cut off");
    }
    let version = u32_at(head, 4);
    if version != 2 && version != 3 {
        return refuse(format!(
            "it is qcow version {version}; only qcow2 versions 2 and 3 are supported"
        ));
    }
    if u64_at(head, 8) != 0 || u32_at(head, 16) != 0 {
        return refuse("it is a qcow2 with a backing file; only self-contained images are allowed");
    }
    let cluster_bits = u32_at(head, 20);
    if !(9..=21).contains(&cluster_bits) {
        return refuse(format!(
            "its qcow2 cluster size is 2^{cluster_bits}; allowed are 2^9 to 2^21"
        ));
    }
    let cluster = 1u64 << cluster_bits;
    let virtual_size = u64_at(head, 24);
    if u32_at(head, 32) != 0 {
        return refuse("it is an encrypted qcow2");
    }
    let l1_bytes = u64::from(u32_at(head, 36)) * 8;
    let l1_offset = u64_at(head, 40);
    let reftable_offset = u64_at(head, 48);
    let reftable_bytes = u64::from(u32_at(head, 56)) * cluster;

    let mut incompatible = 0;
    let mut header_length = 72;
    if version == 3 {
        if size < 104 {
            return refuse("its qcow2 header is cut off");
        }
        incompatible = u64_at(head, 72);
        header_length = u64::from(u32_at(head, 100));
        if header_length < 104 || header_length > cluster || header_length % 8 != 0 {
            return refuse(format!(
                "its qcow2 header length is {header_length}; allowed are multiples of 8 from 104 to the cluster size"
            ));
        }
    }
    if incompatible & DATA_FILE != 0 {
        return refuse(
            "it is a qcow2 with an external data file; only self-contained images are allowed",
        );
    }
    if incompatible & CORRUPT != 0 {
        return refuse("it is a qcow2 that is marked as corrupt");
    }
    let unknown = incompatible & !(DIRTY | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return refuse(format!("it is a qcow2 with unknown features {unknown:#x}"));
    }
    if incompatible & COMPRESSION != 0 && header_length < 112 {
        return refuse("it is a qcow2 that names a compression type but has no field for it");
    }

    // An L2 entry is 8 bytes, or 16 with subclusters; one L2 table is one cluster.
    let entry = if incompatible & EXTENDED_L2 != 0 {
        16
    } else {
        8
    };
    let bytes_per_l1 = u128::from(cluster) * u128::from(cluster / entry);
    let l1_needed = u128::from(virtual_size).div_ceil(bytes_per_l1) * 8;
    if l1_bytes > MAX_L1_BYTES || l1_needed > u128::from(l1_bytes) {
        return refuse(format!(
            "its qcow2 L1 table has {l1_bytes} bytes; needed are {l1_needed}, allowed are {MAX_L1_BYTES}"
        ));
    }
    if reftable_bytes > MAX_REFTABLE_BYTES {
        return refuse(format!(
            "its qcow2 refcount table has {reftable_bytes} bytes; allowed are {MAX_REFTABLE_BYTES}"
        ));
    }
    for (name, offset, bytes) in [
        ("L1", l1_offset, l1_bytes),
        ("refcount", reftable_offset, reftable_bytes),
    ] {
        // Truncated images end in the middle of a cluster but never before a table begins.
        if offset % cluster != 0
            || offset
                .checked_add(bytes.min(1))
                .is_none_or(|end| end > size)
        {
            return refuse(format!(
                "its qcow2 {name} table at {offset} is not inside the file"
            ));
        }
    }
    header_extensions(file, header_length, cluster)?;
    Ok(Inspection {
        format: Format::Qcow2,
        virtual_size,
    })
}

/// Walks the header extensions: each is a type, a length and padded bytes, up to the end of the first cluster.
fn header_extensions(file: &dyn ReadAt, start: u64, cluster: u64) -> Result<(), Refusal> {
    let end = cluster.min(64 << 10);
    let mut bytes = vec![0; usize::try_from(end).unwrap_or(64 << 10)];
    read_full(file, &mut bytes, 0)?;
    let mut at = start;
    while at + 8 <= end {
        let index = usize::try_from(at).unwrap_or(usize::MAX);
        let (kind, length) = (u32_at(&bytes, index), u64::from(u32_at(&bytes, index + 4)));
        match kind {
            0 => return Ok(()),
            0x4441_5441 => {
                return refuse(
                    "it is a qcow2 that names an external data file; only self-contained images are allowed",
                );
            }
            0x0537_be77 => return refuse("it is a qcow2 with an encryption header"),
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    if at > end {
        return refuse("its qcow2 header extensions run over the first cluster");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ReadAt for Vec<u8> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let start = usize::try_from(offset).unwrap().min(self.len());
            let n = buffer.len().min(self.len() - start);
            buffer[..n].copy_from_slice(&self[start..start + n]);
            Ok(n)
        }
    }

    /// A qcow2 v3 header of a 1 GiB disk with 64 KiB clusters.
    fn qcow2() -> Vec<u8> {
        let mut image = vec![0; 4 << 16];
        image[..4].copy_from_slice(b"QFI\xfb");
        put32(&mut image, 4, 3);
        put32(&mut image, 20, 16);
        put64(&mut image, 24, 1 << 30);
        put32(&mut image, 36, 2);
        put64(&mut image, 40, 3 << 16);
        put64(&mut image, 48, 1 << 16);
        put32(&mut image, 56, 1);
        put32(&mut image, 96, 4);
        put32(&mut image, 100, 112);
        image
    }

    fn put32(image: &mut [u8], at: usize, value: u32) {
        image[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn put64(image: &mut [u8], at: usize, value: u64) {
        image[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    fn look(image: &[u8]) -> Result<Inspection, String> {
        let size = image.len() as u64;
        match inspect(&image.to_vec(), size, 1 << 44) {
            Ok(inspection) => Ok(inspection),
            Err(Refusal::Refused(reason)) => Err(reason),
            Err(Refusal::Io(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn a_self_contained_qcow2_is_accepted_with_its_virtual_size() {
        let found = look(&qcow2()).unwrap();
        assert_eq!(found.format, Format::Qcow2);
        assert_eq!(found.virtual_size, 1 << 30);
    }

    #[test]
    fn anything_else_is_raw_with_the_size_of_the_file() {
        let found = look(&[1; 1024]).unwrap();
        assert_eq!(found.format, Format::Raw);
        assert_eq!(found.virtual_size, 1024);
        assert!(look(&[]).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_qcow2_that_reaches_outside_itself_is_refused() {
        type Change = fn(&mut Vec<u8>);
        let cases: &[(&str, Change)] = &[
            ("backing file", |i| put64(i, 8, 0x200)),
            ("backing file", |i| put32(i, 16, 11)),
            ("external data file", |i| put64(i, 72, DATA_FILE)),
            ("external data file", |i| {
                put32(i, 112, 0x4441_5441);
                put32(i, 116, 8);
            }),
            ("encrypted", |i| put32(i, 32, 2)),
            ("encryption header", |i| {
                put32(i, 112, 0x1234);
                put32(i, 116, 3);
                put32(i, 128, 0x0537_be77);
            }),
            ("corrupt", |i| put64(i, 72, CORRUPT)),
            ("unknown features 0x100000000", |i| put64(i, 72, 1 << 32)),
            ("version 1", |i| put32(i, 4, 1)),
            ("cluster size", |i| put32(i, 20, 63)),
            ("virtual size", |i| put64(i, 24, 0)),
            ("L1 table", |i| put64(i, 24, 1 << 63)),
            ("L1 table", |i| put32(i, 36, u32::MAX)),
            ("L1 table", |i| put64(i, 40, !0xffff)),
            ("refcount table", |i| put32(i, 56, u32::MAX)),
            ("header length", |i| put32(i, 100, u32::MAX)),
            ("extensions", |i| {
                put32(i, 112, 0x1234);
                put32(i, 116, u32::MAX);
            }),
            ("cut off", |i| i.truncate(80)),
        ];
        for (words, change) in cases {
            let mut image = qcow2();
            change(&mut image);
            let reason = look(&image).expect_err(words);
            assert!(
                reason.contains(words),
                "{reason:?} should mention {words:?}"
            );
        }
    }

    #[test]
    fn foreign_formats_are_refused_by_name() {
        for (offset, magic, name) in FOREIGN {
            let mut image = vec![0; 4096];
            let start = usize::try_from(*offset).unwrap();
            image[start..start + magic.len()].copy_from_slice(magic);
            assert!(look(&image).unwrap_err().contains(name));
        }
        let mut vhd = vec![0; 8192];
        vhd[8192 - 512..][..8].copy_from_slice(b"conectix");
        assert!(look(&vhd).unwrap_err().contains("VHD"));
    }

    #[test]
    fn any_four_kilobytes_after_the_magic_neither_panic_nor_hang() {
        // A small generator of its own, so that a failure can be repeated.
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..20_000 {
            let mut image = qcow2();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = (state % 160) as usize;
                image[at.max(4)] = (state >> 32) as u8;
            }
            let _ = look(&image);
        }
    }
}
