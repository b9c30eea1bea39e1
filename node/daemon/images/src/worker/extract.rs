//! Takes one file out of a layer: decompress, walk the tar, write sparsely, hash, inspect; all in bounded memory.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::child::{Section, say};
use super::{Answer, ExtractedFile, Failure, LayerTask, Message};
use crate::digest::Digest;
use crate::format::{ReadAt, Refusal, inspect};
use crate::layers::{Classifier, EntryKind, Verdict};

const BUFFER: usize = 64 << 10;
/// Granularity of holes.
const BLOCK: usize = 4096;
/// A progress line is written after so many bytes.
const PROGRESS_STEP: u64 = 16 << 20;
/// Largest zstd window, as a power of two: 32 MiB.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Counts what comes out of the decompressor and stops at the limit.
struct Counted<R> {
    inner: R,
    left: u64,
    exceeded: Rc<Cell<bool>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                Ok(n)
            }
            None => {
                self.exceeded.set(true);
                Err(io::Error::other("it expands too much"))
            }
        }
    }
}

fn decompressed<'a>(input: &'a File, task: &LayerTask) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let n = Section::new(input, task.offset, task.length).read(&mut magic)?;
    let section = BufReader::with_capacity(BUFFER, Section::new(input, task.offset, task.length));
    Ok(if magic[..n].starts_with(b"\x1f\x8b") {
        Box::new(flate2::bufread::MultiGzDecoder::new(section))
    } else if magic[..n].starts_with(b"\x28\xb5\x2f\xfd") {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(section)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Box::new(decoder)
    } else {
        Box::new(section)
    })
}

fn kind_of(entry_type: tar::EntryType, path: &[u8]) -> EntryKind {
    use tar::EntryType as T;
    match entry_type {
        // Old tars mark folders by a trailing slash only.
        T::Regular | T::Continuous if path.ends_with(b"/") => EntryKind::Folder,
        T::Regular | T::Continuous | T::GNUSparse => EntryKind::File,
        T::Directory => EntryKind::Folder,
        T::Symlink => EntryKind::Symlink,
        T::Link => EntryKind::Hardlink,
        T::Char | T::Block => EntryKind::Device,
        T::Fifo => EntryKind::Fifo,
        _ => EntryKind::Other,
    }
}

pub(super) fn layer(input: &File, output: &File, task: &LayerTask) -> Result<Answer, Failure> {
    let exceeded = Rc::new(Cell::new(false));
    let too_large = || {
        Failure::Limit(format!(
            "a layer of {} bytes expands to more than {} bytes",
            task.length, task.max_expanded
        ))
    };
    let malformed = |error: io::Error| {
        if exceeded.get() {
            too_large()
        } else {
            Failure::Refused(format!("a layer is not a readable tar file: {error}"))
        }
    };
    let reader = Counted {
        inner: decompressed(input, task).map_err(malformed)?,
        left: task.max_expanded,
        exceeded: Rc::clone(&exceeded),
    };
    let mut archive = tar::Archive::new(reader);
    let mut classifier = Classifier::new(task.wanted.clone(), task.hidden.clone());
    let mut file = None;
    let mut entries = 0;
    for entry in archive.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        entries += 1;
        if entries > task.max_entries {
            return Err(Failure::Limit(format!(
                "a layer has more than {} entries",
                task.max_entries
            )));
        }
        let entry_type = entry.header().entry_type();
        if entry_type == tar::EntryType::XGlobalHeader {
            continue;
        }
        if let Some(mut extensions) = entry.pax_extensions().map_err(malformed)?
            && extensions.any(|e| e.is_ok_and(|e| e.key_bytes().starts_with(b"GNU.sparse.")))
        {
            return Err(Failure::Refused(
                "a layer uses the PAX form of sparse files, which is not supported; build it without --sparse".to_owned(),
            ));
        }
        let path = entry.path_bytes().into_owned();
        let special_mode = entry.header().mode().is_ok_and(|mode| mode & 0o6000 != 0);
        let verdict = classifier
            .entry(&path, kind_of(entry_type, &path), special_mode)
            .map_err(Failure::Refused)?;
        let Verdict::File(name) = verdict else {
            continue;
        };
        if !task.extract || file.is_some() {
            continue;
        }
        let size = entry.size();
        let shown = task.wanted.path_of(&name);
        if size > task.max_file_size {
            return Err(Failure::Limit(format!(
                "{shown} has {size} bytes; allowed are {}",
                task.max_file_size
            )));
        }
        if size > task.max_expanded {
            return Err(too_large());
        }
        let sha256 = write_file(&mut entry, output, size, &shown, &malformed)?;
        let inspection = if task.inspect {
            Some(inspect_output(output, size, task, shown)?)
        } else {
            None
        };
        file = Some(ExtractedFile {
            name,
            size,
            sha256,
            inspection,
        });
    }
    Ok(Answer::Layer {
        findings: classifier.findings,
        file,
    })
}

fn inspect_output(
    output: &File,
    size: u64,
    task: &LayerTask,
    path: String,
) -> Result<crate::Inspection, Failure> {
    inspect(output as &dyn ReadAt, size, task.max_virtual_size).map_err(|refusal| match refusal {
        Refusal::Refused(reason) => Failure::Format { path, reason },
        Refusal::Io(error) => Failure::Io(error.to_string()),
    })
}

fn write_file(
    entry: &mut dyn Read,
    output: &File,
    size: u64,
    shown: &str,
    malformed: &dyn Fn(io::Error) -> Failure,
) -> Result<Digest, Failure> {
    let mut buffer = vec![0; BUFFER];
    let mut hasher = Sha256::new();
    let mut at = 0;
    let mut next_progress = 0;
    while at < size {
        if at >= next_progress {
            say(&Message::Progress {
                done: at,
                total: size,
            });
            next_progress = at + PROGRESS_STEP;
        }
        let want = usize::try_from(size - at).unwrap_or(BUFFER).min(BUFFER);
        entry.read_exact(&mut buffer[..want]).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                Failure::Refused(format!("{shown} is cut off after {at} of {size} bytes"))
            } else {
                malformed(error)
            }
        })?;
        hasher.update(&buffer[..want]);
        write_data(output, &buffer[..want], at).map_err(|error| write_failure(&error))?;
        at += want as u64;
    }
    output
        .set_len(size)
        .map_err(|error| write_failure(&error))?;
    say(&Message::Progress {
        done: size,
        total: size,
    });
    Ok(Digest::from_hasher(hasher))
}

/// Writes the blocks that are not all zero; the others stay holes.
fn write_data(output: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut start = None;
    let mut at = 0;
    for block in bytes.chunks(BLOCK) {
        let hole = block == &ZEROS[..block.len()];
        match start {
            Some(from) if hole => {
                output.write_all_at(&bytes[from..at], offset + from as u64)?;
                start = None;
            }
            None if !hole => start = Some(at),
            _ => {}
        }
        at += block.len();
    }
    match start {
        Some(from) => output.write_all_at(&bytes[from..], offset + from as u64),
        None => Ok(()),
    }
}

fn write_failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Failure::NoSpace,
        _ => Failure::Io(error.to_string()),
    }
}
