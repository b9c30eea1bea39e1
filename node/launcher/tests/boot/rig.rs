//! A machine in its sandbox, as the daemon would start it, and a client of its launcher.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use catamaran_plan::{Accelerator, Generation, Hardware, Plan, Prepare};
use catamaran_sandbox::{Bind, Running, SandboxSpec};
use catamaran_wire::{Connection, Hello, Incoming, Reply, Request, Verb, VmReport, VmState};
use tokio::net::UnixStream;

/// Under translation on a busy machine a boot may take this long.
pub(crate) const BOOT: Duration = Duration::from_secs(180);

/// Why this test cannot run here, if it cannot.
pub(crate) fn reason_to_skip() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root, to make a sandbox");
    }
    (!guest("vmlinuz").exists()).then_some("there is no guest; run guest-images/build minimal")
}

/// A file of the minimal guest.
pub(crate) fn guest(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../guest-images/out/minimal")
        .join(file)
}

/// A folder that everyone may enter, with the code folder that sandboxes show.
pub(crate) struct Rig {
    _dir: tempfile::TempDir,
    pub(crate) spec: SandboxSpec,
    sandbox: Option<Running>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let code = dir.path().join("code");
        std::fs::create_dir_all(code.join("1")).unwrap();
        for (name, binary) in [
            ("catamaran-init", env!("CARGO_BIN_EXE_catamaran-init")),
            (
                "catamaran-launcher",
                env!("CARGO_BIN_EXE_catamaran-launcher"),
            ),
        ] {
            std::fs::copy(binary, code.join("1").join(name)).unwrap();
        }
        std::os::unix::fs::symlink("1", code.join("current")).unwrap();
        let bind = |host: PathBuf, inside: &str| Bind {
            host,
            inside: inside.into(),
            writable: false,
            file: None,
        };
        let spec = SandboxSpec {
            vm: "default_test".into(),
            hostname: "test".into(),
            run: dir.path().join("run"),
            state: dir.path().join("state"),
            code,
            capabilities: seed(),
            binds: vec![
                bind(guest("vmlinuz"), "/boot/kernel"),
                bind(guest("initrd"), "/boot/initrd"),
                bind(guest("minimal.raw"), "/disks/root"),
            ],
            netns: None,
            devices: Vec::new(),
            cgroups: Vec::new(),
            limits: Default::default(),
            task: None,
        };
        Self {
            _dir: dir,
            spec,
            sandbox: None,
        }
    }

    pub(crate) fn init() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_catamaran-init"))
    }

    pub(crate) fn start_sandbox(&mut self) {
        self.sandbox = Some(self.spec.start(Self::init()).unwrap());
    }

    pub(crate) fn sandbox(&self) -> &Running {
        self.sandbox.as_ref().unwrap()
    }

    /// Processes of the sandbox whose name begins so, by their pids on the host.
    pub(crate) fn processes(&self, name: &str) -> Vec<i32> {
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(self.sandbox().answer.pid);
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| namespace(*pid) == ours && ours.is_some())
            .filter(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|comm| comm.starts_with(name))
            })
            .collect()
    }

    /// Waits for the end of the sandbox.
    pub(crate) fn wait_for_end(&self, within: Duration) {
        let mut polled = [rustix::event::PollFd::new(
            &self.sandbox().pidfd,
            rustix::event::PollFlags::IN,
        )];
        let timeout = rustix::event::Timespec {
            tv_sec: within.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let ready = rustix::event::poll(&mut polled, Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "init still runs after {within:?}: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.spec.run.join("init.log")).unwrap_or_default()
    }

    pub(crate) async fn client(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(stream) = UnixStream::connect(self.spec.run.join("launcher.sock")).await
                && let Ok(client) = Client::greet(stream).await
            {
                return client;
            }
            assert!(Instant::now() < deadline, "no launcher: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the guest has said this on its serial port.
    pub(crate) async fn wait_for_output(&self, text: &str, within: Duration) {
        let deadline = Instant::now() + within;
        let said = || std::fs::read(self.spec.run.join("serial.log")).unwrap_or_default();
        while !String::from_utf8_lossy(&said()).contains(text) {
            let all = said();
            assert!(
                Instant::now() < deadline,
                "not said: {text}: {}\n{}",
                String::from_utf8_lossy(&all),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(sandbox) = &self.sandbox {
            let _ =
                rustix::process::pidfd_send_signal(&sandbox.pidfd, rustix::process::Signal::KILL);
            let mut polled = [rustix::event::PollFd::new(
                &sandbox.pidfd,
                rustix::event::PollFlags::IN,
            )];
            let _ = rustix::event::poll(&mut polled, None);
        }
        if std::thread::panicking() {
            eprintln!("--- log of the sandbox\n{}", self.log());
        }
    }
}

/// QEMU's capabilities, found once for all tests of this process, in a sandbox like theirs.
fn seed() -> Option<PathBuf> {
    static SEED: std::sync::OnceLock<Option<tempfile::TempDir>> = std::sync::OnceLock::new();
    let dir = SEED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let code = dir.path().join("code/1");
        std::fs::create_dir_all(&code).unwrap();
        std::fs::copy(
            env!("CARGO_BIN_EXE_catamaran-init"),
            code.join("catamaran-init"),
        )
        .unwrap();
        std::fs::copy(
            env!("CARGO_BIN_EXE_catamaran-launcher"),
            code.join("catamaran-launcher"),
        )
        .unwrap();
        std::os::unix::fs::symlink("1", dir.path().join("code/current")).unwrap();
        let spec = SandboxSpec {
            vm: "probe".into(),
            hostname: "probe".into(),
            run: dir.path().join("run"),
            state: dir.path().join("state"),
            code: dir.path().join("code"),
            capabilities: None,
            binds: Vec::new(),
            netns: None,
            devices: Vec::new(),
            cgroups: Vec::new(),
            limits: Default::default(),
            task: None,
        };
        let argv = ["/vm/code/current/catamaran-launcher", "capabilities"]
            .map(str::to_owned)
            .to_vec();
        let xml = spec.run_task(Rig::init(), argv).unwrap();
        assert!(String::from_utf8_lossy(&xml).contains("<domainCapabilities>"));
        Some(dir)
    });
    dir.as_ref()
        .map(|dir| dir.path().join("run/libvirt/cache/qemu/capabilities"))
}

/// A connection to the launcher.
pub(crate) struct Client {
    connection: Connection,
    next: u64,
}

impl Client {
    async fn greet(stream: UnixStream) -> Result<Self, catamaran_wire::FrameError> {
        let mut connection = Connection::new(stream);
        connection
            .send(&Hello {
                min: 1,
                max: 1,
                version: "test".into(),
                features: Vec::new(),
            })
            .await?;
        connection.receive::<Hello>().await?;
        Ok(Self {
            connection,
            next: 0,
        })
    }

    pub(crate) async fn ask(&mut self, verb: Verb) -> Reply {
        self.next += 1;
        self.connection
            .send(&Request {
                id: self.next,
                verb,
            })
            .await
            .unwrap();
        loop {
            if let Incoming::Reply(reply) = self.connection.receive::<Incoming>().await.unwrap().0 {
                assert_eq!(reply.id, self.next);
                return reply;
            }
        }
    }

    /// Asks for something that must work.
    pub(crate) async fn get(&mut self, verb: Verb) -> serde_json::Value {
        let reply = self.ask(verb).await;
        assert_eq!(reply.error, None);
        reply.ok
    }

    /// Watches on this connection until the state is as wanted.
    pub(crate) async fn wait_for(
        mut self,
        within: Duration,
        wanted: impl Fn(&VmState) -> bool,
    ) -> VmReport {
        self.connection
            .send(&Request {
                id: 99,
                verb: Verb::Watch,
            })
            .await
            .unwrap();
        let mut last = None;
        let watch = async {
            loop {
                if let Incoming::Report { report } =
                    self.connection.receive::<Incoming>().await.unwrap().0
                {
                    if wanted(&report.state) {
                        return *report;
                    }
                    last = Some(report);
                }
            }
        };
        match tokio::time::timeout(within, watch).await {
            Ok(report) => report,
            Err(_) => panic!("not reached within {within:?}; last: {last:?}"),
        }
    }

    /// Turns the connection into a stream.
    pub(crate) async fn attach(self, stream: catamaran_wire::Stream) -> (UnixStream, Vec<u8>) {
        let mut client = self;
        client.get(Verb::Attach { stream }).await;
        client.connection.into_stream()
    }
}

/// A plan of the minimal guest with these further devices and steps.
pub(crate) fn plan(devices: &str, os: &str, prepare: Vec<Prepare>, cmdline: &str) -> Plan {
    let boot = if os.is_empty() {
        format!(
            "<kernel>/boot/kernel</kernel><initrd>/boot/initrd</initrd><cmdline>console=ttyS0 {cmdline}</cmdline>"
        )
    } else {
        String::new()
    };
    let (os, features) = os.split_once('|').unwrap_or((os, ""));
    let firmware = os;
    // With UEFI, GRUB needs more than the kernel alone.
    let memory = if firmware.is_empty() { 192 } else { 512 };
    let domain_xml = format!(
        "<domain type='qemu'><name>default_test</name><uuid>6f2d4f0e-5b7c-4b1e-9d53-0a1b2c3d4e5f</uuid><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
         <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
         <os><type arch='x86_64' machine='q35'>hvm</type>{firmware}{boot}</os>
         <features><acpi/><apic/>{features}</features>
         <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>preserve</on_crash>
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
          <controller type='usb' model='none'/>
          <serial type='unix'><source mode='bind' path='/vm/serial.sock'/><log file='/vm/serial.log' append='off'/>
           <target type='isa-serial' port='0'/></serial>
          <memballoon model='virtio'/><panic model='pvpanic'/>
          {devices}
         </devices></domain>"
    );
    Plan {
        generation: Generation {
            vmi_uid: Default::default(),
            counter: 1,
            spec_digest: "test".into(),
        },
        domain: "default_test".into(),
        hostname: "test".into(),
        accelerator: Accelerator::Tcg,
        views: Vec::new(),
        prepare,
        nics: Vec::new(),
        agent_access: Vec::new(),
        domain_xml,
        hardware: Hardware {
            spec_digest: "test".into(),
            machine: "pc-q35-10.0".into(),
            cpu_model: None,
            cpu_features: Default::default(),
            addresses: Default::default(),
        },
        grace_period_seconds: 60,
        start_paused: false,
        serial_console: true,
        graphics: true,
        guest_memory: 192 << 20,
        overhead: 0,
        notes: Vec::new(),
    }
}

/// Kills by pid.
pub(crate) fn kill(pid: i32) {
    let status = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}
