//! Checksums of images.

use catamaran_deploy_wire::ChecksumKind;
use md5::Md5;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};

/// A checksum that is being made, and what has to come out.
pub struct Digest {
    state: Box<dyn DynDigest + Send>,
    kind: ChecksumKind,
    wanted: String,
}

/// The checksum is another one, or none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// It can't be one.
    #[error(
        "checksum {value:?} is no {}: 32 (md5), 64 (sha256) or 128 (sha512) hexadecimal digits are wanted",
        .kind.map_or_else(|| "checksum".to_owned(), |kind| kind.to_string())
    )]
    Malformed {
        /// What was given.
        value: String,
        /// What it should be.
        kind: Option<ChecksumKind>,
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
    /// Begins one that has to end as `wanted`, in hex. Without a kind the number of its digits tells.
    ///
    /// # Errors
    /// [`ChecksumError::Malformed`]
    pub fn new(kind: Option<ChecksumKind>, wanted: &str) -> Result<Self, ChecksumError> {
        let wanted = wanted.trim();
        let Some(kind) = ChecksumKind::of(wanted, kind) else {
            return Err(ChecksumError::Malformed {
                value: wanted.to_owned(),
                kind,
            });
        };
        let state: Box<dyn DynDigest + Send> = match kind {
            ChecksumKind::Md5 => Box::new(Md5::default()),
            ChecksumKind::Sha256 => Box::new(Sha256::default()),
            ChecksumKind::Sha512 => Box::new(Sha512::default()),
        };
        Ok(Self {
            state,
            kind,
            wanted: wanted.to_owned(),
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
    pub fn finish(self) -> Result<(), ChecksumError> {
        let found = hex::encode(self.state.finalize());
        if found.eq_ignore_ascii_case(&self.wanted) {
            return Ok(());
        }
        Err(ChecksumError::Mismatch {
            kind: self.kind,
            found,
            wanted: self.wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_tell_the_kind_where_nobody_says_it() {
        for (wanted, kind) in [
            ("D41D8CD98F00B204E9800998ECF8427E", ChecksumKind::Md5),
            (
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                ChecksumKind::Sha256,
            ),
        ] {
            let digest = Digest::new(None, wanted).unwrap();
            assert_eq!(digest.kind, kind);
            digest.finish().unwrap();
        }
        let other = Digest::new(Some(ChecksumKind::Md5), &"0".repeat(32)).unwrap();
        assert!(matches!(
            other.finish(),
            Err(ChecksumError::Mismatch { .. })
        ));
    }

    #[test]
    fn what_can_be_no_checksum_is_named_before_anything_is_fetched() {
        for (kind, wanted) in [
            (None, "abc".to_owned()),
            (None, "g".repeat(64)),
            (Some(ChecksumKind::Sha512), "0".repeat(64)),
        ] {
            let error = Digest::new(kind, &wanted).err().unwrap().to_string();
            assert!(error.contains(&wanted), "{error}");
        }
    }
}
