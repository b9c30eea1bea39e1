//! From the bytes of a question to the bytes of an answer, without any I/O.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::zone::{NameRecord, Zone};

/// What is to be done with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Send these bytes.
    Answer(Vec<u8>),
    /// Not ours: ask an upstream.
    Forward,
    /// No question at all: say nothing.
    Ignore,
}

/// How long an answer may be kept, in seconds: short, since addresses come and go with VMs.
const TTL: u32 = 5;
/// Larger UDP answers are not sent (DNS flag day 2020).
const MAX_PAYLOAD: u16 = 1232;
/// Addresses in one answer.
const MAX_ADDRESSES: usize = 16;

/// What a name leads to.
enum Found<'a> {
    Record(&'a NameRecord),
    /// The name of the zone itself.
    Apex,
    /// It would be ours, and there is nothing.
    Nothing,
    NotOurs,
}

/// Answers the question in `bytes`, asked by `client`, whose own namespace is searched first.
#[must_use]
pub fn answer(zone: &Zone, client: IpAddr, bytes: &[u8]) -> Reply {
    let Ok(request) = Message::from_vec(bytes) else {
        return refuse_malformed(bytes);
    };
    let metadata = &request.metadata;
    if metadata.message_type != MessageType::Query {
        return Reply::Ignore;
    }
    if metadata.op_code != OpCode::Query {
        return send(&failure(&request, ResponseCode::NotImp));
    }
    let [query] = request.queries.as_slice() else {
        return send(&failure(&request, ResponseCode::FormErr));
    };
    if query.query_class() != DNSClass::IN {
        return Reply::Forward;
    }
    if query.query_type() == RecordType::PTR {
        return answer_reverse(zone, &request, query);
    }
    match find(zone, client, query.name()) {
        Found::Record(record) => {
            let addresses = record
                .addresses
                .iter()
                .copied()
                .filter(|ip| wanted(query.query_type(), *ip));
            let records = addresses.take(MAX_ADDRESSES).map(|ip| {
                let data = match ip {
                    IpAddr::V4(ip) => RData::A(A(ip)),
                    IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
                };
                Record::from_rdata(query.name().clone(), TTL, data)
            });
            send(&success(zone, &request, records.collect()))
        }
        Found::Apex => send(&success(zone, &request, Vec::new())),
        Found::Nothing => send(&nothing(zone, &request)),
        Found::NotOurs => Reply::Forward,
    }
}

fn wanted(kind: RecordType, ip: IpAddr) -> bool {
    match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    }
}

fn find<'a>(zone: &'a Zone, client: IpAddr, name: &Name) -> Found<'a> {
    let name = name.to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    if name == zone.zone {
        return Found::Apex;
    }
    let (name, in_zone) = match name
        .strip_suffix(&zone.zone)
        .and_then(|rest| rest.strip_suffix('.'))
    {
        Some(inner) => (inner, true),
        None => (name, false),
    };
    if name.is_empty() {
        return Found::NotOurs;
    }
    let is_full = |r: &&NameRecord| {
        name.strip_prefix(&r.name).and_then(|n| n.strip_prefix('.')) == Some(&r.namespace)
    };
    if let Some(record) = zone.records.iter().find(is_full) {
        return Found::Record(record);
    }
    let own = zone
        .records
        .iter()
        .find(|r| r.addresses.contains(&client))
        .map(|r| r.namespace.as_str());
    let named: Vec<&NameRecord> = zone.records.iter().filter(|r| r.name == name).collect();
    let of = |namespace: &str| named.iter().find(|r| r.namespace == namespace).copied();
    let only = || {
        if let [record] = named.as_slice() {
            Some(*record)
        } else {
            None
        }
    };
    match own.and_then(of).or_else(|| of("default")).or_else(only) {
        Some(record) => Found::Record(record),
        // A name without a dot is nobody else's business.
        None if in_zone || !name.contains('.') => Found::Nothing,
        None => Found::NotOurs,
    }
}

fn answer_reverse(zone: &Zone, request: &Message, query: &Query) -> Reply {
    let Ok(net) = query.name().parse_arpa_name() else {
        return Reply::Forward;
    };
    if !zone
        .subnets
        .iter()
        .any(|subnet| subnet.contains(&IpNet::new_assert(net.addr(), net.max_prefix_len())))
    {
        return Reply::Forward;
    }
    let record = zone
        .records
        .iter()
        .find(|r| net.prefix_len() == net.max_prefix_len() && r.addresses.contains(&net.addr()));
    let target = record
        .and_then(|r| Name::from_ascii(format!("{}.{}.{}.", r.name, r.namespace, zone.zone)).ok());
    send(&match target {
        Some(name) => {
            let record = Record::from_rdata(query.name().clone(), TTL, RData::PTR(PTR(name)));
            success(zone, request, vec![record])
        }
        None => nothing(zone, request),
    })
}

fn failure(request: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.queries.extend(request.queries.first().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        message.edns = Some(edns);
    }
    message
}

fn success(zone: &Zone, request: &Message, answers: Vec<Record>) -> Message {
    let mut message = failure(request, ResponseCode::NoError);
    message.metadata.authoritative = true;
    if answers.is_empty() {
        message.authorities.extend(authority(zone));
    }
    message.answers = answers;
    message
}

fn nothing(zone: &Zone, request: &Message) -> Message {
    let mut message = failure(request, ResponseCode::NXDomain);
    message.metadata.authoritative = true;
    message.authorities.extend(authority(zone));
    message
}

/// Tells a resolver how long it may remember that there is nothing (RFC 2308).
fn authority(zone: &Zone) -> Option<Record> {
    let name = Name::from_ascii(format!("{}.", zone.zone)).ok()?;
    let server = Name::from_ascii(format!("ns.{}.", zone.zone)).ok()?;
    let soa = SOA::new(server, name.clone(), 1, 60, 60, 60, TTL);
    Some(Record::from_rdata(name, TTL, RData::SOA(soa)))
}

fn refuse_malformed(bytes: &[u8]) -> Reply {
    // The third byte begins with the bit that marks an answer; answers to answers would make a circle.
    let (Some(id), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else {
        return Reply::Ignore;
    };
    if bytes.len() < 12 || flags & 0x80 != 0 {
        return Reply::Ignore;
    }
    send(&Message::error_msg(
        u16::from_be_bytes(*id),
        OpCode::Query,
        ResponseCode::FormErr,
    ))
}

fn send(message: &Message) -> Reply {
    match message.to_vec() {
        Ok(bytes) => Reply::Answer(bytes),
        Err(error) => {
            tracing::debug!(%error, "an answer could not be encoded");
            Reply::Ignore
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let record = |namespace: &str, name: &str, ip: &str| NameRecord {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses: vec![
                ip.parse().unwrap(),
                format!("fd00::{}", &ip[ip.len() - 1..]).parse().unwrap(),
            ],
        };
        Zone {
            zone: "catamaran.internal".to_owned(),
            upstreams: Vec::new(),
            subnets: vec!["10.1.0.0/16".parse().unwrap()],
            records: vec![
                record("default", "web", "10.1.0.2"),
                record("prod", "web", "10.1.0.3"),
                record("prod", "db", "10.1.0.4"),
                record("prod", "a.b", "10.1.0.5"),
            ],
        }
    }

    fn ask(client: &str, name: &str, kind: RecordType) -> Option<Message> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        match answer(&zone(), client.parse().unwrap(), &message.to_vec().unwrap()) {
            Reply::Answer(bytes) => Some(Message::from_vec(&bytes).unwrap()),
            Reply::Forward => None,
            Reply::Ignore => panic!("ignored"),
        }
    }

    fn address(client: &str, name: &str) -> String {
        let message = ask(client, name, RecordType::A).expect("was forwarded");
        message.answers.first().map_or_else(
            || message.metadata.response_code.to_string(),
            |r| r.data.to_string(),
        )
    }

    const STRANGER: &str = "10.1.9.9";

    #[test]
    fn names_are_found_in_every_form() {
        assert_eq!(address(STRANGER, "web.prod."), "10.1.0.3");
        assert_eq!(
            address(STRANGER, "WEB.Prod.catamaran.internal."),
            "10.1.0.3"
        );
        assert_eq!(address(STRANGER, "db."), "10.1.0.4");
        assert_eq!(address(STRANGER, "db.catamaran.internal."), "10.1.0.4");
        assert_eq!(address(STRANGER, "a.b.prod."), "10.1.0.5");
    }

    #[test]
    fn a_bare_name_means_the_askers_namespace_first() {
        assert_eq!(address("10.1.0.4", "web."), "10.1.0.3");
        assert_eq!(address(STRANGER, "web."), "10.1.0.2");
    }

    #[test]
    fn other_names_are_forwarded_and_missing_ones_of_the_zone_are_not() {
        assert!(ask(STRANGER, "example.com.", RecordType::A).is_none());
        assert!(ask(STRANGER, ".", RecordType::NS).is_none());
        let missing = ask(STRANGER, "nobody.catamaran.internal.", RecordType::A).unwrap();
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        let other_type = ask(STRANGER, "db.", RecordType::TXT).unwrap();
        assert_eq!(
            (other_type.metadata.response_code, other_type.answers.len()),
            (ResponseCode::NoError, 0)
        );
    }

    #[test]
    fn addresses_have_names() {
        let answer = ask(STRANGER, "4.0.1.10.in-addr.arpa.", RecordType::PTR).unwrap();
        assert_eq!(
            answer.answers[0].data.to_string(),
            "db.prod.catamaran.internal."
        );
        assert!(ask(STRANGER, "1.1.1.1.in-addr.arpa.", RecordType::PTR).is_none());
    }

    #[test]
    fn garbage_is_refused_or_ignored() {
        let zone = zone();
        let client = STRANGER.parse().unwrap();
        assert_eq!(answer(&zone, client, b""), Reply::Ignore);
        assert_eq!(answer(&zone, client, &[0xff; 40]), Reply::Ignore);
        let mut garbage = [0xff; 40];
        garbage[2] = 0;
        assert!(matches!(answer(&zone, client, &garbage), Reply::Answer(_)));
    }
}
