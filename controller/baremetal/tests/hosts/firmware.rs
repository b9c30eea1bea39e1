//! Settings of a host's firmware: shown, checked, changed.

use catamaran_api::metal3::{FirmwareSchema, HostFirmwareSettings, HostFirmwareSettingsStatus};
use catamaran_baremetal::State;
use catamaran_redfish_mock::{Effect, Fault, Options, Personality};
use serde_json::{Value, json};

use crate::fake::{Bench, quick};

fn status(bench: &Bench) -> HostFirmwareSettingsStatus {
    let object: HostFirmwareSettings = bench.cluster.other("a").unwrap();
    object.status.unwrap_or_default()
}

fn holds(bench: &Bench, type_: &str, status_: &str, reason: &str) -> bool {
    let all = status(bench).conditions;
    all.iter()
        .any(|one| one.type_ == type_ && one.status == status_ && one.reason == reason)
}

fn ask(bench: &Bench, settings: &Value) {
    let spec = json!({"spec": {"settings": settings}});
    bench
        .cluster
        .change_other::<HostFirmwareSettings>("a", &spec);
}

fn patches(bench: &Bench) -> usize {
    let all = bench.bmc.records();
    let bios = |path: &str| path.contains("/Bios");
    all.iter()
        .filter(|one| one.method == "PATCH" && bios(&one.path))
        .count()
}

#[tokio::test]
async fn settings_are_shown_without_passwords_and_described_once_for_equal_hosts() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    let object: HostFirmwareSettings = bench.cluster.other("a").unwrap();
    let owners = object.metadata.owner_references.unwrap();
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].uid.as_str()),
        ("BareMetalHost", "u")
    );
    let status = status(&bench);
    let shown =
        json!({"BootMode": "Uefi", "ProcTurboMode": "true", "NumCores": "0", "AssetTag": ""});
    assert_eq!(json!(status.settings), shown);
    assert!(holds(&bench, "Valid", "True", "Success"));
    assert!(holds(&bench, "ChangeDetected", "False", "Success"));
    let name = status.schema.unwrap().name;
    let schema: FirmwareSchema = bench.cluster.other(&name).unwrap();
    assert_eq!(
        schema.spec.schema["BootMode"].allowable_values,
        ["Uefi", "Bios"]
    );
    assert!(!schema.spec.schema.contains_key("SetupPassword"));
    assert!(schema.spec.hardware_vendor.is_some());
    let owners = schema.metadata.owner_references.unwrap();
    assert_eq!(owners[0].kind, "HostFirmwareSettings");

    let before = bench.bmc.count();
    let written = bench.cluster.other::<HostFirmwareSettings>("a");
    bench.step().await;
    bench.step().await;
    assert!(
        bench.bmc.count() - before < 8,
        "it is not read at each look"
    );
    assert_eq!(bench.cluster.other::<HostFirmwareSettings>("a"), written);
}

#[tokio::test]
async fn changed_settings_are_applied_by_a_start_and_read_back() {
    let bench = Bench::new().await;
    bench.cluster.change(&json!({"spec": {"online": false}}));
    bench.until(State::Available).await;
    let starts = bench.bmc.boots().len();
    ask(&bench, &json!({"NumCores": 8, "BootMode": "Bios"}));
    bench.until(State::Preparing).await;
    bench.until(State::Available).await;
    assert_eq!(status(&bench).settings["NumCores"], "8");
    assert_eq!(status(&bench).settings["BootMode"], "Bios");
    assert!(holds(&bench, "ChangeDetected", "False", "Success"));
    assert_eq!(bench.bmc.boots().len(), starts + 1);
    assert_eq!(patches(&bench), 1);
    bench.step().await;
    assert!(
        !bench.bmc.is_on(),
        "it was turned on for its settings alone"
    );
    assert_eq!(bench.state(), State::Available);
}

#[tokio::test]
async fn settings_that_were_there_before_the_host_are_applied_before_it_is_available() {
    let bench = Bench::new().await;
    ask(&bench, &json!({"ProcTurboMode": "false"}));
    bench.until(State::Available).await;
    assert_eq!(status(&bench).settings["ProcTurboMode"], "false");
    let object: HostFirmwareSettings = bench.cluster.other("a").unwrap();
    assert_eq!(object.metadata.owner_references.unwrap().len(), 1);
}

#[tokio::test]
async fn settings_that_can_not_be_are_told_and_hold_nothing_up() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    ask(&bench, &json!({"NumCores": 8, "BootMode": "Network"}));
    for _ in 0..3 {
        bench.step().await;
    }
    assert_eq!(bench.state(), State::Available);
    assert_eq!(patches(&bench), 0);
    assert!(holds(&bench, "Valid", "False", "ConfigurationError"));
    let memory = bench.cluster.0.lock().unwrap();
    let told: Vec<_> = memory.others_notes.iter().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "HostFirmwareSettings");
    assert_eq!(told[0].1.reason, "ValidationFailed");
    assert!(
        told[0]
            .1
            .message
            .contains("spec.settings.BootMode: 'Network' is not allowed; allowed: Uefi, Bios"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_host_in_use_keeps_its_settings_until_its_use_ends() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    let image = json!({"url": "http://192.0.2.1/live.iso", "format": "live-iso"});
    bench.cluster.change(&json!({"spec": {"image": image}}));
    bench.until(State::Provisioned).await;
    ask(&bench, &json!({"NumCores": 4}));
    for _ in 0..3 {
        bench.step().await;
    }
    assert!(holds(&bench, "ChangeDetected", "True", "Success"));
    assert_eq!((bench.state(), patches(&bench)), (State::Provisioned, 0));
    bench.cluster.change(&json!({"spec": {"image": null}}));
    bench.until(State::Preparing).await;
    bench.until(State::Available).await;
    assert_eq!(status(&bench).settings["NumCores"], "4");
}

#[tokio::test]
async fn a_controller_that_begins_anew_waits_for_what_was_ordered() {
    let mut bench = Bench::new().await;
    bench.until(State::Available).await;
    ask(&bench, &json!({"NumCores": 8}));
    bench.until(State::Preparing).await;
    bench.step().await;
    assert!(holds(&bench, "Applying", "True", "Ordered"));
    let starts = bench.bmc.boots().len();
    bench.restart();
    bench.until(State::Available).await;
    assert_eq!((bench.bmc.boots().len(), patches(&bench)), (starts, 1));
}

#[tokio::test]
async fn settings_that_the_firmware_does_not_take_are_an_error_and_ordered_anew() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    // The BMC says yes, and nothing comes of it.
    bench
        .bmc
        .fault(Fault::new(Effect::Swallow).at("PATCH", "/Bios/Settings"));
    ask(&bench, &json!({"NumCores": 8}));
    bench.until(State::Preparing).await;
    let mut looks = 0;
    while !bench.status().error_message.contains("NumCores") {
        bench.step().await;
        looks += 1;
        assert!(looks < 400, "{:?}", bench.status());
    }
    let said = bench.status();
    assert_eq!(said.error_type.as_deref(), Some("preparation error"));
    assert_eq!(patches(&bench), 1);
    bench.bmc.clear_faults();
    bench.until(State::Available).await;
    assert_eq!(
        (
            status(&bench).settings["NumCores"].as_str(),
            patches(&bench)
        ),
        ("8", 2)
    );
}

#[tokio::test]
async fn a_bmc_without_settings_has_none_and_says_so_when_asked() {
    let options = Options::new("bmc0", 0, Personality::named("openbmc").unwrap());
    let bench = Bench::with(options, None, quick()).await;
    bench.until(State::Available).await;
    assert!(status(&bench).settings.is_empty() && status(&bench).schema.is_none());
    ask(&bench, &json!({"NumCores": 8}));
    bench.step().await;
    assert!(holds(&bench, "Valid", "False", "ConfigurationError"));
    assert_eq!(bench.state(), State::Available);
}
