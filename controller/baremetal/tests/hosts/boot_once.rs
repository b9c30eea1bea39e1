//! What a person wants a host to boot from, once.

use std::sync::Arc;

use catamaran_baremetal::{BOOT_ONCE, REBOOT, State};
use catamaran_redfish_mock::{Options, Personality};
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
