//! Probes of the guest.

use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, TCPSocketAction};

spec! {
    /// A probe: exactly one action.
    pub struct Probe {
        optional {
            /// A command that the guest agent runs.
            exec: Option<ExecAction>,
            /// Failures in a row that count; 3 by default.
            failure_threshold: Option<i32>,
            /// The guest agent answers.
            guest_agent_ping: Option<GuestAgentPing>,
            /// An HTTP request.
            http_get: Option<HTTPGetAction>,
            /// Seconds to wait after the start; 0 by default.
            initial_delay_seconds: Option<i32>,
            /// Seconds between two probes; 10 by default.
            period_seconds: Option<i32>,
            /// Successes in a row that count; 1 by default.
            success_threshold: Option<i32>,
            /// A TCP connection.
            tcp_socket: Option<TCPSocketAction>,
            /// Seconds that one probe may take; 1 by default.
            timeout_seconds: Option<i32>,
        }
    }

    /// The guest agent answers.
    pub struct GuestAgentPing {}
}
