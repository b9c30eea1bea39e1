//! How long anything may take, and how often it is tried.

use std::time::Duration;

/// Time limits and numbers of tries. [`Limits::default`] is made for real BMCs; tests shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection stands, TLS included. 10 s.
    pub connect: Duration,
    /// From sending one request to the end of its answer. 60 s.
    pub request: Duration,
    /// The same for a log-in. 20 s.
    pub login: Duration,
    /// Everything one call of this crate does, with waiting, retries and tasks, unless [`crate::Bmc::within`] says otherwise. 5 minutes.
    pub operation: Duration,
    /// Pause between two tries where the BMC names none. 3 s.
    pub retry_pause: Duration,
    /// Further tries of a read that the BMC is too busy for (429, 502, 503, 504). 9.
    pub busy_retries: u32,
    /// Further tries of a read that fails with another server error (500). A permanent one must not cost minutes. 2.
    pub error_retries: u32,
    /// Further tries when no connection could be made. 2.
    pub connect_retries: u32,
    /// Pause between two reads of something that is awaited (power state, task). 1 s.
    pub poll: Duration,
    /// Equal readings of *off*, one [`Limits::poll`] apart, before a host counts as fenced. 3.
    pub fence_readings: u32,
    /// Failures to reach the BMC, one after another, after which further requests fail at once for [`Limits::suspension`]. 3.
    pub suspend_after: u32,
    /// How long requests fail at once after that; fencing is exempt. 30 s.
    pub suspension: Duration,
    /// How long refused credentials are not tried again: BMCs lock accounts. Fencing is exempt. 60 s.
    pub refused_credentials: Duration,
    /// Largest answer, in bytes. 16 MiB: attribute registries are big.
    pub answer_bytes: usize,
    /// The same for sensors and event logs, which people read. 1 MiB.
    pub reading_answer_bytes: usize,
    /// All answers of one such reading, in bytes. 5 MiB.
    pub reading_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(60),
            login: Duration::from_secs(20),
            operation: Duration::from_secs(300),
            retry_pause: Duration::from_secs(3),
            busy_retries: 9,
            error_retries: 2,
            connect_retries: 2,
            poll: Duration::from_secs(1),
            fence_readings: 3,
            suspend_after: 3,
            suspension: Duration::from_secs(30),
            refused_credentials: Duration::from_secs(60),
            answer_bytes: 16 << 20,
            reading_answer_bytes: 1 << 20,
            reading_bytes: 5 << 20,
        }
    }
}
