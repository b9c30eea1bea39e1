//! A matrix of faults, made from the numbered requests of a host's whole life on the mock: at each request the BMC dies, hangs, knows another
//! password, loses or spoils an answer, or the controller is killed. Each fault ends in the state that is documented (`docs`, *Manage servers*,
//! *What goes wrong*), with words that a person can act on, and the life goes on to its end when the cause is gone.
//!
//! ```text
//!   enrolled ─▶ available, on ─▶ image written, on ─▶ turned off ─▶ image taken away, cleaned ─▶ deleted
//!   requests 1 … n … N: one case for each of them and each trouble
//! ```
//!
//! All cases take minutes (`cargo xtask test --long`); a sample that `CATAMARAN_SEED` chooses is part of every run.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use catamaran_api::metal3::BareMetalHost;
use catamaran_baremetal::State;
use catamaran_redfish_mock::{Effect, Fault};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};

use crate::agent::{Agent, Lab, well};

/// Cases at the same time: most of the time they wait.
const AT_ONCE: usize = 16;
/// Cases of a sample.
const SAMPLE: usize = 36;
/// Looks after which a life must be over.
const LOOKS: usize = 200;

/// What goes wrong at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The BMC is dead from then on.
    Dead,
    /// It takes requests and answers none from then on.
    Hung,
    /// It refuses user name and password from then on.
    Password,
    /// It is busy once.
    Busy,
    /// The order has its effect, and the answer is lost, once.
    AnswerLost,
    /// The answer is no JSON, once.
    Garbage,
    /// The controller is killed when the request is there and did nothing yet.
    KilledBefore,
    /// The controller is killed when the request has done its work.
    KilledAfter,
}

impl Trouble {
    const ALL: [Self; 8] = [
        Self::Dead,
        Self::Hung,
        Self::Password,
        Self::Busy,
        Self::AnswerLost,
        Self::Garbage,
        Self::KilledBefore,
        Self::KilledAfter,
    ];

    fn fault(self, number: u64) -> Fault {
        match self {
            Self::Dead => Fault::new(Effect::CloseBefore).from(number),
            Self::Hung => Fault::new(Effect::Hang).from(number),
            Self::Password => {
                let message =
                    "While accessing the resource, the service received an authorization error";
                Fault::status(401, "Base.1.0.AccessDenied", message).from(number)
            }
            Self::Busy => {
                Fault::status(503, "Base.1.0.ServiceTemporarilyUnavailable", "busy").number(number)
            }
            Self::AnswerLost => Fault::new(Effect::CloseAfter).number(number),
            Self::Garbage => Fault::new(Effect::Garbage).number(number),
            Self::KilledBefore => Fault::new(Effect::Hang).number(number),
            Self::KilledAfter => Fault::delay(Duration::from_secs(600)).number(number),
        }
    }

    /// It stays until somebody sees to it; with words of which one has to be in the host's message.
    fn stays(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Dead => Some(&["not reachable"]),
            Self::Hung => Some(&["the BMC may hang"]),
            Self::Password => Some(&["user name or password refused"]),
            _ => None,
        }
    }

    fn kills(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }
}

/// The kind of error that is documented for a trouble that stays.
fn documented(trouble: Trouble, host: &BareMetalHost) -> &'static str {
    let state = State::of(host);
    let status = host.status.as_ref();
    let logged_in = status.is_some_and(|status| status.good_credentials.is_some());
    let deleted = host.metadata.deletion_timestamp.is_some();
    let access = !deleted && (trouble == Trouble::Password || !logged_in);
    match state {
        _ if access && (state.in_use() || state == State::Deprovisioning) => {
            "provisioned registration error"
        }
        _ if access => "registration error",
        State::New | State::Unmanaged | State::Registering => "registration error",
        State::Inspecting => "inspection error",
        State::Preparing => "preparation error",
        State::Provisioning | State::Deprovisioning => "provisioning error",
        _ => "power management error",
    }
}

/// A host's life, chapter by chapter.
struct Life {
    lab: Lab,
    agent: Agent,
    chapter: usize,
}

impl Life {
    async fn begin() -> Self {
        Self {
            lab: Lab::new().await,
            agent: Agent::default(),
            chapter: 0,
        }
    }

    /// Begins the next chapter where this one has come to its end; says whether that was the last.
    fn turn_page(&mut self) -> bool {
        let bench = &self.lab.bench;
        let Some(host) = bench.host() else {
            assert_eq!(self.chapter, 4, "it went before it was deleted");
            return true;
        };
        let on = bench.bmc.is_on();
        let told = host.status.is_some_and(|status| status.powered_on == on);
        let ended = match self.chapter {
            0 => bench.state() == State::Available && on,
            1 => bench.state() == State::Provisioned && on,
            2 => bench.state() == State::Provisioned && !on,
            3 => bench.state() == State::Available,
            _ => false,
        };
        if !ended || !told {
            return false;
        }
        self.chapter += 1;
        let image = json!({"url": "http://192.0.2.1/a.qcow2", "checksum": "0".repeat(64)});
        match self.chapter {
            1 => bench.cluster.change(&json!({"spec": {"image": image}})),
            2 => bench.cluster.change(&json!({"spec": {"online": false}})),
            3 => bench.cluster.change(&json!({"spec": {"image": null}})),
            _ => bench.delete(),
        }
        false
    }

    /// One look, and what the agent does after it.
    async fn look(&mut self) {
        self.lab.bench.step().await;
        self.agent.act(&self.lab, well).await;
    }

    /// As [`Self::look`], but the controller is killed at the request, and another comes.
    async fn look_until_killed(&mut self, number: u64) -> bool {
        let bmc = self.lab.bench.bmc.clone();
        let killed = async {
            let mut often = tokio::time::interval(Duration::from_millis(2));
            while bmc.count() < number {
                often.tick().await;
            }
        };
        let alive = tokio::select! {
            () = Box::pin(self.look()) => true,
            () = killed => false,
        };
        if !alive {
            self.lab.bench.bmc.clear_faults();
            self.lab.restart();
        }
        !alive
    }

    /// Looks until it is over.
    async fn live_on(&mut self, what: &str) {
        for _ in 0..LOOKS {
            if self.turn_page() {
                return;
            }
            self.look().await;
        }
        let status = self.lab.bench.host().map(|host| host.status);
        panic!(
            "{what}: it does not end: chapter {}, {status:?}",
            self.chapter
        );
    }
}

/// What a life without trouble asks of its BMC: method and path, by number from 1.
async fn requests() -> Vec<(String, String)> {
    let mut life = Life::begin().await;
    life.live_on("without trouble").await;
    let records = life.lab.bench.bmc.records();
    let asked = records.into_iter().map(|one| (one.method, one.path));
    asked.collect()
}

/// One case.
async fn case(number: u64, trouble: Trouble, request: &(String, String)) {
    let what = format!(
        "{trouble:?} at request {number}, {} {}",
        request.0, request.1
    );
    let mut life = Life::begin().await;
    life.lab.bench.bmc.fault(trouble.fault(number));
    let mut told = false;
    let mut killed = !trouble.kills();
    for _ in 0..LOOKS {
        if life.turn_page() || told {
            break;
        }
        let before = life.lab.bench.host().unwrap();
        // Then this look begins with it; else it comes in the midst of one.
        let struck = life.lab.bench.bmc.count() >= number;
        if killed {
            life.look().await;
        } else {
            killed = life.look_until_killed(number).await;
        }
        let Some(host) = life.lab.bench.host() else {
            continue;
        };
        let status = host.status.clone().unwrap_or_default();
        if status.operational_status != "error" {
            continue;
        }
        let message = &status.error_message;
        let state = State::of(&host);
        assert_eq!(
            state,
            State::of(&before),
            "{what}: an error changed the state"
        );
        assert!(
            message.contains(&life.lab.bench.bmc.url()),
            "{what}: {message}"
        );
        let Some(words) = trouble.stays().filter(|_| struck) else {
            continue;
        };
        told = true;
        let wanted = documented(trouble, &host);
        assert_eq!(
            status.error_type.as_deref(),
            Some(wanted),
            "{what}: {message}"
        );
        assert!(
            words.iter().any(|word| message.contains(word)),
            "{what}: {message}"
        );
    }
    // Power is read more or less often, so that a life may have fewer requests; and the end of a session is not waited for.
    let records = life.lab.bench.bmc.records();
    let met = records.iter().find(|one| one.number == number);
    let matters = met.is_some_and(|one| one.method != "DELETE");
    assert!(
        told || !matters || trouble.stays().is_none(),
        "{what}: nobody was told"
    );
    life.lab.bench.bmc.clear_faults();
    if trouble == Trouble::Password {
        // As with real ones: who changes a password ends what was opened with the old one.
        life.lab.bench.bmc.end_sessions();
    }
    life.live_on(&what).await;
    let bmc = &life.lab.bench.bmc;
    assert!(
        !bmc.is_on() && bmc.media().is_empty(),
        "{what}: it is left on, or with a CD"
    );
    let did = |kind: &str| {
        let is = |action: &&_| format!("{action:?}").starts_with(kind);
        life.agent.did.iter().filter(is).count()
    };
    assert_eq!(
        (did("Write"), did("Wipe")),
        (1, 1),
        "{what}: {:?}",
        life.agent.did
    );
    // One whose answer was lost nobody can end; more would fill the table.
    assert!(
        bmc.open_sessions() <= 1,
        "{what}: {} sessions are left",
        bmc.open_sessions()
    );
}

/// All cases, whichever fails: one run tells everything.
async fn run(cases: Vec<(u64, Trouble)>, requests: &[(String, String)]) {
    let all = cases.into_iter().map(|(number, trouble)| async move {
        let at = usize::try_from(number).unwrap() - 1;
        let case = AssertUnwindSafe(Box::pin(case(number, trouble, &requests[at])));
        let failed = case.catch_unwind().await.is_err();
        failed.then_some((number, trouble))
    });
    let ended: Vec<_> = stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<_> = ended.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{} failed: {failed:?}", failed.len());
}

fn all(requests: &[(String, String)]) -> Vec<(u64, Trouble)> {
    let numbers = 1..=u64::try_from(requests.len()).unwrap();
    let cases = numbers.flat_map(|number| Trouble::ALL.map(|trouble| (number, trouble)));
    cases.collect()
}

#[tokio::test]
async fn a_sample_of_troubles_is_told_and_overcome() {
    let seed = std::env::var("CATAMARAN_SEED").ok();
    let seed = seed.map_or(1, |seed| seed.parse().unwrap());
    let requests = requests().await;
    let mut cases = all(&requests);
    fastrand::Rng::with_seed(seed).shuffle(&mut cases);
    cases.truncate(SAMPLE);
    eprintln!(
        "CATAMARAN_SEED={seed}, of {} requests: {cases:?}",
        requests.len()
    );
    run(cases, &requests).await;
}

#[tokio::test]
#[ignore = "a host's life at each of its requests, with each trouble: minutes"]
async fn every_trouble_at_every_request_is_told_and_overcome() {
    let requests = requests().await;
    let cases = all(&requests);
    eprintln!("{} requests, {} cases", requests.len(), cases.len());
    run(cases, &requests).await;
}

/// What an agent says that can't write, and what a person changes then.
#[tokio::test]
async fn what_an_agent_can_not_write_is_told_and_written_when_the_cause_is_gone() {
    let image = |name: &str, digit: &str| json!({"spec": {"image": {"url": format!("http://192.0.2.1/{name}.qcow2"), "checksum": digit.repeat(64)}}});
    let hints = json!({"spec": {"rootDeviceHints": {"serialNumber": "BIG"}}});
    for (reason, words, remedy) in [
        (
            "checksum-mismatch",
            "the image's sha256 is 11, not 00",
            image("a", "1"),
        ),
        (
            "disk-too-small",
            "/dev/sda has 1 GB, the image 2 GB",
            hints.clone(),
        ),
        ("no-disk", "no disk fits the hints", hints),
        ("image-invalid", "the image is no qcow2", image("b", "0")),
        (
            "image-unreachable",
            "http://192.0.2.1/a.qcow2: connection refused",
            Value::Null,
        ),
    ] {
        let mut life = Life::begin().await;
        while life.chapter < 1 {
            life.turn_page();
            life.look().await;
        }
        let refuses = |_: &_| json!({"failed": {"reason": reason, "message": words}});
        let failed = |life: &Life| life.lab.bench.status().error_count > 0;
        for _ in 0..LOOKS {
            if failed(&life) {
                break;
            }
            life.lab.bench.step().await;
            life.agent.act(&life.lab, refuses).await;
        }
        let status = life.lab.bench.status();
        assert_eq!(life.lab.bench.state(), State::Provisioning, "{reason}");
        assert_eq!(
            status.error_type.as_deref(),
            Some("provisioning error"),
            "{reason}"
        );
        assert!(
            status.error_message.contains(words),
            "{reason}: {}",
            status.error_message
        );
        if !remedy.is_null() {
            life.lab.bench.cluster.change(&remedy);
        }
        for _ in 0..LOOKS {
            if life.lab.bench.state() == State::Provisioned {
                break;
            }
            life.look().await;
        }
        assert_eq!(life.lab.bench.state(), State::Provisioned, "{reason}");
        assert_eq!(
            life.lab.bench.status().provisioning_fail_count,
            0,
            "{reason}"
        );
    }
}
