//! Fencing: power is cut, and that is proved before anybody may believe it.
//!
//! A machine that only seems to be off would run twice. So *off* counts when it was ordered by this call and then read several times in a
//! row; anything else in between (on, on its way, nothing at all) begins the count anew. Where the BMC measures what the system draws, a
//! system that still draws what it drew before is not off, whatever its power state says.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::power::PowerState;
use crate::resource::Resource;

/// How it was proved that a host is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Fenced {
    /// When the BMC took the order to cut power.
    pub ordered: SystemTime,
    /// When the proof was complete.
    pub proved: SystemTime,
    /// From the beginning to the proof.
    pub took: Duration,
    /// What it was before.
    pub before: PowerState,
    /// How many readings of *Off* in a row were made after the order.
    pub readings: u32,
    /// What the system drew before and at the end, in watts; none where the BMC does not measure it for this system alone.
    pub watts: Option<(f64, f64)>,
}

/// Draw before the order below which its fall proves nothing, in watts.
const TELLING_WATTS: f64 = 40.0;
/// Part of the draw before the order that a system which is off stays below.
const OFF_PART: f64 = 0.6;

impl Bmc {
    /// Cuts the host's power, before all other requests to this BMC, and proves that it is off.
    ///
    /// # Errors
    /// Any error means *not fenced*: the host may run. [`Error::NotConfirmed`] when it was not proved before the deadline.
    pub async fn fence(&self) -> Result<Fenced, Error> {
        let bmc = self.fencing().bounded();
        let begin = Instant::now();
        let system = bmc.system_resource().await?;
        let before = PowerState::of(&system);
        let meter = bmc.meter(&system).await;
        let drawn = match &meter {
            Some(meter) => bmc.draw(meter).await,
            None => None,
        };
        // Ordered even if it reads Off: something else may be about to turn it on.
        bmc.order_power("ForceOff", &PowerState::Off).await?;
        let ordered = SystemTime::now();
        let needed = bmc.limits().fence_readings.max(1);
        let mut readings = 0;
        let watts = loop {
            let found = bmc.power().await?;
            let mut why = found.to_string();
            readings = if found == PowerState::Off {
                readings + 1
            } else {
                0
            };
            if readings >= needed {
                match bmc.still_draws(meter.as_deref(), drawn).await {
                    Draw::Falls(measured) => break measured,
                    Draw::Stays { before, now } => {
                        why = format!("said to be Off, but it draws {now} W of {before} W before");
                    }
                }
            }
            if !bmc.pause(bmc.poll_pause()).await {
                return Err(Error::NotConfirmed {
                    bmc: bmc.name().to_owned(),
                    what: "power".to_owned(),
                    wanted: format!("Off in {needed} readings one after another"),
                    found: why,
                    after: begin.elapsed(),
                });
            }
        };
        Ok(Fenced {
            ordered,
            proved: SystemTime::now(),
            took: begin.elapsed(),
            before,
            readings,
            watts,
        })
    }

    /// Where the draw of this system alone can be read.
    async fn meter(&self, system: &Resource) -> Option<String> {
        let chassis = system.links("/Links/Chassis");
        let [chassis] = chassis.as_slice() else {
            return None;
        };
        let chassis = self.read(chassis).await.ok()?;
        // An enclosure's meter counts the neighbours too.
        if chassis.links("/Links/ComputerSystems").len() != 1 {
            return None;
        }
        Some(chassis.link("/Power")?.to_owned())
    }

    async fn draw(&self, meter: &str) -> Option<f64> {
        let power = self.read(meter).await.ok()?;
        power
            .body
            .pointer("/PowerControl/0/PowerConsumedWatts")?
            .as_f64()
    }

    /// Compares the draw with that before the order, where both are known and the first tells anything.
    async fn still_draws(&self, meter: Option<&str>, before: Option<f64>) -> Draw {
        let (Some(meter), Some(before)) = (meter, before.filter(|watts| *watts >= TELLING_WATTS))
        else {
            return Draw::Falls(None);
        };
        match self.draw(meter).await {
            Some(now) if now > before * OFF_PART => Draw::Stays { before, now },
            Some(now) => Draw::Falls(Some((before, now))),
            None => Draw::Falls(None),
        }
    }
}

enum Draw {
    /// It fell, or nobody can say.
    Falls(Option<(f64, f64)>),
    Stays {
        before: f64,
        now: f64,
    },
}
