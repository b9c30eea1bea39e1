//! A host to test on: namespaces of its own, a folder for records, and an "outside" behind an uplink.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use catamaran_network::{Attachment, HostNetwork, Key, NetworkConfig, Snapshot, snapshot};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Address of the outside on the uplink.
pub(crate) const OUTSIDE: &str = "192.0.2.1";
/// The same for IPv6.
pub(crate) const OUTSIDE_V6: &str = "2001:db8::1";
/// Address of the host on the uplink.
pub(crate) const HOST: &str = "192.0.2.2";

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Host {
    pub(crate) config: NetworkConfig,
    outside: Process,
    _folder: tempfile::TempDir,
}

/// Runs a test on a host of its own.
pub(crate) fn on_a_host<F: AsyncFnOnce(&Host) + Send + 'static>(test: F) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: it makes network namespaces, which needs root");
        return;
    }
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let host = Host::new();
        runtime.block_on(test(&host));
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let config = NetworkConfig {
            dns_upstreams: Vec::new(),
            ..NetworkConfig::new(folder.path())
        };
        let outside = Process::start(Command::new("unshare").args([
            "-n",
            "sh",
            "-c",
            "echo ready; exec sleep 600",
        ]));
        let host = Host {
            config,
            outside,
            _folder: folder,
        };
        host.run("ip link set lo up");
        host.run(&format!(
            "ip link add up0 type veth peer name out0 netns {}",
            host.outside.pid()
        ));
        host.run(&format!("ip addr add {HOST}/24 dev up0; ip addr add 2001:db8::2/64 dev up0 nodad; ip link set up0 up"));
        run_in(
            &host.outside.netns(),
            &format!(
                "ip link set lo up; ip addr add {OUTSIDE}/24 dev out0; ip addr add {OUTSIDE_V6}/64 dev out0 nodad;
                 ip link set out0 up; ip route add default via {HOST}"
            ),
        );
        // Until an interface knows that its link-local address is its own, it can ask for no neighbour, and what is to be sent is lost.
        eventually("the uplink's addresses are known to be unique", || {
            let tentative = "ip -6 -o addr show scope link tentative";
            let link_local = "ip -6 -o addr show scope link";
            [
                host.run(&format!("{link_local} dev up0; {tentative} dev up0")),
                run_in(
                    &host.outside.netns(),
                    &format!("{link_local} dev out0; {tentative} dev out0"),
                ),
            ]
            .iter()
            .all(|listed| listed.lines().count() == 1)
        });
        host
    }

    pub(crate) async fn network(&self) -> HostNetwork {
        HostNetwork::ensure(&self.config).await.unwrap()
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        snapshot(&self.config.folder).await.unwrap()
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.outside.netns()
    }

    /// Runs a script on the host, which must succeed; returns what it printed.
    pub(crate) fn run(&self, script: &str) -> String {
        self.try_run(script)
            .unwrap_or_else(|output| panic!("{script}: {output}"))
    }

    pub(crate) fn try_run(&self, script: &str) -> Result<String, String> {
        finish(Command::new("sh").args(["-ec", script]))
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("default", name).unwrap()
}

/// A program of this crate's `examples`.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        path.exists(),
        "run `cargo test -p catamaran-network`, which builds {}",
        path.display()
    );
    path
}

/// Runs a script in a network namespace, which must succeed.
pub(crate) fn run_in(netns: &Path, script: &str) -> String {
    try_run_in(netns, script).unwrap_or_else(|output| panic!("{script}: {output}"))
}

pub(crate) fn try_run_in(netns: &Path, script: &str) -> Result<String, String> {
    finish(command_in(netns, "sh").args(["-ec", script]))
}

/// A command in a network namespace.
pub(crate) fn command_in(netns: &Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns.display()))
        .arg(program);
    command
}

fn finish(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!(
            "{} {} {}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        ))
    }
}

/// Waits until `condition` holds, and fails with what was waited for.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether `to` answers a ping from the namespace, within a second.
pub(crate) fn pings(netns: &Path, to: &str) -> bool {
    try_run_in(netns, &format!("ping -c1 -W1 {to}")).is_ok()
}

/// Waits until `to` answers: the kernel has a port of a bridge forward up to a second after its carrier came.
#[track_caller]
pub(crate) fn must_ping(netns: &Path, to: &str) {
    let what = format!("{to} answers a ping from {}", netns.display());
    eventually(&what, || pings(netns, to));
}

/// Waits until a TCP server says `word`, as [`hears`] has it.
#[track_caller]
pub(crate) fn must_hear(netns: &Path, address: &str, port: u16, word: &str) {
    let from = netns.display();
    let what = format!("{address} port {port} says {word:?} to {from}");
    eventually(&what, || hears(netns, address, port, word));
}

/// Whether a TCP server says `word` to a client in the namespace.
pub(crate) fn hears(netns: &Path, address: &str, port: u16, word: &str) -> bool {
    let script = format!(
        "import socket
s = socket.create_connection(('{address}', {port}), timeout=2)
assert s.recv(100) == b'{word}'"
    );
    finish(command_in(netns, "python3").args(["-c", &script])).is_ok()
}

/// A TCP server, on all addresses, that says `word` and the address of its client is printed to nobody.
pub(crate) fn speaker(netns: &Path, port: u16, word: &str) -> Process {
    let script = format!(
        "import socket
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('::', {port}))
s.listen()
print('ready', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b'{word}')
    c.close()"
    );
    Process::start(command_in(netns, "python3").args(["-c", &script]))
}

/// A process that prints a line when it is ready, and ends with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "ready", "{command:?} did not start");
        Process(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The addresses of an attachment as text: IPv4, IPv6.
pub(crate) fn addresses(attachment: &Attachment) -> [String; 2] {
    [
        attachment.addresses[0].addr().to_string(),
        attachment.addresses[1].addr().to_string(),
    ]
}
