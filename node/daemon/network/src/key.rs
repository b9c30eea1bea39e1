//! The key of everything a VM has in the network: its namespace and name, and what is derived from them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::mac::MacAddr;

/// How the host's ends of our veth pairs begin.
pub(crate) const VETH_PREFIX: &str = "ctmv";

/// Namespace and name of a VM; the identity under which its address is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    namespace: String,
    name: String,
}

impl Key {
    /// Checks both parts: they become file names and names in the DNS zone.
    ///
    /// # Errors
    /// [`Error::Key`] when a part is empty, longer than 253 bytes or has other characters than a-z, 0-9, `-` and `.`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Key, Error> {
        let (namespace, name) = (namespace.into(), name.into());
        check("namespace", &namespace)?;
        check("name", &name)?;
        Ok(Key { namespace, name })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<namespace>_<name>`; `_` can stand in neither, so it is unique.
    pub(crate) fn file_stem(&self) -> String {
        format!("{}_{}", self.namespace, self.name)
    }

    /// Name of the host's end of the veth pair: 14 characters, from a hash of bridge and key.
    pub(crate) fn host_interface(&self, bridge: &str) -> String {
        let digest = self.digest(bridge, "veth");
        digest[..5]
            .iter()
            .fold(VETH_PREFIX.to_owned(), |name, byte| {
                format!("{name}{byte:02x}")
            })
    }

    /// MAC address of the VM's end: locally administered, from a hash of bridge and key.
    pub(crate) fn mac(&self, bridge: &str) -> MacAddr {
        MacAddr::from_hash(&self.digest(bridge, "mac"))
    }

    /// Where the search for a free address begins.
    pub(crate) fn address_hint(&self) -> u32 {
        let digest = self.digest("", "address");
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    fn digest(&self, bridge: &str, use_: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(format!(
                "{use_}\0{bridge}\0{}\0{}",
                self.namespace, self.name
            ))
            .finalize()
            .into()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn check(part: &'static str, value: &str) -> Result<(), Error> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    // A leading dot would make `..` and hidden files possible.
    if value.is_empty() || value.len() > 253 || value.starts_with('.') || !value.bytes().all(fits) {
        return Err(Error::Key {
            part,
            value: value.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for name in ["", "..", "../x", "a/b", "A", "a b", ".hidden"] {
            assert!(Key::new("default", name).is_err(), "{name:?} was accepted");
        }
        assert!(Key::new("default", "web-1.prod").is_ok());
    }

    #[test]
    fn derived_names_are_stable_and_differ_between_keys() {
        let (a, b) = (
            Key::new("default", "a").unwrap(),
            Key::new("default", "b").unwrap(),
        );
        assert_eq!(a.host_interface("ctm0"), a.host_interface("ctm0"));
        assert_ne!(a.host_interface("ctm0"), b.host_interface("ctm0"));
        assert_ne!(a.mac("ctm0"), b.mac("ctm0"));
        assert_eq!(a.host_interface("ctm0").len(), 14);
    }
}
