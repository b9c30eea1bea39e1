//! Checksums of images.

use catamaran_deploy_wire::{Checksum, ChecksumKind};
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};

/// A checksum that is being made.
pub struct Digest {
    state: Box<dyn DynDigest + Send>,
    kind: ChecksumKind,
}

/// The checksum is another one, or none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// It can't be one.
    #[error("checksum {value:?} is no {kind}: {digits} hexadecimal digits are wanted")]
    Malformed {
        /// What was given.
        value: String,
        /// What it should be.
        kind: ChecksumKind,
        /// How many digits it has then.
        digits: usize,
    },
    /// Another one came out.
    #[error("the image has {kind} {found}, {wanted} is wanted")]
    Mismatch {
        /// How it was made.
        kind: ChecksumKind,
        /// What came out.
        found: String,
        /// What should have.
        wanted: String,
    },
}

impl Digest {
    /// Begins one of this kind.
    #[must_use]
    pub fn new(kind: ChecksumKind) -> Self {
        let state: Box<dyn DynDigest + Send> = match kind {
            ChecksumKind::Sha256 => Box::new(Sha256::default()),
            ChecksumKind::Sha512 => Box::new(Sha512::default()),
        };
        Self { state, kind }
    }

    /// Whether text can be a checksum, before an image is written in vain.
    ///
    /// # Errors
    /// [`ChecksumError::Malformed`]
    pub fn check(wanted: &Checksum) -> Result<(), ChecksumError> {
        let digits = match wanted.kind {
            ChecksumKind::Sha256 => 64,
            ChecksumKind::Sha512 => 128,
        };
        let value = wanted.value.trim();
        if value.len() == digits && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        Err(ChecksumError::Malformed {
            value: wanted.value.clone(),
            kind: wanted.kind,
            digits,
        })
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// Ends it, and compares.
    ///
    /// # Errors
    /// [`ChecksumError::Mismatch`]
    pub fn finish(self, wanted: &Checksum) -> Result<(), ChecksumError> {
        let found = hex::encode(self.state.finalize());
        if found.eq_ignore_ascii_case(wanted.value.trim()) {
            return Ok(());
        }
        Err(ChecksumError::Mismatch {
            kind: self.kind,
            found,
            wanted: wanted.value.clone(),
        })
    }
}
