//! What a test sees of a BMC and changes behind its back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::bmc::Bmc;
use crate::fault::Fault;
use crate::machine::{Boot, Logged};
use crate::power::{Lie, Timing};
use crate::server::Availability;

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its number, from 1.
    pub number: u64,
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Its `If-Match`.
    pub if_match: Option<String>,
    /// Its body.
    pub body: Option<Value>,
    /// Status of the answer; none while there is none.
    pub status: Option<u16>,
}

/// A hold on one BMC of a mock.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) bmc: Arc<Bmc>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
}

impl Handle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.bmc.options.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, such as `https://127.0.0.1:8000`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The path of its system.
    #[must_use]
    pub fn system(&self) -> String {
        format!("/redfish/v1/Systems/{}", self.bmc.personality.ids.system)
    }

    /// Whether the machine really is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.bmc.state().on
    }

    /// The machine goes on or off without an order.
    pub fn press(&self, on: bool) {
        self.bmc.press(on);
    }

    /// What the machine booted from, start by start.
    #[must_use]
    pub fn boots(&self) -> Vec<Boot> {
        self.bmc.state().boots.clone()
    }

    /// The images in its slots.
    #[must_use]
    pub fn media(&self) -> Vec<String> {
        let state = self.bmc.state();
        state
            .slots
            .iter()
            .filter_map(|slot| slot.image.clone())
            .collect()
    }

    /// From now on it lies about power like this.
    pub fn lie(&self, lie: Lie) {
        self.bmc.state().lie = lie;
    }

    /// From now on power changes take this long.
    pub fn timing(&self, timing: Timing) {
        self.bmc.state().timing = timing;
    }

    /// Adds a fault after those there are.
    pub fn fault(&self, fault: Fault) {
        self.bmc.state().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.bmc.state().faults.clear();
    }

    /// From now on it is up, hangs, or is gone.
    pub fn availability(&self, availability: Availability) {
        self.bmc.availability.send_replace(availability);
    }

    /// Changes the password. Sessions end.
    pub fn password(&self, password: &str) {
        let mut state = self.bmc.state();
        password.clone_into(&mut state.password);
        state.sessions.clear();
    }

    /// Ends all sessions, as a restart of the BMC does.
    pub fn end_sessions(&self) {
        self.bmc.state().sessions.clear();
    }

    /// Fills the session table, as clients do that do not delete theirs.
    pub fn fill_sessions(&self) {
        let limit = self.bmc.personality.sessions.limit;
        while self.bmc.state().sessions.open(limit).is_some() {}
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.bmc.state().sessions.ids().len()
    }

    /// How many sessions were ever opened.
    #[must_use]
    pub fn made_sessions(&self) -> u64 {
        self.bmc.state().sessions.made()
    }

    /// From now on the system's health reads so.
    pub fn health(&self, health: &str) {
        health.clone_into(&mut self.bmc.state().health);
    }

    /// Writes an entry into its event log.
    pub fn log(&self, created: &str, severity: &str, message: &str) {
        let mut state = self.bmc.state();
        let id = state.log.last().map_or(1, |last| last.id + 1);
        state.log.push(Logged {
            id,
            created: created.to_owned(),
            severity: severity.to_owned(),
            message: message.to_owned(),
            about: String::new(),
        });
    }

    /// From now on the air that comes in has this temperature, in °C.
    pub fn inlet(&self, celsius: f64) {
        self.bmc.state().inlet = Some(celsius);
    }

    /// From now on tasks take this long, and end with this error, if any.
    pub fn tasks(&self, time: Duration, error: Option<&str>) {
        let mut state = self.bmc.state();
        state.task_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        state.task_fails = error.map(str::to_owned);
    }

    /// How many requests came.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bmc.state().requests
    }

    /// The requests that are remembered.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.bmc.state().records.iter().cloned().collect()
    }

    /// The most requests that were under way at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.bmc.state().most_in_flight
    }

    /// How many requests are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.bmc.state().in_flight
    }

    /// Why the last run of the power command failed.
    #[must_use]
    pub fn command_error(&self) -> Option<String> {
        self.bmc.state().command_error.clone()
    }
}
