//! Fencing: power is cut, and that is proved before anybody may believe it.
//!
//! A machine that only seems to be off would run twice. So *off* counts when it was ordered by this call and then read several times in a
//! row; anything else in between (on, on its way, nothing at all) begins the count anew. Where the BMC measures what the system draws, a
//! system that still draws what it drew before is not off, whatever its power state says.

use std::time::{Duration, SystemTime};

use serde_json::Value;
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
        // Ordered even if it reads Off: something else may be about to turn it on.
        bmc.order_power("ForceOff", &PowerState::Off).await?;
        let ordered = SystemTime::now();
        let needed = bmc.limits().fence_readings.max(1);
        let mut readings = 0;
        let mut why = "not read".to_owned();
        let watts = loop {
            let found = match bmc.power().await {
                Ok(found) => found,
                Err(Error::Overdue { .. }) => return Err(bmc.not_fenced(needed, why, begin)),
                Err(error) => return Err(error),
            };
            why = found.to_string();
            readings = if found == PowerState::Off {
                readings + 1
            } else {
                0
            };
            if readings >= needed {
                match bmc.draw_fell(meter.as_ref()).await {
                    Ok(watts) => break watts,
                    Err(objection) => why = objection,
                }
            }
            if !bmc.pause(bmc.poll_pause()).await {
                return Err(bmc.not_fenced(needed, why, begin));
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

    fn not_fenced(&self, readings: u32, found: String, begin: Instant) -> Error {
        let wanted = format!("Off in {readings} readings one after another");
        self.power_not_confirmed(&wanted, found, begin)
    }

    /// The meter of this system alone, if there is one and it shows a draw that can tell something.
    async fn meter(&self, system: &Resource) -> Option<Meter> {
        // Slow meters must not hold the order up.
        let bmc = self.within(self.remaining().min(self.limits().connect));
        let chassis = system.links("/Links/Chassis");
        let [chassis] = chassis.as_slice() else {
            return None;
        };
        let chassis = bmc.read(chassis).await.ok()?;
        // An enclosure's meter counts the neighbours too.
        if chassis.links("/Links/ComputerSystems").len() != 1 {
            return None;
        }
        let path = chassis.link("/Power")?.to_owned();
        let before = bmc.draw(&path).await.ok()??;
        (before >= TELLING_WATTS).then_some(Meter { path, before })
    }

    async fn draw(&self, path: &str) -> Result<Option<f64>, Error> {
        let power = self.read(path).await?;
        let watts = power.body.pointer("/PowerControl/0/PowerConsumedWatts");
        Ok(watts.and_then(Value::as_f64))
    }

    /// The draw before and now, if the meter shows any; what speaks against *off*, else. A meter that showed a draw and can't be read any
    /// more speaks against it too.
    async fn draw_fell(&self, meter: Option<&Meter>) -> Result<Option<(f64, f64)>, String> {
        let Some(Meter { path, before }) = meter else {
            return Ok(None);
        };
        match self.draw(path).await {
            Ok(Some(now)) if now > before * OFF_PART => Err(format!(
                "said to be Off, but it draws {now} W of {before} W before"
            )),
            Ok(now) => Ok(now.map(|now| (*before, now))),
            Err(error) => Err(format!(
                "said to be Off, but what it draws can't be read: {error}"
            )),
        }
    }
}

/// Where the draw can be read, and what it was before the order, in watts.
struct Meter {
    path: String,
    before: f64,
}
