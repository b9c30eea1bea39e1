//! Random names and keys, and how they are compared.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// 43 characters that stand in URLs and nobody guesses: 244 random bits.
pub(crate) fn random() -> String {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a token or key: its SHA-256 in hex. Comparing digests tells nothing of what is compared by its time.
pub(crate) fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

#[cfg(test)]
mod tests {
    #[test]
    fn random_names_differ_and_have_their_length() {
        let (one, two) = (super::random(), super::random());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
    }
}
