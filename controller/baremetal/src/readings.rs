//! What the BMCs of hosts show right now, read for people who look: sensors and event logs. For the aggregated API.
//!
//! Every replica is asked, while one alone leads and looks after hosts. Here no host is looked after: nothing is written, and a BMC is asked
//! only when somebody asks. Where this process has the host's connection already it is used, so that a BMC still has one request in flight
//! and fencing goes before; else one of its own is opened ([`Bmcs::reading`]) and closed when nobody has asked for a while.
//!
//! Architecture invariant: one question to a BMC at a time, and none twice within [`FRESH`], however many ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_api::metal3::{
    BareMetalHost, HostEvent, HostEvents, HostSensor, HostSensors, SensorBounds,
};
use catamaran_redfish::{Bmc, Bounds, Error as BmcError, EventLog, Kind, SensorKind, Sensors};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, timeout_at};

use crate::annotations::{self, DETACHED, PAUSED};
use crate::bmcs::{Bmcs, MadeFrom};
use crate::decide::is_detached;
use crate::endpoint::endpoint;
use crate::facts::Login;
use crate::store::HostName;

/// How long an answer serves all who ask.
const FRESH: Duration = Duration::from_secs(10);
/// How long anybody waits for an answer: an API server waits for a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection of its own stays open after the last question.
const IDLE: Duration = Duration::from_secs(60);

/// The newest entry, and how many, of an event log.
pub type Part = (usize, usize);

/// Why there is no reading.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unread {
    /// Somebody wants the host's BMC to be left alone.
    #[error("the host has the annotation {0}: its BMC is left alone")]
    LeftAlone(&'static str),
    /// It has none, or nobody could log in.
    #[error("{0}")]
    NoLogin(String),
    /// Others have asked before, and the BMC is slow.
    #[error("the BMC has not answered earlier questions within {} s", PATIENCE.as_secs())]
    Busy,
    /// The BMC did not do it.
    #[error(transparent)]
    Bmc(#[from] BmcError),
}

impl Unread {
    /// Whether it may go well when it is asked again.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::LeftAlone(_) | Self::NoLogin(_) => false,
            Self::Busy => true,
            Self::Bmc(error) => matches!(error.kind(), Kind::Unreachable | Kind::Busy),
        }
    }
}

/// An answer and when it came.
type Kept<T> = (Instant, Result<T, BmcError>);

/// What is known of one host.
#[derive(Debug, Default)]
struct Desk {
    of: Option<MadeFrom>,
    sensors: Option<Kept<HostSensors>>,
    events: HashMap<Part, Kept<HostEvents>>,
}

/// What was read of all hosts a moment ago.
#[derive(Debug)]
pub struct Readings {
    bmcs: Arc<Bmcs>,
    // Held while a BMC is asked, so that those who come meanwhile get the same answer.
    desks: Mutex<HashMap<HostName, Arc<Turn<Desk>>>>,
}

impl Readings {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(bmcs: Arc<Bmcs>) -> Self {
        Self {
            bmcs,
            desks: Mutex::default(),
        }
    }

    /// The sensors of a host. `secret`: that of its BMC.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn sensors(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
    ) -> Result<HostSensors, Unread> {
        let until = Instant::now() + PATIENCE;
        let bmc = self.bmc(host, secret).await?;
        let desk = self.desk(host);
        let mut desk = timeout_at(until, desk.lock())
            .await
            .map_err(|_| Unread::Busy)?;
        desk.clear_for(&bmc.made_from);
        if let Some(fresh) = fresh(desk.sensors.as_ref()) {
            return fresh;
        }
        let read = bmc.within(until).sensors().await;
        let read = read.map(|found| sensors(found, now()));
        desk.sensors = Some((Instant::now(), read.clone()));
        Ok(read?)
    }

    /// A part of the event log of a host. `secret`: that of its BMC.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn events(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
        part: Part,
    ) -> Result<HostEvents, Unread> {
        let until = Instant::now() + PATIENCE;
        let bmc = self.bmc(host, secret).await?;
        let desk = self.desk(host);
        let mut desk = timeout_at(until, desk.lock())
            .await
            .map_err(|_| Unread::Busy)?;
        desk.clear_for(&bmc.made_from);
        desk.events.retain(|_, (at, _)| at.elapsed() < FRESH);
        if let Some(fresh) = fresh(desk.events.get(&part)) {
            return fresh;
        }
        let read = bmc.within(until).event_log(part.0, part.1).await;
        let read = read.map(|found| events(found, now()));
        desk.events.insert(part, (Instant::now(), read.clone()));
        Ok(read?)
    }

    /// Forgets what is old, and closes what nobody asks any more. To be called now and then.
    pub async fn tidy(&self) {
        self.lock().retain(|_, desk| {
            Arc::strong_count(desk) > 1 || desk.try_lock().is_ok_and(|desk| !desk.is_old())
        });
        self.bmcs.close_idle(IDLE).await;
    }

    async fn bmc(&self, host: &BareMetalHost, secret: Option<&Secret>) -> Result<Way, Unread> {
        for (name, is_so) in [
            (PAUSED, annotations::get(host, PAUSED).is_some()),
            (DETACHED, is_detached(host)),
        ] {
            if is_so {
                return Err(Unread::LeftAlone(name));
            }
        }
        let (endpoint, _) = endpoint(host, secret, self.bmcs.limits()).map_err(|login| {
            Unread::NoLogin(match login {
                Login::Unusable(why) => why,
                Login::NoBmc | Login::Ready(_) => "spec.bmc: the host has no BMC".to_owned(),
            })
        })?;
        let made_from = MadeFrom::of(&endpoint);
        let bmc = self.bmcs.reading(&HostName::of(host), endpoint).await?;
        Ok(Way { bmc, made_from })
    }

    fn desk(&self, host: &BareMetalHost) -> Arc<Turn<Desk>> {
        Arc::clone(self.lock().entry(HostName::of(host)).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<HostName, Arc<Turn<Desk>>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection and what it was made from.
struct Way {
    bmc: Bmc,
    made_from: MadeFrom,
}

impl Way {
    fn within(&self, until: Instant) -> Bmc {
        self.bmc
            .within(until.saturating_duration_since(Instant::now()))
    }
}

impl Desk {
    /// What another BMC has said is none of this one's.
    fn clear_for(&mut self, made_from: &MadeFrom) {
        if self.of.as_ref() != Some(made_from) {
            *self = Self {
                of: Some(made_from.clone()),
                ..Self::default()
            };
        }
    }

    fn is_old(&self) -> bool {
        let old = |at: &Instant| at.elapsed() >= FRESH;
        self.sensors.as_ref().is_none_or(|(at, _)| old(at))
            && self.events.values().all(|(at, _)| old(at))
    }
}

/// What was answered, if it is not too old. Failures count as well: a dead BMC is not waited for by each.
fn fresh<T: Clone>(kept: Option<&Kept<T>>) -> Option<Result<T, Unread>> {
    let (at, answer) = kept?;
    (at.elapsed() < FRESH).then(|| answer.clone().map_err(Unread::Bmc))
}

fn now() -> Time {
    Time(Timestamp::now())
}

fn sensors(found: Sensors, read_at: Time) -> HostSensors {
    let bounds = |Bounds { low, high }| SensorBounds { low, high };
    let sensors = found.sensors.into_iter().map(|sensor| HostSensor {
        name: sensor.name,
        type_: match sensor.kind {
            SensorKind::Temperature => "temperature",
            SensorKind::Fan => "fan",
            SensorKind::Power => "power",
            SensorKind::Voltage => "voltage",
            SensorKind::Current => "current",
            SensorKind::Other => "other",
        }
        .to_owned(),
        reading: sensor.reading,
        unit: sensor.unit,
        health: sensor.health,
        caution: bounds(sensor.caution),
        critical: bounds(sensor.critical),
    });
    HostSensors {
        read_at,
        health: found.health,
        sensors: sensors.collect(),
        gaps: found.gaps,
    }
}

fn events(found: Option<EventLog>, read_at: Time) -> HostEvents {
    let Some(found) = found else {
        return HostEvents {
            read_at,
            log: None,
            total: 0,
            entries: Vec::new(),
        };
    };
    let entries = found.entries.into_iter().map(|entry| HostEvent {
        id: entry.id,
        created: entry.created,
        severity: entry.severity,
        message: entry.message,
        about: entry.about,
    });
    HostEvents {
        read_at,
        log: Some(found.name),
        total: found.total,
        entries: entries.collect(),
    }
}
