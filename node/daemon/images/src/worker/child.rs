//! The worker's side: read the request, shut in, do it, answer on standard error.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use super::{Answer, ArchiveEntry, Failure, Message, Request, Task, extract, sandbox};
use crate::digest::Digest;
use crate::format::ReadAt;

/// Entry of the worker process; the last argument is the request. Must be called before any thread is started.
pub fn worker_main() -> ExitCode {
    let outcome = work();
    let failed = outcome.is_err();
    say(&match outcome {
        Ok(answer) => Message::Done(answer),
        Err(failure) => Message::Failed(failure),
    });
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn work() -> Result<Answer, Failure> {
    let request = std::env::args_os().next_back().unwrap_or_default();
    let request: Request = request
        .to_str()
        .ok_or("it is not UTF-8".to_owned())
        .and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()))
        .map_err(|error| Failure::Confine(format!("the request cannot be read: {error}")))?;
    sandbox::enter(&request.confine).map_err(Failure::Confine)?;
    let io = |error: io::Error| Failure::Io(error.to_string());
    let input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(io)?);
    match request.task {
        Task::Layer(task) => {
            let output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(io)?);
            extract::layer(&input, &output, &task)
        }
        Task::ListArchive { max_entries } => list_archive(&input, max_entries),
    }
}

/// Writes one line; when the daemon is gone there is nobody to tell, and the next write of the work itself ends the process.
pub(super) fn say(message: &Message) {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    let _ = io::stderr().write_all(&line);
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// Part of a file, read without moving its offset, which the daemon shares.
pub(super) struct Section<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl<'f> Section<'f> {
    pub(super) fn new(file: &'f File, offset: u64, length: u64) -> Self {
        Self {
            file,
            at: offset,
            end: offset.saturating_add(length),
        }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let n = buffer.len().min(left);
        let n = FileExt::read_at(self.file, &mut buffer[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Most blobs of an archive.
const MAX_BLOBS: usize = 4096;

fn list_archive(input: &File, max_entries: u64) -> Result<Answer, Failure> {
    let io = |error: io::Error| Failure::Io(error.to_string());
    let malformed = |error: io::Error| {
        Failure::Refused(format!("the archive is not a readable tar file: {error}"))
    };
    let size = input.metadata().map_err(io)?.len();
    let mut magic = [0; 6];
    let n = ReadAt::read_at(input, &mut magic, 0).map_err(io)?;
    if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"]
        .iter()
        .any(|m| magic[..n].starts_with(m))
    {
        return Err(Failure::Refused(
            "the archive is compressed; only uncompressed tar files can be read in place"
                .to_owned(),
        ));
    }
    let mut archive = tar::Archive::new(Section::new(input, 0, size));
    let mut found = Vec::new();
    let mut entries = 0;
    for entry in archive.entries().map_err(malformed)? {
        let entry = entry.map_err(malformed)?;
        entries += 1;
        if entries > max_entries {
            return Err(Failure::Limit(format!(
                "its archive has more than {max_entries} entries"
            )));
        }
        if !matches!(
            entry.header().entry_type(),
            tar::EntryType::Regular | tar::EntryType::Continuous
        ) {
            continue;
        }
        let path = entry.path_bytes();
        let Ok(name) = std::str::from_utf8(path.strip_prefix(b"./").unwrap_or(&path)) else {
            continue;
        };
        let known = name == "index.json"
            || name == "oci-layout"
            || name
                .strip_prefix("blobs/sha256/")
                .is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok());
        if !known {
            continue;
        }
        if found.len() >= MAX_BLOBS {
            return Err(Failure::Limit(format!(
                "its archive has more than {MAX_BLOBS} blobs"
            )));
        }
        found.push(ArchiveEntry {
            name: name.to_owned(),
            offset: entry.raw_file_position(),
            size: entry.size(),
        });
    }
    Ok(Answer::Archive(found))
}
