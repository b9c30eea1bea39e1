//! An emulated machine: its BMC is the mock, whose power commands start and end QEMU with the CD that the BMC is shown; what runs on it is the
//! deploy ISO, and then an image. The cluster alone is a fake.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use catamaran_baremetal::{Again, Agents, Patience, State};
use catamaran_deploy_server::{
    DeployServer, MemoryLedger, Settings, Template, serve, server_config,
};
use catamaran_redfish::Limits;
use catamaran_redfish_mock::{Certificate, Options, Personality};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fake::{Bench, Fake};

/// The machine reaches this one's loopback by it.
const HERE: &str = "10.0.2.2";
/// For a boot of firmware, kernel and agent under emulation, and a job.
const LIMIT: Duration = Duration::from_secs(600);
/// Of the disk `root`, and of `other`, which is too small for an image.
const DISKS: [(&str, u64); 2] = [("root", 5 << 30), ("other", 32 << 20)];
pub(crate) const MAC: &str = "52:54:00:12:34:56";

/// What `guest-images/build all` makes.
pub(crate) fn built(path: &str) -> PathBuf {
    let path = repository().join("guest-images/out").join(path);
    assert!(
        path.exists(),
        "{} is not there (guest-images/build minimal deploy-iso live-iso makes it)",
        path.display()
    );
    path
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Digits of a file's SHA-256.
pub(crate) fn sha256(file: &Path) -> String {
    let digest = Sha256::digest(fs::read(file).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) struct Machine {
    pub(crate) bench: Bench,
    pub(crate) server: DeployServer,
    /// A server of images, which outlives the controller.
    images: DeployServer,
    pub(crate) folder: tempfile::TempDir,
    ledger: Arc<MemoryLedger>,
    /// Certificate and key of the deploy server.
    identity: (String, String),
    port: u16,
    serving: Serving,
    _images: Serving,
}

/// A server's task, and what ends its connections.
struct Serving(JoinSet<()>, CancellationToken);

impl Machine {
    /// One that is off, and enrolled. The BMC of one with UEFI speaks TLS.
    pub(crate) async fn new(firmware: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec![HERE.to_owned()]).unwrap();
        let ca = names.self_signed(&key).unwrap().pem();
        let listeners = [listen(0).await, listen(0).await];
        let ports = [0, 1].map(|at: usize| listeners[at].local_addr().unwrap().port());
        fs::write(at("ca.pem"), &ca).unwrap();
        for (disk, size) in DISKS {
            File::create(at(disk)).unwrap().set_len(size).unwrap();
        }
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", at("vars")).unwrap();
        let mut options = Options::new("bmc0", 0, Personality::named("standard").unwrap());
        options.command = vec![
            "env".to_owned(),
            format!("CONNECT={HERE}::127.0.0.1:"),
            "CA=ca.pem".to_owned(),
            format!("FIRMWARE={firmware}"),
            format!("MAC={MAC}"),
            switch().display().to_string(),
            folder.path().display().to_string(),
        ];
        let limits = Limits {
            poll: Duration::from_millis(200),
            ..Limits::default()
        };
        let certificate = (firmware == "uefi").then(|| Certificate::self_signed(&["127.0.0.1"]));
        let certificate = certificate.transpose().unwrap();
        let bench = Bench::with(options, certificate.as_ref(), limits).await;
        let identity = (ca, key.serialize_pem());
        let ledger = Arc::new(MemoryLedger::default());
        let [controller, images] = ports.map(|port| server(port, &identity.0, &ledger));
        let [own, others] = listeners;
        let mut machine = Self {
            serving: serving(&controller, own, &identity),
            server: controller,
            _images: serving(&images, others, &identity),
            images,
            bench,
            folder,
            ledger,
            identity,
            port: ports[0],
        };
        machine.work();
        let mode = if firmware == "uefi" { "UEFI" } else { "legacy" };
        let spec = json!({"spec": {"bootMode": mode, "online": false}});
        machine.bench.cluster.change(&spec);
        machine
    }

    /// From now on the server's agents are who works on the host.
    fn work(&mut self) {
        let cluster: Fake = self.bench.cluster.clone();
        let agents = Agents::new(self.server.clone(), cluster, Patience::default());
        self.bench.restart_with(agents);
    }

    /// The controller is killed, and another process takes its place: it has what was written down.
    pub(crate) async fn restart(&mut self) {
        let Serving(tasks, stop) = &mut self.serving;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        self.server = server(self.port, &self.identity.0, &self.ledger);
        let listener = listen(self.port).await;
        self.serving = serving(&self.server, listener, &self.identity);
        self.work();
    }

    /// The URL of a file.
    pub(crate) fn publish(&self, name: &str, file: &Path) -> String {
        self.images.publish(name, file).unwrap()
    }

    /// Looks, as often as the shell wants to or the agent has something to tell, until it is so.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        let mut changes = self.server.changes();
        while !is(self) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            self.bench.cluster.0.lock().unwrap().now = i64::try_from(now.as_secs()).unwrap();
            let again = Box::pin(self.bench.shell.reconcile(&Bench::name())).await;
            let pause = match again.unwrap() {
                Again::After(seconds) => seconds.min(2),
                Again::Changed => 1,
            };
            assert!(
                begin.elapsed() < LIMIT,
                "{what}: {:?}\n{}",
                self.bench.host().and_then(|host| host.status),
                self.console()
            );
            let pause = Duration::from_secs(u64::try_from(pause).unwrap());
            let _ = tokio::time::timeout(pause, changes.changed()).await;
        }
        eprintln!("{what}: after {:.1} s", begin.elapsed().as_secs_f32());
    }

    pub(crate) async fn until_state(&self, state: State) {
        let is = |one: &Self| one.bench.state() == state;
        self.until(state.as_str(), is).await;
    }

    /// The host's error in these words, while it is in that state.
    pub(crate) async fn until_failed(&self, state: State, words: &str) {
        self.until(words, |one| {
            let status = one.bench.status();
            one.bench.state() == state && status.error_message.contains(words)
        })
        .await;
    }

    pub(crate) async fn until_said(&self, words: &str) {
        self.until(words, |one| one.console().contains(words)).await;
    }

    /// What it said on its serial port since it was turned on.
    pub(crate) fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a disk begins with nothing.
    pub(crate) fn is_empty(&self, disk: &str) -> bool {
        use std::io::Read as _;
        let file = File::open(self.folder.path().join(disk)).unwrap();
        let mut begin = Vec::new();
        file.take(512).read_to_end(&mut begin).unwrap();
        begin == [0; 512]
    }

    /// Has its user data be a script that says so.
    pub(crate) fn seed(&self, words: &str) {
        let script = format!("#!/bin/sh\necho '{words}' >/dev/ttyS0\n");
        self.secret("seed", "userData", script);
    }

    /// Has its deploy agents make a bond of its one card.
    pub(crate) fn bond(&self) {
        let network = json!({
            "links": [
                {"id": "bond", "type": "bond", "bond_links": ["card"], "bond_mode": "active-backup"},
                {"id": "card", "type": "phy", "ethernet_mac_address": MAC},
            ],
            "networks": [{"id": "network", "type": "ipv4_dhcp", "link": "bond"}], "services": [],
        });
        self.secret("network", "networkData", network.to_string());
        let name = json!({"spec": {"preprovisioningNetworkDataName": "network"}});
        self.bench.cluster.change(&name);
    }

    /// Makes or replaces a Secret.
    fn secret(&self, name: &str, key: &str, value: String) {
        let secrets = &mut self.bench.cluster.0.lock().unwrap().secrets;
        secrets.retain(|(known, ..)| known != name);
        secrets.push((name.to_owned(), key.to_owned(), value));
    }
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).await.unwrap()
}

/// Serves until it is dropped. `identity`: certificate and key.
fn serving(server: &DeployServer, listener: TcpListener, identity: &(String, String)) -> Serving {
    let config = server_config(&identity.0, &identity.1).unwrap();
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    tasks.spawn(serve(server.router(), listener, config, stop.clone()));
    Serving(tasks, stop)
}

/// What starts and ends QEMU.
fn switch() -> PathBuf {
    repository().join("integration/redfish-mock/qemu-server")
}

fn server(port: u16, ca: &str, ledger: &Arc<MemoryLedger>) -> DeployServer {
    let settings = Settings {
        url: format!("https://{HERE}:{port}"),
        ca: ca.to_owned(),
        template: Template::open(&built("deploy-iso/deploy.iso")).unwrap(),
    };
    DeployServer::new(settings, ledger.clone())
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new(switch())
            .arg(self.folder.path())
            .arg("off")
            .stderr(Stdio::null())
            .status();
    }
}
