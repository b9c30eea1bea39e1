//! What the BMCs of hosts show right now, read for people who look: sensors and event logs. For the aggregated API.
//!
//! Every replica is asked, while one alone leads and looks after hosts. Here no host is looked after: nothing is written, and a BMC is asked
//! only when somebody asks. Where this process has the host's connection already it is used, so that a BMC still has one request in flight
//! and fencing goes before; else one of its own is opened ([`Bmcs::reading`]) and closed when nobody has asked for a while.
//!
//! Architecture invariant: one question to a BMC at a time, and none twice within [`FRESH`], however many ask. Of an event log the newest
//! entries are kept as long, and parts are cut from them: it is read a few times within [`FRESH`] at most, whatever parts are asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_api::metal3::{
    BareMetalHost, CredentialsStatus, HostEvent, HostEvents, HostSensor, HostSensors, SensorBounds,
};
use catamaran_redfish::{
    Bmc, Bounds, Endpoint, Error as BmcError, EventLog, Kind, SensorKind, Sensors,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Mutex as Turn, MutexGuard, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::annotations::{self, DETACHED, PAUSED};
use crate::bmcs::{Bmcs, MadeFrom};
use crate::decide::is_detached;
use crate::endpoint::endpoint;
use crate::facts::Login;
use crate::outcome::ErrorType;
use crate::store::HostName;

/// How long an answer serves all who ask.
const FRESH: Duration = Duration::from_secs(10);
/// How long anybody waits for an answer: an API server waits for a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection of its own stays open after the last question.
const IDLE: Duration = Duration::from_secs(60);
/// Those who wait for one host's BMC.
const WAITERS: usize = 16;
/// How much of an event log is read: as few of these as serve. The last is all that is ever told.
const STEPS: [usize; 4] = [50, 200, 800, 2000];

/// How many of the newest entries are passed over, and how many come then, of an event log.
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
    /// Too many have asked and wait.
    #[error("{WAITERS} others wait for the answer of this BMC already")]
    TooMany,
    /// The connection went to somebody else twice: fencing, or other credentials.
    #[error("the connection to the BMC was needed for something else")]
    Closed,
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
            Self::Busy | Self::TooMany | Self::Closed => true,
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
    /// The newest so many entries.
    events: Option<(usize, Kept<HostEvents>)>,
}

/// Where those who ask of one host stand.
#[derive(Debug)]
struct Place {
    waiters: Semaphore,
    // Held while a BMC is asked, so that those who come meanwhile get the same answer.
    desk: Turn<Desk>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            waiters: Semaphore::new(WAITERS),
            desk: Turn::default(),
        }
    }
}

/// What was read of all hosts a moment ago.
#[derive(Debug)]
pub struct Readings {
    bmcs: Arc<Bmcs>,
    places: Mutex<HashMap<HostName, Arc<Place>>>,
}

impl Readings {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(bmcs: Arc<Bmcs>) -> Self {
        Self {
            bmcs,
            places: Mutex::default(),
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
        let place = self.place(host);
        let _waiter = place.waiters.try_acquire().map_err(|_| Unread::TooMany)?;
        let way = self.way(host, secret)?;
        let mut desk = desk(&place, &way, until).await?;
        if let Some(fresh) = fresh(desk.sensors.as_ref()) {
            return fresh;
        }
        let read = self
            .read(host, way, until, |bmc| async move { bmc.sensors().await })
            .await?;
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
        let place = self.place(host);
        let _waiter = place.waiters.try_acquire().map_err(|_| Unread::TooMany)?;
        let way = self.way(host, secret)?;
        let mut desk = desk(&place, &way, until).await?;
        let enough = step(part);
        if let Some((most, kept)) = &desk.events
            && let Some(fresh) = fresh(Some(kept))
            && (*most >= enough || fresh.as_ref().map_or(true, is_whole))
        {
            return fresh.map(|log| cut(log, part));
        }
        let read = self
            .read(host, way, until, |bmc| async move {
                bmc.event_log(0, enough).await
            })
            .await?;
        let read = read.map(|found| events(found, now()));
        desk.events = Some((enough, (Instant::now(), read.clone())));
        Ok(cut(read?, part))
    }

    /// Forgets what is old, and closes what nobody asks any more. To be called now and then.
    pub async fn tidy(&self) {
        self.lock().retain(|_, place| {
            let desk = place.desk.try_lock();
            Arc::strong_count(place) > 1 || desk.is_ok_and(|desk| !desk.is_old())
        });
        self.bmcs.close_idle(IDLE).await;
    }

    /// How the host's BMC is reached, if it may be asked at all.
    fn way(&self, host: &BareMetalHost, secret: Option<&Secret>) -> Result<Endpoint, Unread> {
        for (name, is_so) in [
            (PAUSED, annotations::get(host, PAUSED).is_some()),
            (DETACHED, is_detached(host)),
        ] {
            if is_so {
                return Err(Unread::LeftAlone(name));
            }
        }
        let found = endpoint(host, secret, self.bmcs.limits());
        let (endpoint, version) = found.map_err(|login| {
            Unread::NoLogin(match login {
                Login::Unusable(why) => why,
                Login::NoBmc | Login::Ready(_) => "spec.bmc: the host has no BMC".to_owned(),
            })
        })?;
        match refused(host, &version) {
            Some(why) => Err(Unread::NoLogin(why)),
            None => Ok(endpoint),
        }
    }

    /// Asks the host's BMC. The outer error is no answer of it. A connection that is closed meanwhile is made once more.
    async fn read<T, F: Future<Output = Result<T, BmcError>>>(
        &self,
        host: &BareMetalHost,
        way: Endpoint,
        until: Instant,
        ask: impl Fn(Bmc) -> F,
    ) -> Result<Result<T, BmcError>, Unread> {
        for _ in 0..2 {
            let (bmc, old) = match self.bmcs.reading(&HostName::of(host), way.clone()) {
                Err(BmcError::Closed { .. }) => break,
                found => found?,
            };
            if let Some(old) = old {
                let closing = timeout_at(until, self.bmcs.close_apart(old));
                closing.await.map_err(|_| Unread::Busy)?;
            }
            let left = until.saturating_duration_since(Instant::now());
            match ask(bmc.within(left)).await {
                Err(BmcError::Closed { .. }) => {}
                read => return Ok(read),
            }
        }
        Err(Unread::Closed)
    }

    fn place(&self, host: &BareMetalHost) -> Arc<Place> {
        Arc::clone(self.lock().entry(HostName::of(host)).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<HostName, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was said of this BMC, once it is our turn.
async fn desk<'a>(
    place: &'a Place,
    way: &Endpoint,
    until: Instant,
) -> Result<MutexGuard<'a, Desk>, Unread> {
    let turn = timeout_at(until, place.desk.lock()).await;
    let mut desk = turn.map_err(|_| Unread::Busy)?;
    desk.clear_for(&MadeFrom::of(way));
    Ok(desk)
}

/// Why nobody could log in with these credentials, as those who look after the host found. BMCs lock accounts, and fencing needs this one.
fn refused(host: &BareMetalHost, version: &CredentialsStatus) -> Option<String> {
    let status = host.status.as_ref()?;
    let errors = [ErrorType::Registration, ErrorType::ProvisionedRegistration];
    let error = status.error_type.as_deref()?;
    let is_it = errors.iter().any(|one| one.as_str() == error)
        && status.tried_credentials.as_ref() == Some(version);
    is_it.then(|| status.error_message.clone())
}

/// How many entries are read where a part is asked for.
fn step((skip, most): Part) -> usize {
    let end = skip.saturating_add(most);
    let found = STEPS.into_iter().find(|step| *step >= end);
    found.unwrap_or(STEPS[STEPS.len() - 1])
}

/// Whether there are no more entries to read.
fn is_whole(log: &HostEvents) -> bool {
    log.entries.len() >= log.total
}

/// The part of a log that was asked for.
fn cut(mut log: HostEvents, (skip, most): Part) -> HostEvents {
    let end = skip.saturating_add(most);
    if log.entries.len() >= end.min(STEPS[STEPS.len() - 1]) {
        log.gaps.clear();
    }
    log.entries = log.entries.into_iter().skip(skip).take(most).collect();
    log
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
            && self.events.as_ref().is_none_or(|(_, (at, _))| old(at))
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
            gaps: Vec::new(),
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
        gaps: Vec::from_iter(found.gap),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use catamaran_redfish::{Credentials, Limits};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_closed_under_a_reader_is_made_once_more() {
        let readings = Readings::new(Arc::new(Bmcs::new(Limits::default())));
        let host = BareMetalHost::default();
        let credentials = Credentials {
            username: "admin".to_owned(),
            password: "password".to_owned(),
        };
        let way = Endpoint::new(
            "redfish+http://192.0.2.1/".parse().expect("it is one"),
            credentials,
        );
        for (closed, told) in [(1, true), (2, false)] {
            let asked = AtomicU32::new(0);
            let ask = |bmc: Bmc| {
                let gone = asked.fetch_add(1, Ordering::Relaxed) < closed;
                let bmc = bmc.name().to_owned();
                std::future::ready(if gone {
                    Err(BmcError::Closed { bmc })
                } else {
                    Ok(())
                })
            };
            let until = Instant::now() + PATIENCE;
            let read = readings.read(&host, way.clone(), until, ask).await;
            assert_eq!(matches!(read, Ok(Ok(()))), told, "{read:?}");
            assert!(read.err().is_none_or(|why| why.passes()));
        }
    }

    #[test]
    fn few_questions_serve_all_parts_of_a_log() {
        let of = |parts: &[Part]| -> Vec<_> { parts.iter().map(|part| step(*part)).collect() };
        assert_eq!(
            of(&[(0, 1), (0, 50), (49, 2), (150, 50)]),
            [50, 50, 200, 200]
        );
        assert_eq!(of(&[(1900, 200), (usize::MAX, 200)]), [2000, 2000]);
    }
}
