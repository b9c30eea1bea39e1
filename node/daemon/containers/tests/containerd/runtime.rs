//! The runtime itself: found, started, adopted, missing.

use std::ffi::OsString;
use std::time::Duration;

use catamaran_containers::{Error, PrivateOptions, Runtime, RuntimeOptions};
use serde_json::json;

use crate::world::{FOREVER, script, world};

#[tokio::test]
async fn without_containerd_the_error_names_the_debian_packages() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateOptions {
        path: OsString::new(),
        cni_bin_dir: folder.path().join("none"),
        ..PrivateOptions::new(folder.path().join("c"), folder.path())
    };
    let error = Runtime::connect(RuntimeOptions {
        socket: None,
        known: vec![],
        private,
    })
    .await
    .unwrap_err();
    let text = error.to_string();
    for word in [
        "containerd, runc",
        "CNI plugin bridge",
        "install the Debian packages containerd, runc and containernetworking-plugins",
    ] {
        assert!(text.contains(word), "{word} in: {text}");
    }
    assert!(!folder.path().join("c").exists(), "something was written");
}

#[tokio::test]
async fn a_named_socket_that_does_not_answer_is_an_error_and_nothing_else_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let private = PrivateOptions::new(folder.path().join("c"), folder.path());
    let error = Runtime::connect(RuntimeOptions {
        socket: Some(socket),
        known: vec![],
        private,
    })
    .await
    .unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    assert!(
        !folder.path().join("c").exists(),
        "a private containerd was started"
    );
}

#[tokio::test]
async fn a_state_folder_whose_socket_would_be_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateOptions::new(folder.path().join("x".repeat(90)), folder.path());
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let error = Runtime::connect(RuntimeOptions {
        socket: None,
        known: vec![],
        private,
    })
    .await
    .unwrap_err();
    assert!(matches!(error, Error::SocketPath { .. }), "{error}");
}

#[test]
fn a_killed_daemon_finds_its_containers_running_and_leaves_them_alone() {
    world("adoption", async |world| {
        world.connect().await;
        let pod = script(
            "web",
            FOREVER,
            json!({"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}),
        );
        let before = world.ready(&pod).await;
        let first = world.sh(&pod, "cat /proc/1/stat").await;
        let containerd = world.containerd_pid();

        world.forget();
        world.connect().await;
        assert_eq!(
            world.containerd_pid(),
            containerd,
            "another containerd was started"
        );
        let after = world.ready(&pod).await;
        assert_eq!(
            after.containers[0].container_id,
            before.containers[0].container_id
        );
        assert_eq!(
            (after.containers[0].restart_count, &after.pod_ips),
            (0, &before.pod_ips)
        );
        // Field 22 is the start time.
        let start = |stat: &str| stat.split(' ').nth(21).unwrap().to_owned();
        assert_eq!(
            start(&world.sh(&pod, "cat /proc/1/stat").await),
            start(&first)
        );
        assert_eq!(
            world.pods().list().await.unwrap(),
            std::slice::from_ref(&pod.key)
        );
    });
}

#[test]
fn a_killed_containerd_is_started_again_and_its_containers_live_on() {
    world("containerd killed", async |world| {
        world.connect().await;
        let pod = script("web", FOREVER, json!({}));
        let before = world.ready(&pod).await;
        let killed = world.containerd_pid();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(killed),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let after = world
            .until(&pod, "running under another containerd", |status| {
                status.ready && world.containerd_pid() != killed
            })
            .await;
        assert_eq!(
            after.containers[0].container_id,
            before.containers[0].container_id
        );
        assert_eq!(after.containers[0].restart_count, 0);
        assert_eq!(world.sh(&pod, "echo alive").await, "alive");
    });
}

#[test]
fn a_running_runtime_is_used_through_its_socket_and_not_ended() {
    world("foreign socket", async |world| {
        world.connect().await;
        let socket = world.pods().runtime().socket().to_owned();
        let known = vec![world.folder.join("absent.sock"), socket.clone()];
        let runtime = Runtime::connect(RuntimeOptions {
            socket: None,
            known,
            private: world.private(),
        })
        .await
        .unwrap();
        assert_eq!(
            (runtime.is_private(), runtime.socket()),
            (false, socket.as_path())
        );
        let pid = world.containerd_pid();
        runtime.shutdown().await;
        tokio::time::timeout(Duration::from_secs(5), runtime.ensure())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(world.containerd_pid(), pid);
    });
}

#[test]
fn a_containerd_with_an_older_configuration_is_started_anew_under_its_containers() {
    world("configuration", async |world| {
        world.connect().await;
        let pod = script("web", FOREVER, json!({}));
        let before = world.ready(&pod).await;
        let (pid, config) = (
            world.containerd_pid(),
            world.folder.join("containerd/config.toml"),
        );
        world.forget();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}# of another version\n")).unwrap();
        world.connect().await;
        assert_ne!(world.containerd_pid(), pid);
        let after = world.ready(&pod).await;
        assert_eq!(
            after.containers[0].container_id,
            before.containers[0].container_id
        );
        assert_eq!(world.sh(&pod, "echo alive").await, "alive");
    });
}

#[test]
fn a_runtime_that_was_shut_down_stays_down() {
    world("shutdown", async |world| {
        world.connect().await;
        let runtime = world.pods().runtime().clone();
        runtime.shutdown().await;
        assert!(runtime.ensure().await.is_err());
        assert!(!world.folder.join("containerd/containerd.pid").exists());
        world.forget();
        world.connect().await;
    });
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_start_or_a_change_finishes_it_later() {
    world("killed while starting", async |world| {
        world.connect().await;
        let pod = |round: u64| {
            script(
                "web",
                FOREVER,
                json!({"env": [{"name": "ROUND", "value": round.to_string()}]}),
            )
        };
        for round in 0..16 {
            // From before the first call to the runtime to after the last one.
            let _ = world.pods().reconcile(&pod(round)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(round * 40)).await;
            world.forget();
            world.connect().await;
        }
        let status = world.ready(&pod(15)).await;
        assert_eq!(world.sh(&pod(15), "echo $ROUND").await, "15");
        assert_eq!(
            (status.containers[0].restart_count, status.pod_ips.len()),
            (0, 1),
            "{status:#?}"
        );
        let addresses = std::fs::read_dir(world.folder.join("addresses/test"))
            .unwrap()
            .flatten();
        let taken = addresses
            .filter(|entry| entry.file_name().to_str().unwrap().starts_with("10.88."))
            .count();
        assert_eq!(taken, 1, "addresses of given-up sandboxes are still taken");
    });
}
