//! Where in a qcow2 file is what of the disk. Pure: bytes of header and tables in, a [`Layout`] out.
//!
//! Facts from the format's specification, which QEMU documents: <https://www.qemu.org/docs/master/interop/qcow2.html>.

use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"QFI\xfb";
const CORRUPT: u64 = 1 << 1;
const KNOWN_FEATURES: u64 = 1 | CORRUPT | (1 << 3);
const FEATURES: [(u64, &str); 2] = [
    (1 << 2, "an external data file"),
    (1 << 4, "extended L2 entries"),
];
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Bytes of the header that are needed.
const HEADER: usize = 112;

/// A file that can't be written to a disk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Qcow2Error {
    /// Another format.
    #[error("the image is no qcow2: it begins with {0}")]
    Magic(String),
    /// Cut off.
    #[error("the image ends within its {0}")]
    Short(&'static str),
    /// A field that can't be.
    #[error("qcow2: {field} is {value}; {allowed}")]
    Field {
        /// Its name in the specification.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// What the agent does not do.
    #[error(
        "qcow2: the image has {0}, which is not supported: convert it with qemu-img convert -O qcow2"
    )]
    Unsupported(&'static str),
    /// Two clusters of the disk in one of the file.
    #[error(
        "qcow2: byte {0} of the file belongs to two clusters of the disk: check the image with qemu-img check"
    )]
    Overlap(u64),
}

/// What matters of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the disk, bytes.
    pub size: u64,
    /// Clusters have `1 << cluster_bits` bytes.
    pub cluster_bits: u32,
    /// Where the table of tables is.
    pub l1_offset: u64,
    /// Its entries which this size needs.
    pub l1_entries: u64,
    /// Whether compressed clusters are zstd, else deflate.
    pub zstd: bool,
}

impl Header {
    /// How many bytes of a file to give to [`Header::parse`].
    pub const BYTES: u64 = HEADER as u64;

    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// It is no qcow2 that can be written to a disk.
    pub fn parse(bytes: &[u8]) -> Result<Self, Qcow2Error> {
        if !bytes.starts_with(MAGIC) {
            return Err(Qcow2Error::Magic(hex::encode(&bytes[..bytes.len().min(4)])));
        }
        let short = || Qcow2Error::Short("header");
        let u32_at = |at| be32(bytes, at).ok_or_else(short);
        let u64_at = |at| be64(bytes, at).ok_or_else(short);
        let version = u32_at(4)?;
        let field = |field, value, allowed| Qcow2Error::Field {
            field,
            value,
            allowed,
        };
        if !(2..=3).contains(&version) {
            return Err(field("version", version.into(), "2 and 3 are allowed"));
        }
        let cluster_bits = u32_at(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(field(
                "cluster_bits",
                cluster_bits.into(),
                "9 to 21 are allowed",
            ));
        }
        let size = u64_at(24)?;
        if u64_at(8)? != 0 {
            return Err(Qcow2Error::Unsupported("a backing file"));
        }
        if u32_at(32)? != 0 {
            return Err(Qcow2Error::Unsupported("encryption"));
        }
        let mut zstd = false;
        if version == 3 {
            let features = u64_at(72)?;
            if features & CORRUPT != 0 {
                return Err(Qcow2Error::Unsupported("the mark of a corrupt one"));
            }
            for (bit, name) in FEATURES {
                if features & bit != 0 {
                    return Err(Qcow2Error::Unsupported(name));
                }
            }
            if features & !KNOWN_FEATURES != 0 {
                return Err(field(
                    "incompatible_features",
                    features,
                    "bits 0 and 3 are allowed",
                ));
            }
            // Present where the header says that it is so long.
            let kind = if u32_at(100)? > 104 {
                bytes.get(104).copied().ok_or_else(short)?
            } else {
                0
            };
            if kind > 1 {
                return Err(field(
                    "compression_type",
                    kind.into(),
                    "0 (deflate) and 1 (zstd) are allowed",
                ));
            }
            zstd = kind == 1;
        }
        // An L2 table is one cluster of entries of 8 bytes.
        let per_l2 = 1u64 << (2 * cluster_bits - 3);
        let l1_entries = size.div_ceil(per_l2);
        let l1_size = u64::from(u32_at(36)?);
        if l1_entries > l1_size || l1_entries > (32 << 20) / 8 {
            return Err(field(
                "size",
                size,
                "no more than its L1 table has room for, and 4194304 tables, are allowed",
            ));
        }
        Ok(Self {
            size,
            cluster_bits,
            l1_offset: u64_at(40)?,
            l1_entries,
            zstd,
        })
    }

    /// Bytes of a cluster.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the L1 table.
    #[must_use]
    pub fn l1_bytes(&self) -> u64 {
        self.l1_entries * 8
    }
}

/// The L2 tables that an L1 table names: number of the table and where it is in the file.
///
/// # Errors
/// An entry is no place of a cluster.
pub fn l2_places(header: &Header, l1: &[u8]) -> Result<Vec<(u64, u64)>, Qcow2Error> {
    let mut places = Vec::new();
    for number in 0..header.l1_entries {
        let at = usize::try_from(number * 8).map_err(|_| Qcow2Error::Short("L1 table"))?;
        let entry = be64(l1, at).ok_or(Qcow2Error::Short("L1 table"))?;
        let offset = entry & OFFSET;
        if offset == 0 {
            continue;
        }
        if !offset.is_multiple_of(header.cluster()) {
            return Err(Qcow2Error::Field {
                field: "L2 table offset",
                value: offset,
                allowed: "multiples of the cluster size are allowed",
            });
        }
        places.push((number, offset));
    }
    Ok(places)
}

/// How bytes of the file become bytes of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As they are.
    Plain,
    /// A compressed cluster.
    Compressed,
    /// Not at all: header or tables, whose SHA-256 has to be this again.
    Known([u8; 32]),
}

/// Consecutive bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where they are in the file.
    pub host: u64,
    /// How many; of compressed ones, how many at most.
    pub length: u64,
    /// Where on the disk they go.
    pub guest: u64,
    /// See there.
    pub kind: Kind,
}

/// What of a file goes where on a disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of the file.
    pub header: Header,
    /// By their places in the file.
    pub extents: Vec<Extent>,
    /// Parts of the disk that are zeros: begin and length.
    pub zeros: Vec<(u64, u64)>,
}

impl Layout {
    /// Begins with header and L1 table, as they were read.
    #[must_use]
    pub fn new(header: Header, head: &[u8], l1: &[u8]) -> Self {
        let mut layout = Self {
            header,
            extents: Vec::new(),
            zeros: Vec::new(),
        };
        layout.known(0, head);
        layout.known(header.l1_offset, l1);
        layout
    }

    fn known(&mut self, host: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.extents.push(Extent {
                host,
                length: bytes.len() as u64,
                guest: 0,
                kind: Kind::Known(Sha256::digest(bytes).into()),
            });
        }
    }

    /// Takes an L2 table.
    ///
    /// # Errors
    /// It is cut off, or has an entry that can't be.
    pub fn l2(&mut self, number: u64, host: u64, table: &[u8]) -> Result<(), Qcow2Error> {
        self.known(host, table);
        let cluster = self.header.cluster();
        let first = number * (cluster / 8) * cluster;
        for index in 0..cluster / 8 {
            let guest = first + index * cluster;
            if guest >= self.header.size {
                break;
            }
            let at = usize::try_from(index * 8).map_err(|_| Qcow2Error::Short("L2 table"))?;
            let entry = be64(table, at).ok_or(Qcow2Error::Short("L2 table"))?;
            if entry & COMPRESSED != 0 {
                self.compressed(entry, guest);
            } else if entry & ZERO == 0 && entry & OFFSET != 0 {
                self.plain(entry & OFFSET, guest)?;
            }
        }
        Ok(())
    }

    fn compressed(&mut self, entry: u64, guest: u64) {
        let shift = 62 - (self.header.cluster_bits - 8);
        let host = entry & ((1 << shift) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> shift) + 1;
        self.extents.push(Extent {
            host,
            length: sectors * 512 - host % 512,
            guest,
            kind: Kind::Compressed,
        });
    }

    fn plain(&mut self, host: u64, guest: u64) -> Result<(), Qcow2Error> {
        let cluster = self.header.cluster();
        if !host.is_multiple_of(cluster) {
            return Err(Qcow2Error::Field {
                field: "cluster offset",
                value: host,
                allowed: "multiples of the cluster size are allowed",
            });
        }
        let length = cluster.min(self.header.size - guest);
        if let Some(last) = self.extents.last_mut()
            && last.kind == Kind::Plain
            && last.host + last.length == host
            && last.guest + last.length == guest
        {
            last.length += length;
            return Ok(());
        }
        self.extents.push(Extent {
            host,
            length,
            guest,
            kind: Kind::Plain,
        });
        Ok(())
    }

    /// Ends it: sorts, and finds what is zeros.
    ///
    /// # Errors
    /// Plain clusters overlap with anything.
    pub fn finish(mut self) -> Result<Self, Qcow2Error> {
        let size = self.header.size;
        let cluster = self.header.cluster();
        let mut data: Vec<(u64, u64)> = self
            .extents
            .iter()
            .filter_map(|extent| match extent.kind {
                Kind::Plain => Some((extent.guest, extent.length)),
                Kind::Compressed => Some((extent.guest, cluster.min(size - extent.guest))),
                Kind::Known(_) => None,
            })
            .collect();
        data.sort_unstable();
        let mut end = 0;
        for (begin, length) in data {
            if begin > end {
                self.zeros.push((end, begin - end));
            }
            end = begin + length;
        }
        if end < size {
            self.zeros.push((end, size - end));
        }
        self.extents.sort_by_key(|extent| extent.host);
        for pair in self.extents.windows(2) {
            if pair[0].kind == Kind::Plain && pair[0].host + pair[0].length > pair[1].host {
                return Err(Qcow2Error::Overlap(pair[1].host));
            }
        }
        Ok(self)
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Header, Qcow2Error};

    fn header(change: impl Fn(&mut Vec<u8>)) -> Result<Header, Qcow2Error> {
        let mut bytes = vec![0; 112];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[7] = 3;
        bytes[23] = 16;
        bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        bytes[36..40].copy_from_slice(&2u32.to_be_bytes());
        bytes[40..48].copy_from_slice(&(3u64 << 16).to_be_bytes());
        bytes[100..104].copy_from_slice(&112u32.to_be_bytes());
        change(&mut bytes);
        Header::parse(&bytes)
    }

    #[test]
    fn a_header_tells_size_and_tables() {
        let header = header(|_| ()).unwrap();
        assert_eq!(
            (
                header.size,
                header.cluster(),
                header.l1_entries,
                header.zstd
            ),
            (1 << 30, 65536, 2, false)
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        type Case = (fn(&mut Vec<u8>), &'static str);
        let cases: [Case; 8] = [
            (
                |b| b[0] = 0,
                "the image is no qcow2: it begins with 004649fb",
            ),
            (|b| b[7] = 4, "qcow2: version is 4; 2 and 3 are allowed"),
            (
                |b| b[23] = 30,
                "qcow2: cluster_bits is 30; 9 to 21 are allowed",
            ),
            (
                |b| b[15] = 1,
                "qcow2: the image has a backing file, which is not supported: convert it with qemu-img convert -O qcow2",
            ),
            (
                |b| b[35] = 2,
                "qcow2: the image has encryption, which is not supported: convert it with qemu-img convert -O qcow2",
            ),
            (
                |b| b[79] = 4,
                "qcow2: the image has an external data file, which is not supported: convert it with qemu-img convert -O qcow2",
            ),
            (
                |b| b[79] = 0x20,
                "qcow2: incompatible_features is 32; bits 0 and 3 are allowed",
            ),
            (|b| b.truncate(60), "the image ends within its header"),
        ];
        for (change, wanted) in cases {
            assert_eq!(header(change).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn a_size_that_its_table_has_no_room_for_is_refused() {
        let error = header(|b| b[24] = 1).unwrap_err().to_string();
        assert!(
            error.starts_with("qcow2: size is 72057595111669760"),
            "{error}"
        );
    }
}
