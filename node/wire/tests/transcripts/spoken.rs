//! What today's daemon and launcher say to each other: every verb, every state, every kind of answer.

use catamaran_plan::hotplug::Device;
use catamaran_plan::pod::{Look, LookKind};
use catamaran_plan::{Format, Plan};
use catamaran_wire::{
    AgentInfo, BlockStats, DhcpServe, EndReason, ErrorKind, FoundDisk, GuestInterface, Hello,
    Incoming, Inspected, InspectedDisk, MemoryStats, NetStats, PROTOCOL_MAX, PROTOCOL_MIN,
    PauseReason, Reply, Request, Statistics, Stream, Unplugged, VcpuStats, Verb, VmReport, VmState,
    WireError,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::file::{Line, Side};

/// The release that today's code belongs to: its first two numbers.
pub(crate) fn release() -> String {
    let numbers = env!("CARGO_PKG_VERSION").split('.').take(2);
    numbers.collect::<Vec<_>>().join(".")
}

/// Conversations by name.
pub(crate) fn conversations() -> Vec<(&'static str, Vec<Line>)> {
    vec![
        ("ends", ends()),
        ("life", life()),
        ("plugs", plugs()),
        ("refusals", refusals()),
        ("saved", saved()),
        ("screen", screen()),
        ("serial", serial()),
    ]
}

/// A conversation as it grows.
struct Talk {
    lines: Vec<Line>,
    last: u64,
    reports: u64,
}

impl Talk {
    fn new() -> Self {
        let mut talk = Self {
            lines: Vec::new(),
            last: 0,
            reports: 0,
        };
        let hello = |features: &[&str]| Hello {
            min: PROTOCOL_MIN,
            max: PROTOCOL_MAX,
            version: format!("{}.0", release()),
            features: features.iter().map(|name| (*name).to_owned()).collect(),
        };
        talk.say(Side::Daemon, 0, &hello(&[]));
        talk.say(Side::Launcher, 0, &hello(&["replay", "readOnly"]));
        talk
    }

    fn say(&mut self, from: Side, fds: usize, frame: &impl Serialize) {
        let frame = serde_json::to_value(frame).unwrap();
        self.lines.push(Line { from, fds, frame });
    }

    fn ask_with(&mut self, verb: Verb, fds: usize, ok: Value, error: Option<WireError>) {
        self.last += 1;
        let id = self.last;
        self.say(Side::Daemon, fds, &Request { id, verb });
        self.say(Side::Launcher, 0, &Incoming::Reply(Reply { id, ok, error }));
    }

    fn ask(&mut self, verb: Verb) {
        self.ask_with(verb, 0, Value::Null, None);
    }

    fn ask_for(&mut self, verb: Verb, ok: impl Serialize) {
        self.ask_with(verb, 0, serde_json::to_value(ok).unwrap(), None);
    }

    fn report(&mut self, report: VmReport) {
        self.reports += 1;
        let report = Box::new(VmReport {
            sequence: self.reports,
            ..report
        });
        self.say(Side::Launcher, 0, &Incoming::Report { report });
    }

    fn state(&mut self, state: VmState) {
        self.report(report(state));
    }
}

fn report(state: VmState) -> VmReport {
    VmReport {
        generation: (state != VmState::Idle).then(|| plan().generation),
        sequence: 0,
        state,
        since_ms: 1_700_000_000_000,
        message: None,
        qemu_pid: None,
        agent: None,
        reboots: 0,
        viewers: 0,
        warnings: Vec::new(),
    }
}

fn running() -> VmReport {
    VmReport {
        qemu_pid: Some(42),
        ..report(VmState::Running)
    }
}

fn ended(reason: EndReason) -> VmReport {
    report(VmState::Ended { reason })
}

fn start(plan: Plan) -> Verb {
    Verb::Start {
        plan: Box::new(plan),
    }
}

fn life() -> Vec<Line> {
    let mut talk = Talk::new();
    talk.ask(Verb::Watch);
    talk.state(VmState::Idle);
    let (inspect, inspected) = inspection();
    talk.ask_for(inspect, inspected);
    let serve = vec![served()];
    talk.ask_with(Verb::ServeNetwork { serve }, 3, Value::Null, None);
    talk.ask(start(plan()));
    for state in [VmState::Preparing, VmState::Starting] {
        talk.state(state);
    }
    talk.report(running());
    talk.report(VmReport {
        agent: Some(agent()),
        viewers: 2,
        warnings: vec!["the guest agent did not take the password of alice".into()],
        ..running()
    });
    talk.ask_for(Verb::Statistics, statistics());
    talk.ask_for(Verb::Screenshot, "iVBORw0KGgo=");
    let tail_bytes = Some(4096);
    talk.ask_for(
        Verb::Dmesg { tail_bytes },
        "[    0.000000] Linux version 6\n",
    );
    let verb = Verb::Agent {
        command: json!({ "execute": "guest-get-host-name" }),
        timeout_seconds: 5,
    };
    talk.ask_for(verb, json!({ "host-name": "web" }));
    talk.ask(Verb::Pause);
    for reason in [
        PauseReason::User,
        PauseReason::NoSpace,
        PauseReason::IoError,
        PauseReason::Panicked,
    ] {
        talk.report(VmReport {
            message: Some("why".into()),
            ..report(VmState::Paused { reason })
        });
    }
    talk.ask(Verb::Unpause);
    talk.ask(Verb::Reset);
    talk.ask(Verb::SoftReboot);
    talk.report(VmReport {
        reboots: 2,
        ..running()
    });
    talk.ask(Verb::Finish);
    let grace_period_seconds = Some(30);
    talk.ask(Verb::Stop {
        grace_period_seconds,
    });
    talk.state(VmState::Stopping);
    talk.report(ended(EndReason::Shutdown));
    talk.lines
}

/// A machine that can't be prepared, and other ends.
fn ends() -> Vec<Line> {
    let mut talk = Talk::new();
    talk.ask(Verb::Watch);
    let mut plan = serde_json::to_value(plan()).unwrap();
    plan["prepare"] = steps();
    talk.ask(start(serde_json::from_value(plan).unwrap()));
    for reason in [
        EndReason::FailedToStart,
        EndReason::Destroyed,
        EndReason::Panicked,
        EndReason::Crashed,
    ] {
        talk.report(ended(reason));
    }
    let grace_period_seconds = None;
    talk.ask(Verb::Stop {
        grace_period_seconds,
    });
    talk.ask(Verb::Destroy);
    talk.lines
}

fn saved() -> Vec<Line> {
    let mut talk = Talk::new();
    talk.ask(start(plan()));
    talk.ask(Verb::Watch);
    talk.report(running());
    talk.ask(Verb::Save);
    talk.report(ended(EndReason::Saved));
    talk.lines
}

fn plugs() -> Vec<Line> {
    let mut talk = Talk::new();
    talk.ask(start(plan()));
    talk.ask(Verb::Watch);
    talk.report(running());
    talk.ask(Verb::Plug {
        devices: vec![Device {
            alias: "ua-data".into(),
            xml: "<disk type=\"file\" device=\"disk\"/>".into(),
        }],
    });
    for (ask, answer) in [(true, Unplugged::Leaving), (false, Unplugged::Gone)] {
        let alias = "ua-data".into();
        talk.ask_for(Verb::Unplug { alias, ask }, answer);
    }
    talk.lines
}

fn refusals() -> Vec<Line> {
    let mut talk = Talk::new();
    for kind in [
        ErrorKind::Unsupported,
        ErrorKind::Stale,
        ErrorKind::Denied,
        ErrorKind::Failed,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
    ] {
        let error = WireError::new(kind, "only a running machine can be paused");
        talk.ask_with(Verb::Pause, 0, Value::Null, Some(error));
    }
    talk.lines
}

fn screen() -> Vec<Line> {
    let mut talk = Talk::new();
    let stream = Stream::Vnc { read_only: true };
    talk.ask(Verb::Attach { stream });
    talk.lines
}

fn serial() -> Vec<Line> {
    let mut talk = Talk::new();
    let stream = Stream::Serial {
        replay: true,
        read_only: false,
    };
    talk.ask(Verb::Attach { stream });
    talk.lines
}

fn inspection() -> (Verb, Inspected) {
    let look = |volume: &str, path: &str, kind, make| Look {
        volume: volume.into(),
        path: path.into(),
        kind,
        make,
    };
    let verb = Verb::Inspect {
        disks: vec![
            look("root", "/nowhere/root/disk.img", LookKind::ImageFile, None),
            look("tools", "/nowhere/tools", LookKind::ImageFolder, None),
            look("data", "/nowhere/data", LookKind::Claim, Some(1 << 30)),
            look("old", "/nowhere/old.img", LookKind::Raw, None),
        ],
        files: vec!["/nowhere/vmlinuz".into()],
        folders: vec!["/nowhere/keys".into()],
    };
    let found = |volume: &str, found, error: Option<&str>| InspectedDisk {
        volume: volume.into(),
        found,
        error: error.map(Into::into),
    };
    let disk = FoundDisk {
        path: "/nowhere/root/disk.img".into(),
        format: Format::Qcow2,
        virtual_size: 3 << 30,
        direct_io: true,
        block: true,
    };
    let inspected = Inspected {
        disks: vec![
            found("root", Some(disk), None),
            found("tools", None, Some("the image's folder /disk is empty")),
        ],
        files: [("/nowhere/vmlinuz".to_owned(), 8 << 20)].into(),
        folders: [("/nowhere/keys".to_owned(), vec!["alice".to_owned()])].into(),
        nameservers: vec!["10.96.0.10".parse().unwrap()],
        search: vec!["default.svc.cluster.local".into()],
        kvm: true,
        hardware: Some(plan().hardware),
    };
    (verb, inspected)
}

fn served() -> DhcpServe {
    DhcpServe {
        device: "k6t-default".into(),
        device_index: 3,
        device_mac: [2, 0, 0, 0, 0, 1],
        sockets: ["dhcp4", "ra", "dhcp6"].map(Into::into).into(),
        mac: [2, 0, 0, 0, 0, 2],
        v4: Some(("10.0.2.2".parse().unwrap(), 24)),
        v4_gateway: Some("10.0.2.1".parse().unwrap()),
        v4_server: Some("10.0.2.1".parse().unwrap()),
        v4_routes: vec![
            (
                "10.1.0.0".parse().unwrap(),
                16,
                Some("10.0.2.1".parse().unwrap()),
            ),
            ("10.2.0.0".parse().unwrap(), 16, None),
        ],
        v6: Some(("fd10:0:2::2".parse().unwrap(), 120)),
        v6_gateway: Some("fe80::1".parse().unwrap()),
        v6_gateway_is_ours: true,
        dns: vec!["10.96.0.10".parse().unwrap(), "fd00::10".parse().unwrap()],
        search: vec!["default.svc.cluster.local".into()],
        hostname: "web".into(),
        mtu: 1450,
        lease_seconds: Some(3600),
    }
}

fn agent() -> AgentInfo {
    AgentInfo {
        version: "9.2".into(),
        hostname: "web".into(),
        os: json!({ "id": "debian" }),
        interfaces: vec![GuestInterface {
            name: "eth0".into(),
            mac: "02:00:00:00:00:02".into(),
            addresses: vec!["10.0.2.2".parse().unwrap()],
        }],
    }
}

fn statistics() -> Statistics {
    let number = Some(1 << 20);
    Statistics {
        cpu_seconds: 1.5,
        cpu_user_seconds: 1.0,
        cpu_system_seconds: 0.5,
        vcpus: vec![VcpuStats {
            id: 1,
            seconds: 1.25,
            wait_seconds: 0.5,
            delay_seconds: 0.25,
        }],
        memory: MemoryStats {
            actual: number,
            available: number,
            unused: number,
            usable: number,
            resident: number,
            cached: number,
            swap_in: number,
            swap_out: number,
            major_faults: number,
            minor_faults: number,
            domain: number,
        },
        networks: vec![NetStats {
            device: "tap0".into(),
            name: "default".into(),
            receive: [1, 2, 3, 4],
            transmit: [5, 6, 7, 8],
        }],
        disks: vec![BlockStats {
            name: "root".into(),
            target: "vda".into(),
            read: [1, 2, 3],
            write: [4, 5, 6],
            flush: [7, 8],
            allocated: 1 << 20,
            capacity: 3 << 30,
        }],
    }
}

/// A plan with something in each of its lists. It is data: what a release has written must stay readable.
fn plan() -> Plan {
    serde_json::from_value(json!({
        "generation": { "vmi_uid": "6d6f6f6e-0000-4000-8000-000000000001", "counter": 1, "spec_digest": "d1" },
        "domain": "default_web",
        "hostname": "web",
        "accelerator": "tcg",
        "views": [
            { "source": { "hostFile": "/images/1.img" }, "inside": "/disks/root", "writable": false },
            { "source": { "secret": "keys" }, "inside": "/config/keys", "writable": false },
            { "source": { "configMap": "settings" }, "inside": "/config/settings", "writable": false },
        ],
        "prepare": [{ "folder": { "path": "/vm/disks" } }],
        "nics": [
            {
                "name": "default", "tap": "tap0", "mac": "02:00:00:00:00:02", "mtu": 1450, "multi_queue": true,
                "binding": { "masquerade": { "v4": "10.0.2.0/24", "v6": "fd10:0:2::/120", "ports": [["tcp", 80, 80]] } },
            },
            { "name": "far", "tap": "tap1", "mac": "02:00:00:00:00:03", "mtu": 1500, "multi_queue": false, "binding": "bridge" },
            { "name": "lan", "tap": "tap2", "mac": "02:00:00:00:00:04", "mtu": 1500, "multi_queue": false, "binding": "segment" },
        ],
        "agent_access": [
            { "sshKeys": { "folder": "/config/keys", "users": ["alice"] } },
            { "passwords": { "folder": "/config/passwords" } },
        ],
        "domain_xml": "<domain type=\"qemu\"><name>default_web</name></domain>",
        "hardware": {
            "spec_digest": "d1", "machine": "pc-q35-10.0", "cpu_model": "Haswell", "cpu_features": [["avx2", "require"]],
            "addresses": { "ua-root": "0000:01:00.0" },
        },
        "grace_period_seconds": 30,
        "start_paused": false,
        "serial_console": true,
        "graphics": true,
        "guest_memory": 268_435_456,
        "overhead": 104_857_600,
        "notes": ["Hyper-V enlightenments: left out, needs KVM"],
    }))
    .unwrap()
}

/// Every step of a preparation.
fn steps() -> Value {
    json!([
        { "folder": { "path": "/vm/disks" } },
        { "emptyDisk": { "path": "/vm/disks/empty", "size": 1_048_576 } },
        { "nvram": { "path": "/vm/nvram", "template": "/nowhere/OVMF_VARS.fd" } },
        { "overlay": { "path": "/vm/disks/root", "base": "/nowhere/disk.img", "base_format": "qcow2", "size": 1_048_576, "limit": 2_097_152 } },
        { "seed": { "path": "/vm/seed", "label": "cidata", "files": [
            { "path": "user-data", "content": { "inline": "#cloud-config" } },
            { "path": "network-config", "content": { "firstOf": ["/config/a", "/config/b"] } },
            { "path": "meta-data", "content": { "metaData": {
                "base": { "instance-id": "1" }, "key_folders": ["/config/keys"], "keys_at": "public-keys",
            } } },
        ] } },
    ])
}
