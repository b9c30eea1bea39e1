//! DHCPv4 (RFC 2131): one guest, one address.

use std::net::Ipv4Addr;

use catamaran_wire::DhcpServe;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Decodable, Encodable};

use super::{domain_names, lease, v4_servers};

/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;

/// An answer and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The packet.
    pub bytes: Vec<u8>,
    /// The client's address if it has one, else everyone's.
    pub to: Ipv4Addr,
}

/// The answer to a packet, if it deserves one: it is the guest's own, and asks for something.
#[must_use]
pub fn answer(config: &DhcpServe, packet: &[u8]) -> Option<Answer> {
    let (address, prefix) = config.v4?;
    let server = config.v4_server?;
    // Before anything is decoded: a request, over Ethernet, of this guest's address.
    if packet.get(..3)? != [1, 1, 6] || packet.get(28..34)? != config.mac {
        return None;
    }
    let request = Message::from_bytes(packet).ok()?;
    if request.giaddr() != Ipv4Addr::UNSPECIFIED {
        return None;
    }
    let options = request.opts();
    let for_us = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(chosen)) => *chosen == server,
        _ => true,
    };
    let wanted = match options.get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(wanted)) => Some(*wanted),
        _ => (request.ciaddr() != Ipv4Addr::UNSPECIFIED).then(|| request.ciaddr()),
    };
    let kind = match options.msg_type()? {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request if !for_us => return None,
        MessageType::Request if wanted.is_none_or(|wanted| wanted == address) => MessageType::Ack,
        MessageType::Request => MessageType::Nak,
        MessageType::Inform => MessageType::Ack,
        _ => return None,
    };
    let inform = options.has_msg_type(MessageType::Inform);
    let mut reply = Message::new_with_id(
        request.xid(),
        if kind == MessageType::Ack {
            request.ciaddr()
        } else {
            Ipv4Addr::UNSPECIFIED
        },
        if kind == MessageType::Nak || inform {
            Ipv4Addr::UNSPECIFIED
        } else {
            address
        },
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::UNSPECIFIED,
        &config.mac,
    );
    reply
        .set_opcode(Opcode::BootReply)
        .set_flags(request.flags());
    let out = reply.opts_mut();
    out.insert(DhcpOption::MessageType(kind));
    out.insert(DhcpOption::ServerIdentifier(server));
    if let Some(client) = options.get(OptionCode::ClientIdentifier) {
        out.insert(client.clone());
    }
    if kind != MessageType::Nak {
        if !inform {
            out.insert(DhcpOption::AddressLeaseTime(lease(config)));
        }
        describe_network(config, address, prefix, &mut |option| {
            out.insert(option);
        });
    }
    let keeps_address = request.ciaddr() != Ipv4Addr::UNSPECIFIED && kind == MessageType::Ack;
    let to = if keeps_address {
        request.ciaddr()
    } else {
        Ipv4Addr::BROADCAST
    };
    Some(Answer {
        bytes: reply.to_vec().ok()?,
        to,
    })
}

fn describe_network(
    config: &DhcpServe,
    address: Ipv4Addr,
    prefix: u8,
    insert: &mut dyn FnMut(DhcpOption),
) {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    insert(DhcpOption::SubnetMask(Ipv4Addr::from(mask)));
    if prefix < 31 {
        insert(DhcpOption::BroadcastAddr(Ipv4Addr::from(
            u32::from(address) | !mask,
        )));
    }
    if let Some(gateway) = config.v4_gateway {
        insert(DhcpOption::Router(vec![gateway]));
    }
    let servers = v4_servers(config);
    if !servers.is_empty() {
        insert(DhcpOption::DomainNameServer(servers));
    }
    if !config.hostname.is_empty() {
        insert(DhcpOption::Hostname(config.hostname.clone()));
    }
    if let Some(domain) = config.search.first() {
        insert(DhcpOption::DomainName(domain.clone()));
    }
    let search = domain_names(&config.search);
    if !search.is_empty() {
        insert(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::DomainSearch,
            search,
        )));
    }
    if let Ok(mtu) = u16::try_from(config.mtu)
        && mtu >= 68
    {
        insert(DhcpOption::InterfaceMtu(mtu));
    }
    let routes = routes(config);
    if !routes.is_empty() {
        insert(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::ClasslessStaticRoute,
            routes,
        )));
    }
}

/// Option 121 (RFC 3442). Who reads it must not read option 3, so the default route is repeated in it.
fn routes(config: &DhcpServe) -> Vec<u8> {
    if config.v4_routes.is_empty() {
        return Vec::new();
    }
    let default = config
        .v4_gateway
        .map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, Some(gateway)));
    let mut bytes = Vec::new();
    for (network, prefix, gateway) in config.v4_routes.iter().copied().chain(default) {
        let prefix = prefix.min(32);
        bytes.push(prefix);
        bytes.extend_from_slice(&network.octets()[..usize::from(prefix.div_ceil(8))]);
        bytes.extend_from_slice(&gateway.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::example;

    fn question(kind: MessageType, change: impl Fn(&mut Message)) -> Vec<u8> {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(0x1234, zero, zero, zero, zero, &example().mac);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        change(&mut message);
        message.to_vec().unwrap()
    }

    fn ask(config: &DhcpServe, packet: &[u8]) -> Option<Message> {
        answer(config, packet).map(|answer| Message::from_bytes(&answer.bytes).unwrap())
    }

    #[test]
    fn discover_is_offered_the_one_address_forever() {
        let offer = ask(&example(), &question(MessageType::Discover, |_| ())).unwrap();
        assert_eq!(
            (offer.xid(), offer.yiaddr()),
            (0x1234, "10.0.2.2".parse().unwrap())
        );
        let options = offer.opts();
        assert_eq!(options.msg_type(), Some(MessageType::Offer));
        assert_eq!(
            options.get(OptionCode::AddressLeaseTime),
            Some(&DhcpOption::AddressLeaseTime(u32::MAX))
        );
        assert_eq!(
            options.get(OptionCode::InterfaceMtu),
            Some(&DhcpOption::InterfaceMtu(1450))
        );
        assert_eq!(
            options.get(OptionCode::Router),
            Some(&DhcpOption::Router(vec!["10.0.2.1".parse().unwrap()]))
        );
        assert!(
            matches!(options.get(OptionCode::DomainSearch), Some(DhcpOption::DomainSearch(names)) if names.len() == 1)
        );
    }

    #[test]
    fn another_address_is_refused_and_the_right_one_confirmed() {
        let request = |address: &str| {
            let address = address.parse().unwrap();
            question(MessageType::Request, move |message| {
                message
                    .opts_mut()
                    .insert(DhcpOption::RequestedIpAddress(address));
            })
        };
        let kind = |address| {
            ask(&example(), &request(address))
                .unwrap()
                .opts()
                .msg_type()
                .unwrap()
        };
        assert_eq!(kind("10.0.2.2"), MessageType::Ack);
        assert_eq!(kind("10.0.2.99"), MessageType::Nak);
    }

    #[test]
    fn a_renewal_is_answered_to_the_guests_address() {
        let packet = question(MessageType::Request, |message| {
            message.set_ciaddr(Ipv4Addr::new(10, 0, 2, 2));
        });
        assert_eq!(
            answer(&example(), &packet).unwrap().to,
            Ipv4Addr::new(10, 0, 2, 2)
        );
    }

    #[test]
    fn strangers_and_other_servers_clients_are_not_answered() {
        let mut stranger = example();
        stranger.mac = [2, 9, 9, 9, 9, 9];
        assert!(answer(&stranger, &question(MessageType::Discover, |_| ())).is_none());
        let other = question(MessageType::Request, |message| {
            message
                .opts_mut()
                .insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 9)));
        });
        assert!(answer(&example(), &other).is_none());
    }

    #[test]
    fn rubbish_is_not_answered() {
        let packet = question(MessageType::Discover, |_| ());
        for length in 0..packet.len() {
            let _ = answer(&example(), &packet[..length]);
        }
        for at in 0..packet.len() {
            let mut broken = packet.clone();
            broken[at] = 0xff;
            let _ = answer(&example(), &broken);
        }
        assert!(answer(&example(), &[]).is_none());
    }

    #[test]
    fn further_routes_repeat_the_default_route() {
        let mut config = example();
        config.v4_routes = vec![(Ipv4Addr::new(10, 96, 0, 0), 12, None)];
        assert_eq!(routes(&config), [12, 10, 96, 0, 0, 0, 0, 0, 10, 0, 2, 1]);
    }
}
