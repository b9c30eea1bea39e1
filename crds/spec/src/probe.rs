//! Probes of a guest.

/// A probe; times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub action: ProbeAction,
    /// Wait after Running.
    pub initial_delay_seconds: u32,
    /// Between two probes, at least 1.
    pub period_seconds: u32,
    /// Bound of one probe, at least 1.
    pub timeout_seconds: u32,
    /// Successes in a row that count, at least 1.
    pub success_threshold: u32,
    /// Failures in a row that count, at least 1.
    pub failure_threshold: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAction {
    /// HTTP status 200-399.
    HttpGet {
        /// Port.
        port: u16,
        /// Path, `/` by default.
        path: String,
        /// Where, if not at the guest's address. Virtual hosts go into `headers`.
        host: Option<String>,
        /// HTTPS (certificate not checked).
        tls: bool,
        /// Additional headers.
        headers: Vec<(String, String)>,
    },
    /// The port accepts a connection.
    TcpSocket {
        /// Port.
        port: u16,
        /// Where, if not at the guest's address.
        host: Option<String>,
    },
    /// A command run by the guest agent ends with 0.
    Exec {
        /// Command and arguments.
        command: Vec<String>,
    },
    /// The guest agent answers.
    GuestAgentPing,
}
