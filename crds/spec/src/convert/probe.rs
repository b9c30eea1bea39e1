//! Probes.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::defaults;
use crate::field::{Faults, FieldPath};
use crate::network::Interface;
use crate::probe::{Probe, ProbeAction};

/// A probe; a port may be named after a port of an interface.
pub(super) fn probe(
    wire: &catamaran_api::Probe,
    interfaces: &[Interface],
    liveness: bool,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<Probe> {
    let action = action(wire, interfaces, path, faults);
    let mut number =
        |name: &str, value: Option<i32>, least: u32, default: u32| match value.map(u32::try_from) {
            None => default,
            Some(Ok(0)) if least > 0 => default,
            Some(Ok(given)) => given,
            Some(Err(_)) => {
                faults.invalid(
                    &path.child(name),
                    value.unwrap_or_default(),
                    "must be greater than or equal to 0",
                );
                default
            }
        };
    let initial_delay_seconds = number(
        "initialDelaySeconds",
        wire.initial_delay_seconds,
        0,
        defaults::PROBE_INITIAL_DELAY,
    );
    let period_seconds = number(
        "periodSeconds",
        wire.period_seconds,
        1,
        defaults::PROBE_PERIOD,
    );
    let timeout_seconds = number(
        "timeoutSeconds",
        wire.timeout_seconds,
        1,
        defaults::PROBE_TIMEOUT,
    );
    let success_threshold = number(
        "successThreshold",
        wire.success_threshold,
        1,
        defaults::PROBE_SUCCESSES,
    );
    let failure_threshold = number(
        "failureThreshold",
        wire.failure_threshold,
        1,
        defaults::PROBE_FAILURES,
    );
    if liveness && success_threshold != 1 {
        faults.invalid(
            &path.child("successThreshold"),
            success_threshold,
            "must be 1",
        );
    }
    Some(Probe {
        action: action?,
        initial_delay_seconds,
        period_seconds,
        timeout_seconds,
        success_threshold,
        failure_threshold,
    })
}

fn action(
    wire: &catamaran_api::Probe,
    interfaces: &[Interface],
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<ProbeAction> {
    let count = usize::from(wire.exec.is_some())
        + usize::from(wire.http_get.is_some())
        + usize::from(wire.tcp_socket.is_some())
        + usize::from(wire.guest_agent_ping.is_some());
    if count != 1 {
        faults.required(path, "must have exactly one probe type set");
        return None;
    }
    if wire.guest_agent_ping.is_some() {
        return Some(ProbeAction::GuestAgentPing);
    }
    if let Some(exec) = &wire.exec {
        let command = exec.command.clone().unwrap_or_default();
        if command.is_empty() {
            faults.required(&path.child("exec").child("command"), "");
        }
        return Some(ProbeAction::Exec { command });
    }
    if let Some(tcp) = &wire.tcp_socket {
        return Some(ProbeAction::TcpSocket {
            port: port(
                &tcp.port,
                interfaces,
                &path.child("tcpSocket").child("port"),
                faults,
            )?,
            host: tcp.host.clone().filter(|h| !h.is_empty()),
        });
    }
    let http = wire.http_get.as_ref()?;
    let path = path.child("httpGet");
    let tls = faults
        .word(
            &path.child("scheme"),
            http.scheme.as_deref().filter(|s| !s.is_empty()),
            &[("HTTP", false), ("HTTPS", true)],
        )
        .unwrap_or(false);
    let mut file = http
        .path
        .clone()
        .filter(|p| !p.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    if !file.starts_with('/') {
        file.insert(0, '/');
    }
    if file.chars().any(|c| c.is_whitespace() || c.is_control()) {
        faults.invalid(&path.child("path"), &file, "must be a URL path");
    }
    let headers = http
        .http_headers
        .iter()
        .flatten()
        .map(|h| (h.name.clone(), h.value.clone()))
        .collect::<Vec<_>>();
    for (i, (name, value)) in headers.iter().enumerate() {
        let path = path.child("httpHeaders").index(i);
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        {
            faults.invalid(&path.child("name"), name, "must be an HTTP header's name");
        }
        if value.chars().any(char::is_control) {
            faults.invalid(&path.child("value"), value, "must be one line");
        }
    }
    let host = http.host.clone().filter(|h| !h.is_empty());
    Some(ProbeAction::HttpGet {
        port: port(&http.port, interfaces, &path.child("port"), faults)?,
        path: file,
        host,
        tls,
        headers,
    })
}

fn port(
    port: &IntOrString,
    interfaces: &[Interface],
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<u16> {
    let found = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(text) => text.parse().ok().or_else(|| {
            let mut ports = interfaces.iter().flat_map(|i| &i.ports);
            ports
                .find(|p| p.name.as_deref() == Some(text))
                .map(|p| p.range.start)
        }),
    };
    let found = found.filter(|p| *p > 0);
    if found.is_none() {
        let text = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        faults.invalid(
            path,
            text,
            "must be between 1 and 65535, inclusive, or the name of a port of an interface",
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use catamaran_api::Probe as Wire;

    use super::probe;
    use crate::defaults;
    use crate::field::{Faults, FieldPath};
    use crate::network::{Interface, Port, PortRange, Protocol};
    use crate::probe::ProbeAction;

    fn read(json: &str, liveness: bool) -> Result<crate::probe::Probe, Vec<String>> {
        let wire: Wire = serde_json::from_str(json).unwrap();
        let range = PortRange {
            start: 8080,
            end: 8080,
        };
        let port = Port {
            name: Some("web".to_owned()),
            protocol: Protocol::Tcp,
            range,
        };
        let interfaces = [Interface {
            ports: vec![port],
            ..super::super::network::default_interface()
        }];
        let mut faults = Faults::default();
        let probe = probe(
            &wire,
            &interfaces,
            liveness,
            &FieldPath::new("p"),
            &mut faults,
        );
        match probe {
            Some(probe) if faults.0.is_empty() => Ok(probe),
            _ => Err(faults.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_probe_gets_its_defaults_and_a_named_port() {
        let probe = read(
            r#"{"httpGet": {"port": "web", "path": "ready"}, "periodSeconds": 0}"#,
            true,
        )
        .unwrap();
        assert!(
            matches!(&probe.action, ProbeAction::HttpGet { port: 8080, path, tls: false, .. } if path == "/ready")
        );
        assert_eq!(
            (probe.period_seconds, probe.failure_threshold),
            (defaults::PROBE_PERIOD, defaults::PROBE_FAILURES)
        );
    }

    #[test]
    fn a_probe_has_one_action_and_a_port_that_exists() {
        assert_eq!(
            read("{}", true).unwrap_err(),
            ["p: Required value: must have exactly one probe type set"]
        );
        assert_eq!(
            read(r#"{"guestAgentPing": {}, "successThreshold": 2}"#, true).unwrap_err(),
            [r#"p.successThreshold: Invalid value: "2": must be 1"#]
        );
        let message = r#"p.tcpSocket.port: Invalid value: "ssh": must be between 1 and 65535, inclusive, or the name of a port of an interface"#;
        assert_eq!(
            read(r#"{"tcpSocket": {"port": "ssh"}}"#, false).unwrap_err(),
            [message]
        );
    }
}
