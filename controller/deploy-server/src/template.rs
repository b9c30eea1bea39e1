//! The deploy ISO as it was built, and the ISO of a host made of it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use catamaran_deploy_wire::{Parameters, SLOT_SIZE, find_slot, render_slot};

use crate::error::DeployError;

/// A built deploy ISO, whose slot was found.
#[derive(Clone, Debug)]
pub struct Template {
    path: PathBuf,
    size: u64,
    slot: u64,
}

impl Template {
    /// Looks for the slot in an ISO.
    ///
    /// # Errors
    /// It can't be read, or is no deploy ISO.
    pub fn open(path: &Path) -> Result<Self, DeployError> {
        let failed = |source| DeployError::Template {
            path: path.display().to_string(),
            source,
        };
        let mut file = File::open(path).map_err(|error| failed(error.into()))?;
        let slot = find_slot(&mut file).map_err(failed)?;
        let size = file.metadata().map_err(|error| failed(error.into()))?.len();
        Ok(Self {
            path: path.to_owned(),
            size,
            slot,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of it, and of every host's ISO.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What has to be laid over it for a host.
    ///
    /// # Errors
    /// The parameters are wrong or too large.
    pub fn overlay(&self, parameters: &Parameters) -> Result<Overlay, DeployError> {
        let bytes = render_slot(parameters).map_err(DeployError::Parameters)?;
        Ok(Overlay {
            at: self.slot,
            bytes: bytes.into(),
        })
    }

    /// Writes a host's ISO to a file, for who does not let it be served.
    ///
    /// # Errors
    /// The parameters are wrong, or a file can't be read or written.
    pub fn write(&self, parameters: &Parameters, to: &Path) -> Result<(), DeployError> {
        let overlay = self.overlay(parameters)?;
        let failed = |source| DeployError::File {
            path: to.display().to_string(),
            source,
        };
        let copy = || -> io::Result<()> {
            use std::io::{Seek, SeekFrom};
            std::fs::copy(&self.path, to)?;
            let mut file = File::options().write(true).open(to)?;
            file.seek(SeekFrom::Start(overlay.at))?;
            file.write_all(&overlay.bytes)?;
            file.sync_all()
        };
        copy().map_err(failed)
    }
}

/// Bytes that take the place of others in a file that is sent.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Where.
    pub(crate) at: u64,
    /// Instead of as many others.
    pub(crate) bytes: Bytes,
}

impl Overlay {
    /// Lays it over `piece`, which is from byte `begin` of the file on.
    pub(crate) fn apply(&self, begin: u64, piece: &mut [u8]) {
        debug_assert!(self.bytes.len() <= SLOT_SIZE);
        let end = begin + piece.len() as u64;
        let (from, to) = (
            self.at.max(begin),
            (self.at + self.bytes.len() as u64).min(end),
        );
        if from >= to {
            return;
        }
        let at = |place: u64, base: u64| usize::try_from(place - base).unwrap_or(usize::MAX);
        piece[at(from, begin)..at(to, begin)]
            .copy_from_slice(&self.bytes[at(from, self.at)..at(to, self.at)]);
    }
}

#[cfg(test)]
mod tests {
    use super::Overlay;

    #[test]
    fn an_overlay_changes_its_bytes_wherever_pieces_begin() {
        let overlay = Overlay {
            at: 5,
            bytes: "abcd".into(),
        };
        for piece in 1..12 {
            let mut file = *b"............";
            for (number, part) in file.chunks_mut(piece).enumerate() {
                overlay.apply((number * piece) as u64, part);
            }
            assert_eq!(&file, b".....abcd...", "pieces of {piece}");
        }
    }
}
