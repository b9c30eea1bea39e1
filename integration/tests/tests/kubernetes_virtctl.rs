//! The peer's own command line, `virtctl`, as it is. It is built when it is first asked for; that takes minutes, and so this runs with `--long` only.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster, MINIMAL, machine};
use catamaran_tests::command::{self, stdout};
use catamaran_tests::display::Display;
use catamaran_tests::{BOOT, Console, SHORT, wait::Seen, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// `virtctl` for one test.
struct Virtctl<'a> {
    cluster: &'a Cluster,
    folder: TempDir,
}

impl Virtctl<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.cluster.command(["virtctl"]);
        command
            .args(words)
            .args(["--namespace", self.cluster.namespace()]);
        command
    }

    /// Runs it to its end; gives what it printed.
    fn run(&self, words: &[&str]) -> Result<String> {
        stdout(&mut self.command(words))
    }

    /// Starts what runs until it is ended.
    fn start(&self, words: &[&str]) -> Result<Running> {
        let child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Running(child))
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Applies a manifest that `virtctl create` prints.
    fn create(&self, words: &[&str]) -> Result<()> {
        let manifest = self.run(&[&["create"], words].concat())?;
        let file = self.file("manifest.yaml");
        fs::write(&file, manifest)?;
        self.cluster.kubectl(["apply", "-f", &file]).map(drop)
    }
}

/// A program that runs until it is ended, which is done with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn json(said: &str) -> Result<Value> {
    serde_json::from_str(said).with_context(|| said.to_owned())
}

/// Waits until the guest has booted anew.
fn wait_other_boot(cluster: &Cluster, instance: &str, before: &str) -> Result<String> {
    wait_for("another boot", BOOT, || {
        let now = cluster.boot_id(instance)?;
        Ok(if now == before {
            Seen::NotYet(now)
        } else {
            Seen::Yes(now)
        })
    })
}

/// A machine that `virtctl` has written, with the key of the test.
fn make(virtctl: &Virtctl) -> Result<()> {
    let (key, disk) = (virtctl.file("key"), format!("src:{MINIMAL},name:root"));
    stdout(&mut command::program(
        "ssh-keygen",
        ["-q", "-t", "ed25519", "-N", "", "-f", &key],
    ))?;
    let public = fs::read_to_string(format!("{key}.pub"))?;
    virtctl.create(&[
        "instancetype",
        "--namespaced",
        "--name",
        "small",
        "--cpu",
        "1",
        "--memory",
        "128Mi",
    ])?;
    virtctl.create(&[
        "preference",
        "--namespaced",
        "--name",
        "plain",
        "--cpu-topology",
        "cores",
    ])?;
    virtctl.create(&[
        "vm",
        "--name",
        "made",
        "--instancetype",
        "virtualmachineinstancetype/small",
        "--preference",
        "virtualmachinepreference/plain",
        "--volume-containerdisk",
        &disk,
        "--termination-grace-period",
        "20",
        "--user",
        "root",
        "--ssh-key",
        public.trim(),
    ])
}

fn console_is_typed_into_and_left(virtctl: &Virtctl) -> Result<()> {
    let mut running = virtctl.start(&["console", "made"])?;
    let output = running.0.stdout.take().context("no standard output")?;
    let input = running.0.stdin.take().context("no standard input")?;
    let mut guest = Console::over(output, input);
    guest.type_in("\n")?;
    guest.wait_for(":/root# ", BOOT)?;
    ensure!(guest.shell("hostname")? == "made");
    guest.type_in("\x1d")?;
    wait_for("virtctl console ends", SHORT, || {
        Ok(match running.0.try_wait()? {
            Some(status) => Seen::Yes(status),
            None => Seen::NotYet("it runs".to_owned()),
        })
    })
    .and_then(|status| {
        ensure!(status.success(), "{status}");
        Ok(())
    })
}

fn ssh_reaches_the_guest(virtctl: &Virtctl) -> Result<()> {
    let key = virtctl.file("key");
    let said = virtctl.run(&[
        "ssh",
        "root@vm/made",
        "--identity-file",
        &key,
        "--local-ssh-opts=-oStrictHostKeyChecking=no",
        "--local-ssh-opts=-oUserKnownHostsFile=/dev/null",
        "--command",
        "hostname",
    ])?;
    ensure!(said == "made\n", "{said}");
    Ok(())
}

fn port_is_forwarded(virtctl: &Virtctl) -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let _running = virtctl.start(&["port-forward", "vm/made", &format!("{port}:80")])?;
    let address = format!("http://127.0.0.1:{port}/hostname");
    wait_for("the guest's page", SHORT, || {
        let page = stdout(&mut command::program(
            "curl",
            ["-sS", "--max-time", "5", &address],
        ))?;
        Ok(Seen::when(page.trim() == "made", page))
    })
}

fn screen_is_passed_on_and_pictured(virtctl: &Virtctl) -> Result<()> {
    let mut running = virtctl.start(&["vnc", "made", "--proxy-only"])?;
    let output = running.0.stdout.take().context("no standard output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let port = json(&line)?["port"].as_u64().context("no port")?;
    let mut screen = TcpStream::connect(("127.0.0.1", u16::try_from(port)?))?;
    screen.set_read_timeout(Some(SHORT))?;
    let mut greeting = [0; 12];
    screen.read_exact(&mut greeting)?;
    ensure!(&greeting == b"RFB 003.008\n", "{greeting:?}");
    drop(screen);
    let png = virtctl.file("screen.png");
    virtctl.run(&["vnc", "screenshot", "made", "--file", &png])?;
    ensure!(fs::read(&png)?.starts_with(b"\x89PNG"));
    Ok(())
}

fn viewer_shows_the_screen(virtctl: &Virtctl) -> Result<()> {
    let display = Display::open()?;
    let viewer = "/usr/bin/xtigervncviewer";
    let words = ["vnc", "made", "--vnc-type", "tiger", "--vnc-path", viewer];
    let mut command = virtctl.command(&words);
    let child = display.show(&mut command).stdout(Stdio::null()).spawn()?;
    let _running = Running(child);
    let window = display.window("TigerVNC")?;
    let (_proxy, mut guest) = virtctl.cluster.shell("made")?;
    display.type_line(&window, "echo typed > /tmp/typed")?;
    wait_for("what was typed has come", SHORT, || {
        let said = guest.shell("cat /tmp/typed || true")?;
        Ok(Seen::when(said == "typed", said))
    })
}

fn agent_is_asked(virtctl: &Virtctl) -> Result<()> {
    let cluster = virtctl.cluster;
    cluster.wait_condition("vmi/agent", "AgentConnected", "True", BOOT)?;
    let system = json(&virtctl.run(&["guestosinfo", "agent"])?)?;
    ensure!(system["os"]["id"] == "debian", "{system}");
    let users = json(&virtctl.run(&["userlist", "agent"])?)?;
    ensure!(users["items"][0]["userName"] == "root", "{users}");
    let files = json(&virtctl.run(&["fslist", "agent"])?)?;
    ensure!(files["items"][0]["mountPoint"] == "/", "{files}");
    Ok(())
}

fn volume_is_added_and_removed(virtctl: &Virtctl) -> Result<()> {
    let cluster = virtctl.cluster;
    let ([volume, claim], _) = cluster.shared_claim("data");
    cluster.apply(&[&volume, &claim])?;
    let _gone = cluster.gone_afterwards([format!(
        "persistentvolume/{}",
        volume["metadata"]["name"].as_str().unwrap_or_default()
    )]);
    let said = virtctl.run(&["addvolume", "agent", "--volume-name=data", "--persist"])?;
    ensure!(
        said.starts_with("Successfully submitted add volume"),
        "{said}"
    );
    let volumes = "/status/volumeStatus";
    let phase = |wanted: Option<&str>| {
        wait_for(&format!("the volume is {wanted:?}"), BOOT, || {
            let found = cluster.get("vmi/agent")?;
            let all = found.pointer(volumes).and_then(Value::as_array);
            let said = all.into_iter().flatten().find(|v| v["name"] == "data");
            let said = said.unwrap_or(&Value::Null);
            Ok(Seen::when(
                said["phase"].as_str() == wanted,
                said.to_string(),
            ))
        })
    };
    phase(Some("Ready"))?;
    // What the peer's newest server says too where volumes are declared.
    let refused =
        command::refused(&mut virtctl.command(&["removevolume", "agent", "--volume-name=data"]))?;
    ensure!(refused.contains("is owned by VM"), "{refused}");
    virtctl.run(&["removevolume", "agent", "--volume-name=data", "--persist"])?;
    phase(None)
}

fn service_leads_to_the_guest(virtctl: &Virtctl) -> Result<()> {
    let cluster = virtctl.cluster;
    for kind in ["vm", "vmi"] {
        let name = format!("by-{kind}");
        virtctl.run(&["expose", kind, "made", "--name", &name, "--port", "80"])?;
        let address = cluster.get(&format!("service/{name}"))?["spec"]["clusterIP"].clone();
        let address = format!(
            "http://{}/hostname",
            address.as_str().context("no address")?
        );
        wait_for("the guest answers through the service", SHORT, || {
            let page = cluster.on_node(1, &["curl", "-sS", "--max-time", "5", &address])?;
            Ok(Seen::when(page.trim() == "made", page))
        })?;
    }
    Ok(())
}

fn run_is_changed(virtctl: &Virtctl) -> Result<()> {
    let cluster = virtctl.cluster;
    virtctl.run(&["pause", "vm", "made"])?;
    cluster.wait_condition("vmi/made", "Paused", "True", SHORT)?;
    virtctl.run(&["unpause", "vm", "made"])?;
    cluster.wait_field("vm/made", "/status/printableStatus", "Running", SHORT)?;

    let first = cluster.boot_id("made")?;
    virtctl.run(&["reset", "made"])?;
    let second = wait_other_boot(cluster, "made", &first)?;
    virtctl.run(&["soft-reboot", "made"])?;
    wait_other_boot(cluster, "made", &second)?;

    let uid = cluster.get("vmi/made")?["metadata"]["uid"].clone();
    virtctl.run(&["restart", "made"])?;
    cluster.wait_next("made", &uid)?;
    virtctl.run(&["stop", "made", "--force", "--grace-period", "0"])?;
    let stopped = |deadline: Duration| {
        cluster.wait_field("vm/made", "/status/printableStatus", "Stopped", deadline)
    };
    stopped(BOOT)?;
    virtctl.run(&["start", "made", "--paused"])?;
    cluster.wait_condition("vmi/made", "Paused", "True", BOOT)?;
    virtctl.run(&["unpause", "vmi", "made"])?;
    cluster.boot_id("made")?;
    virtctl.run(&["stop", "made"])?;
    stopped(BOOT).map(drop)
}

fn spec_is_expanded(virtctl: &Virtctl) -> Result<()> {
    let machine = json(&virtctl.run(&["expand", "--vm", "made", "--output", "json"])?)?;
    let spec = &machine["spec"];
    ensure!(spec["instancetype"].is_null(), "{machine}");
    let memory = &spec["template"]["spec"]["domain"]["memory"]["guest"];
    ensure!(memory == "128Mi", "{machine}");
    let file = virtctl.file("machine.json");
    fs::write(
        &file,
        virtctl.cluster.kubectl(["get", "vm/made", "-o", "json"])?,
    )?;
    let again = json(&virtctl.run(&["expand", "--file", &file, "--output", "json"])?)?;
    ensure!(again["spec"] == machine["spec"], "{again}");
    Ok(())
}

/// What is refused says so in a sentence, and the program fails.
fn refusals_are_told(virtctl: &Virtctl) -> Result<()> {
    for (words, sentence) in [
        (&["migrate", "made"][..], "live migration"),
        (&["start", "made"], "already running"),
        (&["guestosinfo", "made"], "conflict"),
        (&["objectgraph", "made"], "object graphs"),
        (&["console", "nobody"], "not found"),
        (&["stop", "nobody"], "not found"),
    ] {
        let said = command::refused(&mut virtctl.command(words))?;
        ensure!(said.contains(sentence), "{words:?}: {said}");
    }
    Ok(())
}

#[test]
#[ignore = "builds virtctl when it is first asked for: `cargo xtask test --long`"]
fn virtctl_lives_through_the_life_of_a_machine() -> Result<()> {
    cluster::run(1, |cluster| {
        let virtctl = Virtctl {
            cluster,
            folder: tempfile::tempdir()?,
        };
        let version = virtctl.run(&["version"])?;
        ensure!(
            version.contains("Server Version") && version.contains("v1.9.0"),
            "{version}"
        );

        make(&virtctl)?;
        let mut agent = machine("agent");
        cluster.add_guest_agent(&mut agent)?;
        cluster.apply(&[&agent])?;
        cluster.wait_condition("vm/made", "Ready", "True", BOOT)?;

        console_is_typed_into_and_left(&virtctl)?;
        ssh_reaches_the_guest(&virtctl)?;
        port_is_forwarded(&virtctl)?;
        screen_is_passed_on_and_pictured(&virtctl)?;
        viewer_shows_the_screen(&virtctl)?;
        service_leads_to_the_guest(&virtctl)?;
        spec_is_expanded(&virtctl)?;
        refusals_are_told(&virtctl)?;
        agent_is_asked(&virtctl)?;
        volume_is_added_and_removed(&virtctl)?;
        run_is_changed(&virtctl)
    })
}
