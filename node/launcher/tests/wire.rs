//! The launcher's socket from end to end, with a hypervisor that pretends: no root, no guest.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use catamaran_wire::{
    Connection, EndReason, ErrorKind, Hello, Incoming, PauseReason, Reply, Request, Verb, VmReport,
    VmState,
};
use serde_json::{Value, json};
use tokio::net::UnixStream;

#[path = "../../wire/tests/transcripts/file.rs"]
mod transcripts;

use transcripts::Side;

const SOON: Duration = Duration::from_secs(20);

struct Launcher {
    dir: tempfile::TempDir,
    process: Child,
}

impl Launcher {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let process = spawn(dir.path());
        Self { dir, process }
    }

    async fn connect(&self) -> Client {
        let hello = Hello {
            min: 1,
            max: 1,
            version: "test".into(),
            features: Vec::new(),
        };
        self.connect_with(&serde_json::to_value(hello).unwrap())
            .await
    }

    async fn connect_with(&self, hello: &Value) -> Client {
        let deadline = Instant::now() + SOON;
        loop {
            if let Ok(stream) = UnixStream::connect(self.dir.path().join("launcher.sock")).await {
                let mut connection = Connection::new(stream);
                connection.send(hello).await.unwrap();
                let (theirs, _) = connection.receive::<Hello>().await.unwrap();
                assert_eq!((theirs.min, theirs.max), (1, 1));
                return Client {
                    connection,
                    last: 0,
                };
            }
            assert!(Instant::now() < deadline, "no launcher");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A connection over which a machine was started that runs now.
    async fn running(&self) -> Client {
        let mut client = self.connect().await;
        client.start().await;
        client
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the launcher still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_catamaran-launcher"))
        .arg("--fake")
        .arg("--run")
        .arg(dir)
        .arg("--state")
        .arg(dir.join("state"))
        .spawn()
        .unwrap()
}

/// Id of requests to be told of changes: the answer to one and the first report may come in either order.
const WATCH: u64 = 900;

struct Client {
    connection: Connection,
    last: u64,
}

impl Client {
    /// Starts the machine, and waits until it runs.
    async fn start(&mut self) {
        self.raw(json!({ "verb": "start", "body": { "plan": plan() } }))
            .await;
        self.wait_for(|report| report.state == VmState::Running)
            .await;
    }

    async fn raw(&mut self, frame: Value) -> Reply {
        self.raw_with(frame, &[]).await
    }

    async fn raw_with(&mut self, mut frame: Value, fds: &[BorrowedFd<'_>]) -> Reply {
        self.last += 1;
        frame["id"] = self.last.into();
        self.connection.send_with_fds(&frame, fds).await.unwrap();
        loop {
            if let Incoming::Reply(reply) = self.connection.receive::<Incoming>().await.unwrap().0
                && reply.id != WATCH
            {
                assert_eq!(reply.id, self.last);
                return reply;
            }
        }
    }

    async fn ask(&mut self, verb: Verb) -> Reply {
        self.raw(serde_json::to_value(Request { id: 0, verb }).unwrap())
            .await
    }

    async fn wait_for(&mut self, wanted: impl Fn(&VmReport) -> bool) -> VmReport {
        self.connection
            .send(&Request {
                id: WATCH,
                verb: Verb::Watch,
            })
            .await
            .unwrap();
        let watch = async {
            loop {
                if let Incoming::Report { report } =
                    self.connection.receive::<Incoming>().await.unwrap().0
                    && wanted(&report)
                {
                    return *report;
                }
            }
        };
        tokio::time::timeout(SOON, watch).await.unwrap()
    }
}

fn plan() -> Value {
    json!({
        "generation": { "vmi_uid": "00000000-0000-0000-0000-000000000000", "counter": 1, "spec_digest": "d" },
        "domain": "default_fake", "hostname": "fake", "accelerator": "tcg", "views": [], "prepare": [], "nics": [],
        "agent_access": [], "domain_xml": "<domain/>", "grace_period_seconds": 5, "start_paused": false,
        "hardware": { "spec_digest": "d", "machine": "pc-q35-10.0", "cpu_model": null, "addresses": {} },
        "serial_console": false, "graphics": false, "guest_memory": 0, "overhead": 0,
    })
}

fn run(test: impl AsyncFnOnce(&mut Launcher)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test(&mut Launcher::start()));
}

#[test]
fn a_machine_lives_and_ends_over_the_wire() {
    run(async |launcher| {
        let mut client = launcher.connect().await;
        let start = json!({ "verb": "start", "body": { "plan": plan() } });
        assert_eq!(client.raw(start.clone()).await.error, None);
        let report = client
            .wait_for(|report| report.state == VmState::Running && report.agent.is_some())
            .await;
        assert_eq!(report.agent.unwrap().hostname, "fake");
        assert_eq!(
            client.raw(start).await.error,
            None,
            "a second start is ignored"
        );

        let mut other = launcher.connect().await;
        assert_eq!(other.ask(Verb::Pause).await.error, None);
        client
            .wait_for(|report| {
                report.state
                    == VmState::Paused {
                        reason: PauseReason::User,
                    }
            })
            .await;
        assert_eq!(
            other.ask(Verb::SoftReboot).await.error.unwrap().kind,
            ErrorKind::Denied
        );
        assert_eq!(other.ask(Verb::Unpause).await.error, None);
        assert!(other.ask(Verb::Screenshot).await.ok.is_string());
        let command = json!({ "execute": "guest-get-host-name" });
        let answer = other
            .ask(Verb::Agent {
                command,
                timeout_seconds: 5,
            })
            .await;
        assert_eq!(answer.ok["host-name"], "fake");

        assert_eq!(other.ask(Verb::Finish).await.error, None);
        assert_eq!(
            other
                .ask(Verb::Stop {
                    grace_period_seconds: None
                })
                .await
                .error,
            None
        );
        client
            .wait_for(|report| {
                report.state
                    == VmState::Ended {
                        reason: EndReason::Shutdown,
                    }
            })
            .await;
        assert_eq!(launcher.exit_code(), Some(0));
    });
}

#[test]
fn unknown_verbs_are_answered_and_the_connection_goes_on() {
    run(async |launcher| {
        let mut client = launcher.connect().await;
        let reply = client
            .raw(json!({ "verb": "teleport", "body": { "to": "moon" } }))
            .await;
        assert_eq!(reply.error.unwrap().kind, ErrorKind::Unsupported);
        assert_eq!(
            client.ask(Verb::Pause).await.error.unwrap().kind,
            ErrorKind::Denied
        );
    });
}

#[test]
fn daemons_of_every_release_are_understood() {
    for (release, name, lines) in transcripts::all() {
        run(async |launcher| {
            let mut said = lines.iter().filter(|line| line.from == Side::Daemon);
            let hello = &said.next().unwrap().frame;
            let mut client = launcher.connect_with(hello).await;
            let runs = lines
                .iter()
                .any(|line| line.frame["report"]["state"]["is"] == "running");
            for line in said {
                let sockets: Vec<_> = (0..line.fds)
                    .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
                    .collect();
                let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                let frame = transcripts::with_unknown_fields(&line.frame);
                let reply = client.raw_with(frame, &fds).await;
                let verb = &line.frame["verb"];
                let kind = reply.error.map(|error| error.kind);
                assert!(
                    kind != Some(ErrorKind::Unsupported),
                    "{release}/{name}: {verb}"
                );
                if verb == "start" && runs {
                    client
                        .wait_for(|report| report.state == VmState::Running)
                        .await;
                }
                if ["start", "serveNetwork", "inspect", "statistics"]
                    .contains(&verb.as_str().unwrap())
                {
                    assert_eq!(kind, None, "{release}/{name}: {verb}");
                }
            }
        });
    }
}

#[test]
fn what_ended_is_still_told_by_the_next_launcher() {
    run(async |launcher| {
        let mut client = launcher.running().await;
        client.ask(Verb::Destroy).await;
        let end = client
            .wait_for(|report| matches!(report.state, VmState::Ended { .. }))
            .await;
        launcher.process.kill().unwrap();
        launcher.process.wait().unwrap();
        launcher.process = spawn(launcher.dir.path());
        let again = launcher.connect().await.wait_for(|_| true).await;
        assert_eq!((again.state, again.generation), (end.state, end.generation));
    });
}

#[test]
fn a_machine_that_vanished_with_its_launcher_has_crashed() {
    run(async |launcher| {
        launcher.running().await;
        // The fake's machine is gone with its process, and nobody has recorded an end.
        launcher.process.kill().unwrap();
        launcher.process.wait().unwrap();
        launcher.process = spawn(launcher.dir.path());
        let report = launcher.connect().await.wait_for(|_| true).await;
        assert_eq!(
            report.state,
            VmState::Ended {
                reason: EndReason::Crashed
            }
        );
    });
}

#[test]
fn a_device_comes_goes_and_is_known_by_the_next_look() {
    run(async |launcher| {
        let mut client = launcher.connect().await;
        let disk = || Verb::Plug {
            devices: vec![catamaran_plan::hotplug::Device {
                alias: "ua-data".into(),
                xml: "<disk/>".into(),
            }],
        };
        let unplug = |ask| Verb::Unplug {
            alias: "ua-data".into(),
            ask,
        };
        assert_eq!(
            client.ask(disk()).await.error.unwrap().kind,
            ErrorKind::Denied
        );
        client.start().await;
        // What is not there is gone.
        assert_eq!(client.ask(unplug(true)).await.ok, json!("gone"));
        // A second time is no error.
        for _ in 0..2 {
            assert!(client.ask(disk()).await.error.is_none());
        }
        assert_eq!(client.ask(unplug(false)).await.ok, json!("leaving"));
        assert_eq!(client.ask(unplug(true)).await.ok, json!("gone"));
    });
}
