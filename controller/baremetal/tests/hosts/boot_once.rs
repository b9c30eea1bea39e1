//! What a person wants a host to boot from, once.

use std::sync::Arc;
use std::time::Duration;

use catamaran_baremetal::{BOOT_ONCE, FENCE_HOLD, REBOOT, State};
use catamaran_redfish_mock::{Effect, Fault, Options, Personality};
use serde_json::{Value, json};

use crate::fake::{Bench, quick};

fn ask(bench: &Bench, device: &str) {
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": {BOOT_ONCE: device}}}));
}

fn asked(bench: &Bench) -> bool {
    let annotations = bench.host().unwrap().metadata.annotations;
    annotations.is_some_and(|all| all.contains_key(BOOT_ONCE))
}

fn reboot(bench: &Bench) {
    let hard: Value = json!({REBOOT: r#"{"mode":"hard"}"#});
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": hard}}));
}

async fn external(personality: Arc<Personality>) -> Bench {
    let options = Options::new("bmc0", 0, personality);
    let bench = Bench::with(options, None, quick()).await;
    let spec = json!({"spec": {"externallyProvisioned": true}});
    bench.cluster.change(&spec);
    bench.until(State::ExternallyProvisioned).await;
    bench.step().await;
    assert!(bench.bmc.is_on());
    bench
}

fn devices(bench: &Bench) -> Vec<String> {
    bench
        .bmc
        .boots()
        .into_iter()
        .map(|boot| boot.device)
        .collect()
}

#[tokio::test]
async fn the_next_start_and_no_other_is_from_there() {
    let bench = external(Personality::named("standard").unwrap()).await;
    ask(&bench, "pxe");
    bench.step().await;
    assert!(asked(&bench), "nothing was started yet");
    reboot(&bench);
    bench.step().await;
    assert!(!asked(&bench) && bench.told("BootOnce"));
    reboot(&bench);
    bench.step().await;
    assert_eq!(devices(&bench), ["Hdd", "Pxe", "Hdd"]);
}

#[tokio::test]
async fn what_the_bmc_can_not_is_told_and_the_host_starts_all_the_same() {
    let standard =
        include_str!("../../../../integration/redfish-mock/src/personalities/standard.yaml");
    let rules = format!("{standard}\nboot: {{targets: [None, Cd, Hdd, BiosSetup]}}\n");
    let bench = external(Personality::parse(&rules).unwrap()).await;
    for device in ["pxe", "bios-setup"] {
        ask(&bench, device);
        reboot(&bench);
        bench.step().await;
        assert!(!asked(&bench), "{device}");
    }
    assert_eq!(devices(&bench), ["Hdd", "Hdd", "BiosSetup"]);
    assert!(bench.told("BootOnceRefused"));
}

#[tokio::test]
async fn it_is_refused_where_our_own_work_decides_and_for_unknown_words() {
    let bench = Bench::new().await;
    bench.until(State::Registering).await;
    ask(&bench, "pxe");
    bench.until(State::Available).await;
    assert!(!asked(&bench) && bench.told("BootOnceRefused"));

    let bench = external(Personality::named("standard").unwrap()).await;
    ask(&bench, "floppy");
    bench.step().await;
    assert!(!asked(&bench));
    let memory = bench.cluster.0.lock().unwrap();
    let told = memory
        .notes
        .iter()
        .find(|note| note.reason == "BootOnceRefused");
    assert!(
        told.unwrap()
            .message
            .contains("allowed: cd, pxe, disk, bios-setup"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_bmc_that_refuses_or_forgets_the_order_keeps_no_host_off() {
    let refused = Fault::status(400, "Base.1.8.PropertyValueNotInList", "not Pxe");
    for fault in [refused, Fault::new(Effect::Swallow)] {
        let bench = external(Personality::named("standard").unwrap()).await;
        let system = bench.bmc.system();
        bench.bmc.fault(fault.at("PATCH", &system));
        ask(&bench, "pxe");
        reboot(&bench);
        bench.step().await;
        assert!(bench.bmc.is_on() && !asked(&bench));
        assert!(bench.told("BootOnceRefused") && !bench.told("BootOnce"));
        assert_eq!(devices(&bench), ["Hdd", "Hdd"]);
    }
}

#[tokio::test]
async fn a_bmc_that_is_lost_is_no_refusal() {
    let bench = external(Personality::named("standard").unwrap()).await;
    let system = bench.bmc.system();
    let busy = Fault::status(503, "", "busy").at("PATCH", &system);
    bench.bmc.fault(busy);
    ask(&bench, "pxe");
    reboot(&bench);
    bench.step().await;
    assert!(asked(&bench) && !bench.told("BootOnceRefused"));
    bench.bmc.clear_faults();
    bench.step().await;
    assert_eq!(devices(&bench), ["Hdd", "Pxe"]);
}

/// Reboots, and changes the host's annotations while the BMC does something.
async fn change_while(bench: &Bench, method: &str, path: &str, annotations: &Value) {
    let late = Fault::delay(Duration::from_millis(300)).at(method, path);
    bench.bmc.fault(late.times(1));
    reboot(bench);
    let before = bench.bmc.count();
    let meanwhile = async {
        let asked = |one: &catamaran_redfish_mock::Record| {
            one.number > before && one.method == method && one.path.contains(path)
        };
        while !bench.bmc.records().iter().any(asked) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let patch = json!({"metadata": {"annotations": annotations}});
        bench.cluster.change(&patch);
    };
    let both = async { tokio::join!(bench.step(), meanwhile) };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_taken_back_or_changed_meanwhile_is_not_ordered() {
    let bench = external(Personality::named("standard").unwrap()).await;
    for (change, booted) in [(Value::Null, "Hdd"), (json!("bios-setup"), "BiosSetup")] {
        ask(&bench, "pxe");
        change_while(&bench, "POST", "Reset", &json!({BOOT_ONCE: change})).await;
        assert_eq!(devices(&bench).last().unwrap(), booted);
    }
}

#[tokio::test]
async fn a_start_that_fencing_forbids_leaves_no_order_behind() {
    let system = Bench::new().await.bmc.system();
    for (method, path, ordered) in [("POST", "Reset", false), ("PATCH", system.as_str(), true)] {
        let bench = external(Personality::named("standard").unwrap()).await;
        ask(&bench, "pxe");
        change_while(&bench, method, path, &json!({FENCE_HOLD: "x"})).await;
        assert!(!bench.bmc.is_on());
        assert_eq!((bench.told("BootOnce"), asked(&bench)), (ordered, !ordered));
        // It starts again when nobody thinks of that any more.
        let gone = json!({FENCE_HOLD: null, BOOT_ONCE: null});
        bench
            .cluster
            .change(&json!({"metadata": {"annotations": gone}}));
        bench.step().await;
        assert_eq!(devices(&bench), ["Hdd", "Hdd"], "{method}");
    }
}
