//! MAC addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// A unicast Ethernet address; text form `02:00:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// From six bytes.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> MacAddr {
        MacAddr(bytes)
    }

    /// The six bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The link-local address that the kernel makes of it (EUI-64, RFC 4291 appendix A).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            word(a ^ 2, b),
            word(c, 0xff),
            word(0xfe, d),
            word(e, f),
        )
    }

    /// Locally administered unicast address from the first bytes of a hash.
    pub(crate) fn from_hash(hash: &[u8; 32]) -> MacAddr {
        MacAddr([
            (hash[0] & 0xfc) | 0x02,
            hash[1],
            hash[2],
            hash[3],
            hash[4],
            hash[5],
        ])
    }

    /// Another address for the same NIC, for our own end of it.
    pub(crate) fn derived(self, use_: &str) -> MacAddr {
        let hash = Sha256::new()
            .chain_update(use_)
            .chain_update(self.0)
            .finalize();
        MacAddr::from_hash(&hash.into())
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<MacAddr, Error> {
        let wrong = || Error::Mac {
            value: text.to_owned(),
        };
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let mut bytes = [0u8; 6];
        if parts.len() != bytes.len() {
            return Err(wrong());
        }
        for (byte, part) in bytes.iter_mut().zip(parts) {
            if part.len() != 2 {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(MacAddr(bytes))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = Error;

    fn try_from(text: String) -> Result<MacAddr, Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_follows_eui_64() {
        let mac: MacAddr = "02:fc:00:00:00:01".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::fc:ff:fe00:1");
    }

    #[test]
    fn multicast_and_malformed_addresses_are_refused() {
        for text in [
            "01:00:5e:00:00:01",
            "02:00:00:00:00",
            "2:0:0:0:0:1",
            "00:00:00:00:00:00",
            "zz:00:00:00:00:01",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text} was accepted");
        }
    }
}
