//! What only the console's replicas can make and read: text that is encrypted and authenticated with the key that they share.
//!
//! ChaCha20-Poly1305 with a random nonce. The purpose is authenticated too, so that a ticket never passes for a cookie.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The key that all replicas share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; Self::BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// What a text is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session's cookie.
    Session,
    /// A stream's ticket.
    Ticket,
    /// A login at a provider that is under way.
    Login,
}

impl Purpose {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Session => b"catamaran console session 1",
            Self::Ticket => b"catamaran console ticket 1",
            Self::Login => b"catamaran console login 1",
        }
    }
}

/// The machine has no random numbers to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random numbers")]
pub struct NoRandom;

impl Key {
    /// Length, bytes.
    pub const BYTES: usize = 32;

    /// A new one.
    ///
    /// # Errors
    /// When the machine has no random numbers to give.
    pub fn random() -> Result<Self, NoRandom> {
        random().map(Self)
    }

    /// One that is stored.
    #[must_use]
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// To be stored where nobody but the replicas can read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.0)
            .ok()
            .map(LessSafeKey::new)
    }

    /// Seals a value: base64url.
    pub(crate) fn seal<T: Serialize>(
        &self,
        purpose: Purpose,
        value: &T,
    ) -> Result<String, NoRandom> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut text = serde_json::to_vec(value).map_err(|_| NoRandom)?;
        self.cipher()
            .ok_or(NoRandom)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.word()),
                &mut text,
            )
            .map_err(|_| NoRandom)?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &text].concat()))
    }

    /// The value of a text that was sealed for that purpose with this key.
    pub(crate) fn open<T: DeserializeOwned>(&self, purpose: Purpose, sealed: &str) -> Option<T> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self
            .cipher()?
            .open_in_place(nonce, Aad::from(purpose.word()), text)
            .ok()?;
        serde_json::from_slice(opened).ok()
    }
}

fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// 128 random bits as hexadecimal digits.
pub(crate) fn random_word() -> Result<String, NoRandom> {
    random::<16>().map(hex::encode)
}

#[cfg(test)]
mod tests {
    use super::{Key, Purpose};

    #[test]
    fn what_is_sealed_is_read_by_whoever_has_the_key() {
        let key = Key::random().unwrap();
        let sealed = key.seal(Purpose::Ticket, &"secret").unwrap();
        let other_replica = Key::stored(key.bytes()).unwrap();
        assert_eq!(
            other_replica
                .open::<String>(Purpose::Ticket, &sealed)
                .as_deref(),
            Some("secret")
        );
        assert!(!sealed.contains("secret"));
    }

    #[test]
    fn another_key_another_purpose_and_another_byte_open_nothing() {
        let key = Key::random().unwrap();
        let sealed = key.seal(Purpose::Ticket, &"a").unwrap();
        let open = |key: &Key, purpose, text: &str| key.open::<String>(purpose, text);
        assert_eq!(
            open(&Key::random().unwrap(), Purpose::Ticket, &sealed),
            None
        );
        assert_eq!(open(&key, Purpose::Session, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(open(&key, Purpose::Ticket, &changed), None, "{at}");
        }
        for text in ["", "AAAA", "%"] {
            assert_eq!(open(&key, Purpose::Ticket, text), None);
        }
    }

    #[test]
    fn a_key_is_not_shown_in_logs() {
        assert_eq!(format!("{:?}", Key::random().unwrap()), "Key");
    }
}
