//! What cannot run says why, and runs once the cause is gone.

use catamaran_containers::{ContainerState, Phase, PodStatusSummary};
use serde_json::json;

use crate::world::{FOREVER, script, world};

fn waiting(status: &PodStatusSummary) -> Option<(&str, &str)> {
    match &status.containers[0].state {
        ContainerState::Waiting { reason, message } => Some((reason, message)),
        _ => None,
    }
}

#[test]
fn what_is_missing_is_named_and_waited_for() {
    world("missing objects", async |world| {
        world.connect().await;
        let pod = script(
            "web",
            FOREVER,
            json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]}),
        );
        let status = world
            .until(&pod, "a config error", |status| {
                waiting(status).is_some_and(|(reason, _)| reason == "CreateContainerConfigError")
            })
            .await;
        assert_eq!(
            waiting(&status).unwrap().1,
            "ConfigMap \"default/settings\" not found"
        );
        assert_eq!(
            (status.phase, status.printable().as_str()),
            (Phase::Pending, "CreateContainerConfigError")
        );
        world
            .store
            .put(false, "settings", &json!({"data": {"b": "B"}}));
        world
            .until(&pod, "a key error", |status| {
                waiting(status).is_some_and(|(_, message)| {
                    message.contains("couldn't find key a in ConfigMap default/settings")
                })
            })
            .await;
        world
            .store
            .put(false, "settings", &json!({"data": {"a": "A"}}));
        world.ready(&pod).await;

        let pod = script(
            "files",
            FOREVER,
            json!({"pod:volumes": [{"name": "s", "secret": {"secretName": "keys"}}], "volumeMounts": [{"name": "s", "mountPath": "/s"}]}),
        );
        let status = world
            .until(&pod, "a mount error", |status| {
                status.reason.as_deref() == Some("FailedMount")
            })
            .await;
        assert_eq!(
            status.message.as_deref(),
            Some("MountVolume.SetUp failed for volume \"s\": Secret \"default/keys\" not found")
        );
        world
            .store
            .put(true, "keys", &json!({"stringData": {"k": "v"}}));
        world.ready(&pod).await;

        let pod = script(
            "host",
            FOREVER,
            json!({"pod:volumes": [{"name": "h", "hostPath": {"path": world.folder.join("none"), "type": "Directory"}}]}),
        );
        let status = world
            .until(&pod, "a mount error", |status| {
                status.reason.as_deref() == Some("FailedMount")
            })
            .await;
        assert!(status.message.unwrap().ends_with("none does not exist"));
    });
}

#[test]
fn a_program_that_cannot_be_started_is_a_run_error() {
    world("start errors", async |world| {
        world.connect().await;
        let pod = script("bad", "", json!({"command": ["/no/such/program"]}));
        let status = world
            .until(&pod, "a run error", |status| {
                waiting(status).is_some_and(|(reason, _)| reason == "RunContainerError")
            })
            .await;
        assert!(
            waiting(&status).unwrap().1.contains("/no/such/program"),
            "{status:#?}"
        );

        let root = script(
            "root",
            FOREVER,
            json!({"securityContext": {"runAsNonRoot": true}}),
        );
        let status = world
            .until(&root, "a config error", |status| {
                waiting(status).is_some_and(|(reason, _)| reason == "CreateContainerConfigError")
            })
            .await;
        assert_eq!(
            waiting(&status).unwrap().1,
            "container has runAsNonRoot and image will run as root"
        );
    });
}
