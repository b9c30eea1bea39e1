//! Builds small memory images of a Linux guest that was never run: a note, page tables and a printk ring (or the buffer of older
//! kernels), written as the kernel writes them. The tests then break them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;

use catamaran_guest_memory::guest_ram::{GuestRam, Machine};
use rustix::fs::{MemfdFlags, memfd_create};

/// The image's size in bytes.
pub(crate) const SIZE: u64 = 2 << 20;
/// Where the note is, unless told otherwise.
pub(crate) const NOTE: u64 = 0x5000;
/// The kernel's image: physical and virtual. `phys_base` is negative.
pub(crate) const IMAGE: u64 = 0x10_0000;
const IMAGE_VIRTUAL: u64 = 0xffff_ffff_8100_0000;
pub(crate) const PHYS_BASE: i64 = 0x10_0000 - 0x100_0000;
/// Pointers and numbers in the kernel's image.
pub(crate) const PRB_POINTER: u64 = IMAGE;
pub(crate) const PRB: u64 = IMAGE + 0x100;
/// The top page table, and the tables below it.
pub(crate) const TABLES: u64 = IMAGE + 0x1000;
/// The direct map of physical memory.
const DIRECT: u64 = 0xffff_8880_0000_0000;
pub(crate) const DESCS: u64 = 0x18_0000;
pub(crate) const INFOS: u64 = 0x18_8000;
pub(crate) const DATA: u64 = 0x19_0000;
/// Where they are in a large image.
const LARGE: [u64; 3] = [0x20_0000, 0x30_0000, 0x60_0000];

/// Members of `struct printk_ringbuffer` as laid out here.
pub(crate) const COUNT_BITS: u64 = PRB;
pub(crate) const HEAD_ID: u64 = PRB + 24;
pub(crate) const TAIL_ID: u64 = PRB + 32;
pub(crate) const SIZE_BITS: u64 = PRB + 56;
const DESC_SIZE: u64 = 24;
const INFO_SIZE: u64 = 88;
const ID: u64 = (1 << 62) - 1;

/// How the direct map is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    Small,
    Of2Mib,
    Of1Gib,
    FiveLevels,
}

/// What a record must come out as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) ts_nsec: u64,
    pub(crate) text: Vec<u8>,
    id: u64,
    blocks: Option<(u64, u64)>,
}

/// An image under construction.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: Vec<String>,
    pub(crate) note_at: u64,
    pub(crate) records: VecDeque<Written>,
    count_bits: u32,
    size_bits: u32,
    head_id: u64,
    position: u64,
    seq: u64,
    places: [u64; 3],
}

impl Image {
    /// An image with an empty ring of `1 << count_bits` records and `1 << size_bits` bytes of text.
    pub(crate) fn new(pages: Pages, count_bits: u32, size_bits: u32) -> Image {
        Image::with_places(pages, count_bits, size_bits, SIZE, [DESCS, INFOS, DATA])
    }

    /// An image of 16 MiB, with room for a ring of 16 Ki records and 2 MiB of text.
    pub(crate) fn large(count_bits: u32, size_bits: u32) -> Image {
        Image::with_places(Pages::Of1Gib, count_bits, size_bits, 16 << 20, LARGE)
    }

    fn with_places(
        pages: Pages,
        count_bits: u32,
        size_bits: u32,
        size: u64,
        places: [u64; 3],
    ) -> Image {
        let mut image = Image {
            places,
            bytes: vec![0; usize::try_from(size).unwrap()],
            lines: Vec::new(),
            note_at: NOTE,
            records: VecDeque::new(),
            count_bits,
            size_bits,
            // The kernel, too, starts where ids are about to wrap.
            head_id: ID - 4,
            position: 0_u64.wrapping_sub(1 << size_bits),
            seq: 0,
        };
        image.map(pages);
        image.lines = note_lines(pages);
        image.put(PRB_POINTER, &(IMAGE_VIRTUAL + 0x100).to_le_bytes());
        image.put(COUNT_BITS, &count_bits.to_le_bytes());
        image.put(PRB + 8, &(DIRECT + places[0]).to_le_bytes());
        image.put(PRB + 16, &(DIRECT + places[1]).to_le_bytes());
        image.put(SIZE_BITS, &size_bits.to_le_bytes());
        image.put(PRB + 64, &(DIRECT + places[2]).to_le_bytes());
        image.write_ids();
        image
    }

    /// An image with a few records, as most tests start from.
    pub(crate) fn valid() -> Image {
        let mut image = Image::new(Pages::Small, 5, 11);
        for n in 0..20_u32 {
            image
                .log(format!("record {n}: {}", "x".repeat(usize::try_from(n).unwrap())).as_bytes());
        }
        image
    }

    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put_u64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Page tables that map the direct map's first GiB or less.
    fn map(&mut self, pages: Pages) {
        let index = |level: u32| ((DIRECT >> (12 + 9 * (level - 1))) & 511) * 8;
        let mut table = TABLES;
        let mut level = if pages == Pages::FiveLevels { 5 } else { 4 };
        while level > 3 {
            self.put_u64(table + index(level), (table + 0x1000) | 0x63);
            table += 0x1000;
            level -= 1;
        }
        if pages == Pages::Of1Gib {
            return self.put_u64(table + index(3), 0xe3);
        }
        self.put_u64(table + index(3), (table + 0x1000) | 0x63);
        table += 0x1000;
        if pages == Pages::Of2Mib {
            return self.put_u64(table + index(2), 0xe3);
        }
        self.put_u64(table + index(2), (table + 0x1000) | 0x63);
        table += 0x1000;
        for page in 0..512 {
            // No-execute is set in kernel data; it is no part of the address.
            self.put_u64(table + page * 8, (page * 0x1000) | 0x63 | 1 << 63);
        }
    }

    fn write_ids(&mut self) {
        let tail = self
            .records
            .front()
            .map_or(self.head_id, |record| record.id);
        self.put_u64(HEAD_ID, self.head_id);
        self.put_u64(TAIL_ID, tail);
    }

    fn slot(&self, id: u64) -> u64 {
        id & ((1 << self.count_bits) - 1)
    }

    /// Where a record's descriptor lies.
    pub(crate) fn desc_of(&self, record: usize) -> u64 {
        self.places[0] + self.slot(self.records[record].id) * DESC_SIZE
    }

    /// Where a record's info lies.
    pub(crate) fn info_of(&self, record: usize) -> u64 {
        self.places[1] + self.slot(self.records[record].id) * INFO_SIZE
    }

    /// Where a record's block of text lies.
    pub(crate) fn block_of(&self, record: usize) -> u64 {
        self.places[2] + self.records[record].blocks.unwrap().0
    }

    /// Writes a record as the kernel does; what it overwrites is forgotten.
    pub(crate) fn log(&mut self, text: &[u8]) {
        let ring = 1_u64 << self.size_bits;
        self.head_id = self.head_id.wrapping_add(1) & ID;
        let (id, slot) = (self.head_id, self.slot(self.head_id));
        let size = (8 + text.len() as u64).next_multiple_of(8);
        let begin = self.position;
        let mut next = begin.wrapping_add(size);
        let mut at = begin % ring;
        if begin / ring != next.wrapping_sub(1) / ring {
            at = 0;
            next = (next.wrapping_sub(1) & !(ring - 1)).wrapping_add(size);
        }
        self.position = next;
        // The gap before a wrapped block is lost, too.
        let used = if at == 0 && !begin.is_multiple_of(ring) {
            vec![(begin % ring, ring), (0, size)]
        } else {
            vec![(at, at + size)]
        };
        let overlaps = |record: &Written| {
            record.id & ((1 << self.count_bits) - 1) == slot
                || record.blocks.is_some_and(|(start, end)| {
                    used.iter().any(|(from, to)| start < *to && *from < end)
                })
        };
        let gone = self
            .records
            .iter()
            .take_while(|record| overlaps(record))
            .count();
        for record in self.records.drain(..gone).collect::<Vec<_>>() {
            let old = self.slot(record.id);
            self.put_u64(self.places[0] + old * DESC_SIZE, record.id | 3 << 62);
        }
        let ts_nsec = self.seq * 1_500_000;
        self.put_u64(self.places[2] + at, id);
        self.put(self.places[2] + at + 8, text);
        let desc = self.places[0] + slot * DESC_SIZE;
        self.put_u64(desc, id | 2 << 62);
        self.put_u64(desc + 8, begin);
        self.put_u64(desc + 16, next);
        let info = self.places[1] + slot * INFO_SIZE;
        self.put_u64(info, self.seq);
        self.put_u64(info + 8, ts_nsec);
        self.put(info + 16, &u16::try_from(text.len()).unwrap().to_le_bytes());
        self.put(info + 18, &[0, 6 << 5]);
        self.records.push_back(Written {
            seq: self.seq,
            ts_nsec,
            text: text.to_vec(),
            id,
            blocks: Some((at, at + size)),
        });
        self.seq += 1;
        self.write_ids();
    }

    /// Turns this into an image of a kernel before 5.10, with a log buffer of `length` bytes. Gives the texts that it holds.
    pub(crate) fn legacy(length: u32, texts: &[&str]) -> Image {
        let mut image = Image::new(Pages::Small, 5, 11);
        image
            .lines
            .retain(|line| !line.contains("prb") && !line.contains("printk"));
        for (name, offset) in [
            ("log_buf", 0),
            ("log_buf_len", 8),
            ("log_first_idx", 16),
            ("log_next_idx", 24),
        ] {
            image.lines.push(format!(
                "SYMBOL({name})={:x}",
                IMAGE_VIRTUAL + 0x200 + offset
            ));
        }
        for (name, offset) in [
            ("ts_nsec", 0),
            ("len", 8),
            ("text_len", 10),
            ("dict_len", 12),
        ] {
            image
                .lines
                .push(format!("OFFSET(printk_log.{name})={offset}"));
        }
        image.lines.push("SIZE(printk_log)=16".to_owned());
        image.put_u64(IMAGE + 0x200, DIRECT + DATA);
        image.put(IMAGE + 0x208, &length.to_le_bytes());
        let (mut at, mut first) = (0, 0);
        let mut lie: VecDeque<(u64, u64)> = VecDeque::new();
        for (n, text) in (0_u64..).zip(texts) {
            let size = (16 + text.len() as u64).next_multiple_of(4);
            if at + size + 16 > u64::from(length) {
                image.put(DATA + at, &[0; 16]);
                lie.retain(|(start, _)| *start < at);
                at = 0;
            }
            while lie
                .front()
                .is_some_and(|(start, end)| *start < at + size + 16 && at < *end)
            {
                lie.pop_front();
            }
            lie.push_back((at, at + size));
            first = lie[0].0;
            image.put_u64(DATA + at, n * 1_000_000);
            image.put(DATA + at + 8, &u16::try_from(size).unwrap().to_le_bytes());
            image.put(
                DATA + at + 10,
                &u16::try_from(text.len()).unwrap().to_le_bytes(),
            );
            image.put(DATA + at + 12, &[0, 0, 0, 5 << 5]);
            image.put(DATA + at + 16, text.as_bytes());
            at += size;
        }
        image.put_u64(IMAGE + 0x210, first);
        image.put_u64(IMAGE + 0x218, at);
        image
    }

    /// Replaces the value of a line of the note.
    pub(crate) fn set_line(&mut self, key: &str, value: &str) {
        let line = self
            .lines
            .iter_mut()
            .find(|line| line.split_once('=').unwrap().0 == key)
            .unwrap();
        *line = format!("{key}={value}");
    }

    /// The note: header, name and description.
    pub(crate) fn note(&self) -> Vec<u8> {
        note(self.lines.join("\n").as_bytes())
    }

    /// Puts the note into place and gives the image's bytes.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let at = usize::try_from(self.note_at).unwrap();
        for (target, byte) in bytes[at..].iter_mut().zip(self.note()) {
            *target = byte;
        }
        bytes
    }

    /// The image as a guest's RAM.
    pub(crate) fn ram(&self) -> GuestRam {
        ram(&self.finish())
    }
}

/// A note with a description.
pub(crate) fn note(description: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    note.extend_from_slice(&11_u32.to_le_bytes());
    note.extend_from_slice(&u32::try_from(description.len()).unwrap().to_le_bytes());
    note.extend_from_slice(&0_u32.to_le_bytes());
    note.extend_from_slice(b"VMCOREINFO\0\0");
    note.extend_from_slice(description);
    note
}

/// Bytes as a guest's RAM: a memfd, as QEMU uses.
pub(crate) fn ram(bytes: &[u8]) -> GuestRam {
    GuestRam::from_file(memfd(bytes), Machine::Q35).unwrap()
}

pub(crate) fn memfd(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file
}

fn note_lines(pages: Pages) -> Vec<String> {
    let mut lines: Vec<String> = [
        "OSRELEASE=6.1.0-test",
        "BUILD-ID=00112233445566778899aabbccddeeff00112233",
        "PAGESIZE=4096",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.push(format!(
        "SYMBOL(init_top_pgt)={:x}",
        IMAGE_VIRTUAL + TABLES - IMAGE
    ));
    lines.push(format!("SYMBOL(prb)={IMAGE_VIRTUAL:x}"));
    lines.push(format!("NUMBER(phys_base)={PHYS_BASE}"));
    lines.push(format!(
        "NUMBER(pgtable_l5_enabled)={}",
        i32::from(pages == Pages::FiveLevels)
    ));
    let offsets = [
        ("printk_ringbuffer.desc_ring", 0),
        ("printk_ringbuffer.text_data_ring", 56),
        ("prb_desc_ring.count_bits", 0),
        ("prb_desc_ring.descs", 8),
        ("prb_desc_ring.infos", 16),
        ("prb_desc_ring.head_id", 24),
        ("prb_desc_ring.tail_id", 32),
        ("prb_desc.state_var", 0),
        ("prb_desc.text_blk_lpos", 8),
        ("prb_data_blk_lpos.begin", 0),
        ("prb_data_blk_lpos.next", 8),
        ("printk_info.seq", 0),
        ("printk_info.ts_nsec", 8),
        ("printk_info.text_len", 16),
        ("prb_data_ring.size_bits", 0),
        ("prb_data_ring.data", 8),
    ];
    lines.extend(
        offsets
            .iter()
            .map(|(name, offset)| format!("OFFSET({name})={offset}")),
    );
    lines.push(format!("SIZE(prb_desc)={DESC_SIZE}"));
    lines.push(format!("SIZE(printk_info)={INFO_SIZE}"));
    lines
}
