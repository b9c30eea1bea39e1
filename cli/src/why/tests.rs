//! Faults, and the one sentence that each must get.

use serde_json::{Value, json};

use super::{Facts, read_seen, why};
use crate::connection::Seen;

/// The objects of a fault, as the API server has them.
#[derive(Default)]
struct World {
    vm: Value,
    vmi: Value,
    pods: Value,
    claims: Value,
    events: Value,
    nodes: Value,
}

impl World {
    fn facts(self) -> Facts {
        let seen = |value: Value| {
            if value.is_null() {
                Seen::Missing
            } else {
                Seen::There(value)
            }
        };
        let list = |value: Value| if value.is_null() { json!([]) } else { value };
        Facts {
            name: "demo".to_owned(),
            namespace: "shop".to_owned(),
            now: "2026-01-01T00:10:00Z".parse().unwrap(),
            vm: read_seen(seen(self.vm)).unwrap(),
            vmi: read_seen(seen(self.vmi)).unwrap(),
            pods: serde_json::from_value(list(self.pods)).unwrap(),
            claims: serde_json::from_value(list(self.claims)).unwrap(),
            events: serde_json::from_value(list(self.events)).unwrap(),
            nodes: serde_json::from_value(list(self.nodes)).unwrap(),
        }
    }
}

#[track_caller]
fn expect(world: World, sentence: &str) {
    assert_eq!(why(&world.facts()), sentence);
}

fn vm(strategy: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "demo", "namespace": "shop"},
        "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {"devices": {}}}}},
        "status": status,
    })
}

fn always() -> Value {
    vm("Always", &json!({}))
}

fn vmi(phase: &str, conditions: &Value) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "demo", "namespace": "shop"},
        "spec": {"domain": {"devices": {}}, "volumes": [
            {"name": "root", "containerDisk": {"image": "registry.example/none:1"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ]},
        "status": {"phase": phase, "conditions": conditions},
    })
}

fn on_node(phase: &str, conditions: &Value) -> Value {
    let mut vmi = vmi(phase, conditions);
    vmi["status"]["nodeName"] = "n1".into();
    vmi
}

fn pod(status: &Value) -> Value {
    json!([{
        "metadata": {"name": "virt-launcher-demo-x", "namespace": "shop"},
        "spec": {"containers": [{"name": "compute", "resources": {"requests": {"memory": "9Gi", "cpu": "100m"}}}]},
        "status": status,
    }])
}

fn unschedulable(words: &str) -> Value {
    pod(&json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}))
}

fn preparing(events: &Value) -> World {
    let mut pods = pod(&json!({"phase": "Pending"}));
    pods[0]["spec"]["nodeName"] = "n1".into();
    World {
        vm: always(),
        vmi: vmi("Scheduling", &json!([])),
        pods,
        events: events.clone(),
        ..World::default()
    }
}

fn warning(kind: &str, name: &str, reason: &str, message: &str) -> Value {
    json!([{
        "metadata": {"name": "e", "namespace": "shop"}, "type": "Warning",
        "involvedObject": {"kind": kind, "name": name}, "reason": reason, "message": message,
    }])
}

fn waits_for_image(name: &str) -> World {
    let message = format!("Back-off pulling image \"{name}\": ErrImagePull: not found");
    World {
        vm: always(),
        vmi: vmi("Scheduling", &json!([])),
        pods: pod(&json!({"phase": "Pending", "containerStatuses": [
            {"name": "compute", "ready": false, "image": "", "imageID": "", "restartCount": 0,
             "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}}}]})),
        ..World::default()
    }
}

fn not_scheduled(words: &str) -> World {
    World {
        vm: always(),
        vmi: vmi("Scheduling", &json!([])),
        pods: unschedulable(words),
        ..World::default()
    }
}

#[test]
fn no_such_machine() {
    let sentence = "There is no virtual machine \"demo\" in namespace \"shop\".";
    expect(World::default(), sentence);
}

#[test]
fn nothing_may_be_read() {
    let mut facts = World::default().facts();
    facts.vm = Seen::Hidden;
    facts.vmi = Seen::Hidden;
    assert_eq!(
        why(&facts),
        "You may not read virtual machines in namespace \"shop\"; its owner can give you the role \"view\"."
    );
}

#[test]
fn image_of_a_disk_is_missing() {
    expect(
        waits_for_image("registry.example/none:1"),
        "demo does not start because image \"registry.example/none:1\" of its volume \"root\" can't be pulled: Back-off pulling image \"registry.example/none:1\": ErrImagePull: not found.",
    );
}

#[test]
fn image_of_the_launcher_is_missing() {
    expect(
        waits_for_image("registry.example/node:1"),
        "demo does not start because an image can't be pulled: Back-off pulling image \"registry.example/node:1\": ErrImagePull: not found.",
    );
}

#[test]
fn image_failure_is_known_without_the_right_to_read_pods() {
    let condition = json!([{"type": "Synchronized", "status": "False", "reason": "ErrImagePull",
        "message": "registry.example/none:1: not found"}]);
    expect(
        World {
            vm: always(),
            vmi: vmi("Scheduling", &condition),
            ..World::default()
        },
        "demo does not start because image \"registry.example/none:1\" of its volume \"root\" can't be pulled: registry.example/none:1: not found.",
    );
}

#[test]
fn claim_is_missing() {
    let condition = json!([{"type": "Synchronized", "status": "False", "reason": "FailedPvcNotFound",
        "message": "PersistentVolumeClaim \"data\" does not exist"}]);
    expect(
        World {
            vm: always(),
            vmi: vmi("Pending", &condition),
            ..World::default()
        },
        "demo does not start because a claim is missing: PersistentVolumeClaim \"data\" does not exist.",
    );
}

#[test]
fn claim_is_not_bound() {
    let mut world =
        not_scheduled("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
    world.claims = json!([
        {"metadata": {"name": "other"}, "status": {"phase": "Pending"}},
        {"metadata": {"name": "data"}, "status": {"phase": "Pending"}},
    ]);
    world.events = warning(
        "PersistentVolumeClaim",
        "data",
        "ProvisioningFailed",
        "storageclass.storage.k8s.io \"fast\" not found",
    );
    expect(
        world,
        "demo does not start because claim \"data\" is not bound to a volume: storageclass.storage.k8s.io \"fast\" not found.",
    );
}

#[test]
fn no_node_has_the_memory() {
    expect(
        not_scheduled("0/2 nodes are available: 2 Insufficient memory."),
        "demo does not start because no node has the memory left that it asks for (9Gi): 0/2 nodes are available: 2 Insufficient memory.",
    );
}

#[test]
fn no_node_has_kvm() {
    expect(
        not_scheduled("0/1 nodes are available: 1 Insufficient devices.kubevirt.io/kvm."),
        "demo does not start because no node that could take it offers KVM (0/1 nodes are available: 1 Insufficient devices.kubevirt.io/kvm); without KVM guests run only where the KubeVirt object says so (spec.configuration.developerConfiguration.useEmulation), and a machine that waits takes that up by `kubectl catamaran restart demo`.",
    );
}

#[test]
fn every_node_is_cordoned() {
    let mut world = not_scheduled("0/1 nodes are available: 1 node(s) were unschedulable.");
    world.nodes = json!([{"metadata": {"name": "n1"}, "spec": {"unschedulable": true}}]);
    expect(
        world,
        "demo does not start because every node is cordoned (0/1 nodes are available: 1 node(s) were unschedulable).",
    );
}

#[test]
fn no_node_has_the_labels() {
    let words = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector";
    let sentence = format!("demo does not start because no node takes it: {words}.");
    expect(not_scheduled(words), &sentence);
}

#[test]
fn the_scheduler_is_quoted_without_the_right_to_read_pods() {
    let condition = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient cpu."}]);
    expect(
        World {
            vm: always(),
            vmi: vmi("Scheduling", &condition),
            ..World::default()
        },
        "demo does not start because no node has the processors left that it asks for: 0/2 nodes are available: 2 Insufficient cpu.",
    );
}

#[test]
fn a_quota_is_exhausted() {
    let condition = json!([{"type": "Synchronized", "status": "False", "reason": "FailedCreate",
        "message": "pods \"virt-launcher-demo\" is forbidden: exceeded quota: small"}]);
    expect(
        World {
            vm: always(),
            vmi: vmi("Pending", &condition),
            ..World::default()
        },
        "demo does not start because its pod can't be made: pods \"virt-launcher-demo\" is forbidden: exceeded quota: small.",
    );
}

#[test]
fn the_instance_is_refused() {
    let status = json!({"conditions": [{"type": "Failure", "status": "True", "reason": "FailedCreate",
        "message": "admission webhook denied the request: spec.domain.cpu.cores: must be at least 1"}]});
    expect(
        World {
            vm: vm("Always", &status),
            ..World::default()
        },
        "demo does not start because its instance can't be made: admission webhook denied the request: spec.domain.cpu.cores: must be at least 1.",
    );
}

#[test]
fn a_secret_is_missing() {
    let events = warning(
        "Pod",
        "virt-launcher-demo-x",
        "FailedMount",
        "MountVolume.SetUp failed for volume \"keys\" : secret \"keys\" not found",
    );
    expect(
        preparing(&events),
        "demo does not start because a volume of its pod can't be mounted: MountVolume.SetUp failed for volume \"keys\" : secret \"keys\" not found.",
    );
}

#[test]
fn the_network_plugin_fails() {
    let events = warning(
        "Pod",
        "virt-launcher-demo-x",
        "FailedCreatePodSandBox",
        "plugin type=\"bridge\" failed (add): no IP addresses available",
    );
    expect(
        preparing(&events),
        "demo does not start because node n1 can't set up its pod: plugin type=\"bridge\" failed (add): no IP addresses available.",
    );
}

#[test]
fn warnings_about_others_are_left_out() {
    let events = warning("Pod", "other", "FailedMount", "secret \"x\" not found");
    expect(
        preparing(&events),
        "demo is starting: its pod is being prepared on node n1.",
    );
}

#[test]
fn the_node_cannot_run_it() {
    let condition = json!([{"type": "Synchronized", "status": "False", "reason": "FailedCreate",
        "message": "disk image of volume \"root\" is not readable for user 107 (mode 0600)"}]);
    expect(
        World {
            vm: always(),
            vmi: on_node("Scheduled", &condition),
            ..World::default()
        },
        "demo does not start because node n1 can't run it: disk image of volume \"root\" is not readable for user 107 (mode 0600).",
    );
}

#[test]
fn the_daemon_does_not_answer() {
    let mut vmi = on_node("Scheduled", &json!([]));
    vmi["status"]["phaseTransitionTimestamps"] =
        json!([{"phase": "Scheduled", "phaseTransitionTimestamp": "2026-01-01T00:05:00Z"}]);
    expect(
        World {
            vm: always(),
            vmi,
            ..World::default()
        },
        "demo does not start because the daemon of node n1 has not started it for 300 s; does pod catamaran-node run there?",
    );
}

#[test]
fn the_node_is_dead_or_says_that_it_is_not_ready() {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    for (status, words) in [
        ("Unknown", "does not answer"),
        ("False", "says that it is not ready"),
    ] {
        let expected = format!(
            "Node n1 {words}, so nobody knows whether demo still runs there; it starts elsewhere only once the node is proved dead."
        );
        expect(
            World {
                vm: always(),
                vmi: on_node("Running", &ready),
                nodes: json!([{"metadata": {"name": "n1"}, "status":
                    {"conditions": [{"type": "Ready", "status": status}]}}]),
                ..World::default()
            },
            &expected,
        );
    }
}

#[test]
fn the_readiness_probe_fails() {
    let ready = json!([{"type": "Ready", "status": "False", "reason": "ContainersNotReady",
        "message": "The readiness probe fails"}]);
    expect(
        World {
            vm: always(),
            vmi: on_node("Running", &ready),
            pods: pod(&json!({"phase": "Running"})),
            events: warning(
                "Pod",
                "virt-launcher-demo-x",
                "Unhealthy",
                "Readiness probe failed: dial tcp 10.0.0.7:80: connect: connection refused",
            ),
            ..World::default()
        },
        "demo runs but is not ready: Readiness probe failed: dial tcp 10.0.0.7:80: connect: connection refused.",
    );
}

#[test]
fn somebody_paused_it() {
    let paused = json!([{"type": "Paused", "status": "True", "reason": "PausedByUser",
        "message": "VMI was paused by user"}]);
    expect(
        World {
            vm: always(),
            vmi: on_node("Running", &paused),
            ..World::default()
        },
        "demo is paused because somebody asked for it; `kubectl catamaran unpause demo` lets it go on.",
    );
}

#[test]
fn a_disk_of_the_host_is_full() {
    let paused = json!([{"type": "Paused", "status": "True", "reason": "PausedIOError",
        "message": "VMI was paused: a disk of the host is full; it goes on when there is space"}]);
    expect(
        World {
            vm: always(),
            vmi: on_node("Running", &paused),
            ..World::default()
        },
        "demo is paused because node n1 could not write or read a disk: VMI was paused: a disk of the host is full; it goes on when there is space.",
    );
}

#[test]
fn it_ends_again_and_again() {
    let status = json!({"startFailure": {"consecutiveFailCount": 3,
        "retryAfterTimestamp": "2026-01-01T00:10:40Z"}});
    let mut ended = vmi("Failed", &json!([]));
    ended["status"]["reason"] = "The guest has panicked".into();
    expect(
        World {
            vm: vm("Always", &status),
            vmi: ended,
            ..World::default()
        },
        "demo waits because it has failed again and again, 3 in a row (The guest has panicked); it is tried again in 40 s.",
    );
}

#[test]
fn it_is_halted() {
    expect(
        World {
            vm: vm("Halted", &json!({})),
            ..World::default()
        },
        "demo is stopped because its run strategy is Halted; `kubectl catamaran start demo` starts it.",
    );
}

#[test]
fn it_ran_once() {
    let mut ended = vmi("Succeeded", &json!([]));
    ended["status"]["reason"] = "The guest has shut down".into();
    expect(
        World {
            vm: vm("Once", &json!({})),
            vmi: ended,
            ..World::default()
        },
        "demo has ended after \"The guest has shut down\", and stays down because its run strategy is Once.",
    );
}

#[test]
fn it_was_stopped_for_good_and_its_run_is_gone() {
    let mut vm = vm("RerunOnFailure", &json!({}));
    vm["status"]["printableStatus"] = "Stopped".into();
    expect(
        World {
            vm,
            ..World::default()
        },
        "demo is stopped: its guest shut down or somebody stopped it, and run strategy RerunOnFailure leaves it so; `kubectl catamaran start demo` starts it.",
    );
}

#[test]
fn what_was_repaired_while_it_waits_needs_a_restart() {
    let status = json!({"conditions": [{"type": "RestartRequired", "status": "True"}]});
    expect(
        World {
            vm: vm("Always", &status),
            ..not_scheduled("0/1 nodes are available: 1 node(s) didn't match the selector")
        },
        "demo does not start because no node takes it: 0/1 nodes are available: 1 node(s) didn't match the selector. \
         What was changed of it since waits for `kubectl catamaran restart demo`.",
    );
}

#[test]
fn the_controller_is_away() {
    expect(
        World {
            vm: always(),
            ..World::default()
        },
        "demo should run (run strategy Always) but has no instance; the controller has not looked at it, or does not run.",
    );
}

#[test]
fn it_is_being_stopped() {
    let mut going = on_node("Running", &json!([]));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:09:59Z".into();
    going["spec"]["terminationGracePeriodSeconds"] = 60.into();
    expect(
        World {
            vm: vm("Halted", &json!({})),
            vmi: going,
            ..World::default()
        },
        "demo is being stopped; its guest has 60 s to shut down before it is killed.",
    );
}

#[test]
fn a_finalizer_holds_it() {
    let mut held = vm("Halted", &json!({}));
    held["metadata"]["deletionTimestamp"] = "2026-01-01T00:09:59Z".into();
    held["metadata"]["finalizers"] = json!(["example.com/backup"]);
    expect(
        World {
            vm: held,
            ..World::default()
        },
        "demo is being deleted, and is held by the finalizers example.com/backup.",
    );
}

#[test]
fn nothing_is_wrong() {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let status = json!({"conditions": [{"type": "RestartRequired", "status": "True"}]});
    expect(
        World {
            vm: vm("Always", &status),
            vmi: on_node("Running", &ready),
            ..World::default()
        },
        "demo runs on node n1 and is ready; what was changed of it waits for `kubectl catamaran restart demo`.",
    );
}

fn with_volume(phase: &str, message: Option<&str>, events: Value) -> World {
    let mut vmi = on_node("Running", &json!([{"type": "Ready", "status": "True"}]));
    vmi["status"]["volumeStatus"] = json!([{
        "name": "extra", "target": "", "phase": phase, "message": message,
        "hotplugVolume": {"attachPodName": "hp-volume-x"},
    }]);
    World {
        vm: always(),
        vmi,
        events,
        ..World::default()
    }
}

#[test]
fn a_volume_is_not_plugged_in() {
    let missing = "PersistentVolumeClaim extra is not there";
    expect(
        with_volume("Pending", Some(missing), json!([])),
        "demo runs on node n1 and is ready, but its volume \"extra\" is not plugged in yet: PersistentVolumeClaim extra is not there.",
    );
    let said = warning("Pod", "hp-volume-x", "FailedMount", "no such share.");
    expect(
        with_volume("Pending", Some("Pod hp-volume-x does not run yet"), said),
        "demo runs on node n1 and is ready, but its volume \"extra\" is not plugged in yet: no such share.",
    );
}

#[test]
fn a_guest_does_not_let_a_volume_go() {
    expect(
        with_volume("Detaching", None, json!([])),
        "demo runs on node n1 and is ready, but its guest has not let volume \"extra\" go yet; it must not be mounted there.",
    );
}

#[test]
fn what_failed_about_a_volume_is_told_whether_it_is_plugged_in_or_on_its_way_out() {
    for (phase, words) in [
        ("Ready", ", which is plugged in, needs a look"),
        ("Detaching", " is not unplugged yet"),
    ] {
        let mut world = with_volume(phase, Some("its pod is gone; it is tried again"), json!([]));
        world.vmi["status"]["volumeStatus"][0]["reason"] = json!("HotplugFailed");
        let expected = format!(
            "demo runs on node n1 and is ready, but its volume \"extra\"{words}: its pod is gone; it is tried again."
        );
        expect(world, &expected);
    }
}
