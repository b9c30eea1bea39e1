//! What the daemon remembers of a machine's run, on disk, so that the next daemon goes on where this one was killed.

use std::fs;
use std::io;
use std::path::Path;

use catamaran_plan::Plan;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::machine::claims::Hold;
use crate::serve::layout::{MachineLayout, write_atomically};

/// The record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The run that this is about.
    pub vmi_uid: Uuid,
    /// How far it came.
    pub stage: Stage,
    /// Disks that it has, from [`Stage::Sandboxed`] on. Records of older daemons don't tell: the plan's writable files stand in.
    #[serde(default)]
    pub disks: Option<Vec<Hold>>,
}

/// How far a run came. Written *before* the step that it names, so that the next daemon knows what may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Disks and network are prepared; no process yet.
    Preparing,
    /// The sandbox may be there; the guest was not started.
    Sandboxed,
    /// The guest may run.
    Started,
}

/// Reads a JSON file; `None` when there is none. One that is not understood is an error: guessing could start a machine twice.
///
/// # Errors
/// When the file can't be read or understood.
pub fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a JSON file atomically.
///
/// # Errors
/// When it can't be written.
pub fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_atomically(
        path,
        &serde_json::to_vec_pretty(value).map_err(io::Error::other)?,
    )
}

/// The plan of the recorded run.
///
/// # Errors
/// When it can't be read or understood.
pub fn plan(layout: &MachineLayout) -> io::Result<Option<Plan>> {
    load(&layout.plan())
}

/// Forgets the run, after its processes are proved dead. The record goes last.
///
/// # Errors
/// When something can't be removed.
pub fn clear(layout: &MachineLayout) -> io::Result<()> {
    for folder in [layout.run(), layout.config()] {
        ignore_missing(fs::remove_dir_all(folder))?;
    }
    ignore_missing(fs::remove_file(layout.plan()))?;
    ignore_missing(fs::remove_file(layout.record()))
}

/// "Not there" is done.
///
/// # Errors
/// Every other error.
pub fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
