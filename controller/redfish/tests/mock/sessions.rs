//! Sessions, basic authentication, refused credentials.

use std::time::{Duration, Instant};

use catamaran_redfish::{Error, Kind, Limits};
use catamaran_redfish_mock::{Effect, Fault, Personality};

use crate::{Bench, like_standard, quick, until};

#[tokio::test]
async fn one_session_serves_all_requests_and_is_deleted_at_the_end() {
    let bench = Bench::new("standard").await;
    for _ in 0..3 {
        bench.bmc.system().await.unwrap();
    }
    assert_eq!(
        (bench.handle.made_sessions(), bench.handle.open_sessions()),
        (1, 1)
    );
    let identity = bench.bmc.identity().await.unwrap();
    assert_eq!(identity.vendor.as_deref(), Some("Contoso"));
    assert_eq!(identity.bmc_firmware.as_deref(), Some("1.0.0"));
    bench.bmc.close().await;
    assert_eq!(bench.handle.open_sessions(), 0);
    let error = bench.bmc.system().await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn ended_session_is_replaced_by_one_log_in() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    bench.handle.end_sessions();
    bench.bmc.system().await.unwrap();
    assert_eq!(
        (bench.handle.made_sessions(), bench.handle.open_sessions()),
        (2, 1)
    );
}

#[tokio::test]
async fn bmcs_without_sessions_are_asked_by_basic_authentication() {
    for personality in [
        Personality::named("lenovo").unwrap(),
        like_standard("sessions: {service: absent}"),
    ] {
        let bench = Bench::with(personality, quick()).await;
        bench.bmc.system().await.unwrap();
        bench.bmc.system().await.unwrap();
        assert_eq!(bench.handle.made_sessions(), 0);
        let logins = bench.handle.records();
        let logins = logins
            .iter()
            .filter(|record| record.method == "POST")
            .count();
        assert_eq!(logins, 1, "a session is tried once");
    }
}

#[tokio::test]
async fn full_session_table_is_no_lock_out() {
    for name in ["dell", "hpe", "supermicro", "openbmc"] {
        let bench = Bench::new(name).await;
        bench.handle.fill_sessions();
        bench.bmc.system().await.unwrap();
    }
}

#[tokio::test]
async fn wrong_password_is_tried_once_and_never_shown() {
    let limits = Limits {
        refused_credentials: Duration::from_secs(60),
        ..quick()
    };
    let bench = Bench::with(Personality::named("standard").unwrap(), limits).await;
    bench.handle.password("changed-secret");
    let error = bench.bmc.system().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials, "{error}");
    assert_eq!(error.status(), Some(401));
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("/redfish/v1/SessionService/Sessions"),
        "{text}"
    );
    assert!(
        text.contains("The login of"),
        "the BMC's own words are there: {text}"
    );
    assert!(
        !text.contains("admin") && !text.contains("password'"),
        "{text}"
    );

    let requests = bench.handle.count();
    bench.bmc.system().await.unwrap_err();
    assert_eq!(
        bench.handle.count(),
        requests,
        "an account must not get locked"
    );

    // Fencing tries all the same; then all is well again.
    bench.handle.password("password");
    bench.bmc.fencing().system().await.unwrap();
    bench.bmc.system().await.unwrap();
}

#[tokio::test]
async fn password_changed_while_a_session_is_open_is_noticed() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    bench.handle.password("changed");
    let error = bench.bmc.system().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials, "{error}");
    // Fencing is not held back by it.
    bench.handle.password("password");
    bench.bmc.fencing().system().await.unwrap();
}

#[tokio::test]
async fn session_that_worked_once_is_never_followed_by_basic_authentication() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    bench.handle.end_sessions();
    bench
        .handle
        .fault(Fault::status(405, "", "").at("POST", "Sessions"));
    let error = bench.bmc.system().await.unwrap_err();
    assert_eq!(error.status(), Some(405), "{error}");
    bench.handle.clear_faults();
    bench.bmc.system().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), bench.bmc.close())
        .await
        .unwrap();
    assert_eq!(bench.handle.open_sessions(), 0);
}

#[tokio::test]
async fn resource_that_answers_401_costs_no_session() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    let fault = Fault::status(401, "Base.1.8.NoValidSession", "no").at("GET", "LogServices");
    bench.handle.fault(fault);
    let sessions = || (bench.handle.made_sessions(), bench.handle.open_sessions());
    for _ in 0..3 {
        let error = bench.bmc.event_log(0, 5).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (Kind::Refused, Some(401)));
    }
    assert_eq!(sessions(), (1, 1));
    // Also not right after a log-in.
    bench.handle.end_sessions();
    let path = format!("{}/LogServices", bench.handle.system());
    let error = bench.bmc.read(&path).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    bench.bmc.system().await.unwrap();
    assert_eq!(sessions(), (2, 1));

    let basic = Bench::new("lenovo").await;
    basic.bmc.system().await.unwrap();
    let fault = Fault::status(401, "", "no").at("GET", "LogServices");
    basic.handle.fault(fault);
    let error = basic.bmc.event_log(0, 5).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
}

#[tokio::test]
async fn credentials_refused_to_those_who_look_are_not_refused_to_all() {
    let limits = Limits {
        refused_credentials: Duration::from_secs(60),
        ..quick()
    };
    let bench = Bench::with(Personality::named("standard").unwrap(), limits).await;
    bench.handle.password("changed");
    let error = bench.bmc.sensors().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials, "{error}");
    bench.handle.password("password");
    let requests = bench.handle.count();
    bench.bmc.sensors().await.unwrap_err();
    assert_eq!(bench.handle.count(), requests, "they wait");
    bench.bmc.system().await.unwrap();
    bench.bmc.sensors().await.unwrap();
}

#[tokio::test]
async fn fencing_waits_for_nobodys_log_in() {
    let limits = Limits {
        login: Duration::from_secs(20),
        ..quick()
    };
    let bench = Bench::with(Personality::named("standard").unwrap(), limits).await;
    let hang = Fault::new(Effect::Hang).at("POST", "Sessions").times(1);
    bench.handle.fault(hang);
    let asked = || bench.handle.records();
    let fence = async {
        until("it logs in", || {
            asked().iter().any(|record| record.method == "POST")
        })
        .await;
        let begin = Instant::now();
        bench.bmc.fencing().system().await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5));
    };
    let (read, ()) = tokio::join!(bench.bmc.sensors(), fence);
    read.unwrap();
    assert_eq!(bench.handle.made_sessions(), 1);
}

#[tokio::test]
async fn log_in_that_ends_after_the_connection_was_closed_is_undone() {
    let bench = Bench::new("standard").await;
    let late = Fault::delay(Duration::from_millis(400)).at("POST", "Sessions");
    bench.handle.fault(late);
    let close = async {
        until("it logs in", || bench.handle.made_sessions() == 1).await;
        bench.bmc.close().await;
    };
    let (read, ()) = tokio::join!(bench.bmc.sensors(), close);
    let error = read.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    bench.bmc.settled().await;
    assert_eq!(bench.handle.open_sessions(), 0);
    bench.bmc.system().await.unwrap_err();
    assert_eq!(bench.handle.made_sessions(), 1);
}

#[tokio::test]
async fn reading_whose_connection_is_closed_has_failed_and_no_gaps() {
    let bench = Bench::new("standard").await;
    bench.bmc.system().await.unwrap();
    let late = Fault::delay(Duration::from_millis(400)).at("GET", "Chassis");
    bench.handle.fault(late);
    let close = async {
        let asked = || bench.handle.records().into_iter();
        until("the chassis is read", || {
            asked().any(|record| record.path.contains("Chassis"))
        })
        .await;
        bench.bmc.close().await;
    };
    let (read, ()) = tokio::join!(bench.bmc.sensors(), close);
    assert!(matches!(read, Err(Error::Closed { .. })), "{read:?}");
}
