//! Probes of a container.

use std::time::Duration;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Container;
use super::problem::Problem;
use super::words;

/// A check that is repeated while the container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub check: Check,
    /// Time from the container's start to the first check.
    pub initial_delay: Duration,
    /// Time between two checks, at least 1 s.
    pub period: Duration,
    /// Time that a check may take, at least 1 s.
    pub timeout: Duration,
    /// So many successes in a row make a failed probe good.
    pub success_threshold: u32,
    /// So many failures in a row make a good probe fail.
    pub failure_threshold: u32,
    /// Grace period of a container that this probe ends, where it is not the Pod's.
    pub grace: Option<Duration>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Runs a command in the container; exit code 0 is success.
    Exec {
        /// The command, not through a shell.
        command: Vec<String>,
    },
    /// `GET` by HTTP; a status from 200 to 399 is success.
    Http {
        /// Where, if not the Pod's address.
        host: Option<String>,
        /// The port.
        port: ProbePort,
        /// Path and query.
        path: String,
        /// More headers.
        headers: Vec<(String, String)>,
    },
    /// Opens a TCP connection.
    Tcp {
        /// Where, if not the Pod's address.
        host: Option<String>,
        /// The port.
        port: ProbePort,
    },
}

/// A port by number; a name was resolved among the container's ports.
pub type ProbePort = u16;

/// `container` is the parsed container without its probes.
pub(super) fn parse(
    at: &str,
    probe: &wire::Probe,
    readiness: bool,
    container: &Container,
    problems: &mut Vec<Problem>,
) -> Option<Probe> {
    let mut checks = Vec::new();
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        if command.is_empty() {
            problems.push(Problem::required(format!("{at}.exec.command")));
        }
        checks.push(Some(Check::Exec { command }));
    }
    if let Some(get) = &probe.http_get {
        let scheme = get.scheme.as_deref().unwrap_or("HTTP");
        if scheme != "HTTP" {
            problems.push(Problem::unsupported(
                format!("{at}.httpGet.scheme"),
                scheme,
                &["HTTP"],
            ));
        }
        let path = get
            .path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/".to_owned());
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        if path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            problems.push(Problem::invalid(
                format!("{at}.httpGet.path"),
                &path,
                "must not contain spaces or control characters",
            ));
        }
        let headers: Vec<_> = get
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        for (index, (name, value)) in headers.iter().enumerate() {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                problems.push(Problem::invalid(
                    format!("{at}.httpGet.httpHeaders[{index}].name"),
                    name,
                    "must be the name of an HTTP header",
                ));
            }
            if value.bytes().any(|b| b < b' ' || b == 0x7f) {
                problems.push(Problem::invalid(
                    format!("{at}.httpGet.httpHeaders[{index}].value"),
                    value,
                    "must not contain control characters",
                ));
            }
        }
        let port = port(
            &format!("{at}.httpGet.port"),
            &get.port,
            container,
            problems,
        );
        checks.push(port.map(|port| Check::Http {
            host: get.host.clone(),
            port,
            path,
            headers,
        }));
    }
    if let Some(socket) = &probe.tcp_socket {
        let port = port(
            &format!("{at}.tcpSocket.port"),
            &socket.port,
            container,
            problems,
        );
        checks.push(port.map(|port| Check::Tcp {
            host: socket.host.clone(),
            port,
        }));
    }
    if checks.len() > 1 {
        problems.push(Problem::forbidden(
            at,
            "may not specify more than 1 handler type",
        ));
    }
    let mut number = |field: &str, value: Option<i32>, low: i64, default: u32| {
        let value = value.unwrap_or(0);
        // Zero means the default in Kubernetes, where no zero is allowed.
        let value = if value == 0 && low > 0 {
            i64::from(default)
        } else {
            i64::from(value)
        };
        words::range(
            &format!("{at}.{field}"),
            value,
            low,
            i64::from(i32::MAX),
            problems,
        );
        u32::try_from(value).unwrap_or(default)
    };
    let seconds = |value: u32| Duration::from_secs(value.into());
    let initial_delay = seconds(number(
        "initialDelaySeconds",
        probe.initial_delay_seconds,
        0,
        0,
    ));
    let period = seconds(number("periodSeconds", probe.period_seconds, 1, 10));
    let timeout = seconds(number("timeoutSeconds", probe.timeout_seconds, 1, 1));
    let success_threshold = number("successThreshold", probe.success_threshold, 1, 1);
    let failure_threshold = number("failureThreshold", probe.failure_threshold, 1, 3);
    if success_threshold != 1 && !readiness {
        problems.push(Problem::invalid(
            format!("{at}.successThreshold"),
            success_threshold,
            "must be 1",
        ));
    }
    let grace = probe.termination_grace_period_seconds.and_then(|value| {
        let field = format!("{at}.terminationGracePeriodSeconds");
        if readiness {
            problems.push(Problem::invalid(
                field,
                value,
                "must not be set for readinessProbes",
            ));
            return None;
        }
        words::range(&field, value, 1, i64::from(u32::MAX), problems);
        u64::try_from(value).ok().map(Duration::from_secs)
    });
    match checks.into_iter().next() {
        None => {
            // grpc is refused by name.
            if probe.grpc.is_none() {
                problems.push(Problem {
                    field: at.to_owned(),
                    message:
                        "Required value: must specify a handler type (exec, httpGet or tcpSocket)"
                            .to_owned(),
                });
            }
            None
        }
        Some(check) => check.map(|check| Probe {
            check,
            initial_delay,
            period,
            timeout,
            success_threshold,
            failure_threshold,
            grace,
        }),
    }
}

fn port(
    field: &str,
    port: &IntOrString,
    container: &Container,
    problems: &mut Vec<Problem>,
) -> Option<ProbePort> {
    match port {
        IntOrString::Int(number) => {
            let port = u16::try_from(*number).ok().filter(|port| *port > 0);
            if port.is_none() {
                problems.push(Problem::invalid(
                    field,
                    number,
                    "must be between 1 and 65535, inclusive",
                ));
            }
            port
        }
        IntOrString::String(name) => {
            let port = container
                .ports
                .iter()
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port);
            if port.is_none() {
                problems.push(Problem::invalid(
                    field,
                    name,
                    "must be a number or the name of one of the container's ports",
                ));
            }
            port
        }
    }
}
