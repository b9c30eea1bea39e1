//! DHCPv6 (RFC 8415): one guest, one address. The default route comes by router advertisement.

use std::net::Ipv6Addr;

use catamaran_wire::DhcpServe;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode,
    UnknownOption,
};
use dhcproto::{Decodable, Encodable};

use super::{domain_names, lease, v6_servers};

/// The answer to a packet, if it deserves one.
///
/// Which guest asks cannot be told from a DUID; the socket is bound to the one device that the guest is on.
#[must_use]
pub fn answer(config: &DhcpServe, packet: &[u8]) -> Option<Vec<u8>> {
    let (address, _) = config.v6?;
    let request = Message::from_bytes(packet).ok()?;
    let options = request.opts();
    let own_id = server_id(config);
    let names_us = match options.get(OptionCode::ServerId) {
        Some(DhcpOption::ServerId(id)) => Some(*id == own_id),
        _ => None,
    };
    let client = options.get(OptionCode::ClientId);
    let rapid = options.get(OptionCode::RapidCommit).is_some();
    // RFC 8415, 16: which messages must, may and must not name a server and a client.
    let kind = match (request.msg_type(), names_us, client.is_some()) {
        (MessageType::Solicit, None, true) if rapid => MessageType::Reply,
        (MessageType::Solicit, None, true) => MessageType::Advertise,
        (MessageType::Confirm | MessageType::Rebind, None, true)
        | (
            MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline,
            Some(true),
            true,
        )
        | (MessageType::InformationRequest, None | Some(true), _) => MessageType::Reply,
        _ => return None,
    };
    let mut reply = Message::new_with_id(kind, request.xid());
    let out = reply.opts_mut();
    if let Some(client) = client {
        out.insert(client.clone());
    }
    out.insert(DhcpOption::ServerId(own_id));
    match request.msg_type() {
        MessageType::Release | MessageType::Decline => out.insert(status(Status::Success)),
        MessageType::InformationRequest => {}
        MessageType::Confirm => {
            let good = identities(options)
                .all(|identity| addresses(identity).all(|given| given == address));
            out.insert(status(if good {
                Status::Success
            } else {
                Status::NotOnLink
            }));
        }
        kind => {
            if kind == MessageType::Solicit && rapid {
                out.insert(DhcpOption::RapidCommit);
            }
            // The address belongs to the first identity; a guest that has more gets nothing for them.
            for (at, identity) in identities(options).take(4).enumerate() {
                out.insert(DhcpOption::IANA(grant(
                    config,
                    identity,
                    (at == 0).then_some(address),
                )));
            }
        }
    }
    let servers = v6_servers(config);
    if !servers.is_empty() {
        out.insert(DhcpOption::DomainNameServers(servers));
    }
    let search = domain_names(&config.search);
    if !search.is_empty() {
        out.insert(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::DomainSearchList,
            search,
        )));
    }
    reply.to_vec().ok()
}

fn grant(config: &DhcpServe, identity: &IANA, address: Option<Ipv6Addr>) -> IANA {
    let life = lease(config);
    let tenths = |of: u32| {
        if life == u32::MAX {
            u32::MAX
        } else {
            // The remainder too: T1 of 0 would leave the choice to the client.
            life / 10 * of + life % 10 * of / 10
        }
    };
    let mut opts = DhcpOptions::new();
    match address {
        Some(addr) => {
            // An address that is not ours (any more) is taken back.
            for old in addresses(identity).filter(|old| *old != addr).take(4) {
                opts.insert(lifetime(old, 0));
            }
            opts.insert(lifetime(addr, life));
        }
        None => opts.insert(status(Status::NoAddrsAvail)),
    }
    IANA {
        id: identity.id,
        t1: tenths(5),
        t2: tenths(8),
        opts,
    }
}

fn lifetime(addr: Ipv6Addr, life: u32) -> DhcpOption {
    DhcpOption::IAAddr(IAAddr {
        addr,
        preferred_life: life,
        valid_life: life,
        opts: DhcpOptions::new(),
    })
}

fn identities(options: &DhcpOptions) -> impl Iterator<Item = &IANA> {
    options
        .get_all(OptionCode::IANA)
        .unwrap_or_default()
        .iter()
        .filter_map(|option| match option {
            DhcpOption::IANA(identity) => Some(identity),
            _ => None,
        })
}

fn addresses(identity: &IANA) -> impl Iterator<Item = Ipv6Addr> {
    identity
        .opts
        .get_all(OptionCode::IAAddr)
        .unwrap_or_default()
        .iter()
        .filter_map(|option| match option {
            DhcpOption::IAAddr(address) => Some(address.addr),
            _ => None,
        })
}

fn status(status: Status) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode {
        status,
        msg: String::new(),
    })
}

/// A DUID of the link-layer kind (RFC 8415, 11.4), from the guest's own address: it must not change when the launcher
/// or the tap does.
fn server_id(config: &DhcpServe) -> Vec<u8> {
    let mut id = vec![0, 3, 0, 1];
    id.extend_from_slice(&config.mac);
    // Not the guest's own identifier: locally administered, last bit turned.
    id[4] |= 2;
    id[9] ^= 1;
    id
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dhcp::example;

    fn question(kind: MessageType, change: impl Fn(&mut DhcpOptions)) -> Vec<u8> {
        let mut message = Message::new_with_id(kind, [1, 2, 3]);
        message
            .opts_mut()
            .insert(DhcpOption::ClientId(vec![0, 3, 0, 1, 9]));
        change(message.opts_mut());
        message.to_vec().unwrap()
    }

    fn identity(id: u32, address: Option<&str>) -> DhcpOption {
        let mut opts = DhcpOptions::new();
        if let Some(address) = address {
            opts.insert(lifetime(address.parse().unwrap(), 100));
        }
        DhcpOption::IANA(IANA {
            id,
            t1: 0,
            t2: 0,
            opts,
        })
    }

    pub(crate) fn solicit(_config: &DhcpServe) -> Vec<u8> {
        question(MessageType::Solicit, |options| {
            options.insert(identity(5, None));
        })
    }

    fn ask(packet: &[u8]) -> Option<Message> {
        answer(&example(), packet).map(|bytes| Message::from_bytes(&bytes).unwrap())
    }

    fn granted(message: &Message) -> Vec<(Ipv6Addr, u32)> {
        let identity = identities(message.opts()).next().unwrap();
        let all = identity
            .opts
            .get_all(OptionCode::IAAddr)
            .unwrap_or_default()
            .iter();
        all.filter_map(|option| match option {
            DhcpOption::IAAddr(address) => Some((address.addr, address.valid_life)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn solicit_is_offered_the_one_address_forever() {
        let reply = ask(&solicit(&example())).unwrap();
        assert_eq!(
            (reply.msg_type(), reply.xid()),
            (MessageType::Advertise, [1, 2, 3])
        );
        assert_eq!(
            granted(&reply),
            [("fd10:0:2::2".parse().unwrap(), u32::MAX)]
        );
        let servers = DhcpOption::DomainNameServers(vec!["fd10::a".parse().unwrap()]);
        assert_eq!(
            reply.opts().get(OptionCode::DomainNameServers),
            Some(&servers)
        );
    }

    #[test]
    fn short_leases_too_are_renewed_after_half_of_them() {
        for (lease, times) in [(4, (2, 3)), (15, (7, 12)), (3600, (1800, 2880))] {
            let mut config = example();
            config.lease_seconds = Some(lease);
            let reply = answer(&config, &solicit(&config)).unwrap();
            let reply = Message::from_bytes(&reply).unwrap();
            let identity = identities(reply.opts()).next().unwrap();
            assert_eq!((identity.t1, identity.t2), times, "lease {lease}");
        }
    }

    #[test]
    fn rapid_commit_saves_a_round() {
        let packet = question(MessageType::Solicit, |options| {
            options.insert(DhcpOption::RapidCommit);
            options.insert(identity(5, None));
        });
        assert_eq!(ask(&packet).unwrap().msg_type(), MessageType::Reply);
    }

    #[test]
    fn a_renewed_stale_address_is_taken_back() {
        let packet = question(MessageType::Renew, |options| {
            options.insert(DhcpOption::ServerId(server_id(&example())));
            options.insert(identity(5, Some("fd10:0:2::77")));
        });
        let mut addresses = granted(&ask(&packet).unwrap());
        addresses.sort();
        let expected = [
            ("fd10:0:2::2".parse().unwrap(), u32::MAX),
            ("fd10:0:2::77".parse().unwrap(), 0),
        ];
        assert_eq!(addresses, expected);
    }

    #[test]
    fn messages_for_another_server_are_not_answered() {
        let packet = question(MessageType::Request, |options| {
            options.insert(DhcpOption::ServerId(vec![1]));
            options.insert(identity(5, None));
        });
        assert!(ask(&packet).is_none());
        assert!(ask(&question(MessageType::Request, |_| ())).is_none());
        assert!(ask(&question(MessageType::Reply, |_| ())).is_none());
    }

    #[test]
    fn rubbish_is_not_answered() {
        let packet = solicit(&example());
        for length in 0..packet.len() {
            let _ = answer(&example(), &packet[..length]);
        }
        for at in 0..packet.len() {
            let mut broken = packet.clone();
            broken[at] = 0xff;
            let _ = answer(&example(), &broken);
        }
    }
}
