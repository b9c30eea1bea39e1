//! Virtual media and boot overrides: a system boots its CD once.

use std::time::Duration;

use catamaran_redfish::{BootDevice, BootMode, Error, Kind, PowerOff};
use catamaran_redfish_mock::{Boot, Effect, Fault, Personality};

use crate::{Bench, like_standard, quick};

const IMAGE: &str = "http://192.0.2.1:8080/hosts/one/agent.iso";

#[tokio::test]
async fn every_vendors_system_boots_a_virtual_cd_once() {
    for name in Personality::names() {
        let bench = Bench::new(name).await;
        let bmc = &bench.bmc;
        let slot = bmc
            .insert_cd(IMAGE)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(slot.image.as_deref(), Some(IMAGE), "{name}");
        let boot = bmc
            .boot_once(BootDevice::Cd, None)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(boot.enabled.as_deref(), Some("Once"), "{name}");
        bmc.power_on().await.unwrap();
        bmc.power_off(PowerOff::Hard).await.unwrap();
        bmc.power_on().await.unwrap();
        let boots = bench.handle.boots();
        let cd = |boot: &Boot| boot.device.ends_with("Cd") && boot.image.as_deref() == Some(IMAGE);
        assert!(
            matches!(boots.as_slice(), [first, second] if cd(first) && second.device == "Hdd"),
            "{name}: {boots:?}"
        );

        // Another image takes the place of the first; what is ejected is gone.
        let other = IMAGE.replace("one", "two");
        bmc.insert_cd(&other)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bench.handle.media(), [other], "{name}");
        bmc.eject_cd().await.unwrap();
        bmc.eject_cd().await.unwrap();
        assert!(bench.handle.media().is_empty(), "{name}");
        assert!(
            bmc.cd_slots()
                .await
                .unwrap()
                .iter()
                .all(|slot| !slot.inserted),
            "{name}"
        );
    }
}

#[tokio::test]
async fn boot_orders_are_repeated_during_the_self_test() {
    let bench = Bench::new("hpe").await;
    let id = "iLO.2.14.UnableToModifyDuringSystemPOST";
    let self_test = Fault::status(400, id, "The system is in POST.").at("PATCH", "Systems");
    bench.handle.fault(self_test.times(10));
    bench.bmc.boot_once(BootDevice::Pxe, None).await.unwrap();
}

#[tokio::test]
async fn boot_order_that_does_not_stick_is_not_believed() {
    let bench = Bench::new("standard").await;
    bench
        .handle
        .fault(Fault::new(Effect::Swallow).at("PATCH", "Systems"));
    let error = bench.bmc.boot_once(BootDevice::Cd, None).await.unwrap_err();
    assert!(matches!(error, Error::NotConfirmed { .. }), "{error}");
    assert!(
        error.to_string().contains("boot override is None Disabled"),
        "{error}"
    );
}

#[tokio::test]
async fn override_can_be_ended_and_mode_is_sent_only_where_it_differs() {
    let bench = Bench::new("standard").await;
    let boot = bench
        .bmc
        .boot_once(BootDevice::Pxe, Some(BootMode::Legacy))
        .await
        .unwrap();
    assert_eq!(boot.mode.as_deref(), Some("Legacy"));
    bench
        .bmc
        .boot_once(BootDevice::Disk, Some(BootMode::Legacy))
        .await
        .unwrap();
    let last = bench.handle.records();
    let last = last
        .iter()
        .rfind(|record| record.method == "PATCH")
        .unwrap();
    assert_eq!(
        last.body.as_ref().unwrap()["Boot"]
            .as_object()
            .unwrap()
            .len(),
        1,
        "{last:?}"
    );
    bench.bmc.clear_boot().await.unwrap();
    assert_eq!(
        bench.bmc.system().await.unwrap().boot.enabled.as_deref(),
        Some("Disabled")
    );
}

#[tokio::test]
async fn device_that_the_bmc_does_not_know_is_refused_with_those_it_knows() {
    let bench = Bench::new("openbmc").await;
    let error = bench
        .bmc
        .boot_once(BootDevice::UefiHttp, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error.to_string().contains("allowed: None, Pxe, Hdd"),
        "{error}"
    );
}

#[tokio::test]
async fn urls_that_bmcs_cut_off_are_refused_before_they_are_sent() {
    let bench = Bench::new("standard").await;
    let error = bench
        .bmc
        .insert_cd("http://192.0.2.1/a.iso?token=1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert_eq!(bench.handle.count(), 0);
}

#[tokio::test]
async fn missing_licence_is_told_in_the_bmcs_words() {
    let bench = Bench::new("supermicro").await;
    bench.handle.fault(
        Fault::status(
            403,
            "SMC.1.0.OemLicenseNotPassed",
            "Not licensed to perform this request: SUM/DCMS",
        )
        .at("POST", "InsertMedia"),
    );
    let error = bench.bmc.insert_cd(IMAGE).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Not licensed to perform this request"),
        "{error}"
    );
}

#[tokio::test]
async fn tasks_are_waited_for_and_their_failures_told() {
    let bench = Bench::with(like_standard("tasks: [insert]"), quick()).await;
    bench.handle.tasks(Duration::from_millis(1500), None);
    bench.bmc.insert_cd(IMAGE).await.unwrap();
    let records = bench.handle.records();
    assert!(
        records
            .iter()
            .any(|record| record.path.contains("TaskMonitors") && record.status == Some(202))
    );
    bench.handle.tasks(
        Duration::from_millis(50),
        Some("the image can't be mounted"),
    );
    let error = bench.bmc.insert_cd(IMAGE).await.unwrap_err();
    assert!(
        error.to_string().contains("the image can't be mounted"),
        "{error}"
    );

    let shown = Bench::with(
        like_standard("tasks: [insert]\ntask_is_monitor: true"),
        quick(),
    )
    .await;
    shown.handle.tasks(
        Duration::from_millis(100),
        Some("the image can't be mounted"),
    );
    let error = shown.bmc.insert_cd(IMAGE).await.unwrap_err();
    assert!(
        matches!(&error, Error::Task { state, .. } if state == "Exception"),
        "{error}"
    );

    // A task that never ends is not waited for longer than the deadline.
    bench.handle.tasks(Duration::from_secs(3600), None);
    let error = bench
        .bmc
        .within(Duration::from_millis(300))
        .insert_cd(IMAGE)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Overdue { .. }), "{error}");
}

#[tokio::test]
async fn monitor_that_vanishes_means_that_the_task_is_over() {
    let bench = Bench::with(like_standard("tasks: [insert]"), quick()).await;
    bench
        .handle
        .fault(Fault::status(404, "", "").at("GET", "TaskMonitors"));
    bench.bmc.insert_cd(IMAGE).await.unwrap();
}
