//! BMCs that hang, are gone, are busy, or answer nonsense; the queue, and who goes first.

use std::time::{Duration, Instant};

use catamaran_redfish::{Bmc, Connector, Error, Kind, Limits, PowerState};
use catamaran_redfish_mock::{Availability, Effect, Fault, Personality};
use tokio::task::JoinSet;

use crate::{Bench, endpoint, like_standard, quick, until};

fn standard() -> std::sync::Arc<Personality> {
    Personality::named("standard").unwrap()
}

#[tokio::test]
async fn hung_bmc_is_given_up_then_not_asked_then_found_again() {
    let limits = Limits {
        request: Duration::from_millis(700),
        login: Duration::from_millis(700),
        connect: Duration::from_millis(700),
        suspension: Duration::from_secs(60),
        ..quick()
    };
    let bench = Bench::with(standard(), limits).await;
    bench.bmc.system().await.unwrap();
    bench.handle.availability(Availability::Hung);
    for _ in 0..limits.suspend_after {
        let error = bench.bmc.system().await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(error.to_string().contains("may hang"), "{error}");
    }
    let begin = Instant::now();
    let error = bench.bmc.system().await.unwrap_err();
    assert!(
        matches!(error, Error::Suspended { failures: 3, .. }),
        "{error}"
    );
    assert!(begin.elapsed() < limits.request, "it fails at once");
    // Fencing asks all the same, and gets no proof.
    let error = bench.bmc.fence().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");

    bench.handle.availability(Availability::Up);
    bench.bmc.fencing().system().await.unwrap();
    bench.bmc.system().await.unwrap();
}

#[tokio::test]
async fn gone_bmc_is_not_reachable_and_comes_back() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    bench.handle.availability(Availability::Gone);
    let address = bench.handle.address();
    until("nothing listens", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let error = bench.bmc.system().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    bench.handle.availability(Availability::Up);
    until("it listens", || {
        std::net::TcpStream::connect(address).is_ok()
    })
    .await;
    bench.bmc.fencing().system().await.unwrap();
}

#[tokio::test]
async fn reads_are_repeated_while_the_bmc_is_busy() {
    let bench = Bench::new("standard").await;
    bench.handle.fault(
        Fault::status(503, "Base.1.8.ServiceTemporarilyUnavailable", "busy")
            .at("GET", "Systems")
            .times(4),
    );
    bench.handle.fault(
        Fault::new(Effect::CloseBefore)
            .at("GET", "Systems")
            .times(1),
    );
    bench.bmc.system().await.unwrap();
}

#[tokio::test]
async fn broken_read_is_given_up_soon_and_says_what_the_bmc_said() {
    let bench = Bench::new("standard").await;
    bench
        .handle
        .fault(Fault::status(500, "Base.1.8.InternalError", "out of memory").at("GET", "Systems"));
    let error = bench.bmc.system().await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.status(), Some(500));
    for part in [
        &bench.handle.url(),
        "GET /redfish/v1/Systems",
        "status 500",
        "out of memory (InternalError)",
    ] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[tokio::test]
async fn changes_are_not_repeated_unless_nothing_was_done() {
    let bench = Bench::new("standard").await;
    let resets = || {
        let records = bench.handle.records();
        records
            .iter()
            .filter(|record| record.path.ends_with("ComputerSystem.Reset"))
            .count()
    };
    bench
        .handle
        .fault(Fault::status(503, "", "").at("POST", "Reset").times(1));
    assert_eq!(bench.bmc.power_on().await.unwrap_err().status(), Some(503));
    assert_eq!(resets(), 1);
    bench
        .handle
        .fault(Fault::new(Effect::CloseAfter).at("POST", "Reset").times(1));
    let error = bench.bmc.power_on().await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { sent: true, .. }),
        "{error}"
    );
    assert_eq!(resets(), 2);
    until("the order was carried out nevertheless", || {
        bench.handle.is_on()
    })
    .await;
    bench.handle.press(false);
    bench.handle.fault(
        Fault::status(503, "IDRAC.2.8.SYS518", "iDRAC is not ready")
            .at("POST", "Reset")
            .times(2),
    );
    bench.bmc.power_on().await.unwrap();
    assert_eq!(resets(), 5);
}

#[tokio::test]
async fn nonsense_is_named_by_path() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    bench
        .handle
        .fault(Fault::new(Effect::Garbage).at("GET", "Systems/1"));
    let error = bench.bmc.system().await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("/redfish/v1/Systems/1: the answer is no JSON object"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_takes_longer_than_its_deadline() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    bench.handle.fault(Fault::delay(Duration::from_secs(20)));
    let begin = Instant::now();
    let error = bench
        .bmc
        .within(Duration::from_millis(200))
        .inventory()
        .await
        .unwrap_err();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    assert!(
        matches!(error, Error::Timeout { .. } | Error::Overdue { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn one_request_is_in_flight_whoever_asks() {
    let bench = Bench::new("standard").await;
    bench.handle.fault(Fault::delay(Duration::from_millis(10)));
    let mut askers = JoinSet::new();
    for _ in 0..8 {
        let bmc = bench.bmc.clone();
        askers.spawn(async move { bmc.system().await.unwrap() });
    }
    askers.join_all().await;
    assert_eq!(bench.handle.most_in_flight(), 1);
    assert_eq!(bench.handle.made_sessions(), 1);
}

#[tokio::test]
async fn fencing_breaks_off_a_read_that_hangs() {
    let bench = Bench::new("standard").await;
    bench.handle.press(true);
    bench.bmc.identity().await.unwrap();
    bench
        .handle
        .fault(Fault::new(Effect::Hang).at("GET", "/Bios").times(1));
    let reader = bench.bmc.clone();
    let mut readers = JoinSet::new();
    readers.spawn(async move { reader.bios().await });
    until("the read hangs", || {
        bench
            .handle
            .records()
            .iter()
            .any(|record| record.path.ends_with("/Bios"))
    })
    .await;
    let begin = Instant::now();
    bench.bmc.fence().await.unwrap();
    assert!(!bench.handle.is_on());
    assert!(
        begin.elapsed() < quick().request / 2,
        "{:?}",
        begin.elapsed()
    );
    // The read had to wait, and is made again.
    let read = readers.join_next().await.unwrap().unwrap();
    assert!(read.unwrap().attributes.contains_key("BootMode"));
}

#[tokio::test]
async fn etags_are_sent_in_the_form_that_is_wanted() {
    for (style, forms) in [
        ("strong", 1),
        ("weak", 1),
        ("weak-wants-strong", 2),
        ("broken", 2),
        ("none", 1),
    ] {
        let bench = Bench::with(like_standard(&format!("etag: {style}")), quick()).await;
        bench.bmc.set_secure_boot(true).await.unwrap();
        let records = bench.handle.records();
        let patches: Vec<_> = records
            .iter()
            .filter(|record| record.method == "PATCH")
            .collect();
        assert_eq!(patches.len(), forms, "{style}: {patches:?}");
        let last = patches.last().unwrap();
        assert_eq!(
            last.if_match.is_none(),
            matches!(style, "broken" | "none"),
            "{style}: {last:?}"
        );
    }
}

#[tokio::test]
async fn systems_that_the_address_does_not_name_are_listed() {
    let bench = Bench::new("standard").await;
    let mut other = endpoint(&bench.handle, quick());
    other.address.system = Some("/redfish/v1/Systems/2".to_owned());
    let other = Bmc::new(&Connector::new(), other).unwrap();
    let error = other.power().await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    assert!(
        error.to_string().contains("allowed: /redfish/v1/Systems/1"),
        "{error}"
    );
    // Some write the id only.
    let mut by_id = endpoint(&bench.handle, quick());
    by_id.address.system = Some("/1".to_owned());
    let by_id = Bmc::new(&Connector::new(), by_id).unwrap();
    assert_eq!(by_id.power().await.unwrap(), PowerState::Off);
}

#[tokio::test]
async fn read_that_was_moved_is_followed_on_this_bmc_only() {
    let bench = Bench::new("standard").await;
    bench.bmc.identity().await.unwrap();
    let moved = |to: &str| {
        Fault::new(Effect::Moved { to: to.to_owned() })
            .at("GET", "Systems/1")
            .times(1)
    };
    bench.handle.fault(moved("/redfish/v1/Systems/1/"));
    bench.bmc.power().await.unwrap();
    bench
        .handle
        .fault(moved("http://192.0.2.9/redfish/v1/Systems/1"));
    let error = bench.bmc.power().await.unwrap_err();
    assert!(
        error.to_string().contains("leads away from the BMC"),
        "{error}"
    );
}
