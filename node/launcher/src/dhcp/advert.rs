//! Router advertisements (RFC 4861, RFC 8106): "ask DHCPv6 for your address; the default route is here".

use catamaran_wire::DhcpServe;

use super::{domain_names, v6_servers};

/// Seconds for which the default route holds without a further advertisement; the largest value allowed.
const ROUTER_LIFETIME: u16 = 9000;

/// Whether a packet of ICMPv6 is a router solicitation.
#[must_use]
pub fn is_solicitation(packet: &[u8]) -> bool {
    packet.len() >= 8 && packet[..2] == [133, 0]
}

/// The advertisement for this interface; `None` without IPv6. The kernel fills the checksum in.
#[must_use]
pub fn advertisement(config: &DhcpServe) -> Option<Vec<u8>> {
    let (address, prefix) = config.v6?;
    let lifetime = if config.v6_gateway.is_some() {
        ROUTER_LIFETIME
    } else {
        0
    };
    // Type, code, checksum, hop limit, flags (managed and other: ask DHCPv6), lifetimes, timers (unspecified).
    let mut bytes = vec![134, 0, 0, 0, 64, 0b1100_0000];
    bytes.extend_from_slice(&lifetime.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    if config.v6_gateway_is_ours {
        bytes.extend_from_slice(&[1, 1]);
        bytes.extend_from_slice(&config.device_mac);
    }
    if (1280..=u32::from(u16::MAX)).contains(&config.mtu) {
        bytes.extend_from_slice(&[5, 1, 0, 0]);
        bytes.extend_from_slice(&config.mtu.to_be_bytes());
    }
    if prefix < 128 {
        // On link, but no autonomous addresses (flags L=1, A=0).
        bytes.extend_from_slice(&[3, 4, prefix, 0b1000_0000]);
        bytes.extend_from_slice(&[0xff; 8]);
        bytes.extend_from_slice(&[0; 4]);
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        bytes.extend_from_slice(&(u128::from(address) & mask).to_be_bytes());
    }
    let servers: Vec<_> = v6_servers(config).into_iter().take(3).collect();
    if !servers.is_empty() {
        bytes.extend_from_slice(&[
            25,
            u8::try_from(1 + 2 * servers.len()).unwrap_or(1),
            0,
            0,
            0xff,
            0xff,
            0xff,
            0xff,
        ]);
        for server in servers {
            bytes.extend_from_slice(&server.octets());
        }
    }
    let mut search = domain_names(&config.search);
    if !search.is_empty() {
        search.resize(search.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(&[
            31,
            u8::try_from(1 + search.len() / 8).unwrap_or(1),
            0,
            0,
            0xff,
            0xff,
            0xff,
            0xff,
        ]);
        bytes.extend_from_slice(&search);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::example;

    /// The kinds of the options, which must fill the message exactly.
    fn options(bytes: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        let mut rest = &bytes[16..];
        while !rest.is_empty() {
            kinds.push(rest[0]);
            rest = &rest[usize::from(rest[1]) * 8..];
        }
        kinds
    }

    #[test]
    fn the_guest_is_sent_to_dhcp_and_given_a_route() {
        let bytes = advertisement(&example()).unwrap();
        assert_eq!(bytes[5] & 0b1000_0000, 0b1000_0000);
        assert_eq!(u16::from_be_bytes([bytes[6], bytes[7]]), ROUTER_LIFETIME);
        assert_eq!(options(&bytes), [1, 5, 3, 25, 31]);
    }

    #[test]
    fn a_foreign_routers_address_is_not_claimed() {
        let mut config = example();
        config.v6_gateway_is_ours = false;
        assert!(!options(&advertisement(&config).unwrap()).contains(&1));
    }

    #[test]
    fn without_a_router_no_default_route_is_announced() {
        let mut config = example();
        config.v6_gateway = None;
        let bytes = advertisement(&config).unwrap();
        assert_eq!(bytes[6..8], [0, 0]);
    }

    #[test]
    fn only_solicitations_are_answered() {
        assert!(is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!is_solicitation(&[135, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!is_solicitation(&[133]));
    }
}
