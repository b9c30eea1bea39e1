//! What people read of BMCs: sensors and event logs.

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::metal3::BareMetalHost;
use catamaran_baremetal::{Bmcs, DETACHED, PAUSED, Readings, State, Store, Unread};
use catamaran_redfish_mock::{Availability, Fault};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::fake::{Bench, quick};

fn secret(password: &str) -> Secret {
    let entry = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
    let data = [("username", "admin"), ("password", password)];
    Secret {
        data: Some(
            data.map(|(key, value)| (key.to_owned(), entry(value)))
                .into(),
        ),
        ..Secret::default()
    }
}

fn host(bench: &Bench, annotations: &Value) -> BareMetalHost {
    let mut host = bench.host().unwrap();
    host.metadata.annotations = serde_json::from_value(annotations.clone()).unwrap();
    host
}

#[tokio::test]
async fn however_many_ask_the_bmc_is_asked_once() {
    let bench = Bench::new().await;
    let readings = Readings::new(Arc::new(Bmcs::new(quick())));
    let (host, secret) = (host(&bench, &json!({})), secret("password"));
    let all = join_all((0..10).map(|_| readings.sensors(&host, Some(&secret)))).await;
    let first = all[0].as_ref().unwrap();
    assert_eq!(first.sensors[0].name, "Inlet Temp");
    assert!(all.iter().all(|one| one.as_ref().unwrap() == first));
    let once = bench.bmc.count();
    assert!(once <= 10, "{once} requests");
    readings.sensors(&host, Some(&secret)).await.unwrap();
    assert_eq!(bench.bmc.count(), once, "a moment later it is the same");
    let events = readings.events(&host, Some(&secret), (1, 2)).await.unwrap();
    assert_eq!((events.log.as_deref(), events.total), (Some("SEL"), 4));
    let ids: Vec<&str> = events.entries.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["3", "2"]);
    let once = bench.bmc.count();
    for skip in 0..20 {
        let part = readings.events(&host, Some(&secret), (skip, 7)).await;
        assert_eq!(part.unwrap().entries.len(), 4_usize.saturating_sub(skip));
    }
    assert_eq!(bench.bmc.count(), once, "parts are cut from what was read");
    assert_eq!(bench.bmc.made_sessions(), 1);
    assert_eq!(bench.bmc.most_in_flight(), 1);
}

#[tokio::test]
async fn the_session_of_those_who_look_after_a_host_is_used_and_its_own_is_ended() {
    let bench = Bench::new().await;
    let readings = Readings::new(bench.shell.bmcs.clone());
    let (host, secret) = (host(&bench, &json!({})), secret("password"));
    readings.sensors(&host, Some(&secret)).await.unwrap();
    assert_eq!(bench.bmc.open_sessions(), 1);
    // Who begins to look after the host takes it over.
    bench.until(State::Available).await;
    readings.events(&host, Some(&secret), (0, 5)).await.unwrap();
    assert_eq!(bench.bmc.made_sessions(), 1);
    bench.shell.bmcs.close_all().await;
    assert_eq!(bench.bmc.open_sessions(), 0);

    // Another replica has one of its own, and ends it.
    let bmcs = Arc::new(Bmcs::new(quick()));
    let other = Readings::new(bmcs.clone());
    other.sensors(&host, Some(&secret)).await.unwrap();
    other.tidy().await;
    assert_eq!(bench.bmc.open_sessions(), 1, "it was used a moment ago");
    bmcs.close_all().await;
    assert_eq!(bench.bmc.open_sessions(), 0);
}

#[tokio::test]
async fn other_credentials_are_another_question() {
    let bench = Bench::new().await;
    let readings = Readings::new(Arc::new(Bmcs::new(quick())));
    let host = host(&bench, &json!({}));
    let right = secret("password");
    readings.sensors(&host, Some(&right)).await.unwrap();
    let wrong = readings.sensors(&host, Some(&secret("guessed"))).await;
    let wrong = wrong.unwrap_err();
    assert!(!wrong.passes(), "{wrong}");
    assert!(wrong.to_string().contains("refused"), "{wrong}");
    assert!(!wrong.to_string().contains("guessed"), "{wrong}");
    readings.sensors(&host, Some(&right)).await.unwrap();
    assert_eq!(bench.bmc.open_sessions(), 1, "the first one was ended");
}

#[tokio::test]
async fn what_is_left_alone_and_what_is_missing_is_said_without_asking() {
    let bench = Bench::new().await;
    let readings = Readings::new(Arc::new(Bmcs::new(quick())));
    let secret = secret("password");
    let detached = json!({DETACHED: r#"{"force":true}"#});
    for (annotations, word) in [(json!({PAUSED: ""}), PAUSED), (detached, DETACHED)] {
        let host = host(&bench, &annotations);
        let why = readings.sensors(&host, Some(&secret)).await.unwrap_err();
        assert!(
            matches!(why, Unread::LeftAlone(name) if name == word),
            "{why}"
        );
    }
    let free = host(&bench, &json!({}));
    let why = readings.sensors(&free, None).await.unwrap_err();
    assert!(why.to_string().contains("no Secret 'bmc'"), "{why}");
    assert_eq!(bench.bmc.count(), 0);
}

#[tokio::test]
async fn a_bmc_that_hangs_holds_up_nobody_for_long() {
    let bench = Bench::new().await;
    let readings = Readings::new(Arc::new(Bmcs::new(quick())));
    let (host, secret) = (host(&bench, &json!({})), secret("password"));
    bench.bmc.availability(Availability::Hung);
    let all = join_all((0..5).map(|_| readings.sensors(&host, Some(&secret))));
    let all = tokio::time::timeout(Duration::from_secs(20), all).await;
    for one in all.unwrap() {
        assert!(one.unwrap_err().passes());
    }
}

#[tokio::test]
async fn no_more_wait_for_a_bmc_than_may() {
    let bench = Bench::new().await;
    let readings = Readings::new(Arc::new(Bmcs::new(quick())));
    let (host, secret) = (host(&bench, &json!({})), secret("password"));
    bench.bmc.availability(Availability::Hung);
    let all = join_all((0..40).map(|_| readings.sensors(&host, Some(&secret)))).await;
    let sent_away = |one: &&Result<_, Unread>| matches!(one, Err(Unread::TooMany));
    assert_eq!(all.iter().filter(sent_away).count(), 24);
    assert!(all.into_iter().all(|one| one.unwrap_err().passes()));
}

#[tokio::test]
async fn credentials_that_were_refused_are_not_tried_by_those_who_look() {
    let bench = Bench::new().await;
    bench.bmc.password("other");
    for _ in 0..5 {
        bench.step().await;
    }
    assert_eq!(
        bench.status().error_type.as_deref(),
        Some("registration error")
    );
    let readings = Readings::new(Arc::new(Bmcs::new(quick())));
    let requests = bench.bmc.count();
    let secret = bench.cluster.secret("n", "bmc").await.unwrap();
    let host = bench.host().unwrap();
    let why = readings.sensors(&host, secret.as_ref()).await.unwrap_err();
    assert!(why.to_string().contains("refused"), "{why}");
    readings
        .events(&host, secret.as_ref(), (0, 5))
        .await
        .unwrap_err();
    assert_eq!(bench.bmc.count(), requests, "nobody logs in");
    // Others may be right.
    "other".clone_into(&mut bench.cluster.0.lock().unwrap().password);
    let secret = bench.cluster.secret("n", "bmc").await.unwrap();
    readings.sensors(&host, secret.as_ref()).await.unwrap();
}

#[tokio::test]
async fn at_the_end_nobody_opens_a_session_for_a_reading() {
    let bench = Bench::new().await;
    let bmcs = Arc::new(Bmcs::new(quick()));
    let readings = Readings::new(bmcs.clone());
    let (host, secret) = (host(&bench, &json!({})), secret("password"));
    readings.sensors(&host, Some(&secret)).await.unwrap();
    bmcs.close_all().await;
    let why = readings.events(&host, Some(&secret), (0, 5)).await;
    assert!(why.unwrap_err().passes());
    assert_eq!(
        (bench.bmc.made_sessions(), bench.bmc.open_sessions()),
        (1, 0)
    );
}

#[tokio::test]
async fn resource_that_answers_401_leaves_the_host_alone() {
    let bench = Bench::new().await;
    let readings = Readings::new(bench.shell.bmcs.clone());
    bench.until(State::Available).await;
    let (host, secret) = (host(&bench, &json!({})), secret("password"));
    let fault = Fault::status(401, "", "no").at("GET", "LogServices");
    bench.bmc.fault(fault);
    let sessions = bench.bmc.made_sessions();
    let why = readings.events(&host, Some(&secret), (0, 5)).await;
    assert!(!why.unwrap_err().passes());
    bench.step().await;
    assert_eq!(bench.status().error_type, None);
    assert_eq!(
        (bench.bmc.made_sessions(), bench.bmc.open_sessions()),
        (sessions, 1)
    );
}
