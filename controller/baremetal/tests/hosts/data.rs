//! CDs for hosts in use.

use catamaran_api::metal3::{DataImage, DataImageStatus};
use catamaran_baremetal::{DETACHED, REBOOT, State};
use catamaran_redfish_mock::Fault;
use serde_json::{Value, json};

use crate::fake::Bench;
use crate::fencing::running;

const URL: &str = "http://192.0.2.1/data.iso";
const OTHER: &str = "http://192.0.2.1/other.iso";

fn change(bench: &Bench, patch: &Value) {
    bench.cluster.change_other::<DataImage>("a", patch);
}

fn ask(bench: &Bench, url: &str) {
    change(bench, &json!({"spec": {"url": url}}));
}

fn delete(bench: &Bench) {
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    change(bench, &gone);
}

fn object(bench: &Bench) -> Option<DataImage> {
    bench.cluster.other("a")
}

fn status(bench: &Bench) -> DataImageStatus {
    object(bench).unwrap().status.unwrap_or_default()
}

fn attached(bench: &Bench) -> Option<String> {
    status(bench).attached_image.map(|there| there.url)
}

fn reboot(bench: &Bench) {
    let hard = json!({"metadata": {"annotations": {REBOOT: r#"{"mode":"hard"}"#}}});
    bench.cluster.change(&hard);
}

#[tokio::test]
async fn a_cd_comes_and_goes_at_reboots_only() {
    let bench = running().await;
    ask(&bench, URL);
    bench.step().await;
    bench.step().await;
    assert!(bench.bmc.media().is_empty() && attached(&bench).is_none());
    let meta = object(&bench).unwrap().metadata;
    assert_eq!(meta.owner_references.unwrap()[0].kind, "BareMetalHost");
    assert_eq!(meta.finalizers.unwrap(), ["dataimage.metal3.io"]);

    reboot(&bench);
    bench.step().await;
    assert!(bench.bmc.is_on());
    assert_eq!(bench.bmc.media(), [URL]);
    assert_eq!(attached(&bench).as_deref(), Some(URL));
    assert!(status(&bench).last_reconciled.is_some());
    assert_eq!(bench.bmc.boots().last().unwrap().device, "Hdd");

    ask(&bench, OTHER);
    bench.step().await;
    assert_eq!(bench.bmc.media(), [URL]);
    reboot(&bench);
    bench.step().await;
    assert_eq!(bench.bmc.media(), [OTHER]);
    assert_eq!(attached(&bench).as_deref(), Some(OTHER));

    delete(&bench);
    bench.step().await;
    assert!(object(&bench).is_some(), "its CD is in still");
    reboot(&bench);
    bench.step().await;
    assert!(bench.bmc.media().is_empty() && bench.bmc.is_on());
    bench.step().await;
    assert!(object(&bench).is_none());
}

#[tokio::test]
async fn a_cd_that_is_refused_is_told_and_waited_for() {
    let bench = running().await;
    let refusal = Fault::status(500, "Base.1.8.GeneralError", "There is no such image.");
    bench.bmc.fault(refusal.at("POST", "InsertMedia"));
    ask(&bench, URL);
    reboot(&bench);
    bench.step().await;
    let error = status(&bench).error.unwrap();
    assert_eq!(error.count, 1);
    assert!(error.message.contains("no such image"), "{error:?}");
    assert!(!bench.bmc.is_on(), "it is not to run without its CD");
    assert_eq!(bench.status().error_count, 0);
    let tried = |bench: &Bench| {
        let all = bench.bmc.records();
        all.iter()
            .filter(|one| one.path.ends_with("InsertMedia"))
            .count()
    };
    let before = tried(&bench);
    bench.cluster.0.lock().unwrap().now -= 5;
    bench.step().await;
    assert_eq!(tried(&bench), before, "not at each look");
    bench.step().await;
    assert!(tried(&bench) > before);
    assert_eq!(status(&bench).error.unwrap().count, 2);

    bench.bmc.clear_faults();
    ask(&bench, OTHER);
    bench.step().await;
    assert!(bench.bmc.is_on());
    assert_eq!(attached(&bench).as_deref(), Some(OTHER));
    assert_eq!(status(&bench).error, None);
}

#[tokio::test]
async fn a_host_that_boots_a_live_iso_is_given_no_other_cd() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    ask(&bench, URL);
    let live = "http://192.0.2.1/live.iso";
    let image = json!({"url": live, "format": "live-iso"});
    bench.cluster.change(&json!({"spec": {"image": image}}));
    bench.until(State::Provisioned).await;
    reboot(&bench);
    bench.step().await;
    bench.step().await;
    assert!(bench.bmc.is_on());
    assert_eq!(bench.bmc.media(), [live]);
    let error = status(&bench).error.unwrap();
    assert!(error.message.contains("'live-iso'") && error.count == 1);
    delete(&bench);
    bench.step().await;
    assert!(object(&bench).is_none());
}

#[tokio::test]
async fn the_end_of_a_use_takes_the_cd_out() {
    let bench = running().await;
    ask(&bench, URL);
    reboot(&bench);
    bench.step().await;
    assert_eq!(bench.bmc.media(), [URL]);
    bench
        .cluster
        .change(&json!({"spec": {"externallyProvisioned": false}}));
    bench.until(State::Available).await;
    assert!(bench.bmc.media().is_empty() && attached(&bench).is_none());
    bench.step().await;
    assert!(bench.bmc.is_on() && bench.bmc.media().is_empty());
}

#[tokio::test]
async fn nothing_holds_an_object_whose_host_is_gone_or_left_alone() {
    let bench = running().await;
    ask(&bench, URL);
    reboot(&bench);
    bench.step().await;
    bench.delete();
    bench.gone().await;
    assert!(bench.bmc.media().is_empty());
    delete(&bench);
    bench.shell.let_data_go(&Bench::name()).await.unwrap();
    assert!(object(&bench).is_none());

    let bench = running().await;
    ask(&bench, URL);
    reboot(&bench);
    bench.step().await;
    let alone = json!({"metadata": {"annotations": {DETACHED: ""}}});
    bench.cluster.change(&alone);
    delete(&bench);
    bench.step().await;
    assert!(object(&bench).is_none());
    assert_eq!(bench.bmc.media(), [URL]);
}
