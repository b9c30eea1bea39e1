//! Statuses from what launchers say.

use catamaran_plan::{HostFacts, offline_given, plan};
use serde_json::json;

use super::*;
use crate::kubernetes::session::Sizes;

fn session() -> Session {
    let manifest = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "domain": {"memory": {"guest": "128Mi"}, "devices": {
                "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                "interfaces": [{"name": "default", "masquerade": {}}],
            }},
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", "containerDisk": {"image": "guest:1"}}],
        },
    });
    let read =
        catamaran_spec::read::virtual_machine_instance(&manifest, catamaran_spec::Context::Cluster);
    let (_, spec, _) = read.unwrap();
    let mut facts = HostFacts::offline();
    facts.accelerator = Accelerator::Tcg;
    Session {
        plugged: Default::default(),
        pod: "p".into(),
        plan: plan(&spec, &facts, &offline_given(&spec)).unwrap(),
        addresses: vec!["10.244.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        router: None,
        interfaces: std::collections::BTreeMap::new(),
        resolver: Default::default(),
        volumes: Vec::new(),
        sizes: Sizes {
            sockets: 1,
            cores: 1,
            threads: 1,
        },
    }
}

fn report(state: VmState) -> VmReport {
    VmReport {
        generation: None,
        sequence: 1,
        state,
        since_ms: 0,
        message: None,
        qemu_pid: Some(7),
        agent: None,
        reboots: 0,
        viewers: 0,
        warnings: Vec::new(),
    }
}

fn scheduled() -> VirtualMachineInstanceStatus {
    VirtualMachineInstanceStatus {
        phase: Some("Scheduled".into()),
        ..Default::default()
    }
}

fn condition(status: &VirtualMachineInstanceStatus, kind: &str) -> Option<String> {
    let found = status.conditions.iter().find(|c| c.type_ == kind);
    found.map(|condition| condition.status.clone())
}

#[test]
fn running_ready_and_interfaces_are_one_write() {
    let status = running(
        &scheduled(),
        &session(),
        &report(VmState::Running),
        false,
        5,
    );
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready").as_deref(), Some("True"));
    assert_eq!(
        status.interfaces[0].ip_address.as_deref(),
        Some("10.244.0.5")
    );
    assert_eq!(status.interfaces[0].ip_addresses.len(), 2);
    let again = running(&status, &session(), &report(VmState::Running), false, 9);
    assert!(difference(&status, &again).is_empty());
}

#[test]
fn the_controllers_fields_are_left_alone() {
    let mut before = scheduled();
    before.node_name = Some("n1".into());
    set_instance_condition(
        &mut before.conditions,
        "LiveMigratable",
        ConditionStatus::False,
        "DisksNotLiveMigratable",
        "",
        1,
    );
    let after = running(&before, &session(), &report(VmState::Running), false, 5);
    assert_eq!(
        condition(&after, "LiveMigratable").as_deref(),
        Some("False")
    );
    assert!(!difference(&before, &after).contains_key("nodeName"));
}

#[test]
fn a_probed_guest_is_not_called_ready_before_its_pod_is() {
    let status = running(&scheduled(), &session(), &report(VmState::Running), true, 5);
    assert_eq!(condition(&status, "Ready").as_deref(), Some("False"));
}

#[test]
fn a_pause_is_told_and_taken_back() {
    let paused = report(VmState::Paused {
        reason: PauseReason::User,
    });
    let first = running(
        &scheduled(),
        &session(),
        &report(VmState::Running),
        false,
        5,
    );
    let second = running(&first, &session(), &paused, false, 6);
    assert_eq!(condition(&second, "Paused").as_deref(), Some("True"));
    let third = running(&second, &session(), &report(VmState::Running), false, 7);
    assert_eq!(condition(&third, "Paused"), None);
    assert!(difference(&second, &third).contains_key("conditions"));
}

#[test]
fn the_agents_interfaces_join_those_of_the_manifest() {
    let session = session();
    let mut said = report(VmState::Running);
    let guest = |name: &str, mac: &str| GuestInterface {
        name: name.into(),
        mac: mac.into(),
        addresses: vec!["10.0.2.2".parse().unwrap()],
    };
    said.agent = Some(AgentInfo {
        interfaces: vec![
            guest("enp1s0", &session.plan.nics[0].mac),
            guest("docker0", "02:42:00:00:00:01"),
        ],
        os: json!({"id": "debian", "pretty-name": "Debian 13"}),
        ..Default::default()
    });
    let status = running(&scheduled(), &session, &said, false, 5);
    let first = &status.interfaces[0];
    assert_eq!(first.interface_name.as_deref(), Some("enp1s0"));
    // The address from outside, not the one behind the masquerade.
    assert_eq!(first.ip_address.as_deref(), Some("10.244.0.5"));
    assert_eq!(
        status.interfaces[1].interface_name.as_deref(),
        Some("docker0")
    );
    assert_eq!(status.guest_os_info.unwrap().id.as_deref(), Some("debian"));
}

#[test]
fn an_interface_in_another_network_has_the_addresses_that_the_guest_says() {
    let mut session = session();
    let mac = "02:00:00:00:00:0a".to_owned();
    let mut other = session.plan.nics[0].clone();
    (other.name, other.mac) = ("blue".to_owned(), mac.clone());
    session.plan.nics.insert(0, other);
    session.interfaces = [("blue".to_owned(), "pod0a".to_owned())].into();
    let mut said = report(VmState::Running);
    let silent = running(&scheduled(), &session, &said, false, 5);
    // The address of an instance is that of its first interface.
    assert!(silent.interfaces[0].ip_address.is_some());
    let blue = &silent.interfaces[1];
    assert_eq!(
        (
            blue.pod_interface_name.as_deref(),
            blue.ip_address.as_deref()
        ),
        (Some("pod0a"), None)
    );
    said.agent = Some(AgentInfo {
        interfaces: vec![GuestInterface {
            name: "eth1".into(),
            mac,
            addresses: vec!["192.168.9.4".parse().unwrap()],
        }],
        ..Default::default()
    });
    let told = running(&scheduled(), &session, &said, false, 5);
    let blue = &told.interfaces[1];
    assert_eq!(blue.ip_address.as_deref(), Some("192.168.9.4"));
    assert_eq!(
        blue.info_source.as_deref(),
        Some("domain, guest-agent, multus-status")
    );
}

#[test]
fn an_end_is_written_once() {
    let first = ended(&scheduled(), Phase::Succeeded, "The guest ended");
    assert_eq!(first.phase.as_deref(), Some("Succeeded"));
    let second = ended(&first, Phase::Failed, "again");
    assert!(difference(&first, &second).is_empty());
}

#[test]
fn fields_that_go_are_removed_by_the_patch() {
    let before = VirtualMachineInstanceStatus {
        reason: Some("x".into()),
        ..Default::default()
    };
    let patch = difference(&before, &VirtualMachineInstanceStatus::default());
    assert_eq!(Value::Object(patch), json!({"reason": null}));
}

#[test]
fn sizes_are_written_in_the_largest_unit_that_fits() {
    assert_eq!(kibibytes(1 << 30), "1Gi");
    assert_eq!(kibibytes(96 << 20), "96Mi");
    assert_eq!(kibibytes(1500), "1500");
}
