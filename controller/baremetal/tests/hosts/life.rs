//! From the manifest to the end.

use catamaran_baremetal::{Again, FORCE_DELETE, HARDWARE, PAUSED, REBOOT, State};
use catamaran_redfish_mock::Availability;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::fake::Bench;
use crate::fencing::running;

#[tokio::test]
async fn a_host_is_registered_inspected_and_turned_on() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    let host = bench.host().unwrap();
    assert_eq!(
        host.spec.boot_mac_address.as_deref(),
        Some("02:bc:00:00:00:00")
    );
    let hardware = bench.cluster.0.lock().unwrap().hardware.clone().unwrap();
    assert_eq!(Some(&hardware), bench.status().hardware.as_ref());
    assert!(!hardware.nics.is_empty() && hardware.ram_mebibytes > Some(0));
    bench.step().await;
    assert!(bench.bmc.is_on() && bench.status().powered_on);
    let history = bench.status().operation_history.unwrap();
    assert!(history.inspect.unwrap().end.is_some());
    for reason in [
        "Registered",
        "BMCAccessValidated",
        "InspectionStarted",
        "InspectionComplete",
        "PowerOn",
    ] {
        assert!(bench.told(reason), "{reason}");
    }
    assert_eq!(bench.bmc.made_sessions(), 1);
    let secret: Secret = bench.cluster.other("bmc").unwrap();
    assert_eq!(
        secret.metadata.labels.unwrap()["environment.metal3.io"],
        "baremetal"
    );
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "u");
    let before = bench.status();
    bench.step().await;
    assert_eq!(
        bench.status(),
        before,
        "nothing is written where nothing changed"
    );
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_right_one_is_tried_at_once() {
    let bench = Bench::new().await;
    "wrong".clone_into(&mut bench.cluster.0.lock().unwrap().password);
    bench.until(State::Registering).await;
    for count in 1..=2 {
        bench.step().await;
        let status = bench.status();
        assert_eq!(
            (bench.state(), status.error_count),
            (State::Registering, count)
        );
        assert_eq!(status.error_type.as_deref(), Some("registration error"));
        assert!(
            status.error_message.contains("refused"),
            "{}",
            status.error_message
        );
    }
    bench.cluster.0.lock().unwrap().now -= 15;
    let asked = bench.bmc.count();
    assert!(matches!(bench.step().await, Again::After(1..)));
    assert_eq!(bench.bmc.count(), asked, "it is not asked before its time");
    "password".clone_into(&mut bench.cluster.0.lock().unwrap().password);
    bench.cluster.0.lock().unwrap().now -= 30;
    bench.step().await;
    assert_eq!(bench.state(), State::Inspecting);
    assert_eq!(bench.status().error_count, 0);
}

#[tokio::test]
async fn a_password_that_changed_is_an_error_in_the_same_state_until_it_is_given() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    bench.bmc.password("new");
    bench.bmc.end_sessions();
    "new wrong".clone_into(&mut bench.cluster.0.lock().unwrap().password);
    bench.step().await;
    assert_eq!(bench.state(), State::Available);
    assert_eq!(
        bench.status().error_type.as_deref(),
        Some("registration error")
    );
    "new".clone_into(&mut bench.cluster.0.lock().unwrap().password);
    bench.step().await;
    assert_eq!(bench.status().operational_status, "OK");
    assert_eq!(bench.condition("Manageable").as_deref(), Some("True"));
}

#[tokio::test]
async fn a_bmc_that_hangs_or_goes_changes_no_state_and_recovers() {
    for lost in [Availability::Hung, Availability::Gone] {
        for state in [
            State::Registering,
            State::Inspecting,
            State::Preparing,
            State::Available,
        ] {
            let bench = Bench::new().await;
            bench.until(state).await;
            bench.bmc.availability(lost);
            bench.step().await;
            let status = bench.status();
            assert_eq!(bench.state(), state);
            assert_eq!(status.operational_status, "error", "{state:?}");
            assert_eq!(status.error_count, 1);
            bench.bmc.availability(Availability::Up);
            for _ in 0..500 {
                if bench.state() == State::Available && bench.status().operational_status == "OK" {
                    break;
                }
                // The mock listens again a little later.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                bench.step().await;
            }
            let status = bench.status();
            assert_eq!(bench.state(), State::Available, "{status:?}");
            assert_eq!(status.operational_status, "OK", "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_controller_that_is_restarted_at_each_step_gets_there_all_the_same() {
    let mut bench = Bench::new().await;
    let image =
        json!({"spec": {"image": {"url": "http://192.0.2.1/live.iso", "format": "live-iso"}}});
    bench.cluster.change(&image);
    for _ in 0..12 {
        bench.step().await;
        bench.shell.bmcs.close_all().await;
        bench.restart();
    }
    assert_eq!(bench.state(), State::Provisioned, "{:?}", bench.status());
    assert!(bench.bmc.is_on());
    bench.delete();
    for _ in 0..6 {
        bench.step().await;
        bench.restart();
    }
    assert!(bench.host().is_none() && !bench.bmc.is_on());
}

#[tokio::test]
async fn power_follows_the_spec_and_the_annotations() {
    let bench = running().await;
    bench.cluster.change(&json!({"spec": {"online": false}}));
    bench.step().await;
    assert!(!bench.bmc.is_on() && !bench.status().powered_on);
    bench.cluster.change(&json!({"spec": {"online": true}}));
    bench.step().await;
    let boots = bench.bmc.boots().len();
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": {REBOOT: ""}}}));
    bench.step().await;
    assert!(bench.bmc.is_on());
    assert_eq!(bench.bmc.boots().len(), boots + 1);
    assert!(!bench.told("PowerChanged"), "it was turned on by us");
    let annotations = bench
        .host()
        .unwrap()
        .metadata
        .annotations
        .unwrap_or_default();
    assert!(!annotations.contains_key(REBOOT));
    let hold = "reboot.metal3.io/remediation";
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": {hold: r#"{"mode":"hard"}"#}}}));
    bench.step().await;
    bench.step().await;
    assert!(!bench.bmc.is_on(), "it is held off");
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": {hold: null}}}));
    bench.step().await;
    assert!(bench.bmc.is_on());
    bench.bmc.press(false);
    bench.step().await;
    assert!(bench.bmc.is_on() && bench.told("PowerChanged"));
}

#[tokio::test]
async fn a_live_iso_is_booted_and_taken_away() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    let url = "http://192.0.2.1/live.iso";
    bench
        .cluster
        .change(&json!({"spec": {"image": {"url": url, "format": "live-iso"}}}));
    bench.until(State::Provisioned).await;
    assert!(bench.bmc.is_on());
    assert_eq!(bench.bmc.media(), [url]);
    bench.cluster.change(&json!({"spec": {"image": null}}));
    bench.until(State::Available).await;
    assert!(bench.bmc.media().is_empty());
    assert!(bench.status().provisioning.image.is_none());
}

#[tokio::test]
async fn an_image_that_can_not_be_written_is_refused_in_words() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    bench
        .cluster
        .change(&json!({"spec": {"image": {"url": "http://192.0.2.1/a", "format": "qcow2"}}}));
    bench.step().await;
    let status = bench.status();
    assert_eq!(bench.state(), State::Available);
    assert_eq!(status.error_type.as_deref(), Some("provisioning error"));
    assert!(
        status.error_message.contains("'qcow2'"),
        "{}",
        status.error_message
    );
    assert!(bench.bmc.is_on(), "power is looked after all the same");
}

#[tokio::test]
async fn a_dead_bmc_does_not_hold_a_host_for_ever() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    bench.bmc.availability(Availability::Gone);
    bench.delete();
    bench.step().await;
    bench.step().await;
    assert_eq!(bench.state(), State::PoweringOff);
    assert_eq!(bench.status().operational_status, "error");
    assert!(bench.gone().await < 10);
    assert!(bench.told("PowerOffGivenUp"));
}

#[tokio::test]
async fn a_forced_deletion_asks_no_bmc() {
    let bench = Bench::new().await;
    bench.until(State::Available).await;
    bench.bmc.availability(Availability::Hung);
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": {FORCE_DELETE: ""}}}));
    bench.delete();
    assert!(bench.gone().await <= 2);
}

#[tokio::test]
async fn a_paused_host_is_left_alone() {
    let bench = Bench::new().await;
    bench
        .cluster
        .change(&json!({"metadata": {"annotations": {PAUSED: ""}}}));
    assert_eq!(bench.step().await, Again::Changed);
    assert!(bench.host().unwrap().metadata.finalizers.is_none());
    assert_eq!(bench.bmc.count(), 0);
}

#[tokio::test]
async fn an_inventory_that_is_given_is_taken_instead_of_looking() {
    let bench = Bench::new().await;
    let annotated = |text: &str| {
        bench.cluster.change(&json!({
            "metadata": {"annotations": {HARDWARE: text}}, "spec": {"inspectionMode": "disabled"},
        }));
    };
    annotated("{");
    bench.until(State::Inspecting).await;
    bench.step().await;
    let status = bench.status();
    assert_eq!(status.error_type.as_deref(), Some("inspection error"));
    assert!(
        status.error_message.contains(HARDWARE),
        "{}",
        status.error_message
    );

    annotated(r#"{"ramMebibytes": 7, "nics": [{"name": "eth0", "mac": "02:00:00:00:00:07"}]}"#);
    bench.until(State::Available).await;
    let host = bench.host().unwrap();
    assert!(
        !host
            .metadata
            .annotations
            .unwrap_or_default()
            .contains_key(HARDWARE)
    );
    assert_eq!(
        host.spec.boot_mac_address.as_deref(),
        Some("02:00:00:00:00:07")
    );
    let hardware = bench.cluster.0.lock().unwrap().hardware.clone().unwrap();
    assert_eq!(hardware.ram_mebibytes, Some(7));
    assert_eq!(Some(hardware), bench.status().hardware);
}

#[tokio::test]
async fn a_host_that_something_else_has_set_up_keeps_the_inventory_that_is_given() {
    let bench = Bench::new().await;
    bench.cluster.change(&json!({
        "metadata": {"annotations": {HARDWARE: "{"}}, "spec": {"externallyProvisioned": true},
    }));
    bench.until(State::ExternallyProvisioned).await;
    bench.step().await;
    let status = bench.status();
    assert_eq!(status.error_type.as_deref(), Some("inspection error"));
    assert!(bench.bmc.is_on(), "power is looked after all the same");
    let good = r#"{"ramMebibytes": 7, "nics": [{"mac": "02:00:00:00:00:07"}]}"#;
    bench.cluster.change(
        &json!({"metadata": {"annotations": {HARDWARE: good}}, "spec": {"description": "a"}}),
    );
    bench.step().await;
    let host = bench.host().unwrap();
    assert_eq!(bench.status().hardware.unwrap().ram_mebibytes, Some(7));
    assert_eq!(
        host.spec.boot_mac_address.as_deref(),
        Some("02:00:00:00:00:07")
    );
    assert!(
        !host
            .metadata
            .annotations
            .unwrap_or_default()
            .contains_key(HARDWARE)
    );
    assert_eq!(bench.status().operational_status, "OK");
}

#[tokio::test]
async fn a_host_goes_whose_secret_can_not_be_read_any_more() {
    for forced in [false, true] {
        let bench = Bench::new().await;
        bench.until(State::Available).await;
        bench.cluster.0.lock().unwrap().secrets_forbidden = true;
        if forced {
            let force = json!({"catamaran.dev/force-delete": ""});
            bench
                .cluster
                .change(&json!({"metadata": {"annotations": force}}));
        }
        bench.delete();
        let looks = bench.gone().await;
        assert!(!forced || looks < 4, "{looks}");
    }
}
