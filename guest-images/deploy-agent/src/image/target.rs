//! Disks as something to write to.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// Something to write a disk to.
pub trait Target {
    /// Writes bytes at a place.
    ///
    /// # Errors
    /// It can't be written.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes zeros of a part.
    ///
    /// # Errors
    /// It can't be written.
    fn zero(&mut self, at: u64, length: u64) -> io::Result<()>;
}

/// A disk.
#[derive(Debug)]
pub struct DiskTarget {
    file: File,
    size: u64,
}

/// Zeros are written in pieces of so many bytes where the disk can't make them itself.
const PIECE: usize = 1 << 20;
/// Bytes at either end of a disk in which partition tables and their like are: 1 MiB.
pub const HEAD: u64 = 1 << 20;

impl DiskTarget {
    /// Opens a disk.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }

    /// Bytes of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Waits until all is on the disk.
    ///
    /// # Errors
    /// It is not.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Makes zeros of the first and the last MiB: nothing boots from it, and no partition table is found on it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn wipe_ends(&mut self) -> io::Result<()> {
        let head = HEAD.min(self.size);
        self.zero(0, head)?;
        self.zero(self.size - head, head)?;
        self.sync()
    }
}

impl Target for DiskTarget {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        if length >= PIECE as u64 && fallocate(&self.file, flags, at, length).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; PIECE];
        let mut done = 0;
        while done < length {
            let part = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
            self.file.write_all_at(&zeros[..part], at + done)?;
            done += part as u64;
        }
        Ok(())
    }
}

/// Keeps the first MiB back until all else is written and found right: a disk that was written in part never boots, whenever the power
/// goes away.
#[derive(Debug)]
pub struct Held<T> {
    inner: T,
    head: Vec<u8>,
}

impl<T: Target> Held<T> {
    /// Keeps the head of a disk of `size` bytes back.
    pub fn new(inner: T, size: u64) -> Self {
        let length = usize::try_from(HEAD.min(size)).unwrap_or(0);
        Self {
            inner,
            head: vec![0; length],
        }
    }

    /// Writes the head, at last.
    ///
    /// # Errors
    /// The disk can't be written.
    pub fn release(mut self) -> io::Result<T> {
        self.inner.write(0, &self.head)?;
        Ok(self.inner)
    }

    /// Forgets the head.
    #[must_use]
    pub fn abandon(self) -> T {
        self.inner
    }

    /// How many bytes from `at` on are in the head, and its part.
    fn part(&mut self, at: u64, length: u64) -> &mut [u8] {
        let size = self.head.len() as u64;
        let begin = usize::try_from(at.min(size)).unwrap_or(0);
        let end = usize::try_from(at.saturating_add(length).min(size)).unwrap_or(0);
        &mut self.head[begin..end]
    }
}

impl<T: Target> Target for Held<T> {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let part = self.part(at, bytes.len() as u64);
        let held = part.len();
        part.copy_from_slice(&bytes[..held]);
        if held == bytes.len() {
            return Ok(());
        }
        self.inner.write(at + held as u64, &bytes[held..])
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        let part = self.part(at, length);
        part.fill(0);
        let held = part.len() as u64;
        if held == length {
            return Ok(());
        }
        self.inner.zero(at + held, length - held)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{DiskTarget, HEAD, Held, Target};

    fn disk(size: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, vec![0xee; usize::try_from(size).unwrap()]).unwrap();
        (folder, path)
    }

    #[test]
    fn the_head_is_written_only_when_it_is_released() {
        let size = 3 * HEAD;
        let (_folder, path) = disk(size);
        let mut held = Held::new(DiskTarget::open(&path).unwrap(), size);
        held.write(HEAD - 2, b"abcd").unwrap();
        held.zero(0, 4).unwrap();
        held.write(2 * HEAD, b"e").unwrap();
        let before = fs::read(&path).unwrap();
        let at = usize::try_from(HEAD).unwrap();
        assert_eq!(&before[at - 2..at + 3], b"\xee\xeecd\xee");
        held.release().unwrap().sync().unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(&after[at - 2..at + 3], b"abcd\xee");
        assert_eq!(&after[..4], &[0; 4]);
        assert_eq!(after[2 * at], b'e');
    }

    #[test]
    fn wiping_the_ends_leaves_what_is_between() {
        let (_folder, path) = disk(4 * HEAD);
        DiskTarget::open(&path).unwrap().wipe_ends().unwrap();
        let at = usize::try_from(HEAD).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(
            bytes[..at]
                .iter()
                .chain(&bytes[3 * at..])
                .all(|byte| *byte == 0)
        );
        assert!(bytes[at..3 * at].iter().all(|byte| *byte == 0xee));
    }

    #[test]
    fn a_disk_smaller_than_a_mebibyte_is_wiped_as_a_whole() {
        let (_folder, path) = disk(1000);
        DiskTarget::open(&path).unwrap().wipe_ends().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 1000]);
    }
}
