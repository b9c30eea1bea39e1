//! Probes of a guest as probes of its pod: the kubelet asks at the pod's address, which is the guest's, or has the launcher ask the guest agent.

use catamaran_plan::pod;
use catamaran_spec::{Probe, ProbeAction};
use k8s_openapi::api::core::v1::{
    ExecAction, HTTPGetAction, HTTPHeader, Probe as PodProbe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The kubelet's probe.
pub(super) fn probe(probe: &Probe) -> Option<PodProbe> {
    let seconds = |value: u32| Some(i32::try_from(value).unwrap_or(i32::MAX));
    let mut out = PodProbe {
        failure_threshold: seconds(probe.failure_threshold),
        initial_delay_seconds: seconds(probe.initial_delay_seconds),
        period_seconds: seconds(probe.period_seconds),
        success_threshold: seconds(probe.success_threshold),
        timeout_seconds: seconds(probe.timeout_seconds),
        ..PodProbe::default()
    };
    match &probe.action {
        ProbeAction::HttpGet {
            port,
            path,
            host,
            tls,
            headers,
        } => {
            let header = |(name, value): &(String, String)| HTTPHeader {
                name: name.clone(),
                value: value.clone(),
            };
            let headers: Vec<_> = headers.iter().map(header).collect();
            out.http_get = Some(HTTPGetAction {
                host: host.clone(),
                http_headers: Some(headers).filter(|headers| !headers.is_empty()),
                path: Some(path.clone()),
                port: IntOrString::Int(i32::from(*port)),
                scheme: Some(if *tls { "HTTPS" } else { "HTTP" }.to_owned()),
            });
        }
        ProbeAction::TcpSocket { port, host } => {
            out.tcp_socket = Some(TCPSocketAction {
                host: host.clone(),
                port: IntOrString::Int(i32::from(*port)),
            });
        }
        ProbeAction::Exec { .. } | ProbeAction::GuestAgentPing => {
            out.exec = Some(ExecAction {
                command: Some(pod::probe_command(probe)?),
            });
        }
    }
    Some(out)
}
