//! From nothing to a running Pod and back: restarts, back-off, init containers, changes, removal.

use std::time::Duration;

use catamaran_containers::{ContainerState, LogOptions, Phase, PodStatusSummary};
use futures::StreamExt as _;
use serde_json::json;

use crate::world::{BUSYBOX, FOREVER, key, pod, script, world};

fn reason(status: &PodStatusSummary, index: usize) -> &str {
    match &status.containers[index].state {
        ContainerState::Waiting { reason, .. } => reason,
        ContainerState::Running { .. } => "Running",
        ContainerState::Terminated(end) => &end.reason,
    }
}

#[test]
fn init_containers_run_in_order_and_then_containers_side_by_side() {
    world("init containers", async |world| {
        world.connect().await;
        let container = |name: &str, text: &str| json!({"name": name, "image": BUSYBOX, "command": ["/bin/sh", "-c", text], "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let pod = pod(
            "steps",
            json!({
                "terminationGracePeriodSeconds": 1,
                "volumes": [{"name": "v", "emptyDir": {}}],
                "initContainers": [container("one", "echo 1 >> /v/steps"), container("two", "test $(cat /v/steps) = 1 && echo 2 >> /v/steps")],
                "containers": [container("a", FOREVER), container("b", FOREVER)],
            }),
        );
        let early = world.pods().reconcile(&pod).await.unwrap();
        assert_eq!(
            (early.phase, early.printable().as_str()),
            (Phase::Pending, "Init:0/2")
        );
        let status = world.ready(&pod).await;
        assert_eq!(
            (
                status.phase,
                status.printable().as_str(),
                status.ready_count()
            ),
            (Phase::Running, "Running", (2, 2))
        );
        assert_eq!(world.sh(&pod, "cat /v/steps").await, "1\n2");
        assert!(
            status
                .init_containers
                .iter()
                .all(|container| container.ready),
            "{status:#?}"
        );
        let wire = status.to_wire();
        assert_eq!(
            (wire.phase.as_deref(), wire.pod_ip.as_deref()),
            (Some("Running"), Some(status.pod_ips[0].as_str()))
        );
    });
}

#[test]
fn restart_policies_back_off_and_exit_codes_are_those_of_kubernetes() {
    world("restarts", async |world| {
        world.connect().await;
        let crash = script("crash", "echo run; exit 3", json!({}));
        let status = world
            .until(&crash, "backing off", |status| {
                reason(status, 0) == "CrashLoopBackOff"
            })
            .await;
        let container = &status.containers[0];
        // The first restart comes at once, the second waits.
        assert_eq!(
            (
                container.restart_count,
                status.phase,
                status.printable().as_str()
            ),
            (1, Phase::Running, "CrashLoopBackOff")
        );
        assert_eq!(
            container
                .last_termination
                .as_ref()
                .map(|end| (end.exit_code, end.reason.as_str())),
            Some((3, "Error"))
        );
        let wait = status
            .look_again
            .unwrap()
            .duration_since(container.last_termination.as_ref().unwrap().finished_at);
        assert_eq!(Duration::try_from(wait).unwrap(), Duration::from_secs(10));
        let since = status.look_again.unwrap();
        let status = world
            .until(&crash, "restarted again", |status| {
                status.containers[0].restart_count == 2
            })
            .await;
        if let Some(ended) = &status.containers[0].last_termination {
            assert!(
                ended.started_at.unwrap() >= since || ended.finished_at < since,
                "started before its time"
            );
        }
        assert_eq!(
            world
                .log(
                    &crash,
                    "main",
                    LogOptions {
                        previous: true,
                        ..LogOptions::default()
                    }
                )
                .await,
            ["run"]
        );

        let never = script("never", "exit 4", json!({"pod:restartPolicy": "Never"}));
        let status = world
            .until(&never, "ended", |status| status.phase.is_ended())
            .await;
        assert_eq!(
            (
                status.phase,
                status.printable().as_str(),
                status.containers[0].restart_count
            ),
            (Phase::Failed, "Error", 0)
        );

        let job = script(
            "job",
            "test -e /v/done && exit 0; touch /v/done; exit 1",
            json!({
            "pod:restartPolicy": "OnFailure", "pod:volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        );
        let status = world
            .until(&job, "ended", |status| status.phase.is_ended())
            .await;
        assert_eq!(
            (
                status.phase,
                status.printable().as_str(),
                status.containers[0].restart_count
            ),
            (Phase::Succeeded, "Completed", 1)
        );
        // An ended Pod gives its address back, and is not started again by another look.
        let status = world
            .until(&job, "without an address", |status| {
                status.pod_ips.is_empty()
            })
            .await;
        assert_eq!(status.phase, Phase::Succeeded);
    });
}

#[test]
fn a_changed_pod_is_replaced_and_a_changed_config_map_is_not_a_change() {
    world("changes", async |world| {
        world.connect().await;
        world
            .store
            .put(false, "settings", &json!({"data": {"greeting": "one"}}));
        let manifest = |value: &str| {
            script(
                "web",
                FOREVER,
                json!({
                "env": [{"name": "VALUE", "value": value}],
                "pod:volumes": [{"name": "c", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {}}],
                "volumeMounts": [{"name": "c", "mountPath": "/c"}, {"name": "e", "mountPath": "/e"}]}),
            )
        };
        let first = manifest("1");
        let before = world.ready(&first).await;
        world.sh(&first, "touch /e/mine").await;

        world.store.put(
            false,
            "settings",
            &json!({"data": {"greeting": "two", "more": "x"}}),
        );
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while world.sh(&first, "cat /c/greeting; ls /c").await != "twogreeting\nmore" {
            assert!(
                std::time::Instant::now() < deadline,
                "the file was not updated"
            );
            world.ready(&first).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(
            world.ready(&first).await.containers[0].container_id,
            before.containers[0].container_id
        );

        let second = manifest("2");
        let after = world
            .until(&second, "replaced", |status| status.ready)
            .await;
        assert_ne!(
            after.containers[0].container_id,
            before.containers[0].container_id
        );
        assert_eq!(
            world.sh(&second, "echo $VALUE; ls /e").await,
            "2",
            "the emptyDir of the old Pod is still there"
        );
        assert_eq!(world.pods().list().await.unwrap(), [key("web")]);
    });
}

#[test]
fn a_stopped_pod_keeps_its_files_and_a_removed_one_leaves_nothing() {
    world("stop and remove", async |world| {
        world.connect().await;
        let pod = script(
            "web",
            "trap 'echo bye; exit 0' TERM; touch /v/f; touch /m/f; sleep 100000 & wait",
            json!({
            "pod:volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}], "readinessProbe": {"exec": {"command": ["test", "-e", "/m/f"]}, "periodSeconds": 1}, "pod:terminationGracePeriodSeconds": 30}),
        );
        world.ready(&pod).await;
        let follow = world
            .pods()
            .logs(
                &pod,
                None,
                LogOptions {
                    follow: true,
                    ..LogOptions::default()
                },
            )
            .unwrap();
        let begun = std::time::Instant::now();
        world.pods().stop(&pod.key, pod.grace).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the container did not get SIGTERM"
        );
        let lines: Vec<_> = follow.map(|line| line.unwrap().text).collect().await;
        assert_eq!(lines, ["bye"], "the log of the stopped container");
        assert!(world.folder.join("pods/default_web/volumes/v/f").exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(world.folder.join("pods").to_str().unwrap()),
            "{mounts}"
        );
        assert_eq!(
            world.pods().status(&pod).await.unwrap().phase,
            Phase::Pending
        );

        world.ready(&pod).await;
        world
            .pods()
            .remove(&pod.key, Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(world.leftovers(true), Default::default());
        assert_eq!(world.pods().list().await.unwrap(), []);
        world
            .pods()
            .remove(&pod.key, Duration::from_secs(5))
            .await
            .expect("a second removal is none");
    });
}

#[test]
fn a_container_that_ignores_sigterm_is_killed_after_its_grace_period() {
    world("grace", async |world| {
        world.connect().await;
        let pod = script(
            "deaf",
            "trap '' TERM; while true; do sleep 1; done",
            json!({}),
        );
        world.ready(&pod).await;
        let begun = std::time::Instant::now();
        world
            .pods()
            .remove(&pod.key, Duration::from_secs(2))
            .await
            .unwrap();
        assert!(
            (Duration::from_secs(2)..Duration::from_secs(20)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_sandbox_that_dies_is_replaced_and_restart_counts_go_on() {
    world("sandbox", async |world| {
        world.connect().await;
        let pod = script("web", FOREVER, json!({}));
        let before = world.ready(&pod).await;
        // The sandbox's own process: the only one here that sleeps so long.
        let pause = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
            let in_pod = std::fs::read_to_string(entry.path().join("cgroup"))
                .is_ok_and(|text| text.contains(&world.instance()));
            in_pod
                && std::fs::read(entry.path().join("cmdline"))
                    .is_ok_and(|line| line.windows(10).any(|part| part == b"2147483647"))
        });
        let pid: i32 = pause
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let after = world
            .until(&pod, "a new sandbox", |status| {
                status.ready
                    && status.containers[0].container_id != before.containers[0].container_id
            })
            .await;
        assert_eq!(after.containers[0].restart_count, 1);
    });
}

#[test]
fn after_a_reboot_of_the_machine_pods_come_back() {
    world("reboot", async |world| {
        world.connect().await;
        let web = script(
            "web",
            FOREVER,
            json!({"pod:volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        );
        let job = script("job", "exit 0", json!({"pod:restartPolicy": "Never"}));
        let lost = script("lost", FOREVER, json!({"pod:restartPolicy": "Never"}));
        world.ready(&web).await;
        world.ready(&lost).await;
        world
            .until(&job, "done", |status| status.phase.is_ended())
            .await;
        world.sh(&web, "echo kept > /v/f").await;
        world.power_cut();
        world.connect().await;
        let status = world.ready(&web).await;
        assert_eq!(status.containers[0].restart_count, 1);
        assert_eq!(world.sh(&web, "cat /v/f").await, "kept");
        assert_eq!(
            world
                .until(&job, "done", |status| status.phase.is_ended())
                .await
                .phase,
            Phase::Succeeded
        );
        assert_eq!(
            world
                .until(&lost, "failed", |status| status.phase.is_ended())
                .await
                .phase,
            Phase::Failed
        );
    });
}
