//! Jobs of the deploy agent: inspected, written, cleaned, and what goes wrong with each.

use std::time::Duration;

use catamaran_api::metal3::{PreprovisioningImage, PreprovisioningImageStatus};
use catamaran_baremetal::{Again, State};
use catamaran_deploy_wire::{Action, WipeScope};
use serde_json::{Value, json};

use crate::agent::{Agent, Lab, well};

fn image(name: &str) -> Value {
    json!({"spec": {"image": {"url": format!("http://192.0.2.1/{name}.qcow2"), "checksum": "0".repeat(64)}}})
}

/// Looks and lets the agent act until the host is in a state.
async fn until(lab: &Lab, agent: &mut Agent, state: State) {
    for _ in 0..40 {
        if lab.bench.state() == state {
            return;
        }
        lab.bench.step().await;
        agent.act(lab, well).await;
    }
    panic!("not {state:?}: {:?}", lab.bench.status());
}

fn wipes<'a>(agent: &'a Agent) -> Vec<&'a WipeScope> {
    let wiped = |action: &'a Action| match action {
        Action::Wipe { disks } => Some(disks),
        _ => None,
    };
    agent.did.iter().filter_map(wiped).collect()
}

#[tokio::test]
async fn an_image_is_written_booted_and_cleaned_away() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.0.lock().unwrap().secrets = vec![(
        "seed".to_owned(),
        "userData".to_owned(),
        "#!/bin/sh\n".to_owned(),
    )];
    lab.bench.cluster.change(&image("a"));
    lab.bench
        .cluster
        .change(&json!({"spec": {"userData": {"name": "seed", "namespace": "n"}, "rootDeviceHints": {"model": "x"}}}));
    until(&lab, &mut agent, State::Provisioned).await;
    let [Action::Write(write)] = agent.did.as_slice() else {
        panic!("{:?}", agent.did);
    };
    assert!(write.config_drive.is_some() && !write.overwrite);
    assert_eq!(write.hints.model.as_deref(), Some("x"));
    assert!(lab.bench.bmc.media().is_empty());
    lab.bench.step().await;
    assert!(lab.bench.bmc.is_on());
    let boots = lab.bench.bmc.boots();
    assert_eq!(boots.last().unwrap().device, "Hdd", "{boots:?}");
    assert_eq!(lab.server.status("u"), None, "nothing of the job is kept");
    lab.bench.cluster.change(&json!({"spec": {"image": null}}));
    until(&lab, &mut agent, State::Available).await;
    let [WipeScope::Root(hints)] = wipes(&agent)[..] else {
        panic!("{:?}", agent.did);
    };
    // The disk that was written, whatever the hints would choose now.
    assert_eq!(hints.device_name.as_deref(), Some("/dev/disk/by-path/a"));
    assert!(lab.bench.bmc.media().is_empty() && lab.bench.status().provisioning.image.is_none());
}

#[tokio::test]
async fn a_host_is_inspected_by_its_agent() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    lab.bench
        .cluster
        .change(&json!({"spec": {"inspectionMode": "agent", "online": false}}));
    until(&lab, &mut agent, State::Available).await;
    let hardware = lab
        .bench
        .cluster
        .0
        .lock()
        .unwrap()
        .hardware
        .clone()
        .unwrap();
    assert_eq!(hardware.ram_mebibytes, Some(2048));
    assert_eq!(hardware.storage[0].type_.as_deref(), Some("SSD"));
    let host = lab.bench.host().unwrap();
    // That by which it reaches the controller.
    assert_eq!(
        host.spec.boot_mac_address.as_deref(),
        Some("52:54:00:00:00:02")
    );
    assert!(!lab.bench.bmc.is_on() && lab.bench.bmc.media().is_empty());
}

#[tokio::test]
async fn a_controller_that_is_killed_at_any_step_writes_the_image_once() {
    for killed in 0..14 {
        let (mut lab, mut agent) = (Lab::new().await, Agent::default());
        until(&lab, &mut agent, State::Available).await;
        lab.bench.cluster.change(&image("a"));
        let mut events = 0..60;
        while lab.bench.state() != State::Provisioned {
            lab.bench.step().await;
            if events.next() == Some(killed) {
                lab.restart();
            }
            agent.act(&lab, well).await;
            if events.next() == Some(killed) {
                lab.restart();
            }
            let status = lab.bench.status();
            assert!(!events.is_empty(), "killed after {killed}: {status:?}");
        }
        assert_eq!(agent.did.len(), 1, "killed after {killed}");
    }
}

#[tokio::test]
async fn a_failure_is_said_and_tried_again_by_the_same_agent() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    let wrong = |_: &Action| json!({"failed": {"reason": "disk-has-data", "message": "/dev/sda has data (ext4)"}});
    for _ in 0..8 {
        lab.bench.step().await;
        agent.act(&lab, wrong).await;
        if lab.bench.status().error_count > 0 {
            break;
        }
    }
    let status = lab.bench.status();
    assert_eq!(lab.bench.state(), State::Provisioning);
    assert_eq!(status.error_type.as_deref(), Some("provisioning error"));
    assert_eq!(
        status.error_message,
        "/dev/sda has data (ext4); spec.automatedCleaningMode: 'metadata' allows it"
    );
    let media = lab.bench.bmc.media();
    lab.bench
        .cluster
        .change(&json!({"spec": {"automatedCleaningMode": "metadata"}}));
    until(&lab, &mut agent, State::Provisioned).await;
    assert_eq!(media.len(), 1);
    assert!(matches!(agent.did.last(), Some(Action::Write(write)) if write.overwrite));
    lab.bench.cluster.change(&json!({"spec": {"image": null}}));
    until(&lab, &mut agent, State::Available).await;
    assert!(matches!(wipes(&agent)[..], [WipeScope::All]));
}

#[tokio::test]
async fn an_image_that_fails_each_time_is_written_with_growing_pauses() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    let wrong = |_: &Action| json!({"failed": {"reason": "checksum-mismatch", "message": "other"}});
    let mut pauses = Vec::new();
    for _ in 0..40 {
        let again = lab.bench.step().await;
        agent.act(&lab, wrong).await;
        let status = lab.bench.status();
        if let (Some(_), Again::After(pause)) = (status.error_type, again) {
            pauses.push(pause);
        }
    }
    pauses.dedup();
    assert!(pauses.len() > 3 && pauses.is_sorted(), "{pauses:?}");
    until(&lab, &mut agent, State::Provisioned).await;
    assert_eq!(lab.bench.status().error_count, 0);
}

#[tokio::test]
async fn a_deletion_gives_up_cleaning_when_no_agent_comes() {
    let (mut lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    until(&lab, &mut agent, State::Provisioned).await;
    lab.boots_within(Duration::ZERO);
    lab.bench.delete();
    lab.bench.gone().await;
    assert!(!lab.bench.bmc.is_on());
}

#[tokio::test]
async fn a_disk_that_was_refused_is_not_cleaned() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    let refuses = |_: &Action| json!({"failed": {"reason": "disk-has-data", "message": "no"}});
    for _ in 0..6 {
        lab.bench.step().await;
        agent.act(&lab, refuses).await;
    }
    assert!(!agent.did.is_empty());
    lab.bench.cluster.change(&json!({"spec": {"image": null}}));
    until(&lab, &mut agent, State::Available).await;
    assert!(wipes(&agent).is_empty());
    assert!(lab.bench.bmc.media().is_empty());
}

#[tokio::test]
async fn an_agent_that_does_not_come_is_an_error_and_the_host_is_booted_anew() {
    let (mut lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.boots_within(Duration::ZERO);
    lab.bench.cluster.change(&image("a"));
    let mut shown = Vec::new();
    for _ in 0..7 {
        lab.bench.step().await;
        shown.extend(lab.bench.bmc.media());
        let message = lab.bench.status().error_message;
        if !message.is_empty() {
            assert!(message.contains("has not called within 0 s"), "{message}");
            assert!(!message.contains(".iso"), "{message}");
        }
    }
    shown.dedup();
    assert!(shown.len() > 1, "each boot has an ISO of its own");
    assert!(lab.bench.status().provisioning_fail_count > 0);
    lab.boots_within(Duration::from_secs(60));
    until(&lab, &mut agent, State::Provisioned).await;
}

#[tokio::test]
async fn a_host_that_is_deleted_is_cleaned_and_turned_off() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    until(&lab, &mut agent, State::Provisioned).await;
    lab.bench.delete();
    for _ in 0..20 {
        if lab.bench.host().is_none() {
            break;
        }
        lab.bench.step().await;
        agent.act(&lab, well).await;
    }
    assert!(lab.bench.host().is_none());
    assert_eq!(wipes(&agent).len(), 1);
    assert!(!lab.bench.bmc.is_on() && lab.bench.bmc.media().is_empty());
}

#[tokio::test]
async fn secrets_and_fields_that_do_not_fit_are_named() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    for (reference, words) in [
        (
            json!({"name": "none"}),
            "spec.userData: there is no Secret 'none' in the host's namespace",
        ),
        (
            json!({"name": "seed", "namespace": "other"}),
            "spec.userData.namespace: 'other' is not the host's",
        ),
    ] {
        lab.bench
            .cluster
            .change(&json!({"spec": {"userData": reference}}));
        let mut message = String::new();
        for _ in 0..8 {
            lab.bench.step().await;
            agent.act(&lab, well).await;
            message = lab.bench.status().error_message;
            if message.starts_with(words) {
                break;
            }
        }
        assert!(message.starts_with(words), "{message}");
    }
    lab.bench
        .cluster
        .change(&json!({"spec": {"userData": null}}));
    until(&lab, &mut agent, State::Provisioned).await;
}

fn asked_image(lab: &Lab) -> PreprovisioningImageStatus {
    let found: PreprovisioningImage = lab.bench.cluster.other("a").unwrap();
    found.status.unwrap_or_default()
}

fn answers(lab: &Lab) -> Vec<(String, String, String)> {
    let all = asked_image(lab).conditions.into_iter();
    all.map(|one| (one.type_, one.status, one.reason)).collect()
}

fn ask_image(lab: &Lab, spec: &Value) {
    let spec = json!({ "spec": spec });
    lab.bench
        .cluster
        .change_other::<PreprovisioningImage>("a", &spec);
}

#[tokio::test]
async fn an_agent_gets_the_network_that_its_image_is_asked_for() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    until(&lab, &mut agent, State::Available).await;
    let asked = json!({"acceptFormats": ["iso"], "networkDataName": "net"});
    ask_image(&lab, &asked);
    lab.bench.cluster.change(&image("a"));
    until(&lab, &mut agent, State::Provisioning).await;
    lab.bench.step().await;
    let said = lab.bench.status().error_message;
    assert!(
        said.contains("spec.networkDataName") && said.contains("'net'"),
        "{said}"
    );
    let told = |status: &str, reason: &str, type_: &str| {
        (type_.to_owned(), status.to_owned(), reason.to_owned())
    };
    let missing = "MissingNetworkData";
    assert_eq!(
        answers(&lab),
        [
            told("False", missing, "Ready"),
            told("True", missing, "Error")
        ]
    );

    let network = json!({"links": [], "networks": [], "services": []}).to_string();
    lab.bench.cluster.0.lock().unwrap().secrets =
        vec![("net".to_owned(), "networkData".to_owned(), network)];
    until(&lab, &mut agent, State::Provisioned).await;
    assert!(agent.network.is_some());
    let good = "ImageSuccess";
    assert_eq!(
        answers(&lab),
        [told("True", good, "Ready"), told("False", good, "Error")]
    );
    let status = asked_image(&lab);
    assert_eq!(
        (status.format.as_deref(), status.image_url),
        (Some("iso"), None)
    );
    assert_eq!(status.network_data.unwrap().name.as_deref(), Some("net"));
}

#[tokio::test]
async fn an_image_that_can_not_be_is_refused_and_no_agent_booted() {
    let (lab, mut agent) = (Lab::new().await, Agent::default());
    ask_image(&lab, &json!({"acceptFormats": ["initrd"]}));
    until(&lab, &mut agent, State::Available).await;
    lab.bench.cluster.change(&image("a"));
    lab.bench.step().await;
    assert_eq!(lab.bench.state(), State::Available);
    let status = lab.bench.status();
    assert_eq!(status.error_type.as_deref(), Some("provisioning error"));
    assert!(
        status.error_message.contains("'initrd'"),
        "{}",
        status.error_message
    );
    assert_eq!(answers(&lab)[1].2, "ConfigurationError");
    ask_image(&lab, &json!({"acceptFormats": ["initrd", "iso"]}));
    until(&lab, &mut agent, State::Provisioned).await;
}
