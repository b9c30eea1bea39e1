//! Ports of the host, from an annotation: the peer's API has no field for them, since a Service is for that on Kubernetes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{Fault, Faults, FieldPath};
use crate::network::{Binding, HostPort, Interface, Joined, Protocol};

const FORM: &str = "must be [ADDRESS:]PORT:GUEST-PORT[/tcp|/udp], such as 8080:80, 127.0.0.1:5353:53/udp or [fd00::1]:2222:22, several parted by commas";
const PORT: &str = "ports must be between 1 and 65535, inclusive";
const PROTOCOL: &str = "the protocol must be tcp or udp";
const UNSPECIFIED: &str =
    "the address must be one of the host's; without one all addresses of the host are meant";
const LOOPBACK: &str =
    "the address must be reachable: Linux passes nothing on from ::1; 127.0.0.1 is possible";

/// The ports that can be told. `annotation`: its text and where it is. `pod_network`: whether the machine joins it.
pub(super) fn host_ports(
    annotation: Option<(&str, FieldPath)>,
    pod_network: bool,
    interfaces: &[Interface],
    faults: &mut Faults,
) -> Vec<HostPort> {
    let Some((text, path)) = annotation else {
        return Vec::new();
    };
    if !pod_network {
        let words = "host ports lead to an interface on the pod network, and the machine has none";
        faults.push(&path, Fault::Forbidden(words.to_owned()));
    }
    let mut found: Vec<HostPort> = Vec::new();
    for entry in text.split(',').map(str::trim) {
        match parse(entry) {
            Ok(port) if found.iter().any(|other| overlap(other, &port)) => {
                faults.duplicate(&path, entry);
            }
            Ok(port) => {
                if let Some(why) = kept_out(&port, interfaces) {
                    faults.invalid(&path, entry, &why);
                }
                found.push(port);
            }
            Err(why) => faults.invalid(&path, entry, why),
        }
    }
    found
}

/// Whether some connection could be meant for both.
fn overlap(one: &HostPort, other: &HostPort) -> bool {
    let address = one.address == other.address || one.address.is_none() || other.address.is_none();
    one.port == other.port && one.protocol == other.protocol && address
}

/// Why the guest's port is not reached: the interface passes on some ports only.
fn kept_out(port: &HostPort, interfaces: &[Interface]) -> Option<String> {
    let interface = interfaces.iter().find(|interface| {
        interface.network == Joined::Pod && matches!(interface.binding, Binding::Masquerade { .. })
    })?;
    let passed = interface.ports.is_empty()
        || interface.ports.iter().any(|passed| {
            let range = passed.range.start..=passed.range.end;
            passed.protocol == port.protocol && range.contains(&port.guest_port)
        });
    (!passed).then(|| {
        format!(
            "port {} of the guest must be among the ports of interface {}",
            port.guest_port, interface.name
        )
    })
}

fn parse(entry: &str) -> Result<HostPort, &'static str> {
    let (ports, protocol) = match entry.rsplit_once('/') {
        None => (entry, Protocol::Tcp),
        Some((ports, word)) if word.eq_ignore_ascii_case("tcp") => (ports, Protocol::Tcp),
        Some((ports, word)) if word.eq_ignore_ascii_case("udp") => (ports, Protocol::Udp),
        Some(_) => return Err(PROTOCOL),
    };
    let (rest, guest_port) = ports.rsplit_once(':').ok_or(FORM)?;
    let (address, host_port) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, port)) => (Some(self::address(address)?), port),
    };
    Ok(HostPort {
        address,
        port: number(host_port)?,
        guest_port: number(guest_port)?,
        protocol,
    })
}

fn number(text: &str) -> Result<u16, &'static str> {
    // `parse` takes a sign too.
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(FORM);
    }
    text.parse().ok().filter(|port| *port > 0).ok_or(PORT)
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    };
    match address.ok_or(FORM)? {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Err(LOOPBACK),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Err(UNSPECIFIED),
        address if address.is_multicast() => Err(UNSPECIFIED),
        address => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (Vec<String>, Vec<String>) {
        let mut faults = Faults::default();
        let annotation = Some((text, FieldPath::new("at")));
        let ports = host_ports(annotation, true, &[], &mut faults);
        let ports = ports.iter().map(ToString::to_string).collect();
        (ports, faults.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ports_with_and_without_address_and_protocol_are_read() {
        let (ports, faults) =
            told("8080:80, 127.0.0.1:53:53/udp,[fd00::1]:2222:22/TCP , 192.0.2.1:8081:80");
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(
            ports,
            [
                "8080:80/tcp",
                "127.0.0.1:53:53/udp",
                "[fd00::1]:2222:22/tcp",
                "192.0.2.1:8081:80/tcp"
            ]
        );
    }

    #[test]
    fn every_wrong_entry_is_told_with_what_is_allowed() {
        for (entry, why) in [
            ("", FORM),
            ("80", FORM),
            ("a:80", FORM),
            ("+8080:80", FORM),
            ("8080:", FORM),
            ("host:8080:80", FORM),
            ("fd00::1:8080:80", FORM),
            ("[192.0.2.1]:8080:80", FORM),
            ("0:80", PORT),
            ("8080:65536", PORT),
            ("8080:80/sctp", PROTOCOL),
            ("[::1]:8080:80", LOOPBACK),
            ("0.0.0.0:8080:80", UNSPECIFIED),
            ("[::]:8080:80", UNSPECIFIED),
            ("224.0.0.1:8080:80", UNSPECIFIED),
        ] {
            let (ports, faults) = told(&format!("1:1, {entry}, 2:2"));
            assert_eq!(ports, ["1:1/tcp", "2:2/tcp"], "{entry}");
            assert_eq!(faults, [format!("at: Invalid value: {entry:?}: {why}")]);
        }
        let (_, faults) = told("0:1, 8080:80/x");
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn a_port_of_the_host_leads_to_one_place() {
        for (text, twice) in [
            ("8080:80, 8080:81", Some("8080:81")),
            ("8080:80, 127.0.0.1:8080:80", Some("127.0.0.1:8080:80")),
            ("127.0.0.1:8080:80, 192.0.2.1:8080:80", None),
            ("8080:80, 8080:80/udp", None),
        ] {
            let expected: Vec<String> = twice
                .iter()
                .map(|entry| format!("at: Duplicate value: {entry:?}"))
                .collect();
            assert_eq!(told(text).1, expected, "{text}");
        }
    }
}
