//! The unprivileged process that parses what an image author wrote: layers and disk headers.
//!
//! The daemon starts one process per layer: standard input is the blob, standard output the file to fill (both regular files, passed as open
//! descriptors), standard error carries JSON lines back, and the last argument is the request. The process shuts itself in (`sandbox`) before
//! it reads the first byte of the blob.

mod child;
mod extract;
mod run;
mod sandbox;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::format::Inspection;
use crate::layers::{LayerFindings, Wanted};

pub use child::worker_main;
pub(crate) use run::{WorkerError, run};

/// How the worker process is started.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// A program that calls [`worker_main`] first thing; usually the daemon itself (`/proc/self/exe`).
    pub program: PathBuf,
    /// Arguments in front of the request, such as `image-worker`.
    pub arguments: Vec<OsString>,
    /// User that the worker becomes when it is started by root.
    pub uid: u32,
    /// Group that the worker becomes when it is started by root.
    pub gid: u32,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("image-worker")],
            uid: 107,
            gid: 107,
        }
    }
}

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) confine: Confine,
    pub(crate) task: Task,
}

/// How the process shuts itself in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Confine {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Empty folder that becomes the root.
    pub(crate) root: PathBuf,
    /// Address space, bytes.
    pub(crate) memory: u64,
    /// CPU time, seconds.
    pub(crate) cpu_seconds: u64,
    /// Largest file, bytes.
    pub(crate) file_size: u64,
}

/// What is to be done with standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Look for the wanted file in a layer and, where told, write it to standard output.
    Layer(LayerTask),
    /// List the files of an OCI archive.
    ListArchive {
        /// Most entries of the tar file.
        max_entries: u64,
    },
}

/// See [`Task::Layer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerTask {
    /// Part of standard input that is the layer.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) wanted: Wanted,
    pub(crate) hidden: BTreeSet<String>,
    /// Write the first wanted file.
    pub(crate) extract: bool,
    /// Inspect it as a disk.
    pub(crate) inspect: bool,
    pub(crate) max_entries: u64,
    pub(crate) max_expanded: u64,
    pub(crate) max_file_size: u64,
    pub(crate) max_virtual_size: u64,
}

/// One line of standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Message {
    Progress { done: u64, total: u64 },
    Done(Answer),
    Failed(Failure),
}

/// Result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Layer {
        findings: LayerFindings,
        file: Option<ExtractedFile>,
    },
    Archive(Vec<ArchiveEntry>),
}

/// A file that was written to standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtractedFile {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
    /// Where it was asked for.
    pub(crate) inspection: Option<Inspection>,
}

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchiveEntry {
    /// `index.json`, `oci-layout` or `blobs/sha256/<hex>`.
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The layer or archive is malformed or hostile.
    Refused(String),
    /// The disk's format is refused; path in the image.
    Format { path: String, reason: String },
    /// A limit was hit.
    Limit(String),
    /// Standard output's file system is full.
    NoSpace,
    /// Reading or writing failed.
    Io(String),
    /// The process could not shut itself in, and read nothing.
    Confine(String),
}
