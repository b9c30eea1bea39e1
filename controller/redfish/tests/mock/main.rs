//! The client against mocks of BMCs, with each vendor's habits and with each fault.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod faults;
mod inventory;
mod media;
mod power;
mod sessions;
mod settings;
mod tls;
mod watching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_redfish::{Bmc, Connector, Credentials, Endpoint, Limits};
use catamaran_redfish_mock::{Handle, Mock, Options, Personality};

/// Longest time that anything here may take.
const LONG: Duration = Duration::from_secs(30);

/// A mocked BMC and a client of it.
struct Bench {
    _mock: Mock,
    handle: Handle,
    bmc: Bmc,
}

/// Limits that fit a BMC which answers at once.
fn quick() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        request: Duration::from_secs(10),
        login: Duration::from_secs(5),
        operation: Duration::from_secs(20),
        retry_pause: Duration::from_millis(20),
        poll: Duration::from_millis(20),
        suspension: Duration::from_millis(300),
        refused_credentials: Duration::from_millis(300),
        ..Limits::default()
    }
}

fn endpoint(handle: &Handle, limits: Limits) -> Endpoint {
    let credentials = Credentials {
        username: "admin".to_owned(),
        password: "password".to_owned(),
    };
    Endpoint {
        limits,
        ..Endpoint::new(handle.url().parse().unwrap(), credentials)
    }
}

impl Bench {
    async fn new(personality: &str) -> Self {
        Self::with(Personality::named(personality).unwrap(), quick()).await
    }

    async fn with(personality: Arc<Personality>, limits: Limits) -> Self {
        let mut mock = Mock::new();
        let options = Options::new("bmc0", 0, personality);
        let handle = mock.add(options, None).await.unwrap();
        let bmc = Bmc::new(&Connector::new(), endpoint(&handle, limits)).unwrap();
        Self {
            _mock: mock,
            handle,
            bmc,
        }
    }
}

/// The plain personality with other rules.
fn like_standard(rules: &str) -> Arc<Personality> {
    let standard =
        include_str!("../../../../integration/redfish-mock/src/personalities/standard.yaml");
    Personality::parse(&format!("{standard}\n{rules}\n")).unwrap()
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
