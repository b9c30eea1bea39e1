//! Power: asked for, then read back until it is so.

use std::fmt;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::resource::Resource;

/// What a BMC says of a system's power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerState {
    /// It runs.
    On,
    /// It is off.
    Off,
    /// On its way to on.
    PoweringOn,
    /// On its way to off: still running.
    PoweringOff,
    /// Something else, or nothing: neither on nor off.
    Unknown(Option<String>),
}

/// How to turn a system off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerOff {
    /// The system is asked to shut down; it may refuse or hang.
    Soft,
    /// Power is cut.
    Hard,
}

/// A power change that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerChange {
    /// What it was before.
    pub before: PowerState,
    /// What it is now.
    pub now: PowerState,
    /// From the order until it was read back.
    pub took: Duration,
}

impl fmt::Display for PowerState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::On => "On",
            Self::Off => "Off",
            Self::PoweringOn => "PoweringOn",
            Self::PoweringOff => "PoweringOff",
            Self::Unknown(Some(text)) => return write!(formatter, "unknown ('{text}')"),
            Self::Unknown(None) => "unknown (the BMC says nothing)",
        })
    }
}

impl PowerState {
    pub(crate) fn of(system: &Resource) -> Self {
        match system.text("/PowerState") {
            Some("On") => Self::On,
            Some("Off") => Self::Off,
            Some("PoweringOn") => Self::PoweringOn,
            Some("PoweringOff") => Self::PoweringOff,
            other => Self::Unknown(other.map(str::to_owned)),
        }
    }
}

impl Bmc {
    /// Whether the system is on, by one request.
    ///
    /// # Errors
    /// All that a request can meet.
    pub async fn power(&self) -> Result<PowerState, Error> {
        Ok(PowerState::of(&self.system_resource().await?))
    }

    /// Turns the system on and waits until it reads *On*. One that is on already is left alone.
    ///
    /// # Errors
    /// [`Error::NotConfirmed`] when it does not read *On* before the deadline; [`Error::NotAllowed`] when the BMC has no such action.
    pub async fn power_on(&self) -> Result<PowerChange, Error> {
        let bmc = self.bounded();
        let before = bmc.power().await?;
        if before == PowerState::On {
            return Ok(PowerChange {
                now: before.clone(),
                before,
                took: Duration::ZERO,
            });
        }
        bmc.switch(before, "On", &PowerState::On).await
    }

    /// Turns the system off and waits until it reads *Off*. For proof that it stays off use [`Bmc::fence`].
    ///
    /// # Errors
    /// [`Error::NotConfirmed`] when it does not read *Off* before the deadline, as with systems that ignore a soft one;
    /// [`Error::NotAllowed`] when the BMC has no such action.
    pub async fn power_off(&self, how: PowerOff) -> Result<PowerChange, Error> {
        let bmc = self.bounded();
        let before = bmc.power().await?;
        if before == PowerState::Off {
            return Ok(PowerChange {
                now: before.clone(),
                before,
                took: Duration::ZERO,
            });
        }
        let order = match how {
            PowerOff::Soft => "GracefulShutdown",
            PowerOff::Hard => "ForceOff",
        };
        bmc.switch(before, order, &PowerState::Off).await
    }

    async fn switch(
        &self,
        before: PowerState,
        order: &str,
        wanted: &PowerState,
    ) -> Result<PowerChange, Error> {
        let begin = Instant::now();
        self.order_power(order, wanted).await?;
        self.await_power(wanted, begin).await?;
        Ok(PowerChange {
            before,
            now: wanted.clone(),
            took: begin.elapsed(),
        })
    }

    /// Gives a power order. A refusal is no error when the system is already where the order leads.
    pub(crate) async fn order_power(&self, order: &str, wanted: &PowerState) -> Result<(), Error> {
        let system = self.system_resource().await?;
        let action = system
            .action("#ComputerSystem.Reset")
            .ok_or_else(|| self.missing(&system.path, "power control (#ComputerSystem.Reset)"))?;
        if let Some(allowed) = self.allowed(&action, "ResetType").await?
            && !allowed.iter().any(|value| value == order)
        {
            return Err(Error::NotAllowed {
                bmc: self.name().to_owned(),
                what: "ResetType".to_owned(),
                value: order.to_owned(),
                allowed,
            });
        }
        let tries = self.quirks().conflict_tries;
        let mut made = 0;
        loop {
            made += 1;
            let error = match self.act(&action.target, json!({"ResetType": order})).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !matches!(error.status(), Some(400 | 409)) {
                return Err(error);
            }
            if self.power().await? == *wanted {
                tracing::debug!(bmc = %self.name(), %error, "refused, but it is so already");
                return Ok(());
            }
            let patient = error.status() == Some(409) && made < tries;
            if !patient || !self.pause(self.limits().retry_pause * 3).await {
                return Err(error);
            }
        }
    }

    /// Reads until the state is what it shall be.
    pub(crate) async fn await_power(
        &self,
        wanted: &PowerState,
        begin: Instant,
    ) -> Result<(), Error> {
        let mut found = None;
        loop {
            match self.power().await {
                Ok(state) if state == *wanted => return Ok(()),
                Ok(state) => found = Some(state),
                Err(Error::Overdue { .. }) if found.is_some() => {}
                Err(error) => return Err(error),
            }
            if !self.pause(self.poll_pause()).await {
                let found = found
                    .as_ref()
                    .map(PowerState::to_string)
                    .unwrap_or_default();
                return Err(self.power_not_confirmed(&wanted.to_string(), found, begin));
            }
        }
    }

    pub(crate) fn power_not_confirmed(&self, wanted: &str, found: String, begin: Instant) -> Error {
        Error::NotConfirmed {
            bmc: self.name().to_owned(),
            what: "power".to_owned(),
            wanted: wanted.to_owned(),
            found,
            after: begin.elapsed(),
        }
    }
}
