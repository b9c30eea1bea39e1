//! Redfish, checked from outside: clients that others wrote drive the mock as they drive an emulator that others wrote, and our client drives
//! that emulator.
//!
//! The others are sushy (OpenStack Ironic's client), fence_redfish (Debian's fence-agents) and sushy-emulator. All listen on the loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catamaran_redfish::{
    Bmc, BootDevice, Connector, Credentials, Endpoint, Fingerprint, Kind, Limits, PowerOff,
    PowerState, SensorKind, Trust,
};
use catamaran_redfish_mock::{Certificate, Handle, Mock, Options, Personality};
use catamaran_tests::command::{output, program, stdout};
use catamaran_tests::programs::{python_environment, root, which};
use catamaran_tests::{SHORT, wait::Seen, wait_for};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const USER: &str = "admin";
const PASSWORD: &str = "s3cret pass";

/// Folder of the Python environment with sushy and its emulator.
fn peers() -> Result<PathBuf> {
    python_environment("redfish-peers")
}

/// Serves an image under any path, since the emulator fetches what is inserted. Ends with the tests.
fn image() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/agent.iso", listener.local_addr()?);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 2048];
            // Whatever is asked for gets the same answer; a peer that went away gets none.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nISO\n",
            );
        }
    });
    Ok(url)
}

/// sushy-emulator with its driver that needs no machines.
struct Emulator {
    process: Child,
    url: String,
    port: u16,
    certificate: Option<String>,
    _folder: TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Emulator {
    /// With TLS it asks for user and password, else for none.
    fn start(peers: &Path, tls: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut settings = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\nSUSHY_EMULATOR_FAKE_DRIVER = True\n\
             SUSHY_EMULATOR_STATE_DIR = '{0}'\nSUSHY_EMULATOR_VMEDIA_VERIFY_SSL = False\n",
            at.display()
        );
        let mut certificate = None;
        if tls {
            let (crt, key) = (at.join("bmc.crt"), at.join("bmc.key"));
            let words = "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=bmc -addext basicConstraints=critical,CA:FALSE \
                -addext subjectAltName=IP:127.0.0.1";
            let mut openssl = program("openssl", words.split_whitespace());
            stdout(openssl.arg("-keyout").arg(&key).arg("-out").arg(&crt))?;
            certificate = Some(fs::read_to_string(&crt)?);
            // The emulator takes bcrypt only.
            let hash = "import bcrypt, sys; print('admin:' + bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())";
            let users =
                stdout(Command::new(peers.join("bin/python3")).args(["-c", hash, PASSWORD]))?;
            fs::write(at.join("users"), users)?;
            settings += &format!(
                "SUSHY_EMULATOR_SSL_CERT = '{0}/bmc.crt'\nSUSHY_EMULATOR_SSL_KEY = '{0}/bmc.key'\nSUSHY_EMULATOR_AUTH_FILE = '{0}/users'\n",
                at.display()
            );
        }
        fs::write(at.join("settings"), settings)?;
        let log = fs::File::create(at.join("log"))?;
        let process = Command::new(peers.join("bin/sushy-emulator"))
            .arg("--config")
            .arg(at.join("settings"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(at)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("sushy-emulator")?;
        let emulator = Self {
            process,
            url: format!("http{}://127.0.0.1:{port}", if tls { "s" } else { "" }),
            port,
            certificate,
            _folder: folder,
        };
        wait_for("the emulator listens", SHORT, || {
            TcpStream::connect(("127.0.0.1", port))?;
            Ok(Seen::Yes(()))
        })?;
        Ok(emulator)
    }
}

/// Mocks of all vendors, with TLS.
struct Mocks {
    runtime: Runtime,
    mock: Mock,
}

impl Mocks {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut mock = Mock::new();
        let certificate = Certificate::self_signed(&["127.0.0.1"])?;
        runtime.block_on(async {
            for (number, name) in (0..).zip(Personality::names()) {
                let mut options = Options::new(name, number, Personality::named(name)?);
                PASSWORD.clone_into(&mut options.password);
                mock.add(options, Some(&certificate)).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(Self { runtime, mock })
    }

    fn all(&self) -> &[Handle] {
        self.mock.bmcs()
    }
}

fn sushy(peers: &Path, url: &str, image: &str, features: &[&str]) -> Result<Value> {
    let script = root().join("integration/tests/peers/drive_sushy.py");
    let mut command = Command::new(peers.join("bin/python3"));
    command
        .args(["-W", "ignore"])
        .arg(script)
        .args([url, USER, PASSWORD, image]);
    let seen = stdout(command.args(features)).with_context(|| format!("sushy at {url}"))?;
    Ok(serde_json::from_str(&seen)?)
}

#[test]
fn sushy_deploys_through_the_emulator_and_the_mock_of_every_vendor() -> Result<()> {
    let (peers, image) = (peers()?, image()?);
    let emulator = Emulator::start(&peers, true)?;
    let seen = sushy(&peers, &emulator.url, &image, &[])?;
    ensure!(
        seen["macs"] == serde_json::json!(["00:5c:52:31:3a:9c"]),
        "{seen}"
    );

    let mocks = Mocks::start()?;
    for bmc in mocks.all() {
        let mut features = vec!["inventory"];
        match bmc.name() {
            "standard" | "dell" => features.push("bios"),
            "lenovo" => features.push("settings"),
            _ => {}
        }
        let seen = sushy(&peers, &bmc.url(), &image, &features)?;
        let name = bmc.name();
        ensure!(seen["system"] == bmc.system(), "{name}: {seen}");
        ensure!(
            seen["threads"] == 64 || seen["threads"] == 2,
            "{name}: {seen}"
        );
        ensure!(seen["disks"] == 2, "{name}: {seen}");
        let boots = bmc.boots();
        let first = boots
            .first()
            .with_context(|| format!("{name} never started: {seen}"))?;
        ensure!(
            first.device.ends_with("Cd") && first.image.as_deref() == Some(&image),
            "{name}: {boots:?}"
        );
        // The mock uses a boot override up; the emulator does not.
        ensure!(seen["after"] == "Disabled", "{name}: {seen}");
        ensure!(bmc.media().is_empty() && !bmc.is_on(), "{name}");
        // Sessions where there are any, and none left over.
        ensure!(
            (bmc.made_sessions() > 0) == (name != "lenovo"),
            "{name}: {} sessions",
            bmc.made_sessions()
        );
        ensure!(
            bmc.open_sessions() == 0,
            "{name}: {} sessions are left",
            bmc.open_sessions()
        );
    }
    Ok(())
}

fn fence(port: u16, action: &str, password: &str) -> Result<(bool, String)> {
    let agent =
        which("fence_redfish").context("fence_redfish (package fence-agents) is not installed")?;
    let mut command = Command::new(agent);
    command.args([
        "--ip",
        "127.0.0.1",
        "--ssl-insecure",
        "--username",
        USER,
        "--password",
        password,
    ]);
    command.args(["--ipport", &port.to_string(), "--action", action]);
    let output = output(&mut command)?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[test]
fn fence_redfish_fences_the_emulator_and_the_mock_of_every_vendor() -> Result<()> {
    let peers = peers()?;
    let emulator = Emulator::start(&peers, true)?;
    for action in ["on", "off"] {
        let (done, said) = fence(emulator.port, action, PASSWORD)?;
        ensure!(done, "emulator, {action}: {said}");
    }
    let mocks = Mocks::start()?;
    for bmc in mocks.all() {
        let (name, port) = (bmc.name(), bmc.address().port());
        for (action, on) in [
            ("on", true),
            ("off", false),
            ("off", false),
            ("on", true),
            ("reboot", true),
        ] {
            let (done, said) = fence(port, action, PASSWORD)?;
            ensure!(done && bmc.is_on() == on, "{name}, {action}: {said}");
        }
        let (done, said) = fence(port, "status", PASSWORD)?;
        ensure!(done && said.contains("ON"), "{name}: {said}");
        let (done, said) = fence(port, "off", "wrong")?;
        ensure!(!done && bmc.is_on(), "{name}: {said}");
    }
    Ok(())
}

fn client(url: &str, password: &str, trust: Trust) -> Result<Bmc> {
    let credentials = Credentials {
        username: USER.to_owned(),
        password: password.to_owned(),
    };
    let endpoint = Endpoint {
        trust,
        limits: Limits {
            retry_pause: Duration::from_millis(50),
            poll: Duration::from_millis(100),
            ..Limits::default()
        },
        ..Endpoint::new(url.parse()?, credentials)
    };
    Ok(Bmc::new(&Connector::new(), endpoint)?)
}

/// What a deployment and a fencing need, at the emulator.
async fn deploy(bmc: &Bmc, image: &str) -> Result<()> {
    let inventory = bmc.inventory().await?;
    ensure!(
        inventory.nics.len() == 1 && inventory.nics[0].mac == "00:5c:52:31:3a:9c",
        "{inventory:?}"
    );
    // It has neither disks nor processors to show: gaps with reasons, not errors.
    ensure!(
        inventory.gaps.iter().any(|gap| gap.starts_with("disks: ")),
        "{:?}",
        inventory.gaps
    );
    let sensors = bmc.sensors().await?;
    let kinds = [SensorKind::Temperature, SensorKind::Fan];
    let all = kinds.map(|kind| sensors.sensors.iter().any(|sensor| sensor.kind == kind));
    ensure!(
        all == [true, true] && sensors.gaps.is_empty(),
        "{sensors:?}"
    );
    let log = bmc.event_log(0, 10).await?;
    ensure!(log.is_none(), "{log:?}");
    let slot = bmc.insert_cd(image).await?;
    ensure!(slot.inserted, "{slot:?}");
    let boot = bmc.boot_once(BootDevice::Cd, None).await?;
    // It knows no `Once`, and says so.
    ensure!(boot.enabled.as_deref() == Some("Continuous"), "{boot:?}");
    ensure!(bmc.power_on().await?.now == PowerState::On);
    let fenced = bmc.fence().await?;
    ensure!(
        fenced.before == PowerState::On && fenced.readings == 3,
        "{fenced:?}"
    );
    bmc.eject_cd().await?;
    bmc.set_secure_boot(true).await?;
    ensure!(bmc.secure_boot().await?.enabled);
    ensure!(bmc.power_on().await?.now == PowerState::On);
    ensure!(bmc.power_off(PowerOff::Soft).await?.now == PowerState::Off);
    bmc.close().await;
    Ok(())
}

#[test]
fn our_client_deploys_through_the_emulator() -> Result<()> {
    let (peers, image) = (peers()?, image()?);
    let runtime = Runtime::new()?;
    let emulator = Emulator::start(&peers, false)?;
    runtime.block_on(deploy(&client(&emulator.url, "", Trust::Public)?, &image))
}

#[test]
fn our_client_deploys_through_the_emulator_with_tls_and_a_password() -> Result<()> {
    let (peers, image) = (peers()?, image()?);
    let runtime = Runtime::new()?;
    let emulator = Emulator::start(&peers, true)?;
    let pem = emulator
        .certificate
        .clone()
        .unwrap_or_default()
        .into_bytes();
    let connector = Connector::new();
    runtime.block_on(async {
        let address = emulator.url.parse()?;
        let pinned = connector
            .fingerprint(&address, Duration::from_secs(20))
            .await?;
        let wrong = client(&emulator.url, "wrong", Trust::Pinned(pinned))?;
        let error = wrong
            .system()
            .await
            .err()
            .context("a wrong password was accepted")?;
        ensure!(error.kind() == Kind::Credentials, "{error}");
        let other = client(&emulator.url, PASSWORD, Trust::Pinned(Fingerprint([0; 32])))?;
        let error = other
            .system()
            .await
            .err()
            .context("another certificate was accepted")?;
        ensure!(error.kind() == Kind::Trust, "{error}");
        client(&emulator.url, PASSWORD, Trust::Pinned(pinned))?
            .system()
            .await?;
        deploy(
            &client(&emulator.url, PASSWORD, Trust::Authority(pem))?,
            &image,
        )
        .await
    })
}

#[test]
fn both_clients_use_one_bmc_one_after_another_without_filling_its_sessions() -> Result<()> {
    let (peers, image) = (peers()?, image()?);
    let mocks = Mocks::start()?;
    let bmc = mocks.mock.bmc("dell").context("no mock of Dell's")?;
    for _ in 0..3 {
        sushy(&peers, &bmc.url(), &image, &[])?;
        mocks.runtime.block_on(async {
            let ours = client(&bmc.url(), PASSWORD, Trust::Insecure)?;
            ours.insert_cd(&image).await?;
            ours.eject_cd().await?;
            ours.close().await;
            anyhow::Ok(())
        })?;
    }
    ensure!(
        bmc.open_sessions() == 0,
        "{} sessions are left",
        bmc.open_sessions()
    );
    Ok(())
}
