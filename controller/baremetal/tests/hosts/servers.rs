//! Servers in QEMU from the manifest to the end, and through four troubles.

use std::fs;

use catamaran_baremetal::State;
use catamaran_redfish_mock::Availability;
use serde_json::{Value, json};

use crate::machine::{MAC, Machine, built, sha256};

/// Where a server has its image written to; the other disk is too small.
const ROOT: &str = "root-disk";

/// An image as a host names it.
fn image(machine: &Machine, file: &str, format: &str) -> Value {
    let path = built(file);
    let name = path.file_name().unwrap().to_str().unwrap();
    let url = machine.publish(name, &path);
    json!({"url": url, "checksum": sha256(&path), "format": format})
}

/// From now on the server is to have this image, on this disk.
fn wanted(machine: &Machine, image: &Value, disk: &str) {
    machine.bench.cluster.change(&json!({"spec": {
        "online": true, "userData": {"name": "seed"}, "rootDeviceHints": {"serialNumber": disk}, "image": image,
    }}));
}

/// From the manifest to available, in use, used anew, cleaned, and gone.
async fn lives(firmware: &str) {
    let machine = Machine::new(firmware).await;
    let cluster = machine.bench.cluster.clone();
    cluster.change(&json!({"spec": {"inspectionMode": "agent"}}));
    // One way to the network for each of them.
    if firmware == "bios" {
        machine.bond();
    }
    machine.until_state(State::Available).await;
    let hardware = cluster.0.lock().unwrap().hardware.clone().unwrap();
    let serials: Vec<_> = hardware
        .storage
        .iter()
        .filter_map(|disk| disk.serial_number.as_deref())
        .collect();
    assert_eq!(serials, ["other-disk", ROOT], "{hardware:?}");
    assert_eq!(hardware.nics[0].mac.as_deref(), Some(MAC));
    let host = machine.bench.host().unwrap();
    assert_eq!(host.spec.boot_mac_address.as_deref(), Some(MAC));

    for (file, words) in [
        ("minimal/minimal.qcow2", "written by the deploy agent"),
        ("minimal-pc/minimal-pc.qcow2", "written once more"),
    ] {
        machine.seed(words);
        let image = image(&machine, file, "qcow2");
        wanted(&machine, &image, ROOT);
        machine
            .until("its image is the one that is wanted", |one| {
                let status = one.bench.status();
                let written = status.provisioning.image.map(|written| written.url);
                one.bench.state() == State::Provisioned
                    && written.as_deref() == image["url"].as_str()
            })
            .await;
        machine.until_said(words).await;
        assert!(!machine.is_empty("root") && machine.is_empty("other"));
    }

    cluster.change(&json!({"spec": {"image": null, "online": false}}));
    machine.until_state(State::Available).await;
    assert!(machine.is_empty("root"), "it was not cleaned");

    machine.bench.delete();
    machine
        .until("deleted", |one| one.bench.host().is_none())
        .await;
    assert!(!machine.bench.bmc.is_on());
    assert!(!machine.folder.path().join("pid").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots a server seven times: minutes"]
async fn a_server_with_uefi_lives_from_manifest_to_deletion() {
    lives("uefi").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots a server seven times: minutes"]
async fn a_server_with_bios_lives_from_manifest_to_deletion() {
    lives("bios").await;
}

/// A live ISO is booted at each start, and no disk is touched.
async fn boots_a_cd(firmware: &str) {
    let machine = Machine::new(firmware).await;
    let cluster = machine.bench.cluster.clone();
    machine.until_state(State::Available).await;
    let image = json!({"image": image(&machine, "live-iso/live.iso", "live-iso"), "online": true});
    cluster.change(&json!({ "spec": image }));
    let ready = "catamaran-guest ready";
    machine.until_said(ready).await;
    assert_eq!(machine.bench.state(), State::Provisioned);
    let boots = machine.bench.bmc.boots().len();
    let hard = json!({"reboot.metal3.io": "{\"mode\": \"hard\"}"});
    cluster.change(&json!({"metadata": {"annotations": hard}}));
    machine
        .until("it was started again", |one| {
            one.bench.bmc.boots().len() > boots
        })
        .await;
    machine.until_said(ready).await;
    assert!(machine.is_empty("root") && machine.is_empty("other"));

    cluster.change(&json!({"spec": {"image": null, "online": false}}));
    machine.until_state(State::Available).await;
    assert!(!machine.bench.bmc.is_on() && machine.bench.bmc.media().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a server twice under emulation: minutes"]
async fn a_server_with_uefi_boots_a_live_iso() {
    boots_a_cd("uefi").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a server twice under emulation: minutes"]
async fn a_server_with_bios_boots_a_live_iso() {
    boots_a_cd("bios").await;
}

/// Waits until the agent is in the middle of an image.
async fn until_in_the_middle(machine: &Machine) {
    machine
        .until("a part of the image is written", |one| {
            let status = one.server.status("u");
            let progress = status.and_then(|status| status.progress);
            progress.is_some_and(|report| {
                report.total > 256 << 20 && report.done > 0 && report.done < report.total / 2
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots a server under emulation: minutes"]
async fn a_server_meets_four_troubles_says_each_and_goes_on() {
    let mut machine = Machine::new("bios").await;
    let said = "written after all";
    machine.seed(said);
    machine.until_state(State::Available).await;

    // The checksum of another image.
    let right = image(&machine, "minimal/minimal.qcow2", "qcow2");
    let mut wrong = right.clone();
    wrong["checksum"] = json!("0".repeat(64));
    wanted(&machine, &wrong, ROOT);
    let mismatch = format!("{} is wanted", "0".repeat(64));
    machine.until_failed(State::Provisioning, &mismatch).await;
    let status = machine.bench.status();
    assert_eq!(status.error_type.as_deref(), Some("provisioning error"));
    assert!(machine.is_empty("root"), "it boots what was refused");

    // A disk on which there is no room.
    wanted(&machine, &right, "other-disk");
    machine
        .until_failed(
            State::Provisioning,
            "choose another disk with rootDeviceHints",
        )
        .await;
    assert!(machine.is_empty("other") && machine.is_empty("root"));

    // Large enough to be met while it is being written: the same disk with nothing behind it.
    let large = machine.folder.path().join("large.raw");
    fs::copy(built("minimal/minimal.raw"), &large).unwrap();
    fs::File::options()
        .write(true)
        .open(&large)
        .unwrap()
        .set_len(512 << 20)
        .unwrap();
    let url = machine.publish("large.raw", &large);
    let large_image = json!({"url": url, "checksum": sha256(&large), "format": "raw"});
    wanted(&machine, &large_image, ROOT);
    until_in_the_middle(&machine).await;
    let boots = machine.bench.bmc.boots().len();
    machine.restart().await;

    // Its BMC goes while the other process waits for the agent.
    machine.bench.bmc.availability(Availability::Gone);
    machine
        .until_failed(State::Provisioning, "not reachable")
        .await;
    assert!(machine.is_empty("root"), "its beginning is written last");
    machine.bench.bmc.availability(Availability::Up);
    machine.until_state(State::Provisioned).await;
    assert_eq!(
        machine.bench.bmc.boots().len(),
        boots,
        "it was booted again to be written"
    );
    machine.until_said(said).await;
    let status = machine.bench.status();
    assert_eq!(
        (status.error_message.as_str(), status.error_type),
        ("", None)
    );
}
