//! OCI image layouts: a folder, or such a folder in an uncompressed tar file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_client::Reference;
use oci_client::manifest::ImageIndexEntry;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::limits::Limits;
use crate::manifest::{self, Blob, Document};
use crate::worker::ArchiveEntry;

/// Annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same with the full name, as containerd writes it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An opened layout.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    path: PathBuf,
    /// Set for an archive: the tar file and where its files are.
    archive: Option<Arc<ArchiveFiles>>,
}

#[derive(Debug)]
struct ArchiveFiles {
    file: File,
    entries: HashMap<String, (u64, u64)>,
}

/// A part of an open file: a blob whose digest has been checked.
#[derive(Debug)]
pub(crate) struct BlobFile {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Opens a regular file for reading without following a link at its end and without blocking on a FIFO.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

impl Layout {
    pub(crate) fn folder(path: PathBuf) -> Self {
        Self {
            path,
            archive: None,
        }
    }

    pub(crate) fn archive(path: PathBuf, file: File, entries: Vec<ArchiveEntry>) -> Self {
        let entries = entries
            .into_iter()
            .map(|e| (e.name, (e.offset, e.size)))
            .collect();
        Self {
            path,
            archive: Some(Arc::new(ArchiveFiles { file, entries })),
        }
    }

    pub(crate) fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self, name: &str) -> io::Result<BlobFile> {
        match &self.archive {
            None => {
                let file = open_regular(&self.path.join(name))?;
                let length = file.metadata()?.len();
                Ok(BlobFile {
                    file,
                    offset: 0,
                    length,
                })
            }
            Some(archive) => {
                let (offset, length) = *archive.entries.get(name).ok_or(io::ErrorKind::NotFound)?;
                let file = archive.file.try_clone()?;
                let inside = offset
                    .checked_add(length)
                    .is_some_and(|end| file.metadata().is_ok_and(|m| end <= m.len()));
                if !inside {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(BlobFile {
                    file,
                    offset,
                    length,
                })
            }
        }
    }

    fn read(&self, reference: &str, name: &str, limit: u64) -> Result<Vec<u8>> {
        let missing = |error: io::Error| {
            ImageError::unsupported(
                reference,
                format!("{name} of {} cannot be read: {error}", self.path.display()),
            )
        };
        let blob = self.open(name).map_err(missing)?;
        if blob.length > limit {
            return Err(ImageError::limit(
                reference,
                format!("{name} has {} bytes; allowed are {limit}", blob.length),
            ));
        }
        let mut bytes = vec![0; usize::try_from(blob.length).unwrap_or(0)];
        blob.file
            .read_exact_at(&mut bytes, blob.offset)
            .map_err(missing)?;
        Ok(bytes)
    }

    /// Entries of `index.json`.
    fn index(&self, reference: &str, limits: &Limits) -> Result<Vec<ImageIndexEntry>> {
        let bytes = self.read(reference, "index.json", limits.manifest_size)?;
        match manifest::parse(reference, &bytes, limits)? {
            Document::Index(entries) => Ok(entries),
            Document::Image(_) => Err(ImageError::unsupported(
                reference,
                format!("index.json of {} is not an index", self.path.display()),
            )),
        }
    }

    /// The entry for `oci:PATH[:name]`.
    pub(crate) fn select(
        &self,
        reference: &str,
        name: Option<&str>,
        limits: &Limits,
    ) -> Result<Blob> {
        let entries = self.index(reference, limits)?;
        let chosen: Vec<_> = entries
            .iter()
            .filter(|e| name.is_none_or(|name| names(e).any(|n| n == name)))
            .collect();
        match chosen.as_slice() {
            [entry] => blob_of(reference, entry),
            [] if name.is_some() => Err(ImageError::NotFound {
                reference: reference.to_owned(),
                place: format!("{} (it has: {})", self.path.display(), list(&entries)),
            }),
            [] => Err(ImageError::NotFound {
                reference: reference.to_owned(),
                place: format!("{}, which is empty", self.path.display()),
            }),
            _ => Err(ImageError::unsupported(
                reference,
                format!(
                    "{} holds several images ({}); name one after the path",
                    self.path.display(),
                    list(&entries)
                ),
            )),
        }
    }

    /// The entry for an ordinary reference, where this layout has it.
    pub(crate) fn find(&self, reference: &Reference, limits: &Limits) -> Result<Option<Blob>> {
        let shown = reference.whole();
        for entry in self.index(&shown, limits)? {
            let hit = match reference.digest() {
                Some(digest) => entry.digest == digest,
                None => names(&entry).any(|name| {
                    name == shown
                        || Reference::try_from(name)
                            .is_ok_and(|r| r.whole() == shown && name.contains('/'))
                }),
            };
            if hit {
                return blob_of(&shown, &entry).map(Some);
            }
        }
        Ok(None)
    }

    /// A small blob: a manifest or a config.
    pub(crate) fn blob_bytes(
        &self,
        reference: &str,
        what: &str,
        blob: &Blob,
        limits: &Limits,
    ) -> Result<Vec<u8>> {
        let bytes = self.read(
            reference,
            &format!("blobs/sha256/{}", blob.digest.hex()),
            limits.manifest_size,
        )?;
        let actual = Digest::of(&bytes);
        if actual != blob.digest {
            return Err(mismatch(what, reference, &blob.digest, &actual));
        }
        Ok(bytes)
    }

    /// A layer; reads it once to check its digest.
    pub(crate) fn blob_file(
        &self,
        reference: &str,
        blob: &Blob,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BlobFile> {
        let name = format!("blobs/sha256/{}", blob.digest.hex());
        let unreadable = |error: io::Error| {
            ImageError::unsupported(
                reference,
                format!("{name} of {} cannot be read: {error}", self.path.display()),
            )
        };
        let found = self.open(&name).map_err(unreadable)?;
        if found.length != blob.size {
            return Err(mismatch(
                "a layer",
                reference,
                &format_args!("{} with {} bytes", blob.digest, blob.size),
                &format_args!("{} bytes", found.length),
            ));
        }
        // By offset: the descriptor of an archive is shared by all its blobs.
        let (mut hasher, mut buffer, mut done) = (Sha256::new(), vec![0; 256 << 10], 0);
        while done < found.length {
            let want = usize::try_from(found.length - done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            found
                .file
                .read_exact_at(&mut buffer[..want], found.offset + done)
                .map_err(unreadable)?;
            hasher.update(&buffer[..want]);
            done += want as u64;
            progress(done);
        }
        let actual = Digest::from_hasher(hasher);
        if actual != blob.digest {
            return Err(mismatch("a layer", reference, &blob.digest, &actual));
        }
        Ok(found)
    }
}

pub(crate) fn mismatch(
    what: &str,
    reference: &str,
    expected: &dyn std::fmt::Display,
    actual: &dyn std::fmt::Display,
) -> ImageError {
    ImageError::DigestMismatch {
        what: what.to_owned(),
        reference: reference.to_owned(),
        expected: expected.to_string(),
        actual: actual.to_string(),
    }
}

fn blob_of(reference: &str, entry: &ImageIndexEntry) -> Result<Blob> {
    let digest = entry
        .digest
        .parse()
        .map_err(|error: String| ImageError::unsupported(reference, error))?;
    Ok(Blob {
        digest,
        size: u64::try_from(entry.size).unwrap_or(0),
    })
}

fn names(entry: &ImageIndexEntry) -> impl Iterator<Item = &str> {
    [REF_NAME, CONTAINERD_NAME]
        .into_iter()
        .filter_map(|key| entry.annotations.as_ref()?.get(key).map(String::as_str))
}

fn list(entries: &[ImageIndexEntry]) -> String {
    let mut all: Vec<_> = entries
        .iter()
        .flat_map(names)
        .map(|n| n.chars().take(100).collect::<String>())
        .collect();
    all.truncate(20);
    if all.is_empty() {
        "no names".to_owned()
    } else {
        all.join(", ")
    }
}

/// The layouts below the folders that `play --images` and the configuration name: each is a layout itself or holds layouts.
pub(crate) fn layouts_in(folders: &[PathBuf]) -> Vec<Layout> {
    let mut found = Vec::new();
    for folder in folders {
        if folder.join("index.json").is_file() {
            found.push(Layout::folder(folder.clone()));
            continue;
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(path = %folder.display(), %error, "folder with local images cannot be read");
                continue;
            }
        };
        let mut below: Vec<_> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.join("index.json").is_file())
            .collect();
        below.sort();
        found.extend(below.into_iter().map(Layout::folder));
    }
    found
}
