//! All of it on an emulated machine: its BMC is the mock, whose power commands start and end QEMU with the CD that the BMC is shown; what runs
//! on it is the deploy ISO, and then an image. The cluster alone is a fake.

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
use catamaran_redfish_mock::{Options, Personality};
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
const LIMIT: Duration = Duration::from_secs(400);
/// What the image is told to say.
const MARK: &str = "written by the deploy agent";
const SIZE: u64 = 5 << 30;

/// Run by the BMC in the machine's folder, with `on` or `off`.
const POWER: &str = r#"
cd "$(dirname "$0")" || exit 1
if [ "$1" = off ]; then
    [ ! -e pid ] || kill -KILL "$(cat pid)"
    rm -f pid
    exit 0
fi
set -- -m 1024 -cpu max -display none -nodefaults -vga std -daemonize -pidfile pid -serial file:serial
if [ "$REDFISH_MOCK_BOOT" = Cd ]; then
    curl --silent --show-error --fail --cacert ca.pem --connect-to "$CONNECT" --output host.iso "$REDFISH_MOCK_IMAGE" || exit 1
    set -- "$@" -drive if=none,id=cd,media=cdrom,readonly=on,file=host.iso -device ide-cd,drive=cd,bus=ide.1,bootindex=0
fi
if [ "$FIRMWARE" = uefi ]; then
    set -- "$@" -machine q35,accel=tcg -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd -drive if=pflash,format=raw,file=vars
else
    set -- "$@" -machine pc,accel=tcg
fi
exec qemu-system-x86_64 "$@" -netdev user,id=net -device virtio-net-pci,netdev=net,mac=52:54:00:12:34:56 \
    -drive if=none,id=other,format=raw,file=other -device virtio-blk-pci,drive=other,serial=other-disk \
    -drive if=none,id=root,format=raw,file=root -device virtio-blk-pci,drive=root,serial=root-disk,bootindex=1
"#;

fn built(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../guest-images/out")
        .join(path);
    assert!(
        path.exists(),
        "{} is not there (guest-images/build minimal deploy-iso makes it)",
        path.display()
    );
    path
}

struct Machine {
    bench: Bench,
    server: DeployServer,
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Machine {
    async fn new(firmware: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec![HERE.to_owned()]).unwrap();
        let ca = names.self_signed(&key).unwrap().pem();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = Settings {
            url: format!("https://{HERE}:{port}"),
            ca: ca.clone(),
            template: Template::open(&built("deploy-iso/deploy.iso")).unwrap(),
        };
        let server = DeployServer::new(settings, Arc::new(MemoryLedger::default()));
        let mut tasks = JoinSet::new();
        let config = server_config(&ca, &key.serialize_pem()).unwrap();
        let stop = CancellationToken::new();
        tasks.spawn(serve(server.router(), listener, config, stop));
        fs::write(at("ca.pem"), ca).unwrap();
        for disk in ["root", "other"] {
            File::create(at(disk)).unwrap().set_len(SIZE).unwrap();
        }
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", at("vars")).unwrap();
        fs::write(at("power"), POWER).unwrap();
        let mut options = Options::new("bmc0", 0, Personality::named("standard").unwrap());
        let connect = format!("CONNECT={HERE}:{port}:127.0.0.1:{port}");
        options.command = [
            "env",
            &connect,
            &format!("FIRMWARE={firmware}"),
            "sh",
            at("power").to_str().unwrap(),
        ]
        .map(str::to_owned)
        .into();
        let limits = Limits {
            poll: Duration::from_millis(200),
            ..Limits::default()
        };
        let mut bench = Bench::with(options, limits).await;
        let cluster: Fake = bench.cluster.clone();
        bench.restart_with(Agents::new(server.clone(), cluster, Patience::default()));
        Self {
            bench,
            server,
            folder,
            _tasks: tasks,
        }
    }

    /// Looks, as often as the shell wants to or the agent has something to tell, until it is so.
    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
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

    async fn until_state(&self, state: State) {
        let is = |one: &Self| one.bench.state() == state;
        self.until(state.as_str(), is).await;
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn begin_of(&self, disk: &str) -> Vec<u8> {
        use std::io::Read as _;
        let file = File::open(self.folder.path().join(disk)).unwrap();
        let mut begin = Vec::new();
        file.take(512).read_to_end(&mut begin).unwrap();
        begin
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let power = self.folder.path().join("power");
        let _ = Command::new("sh")
            .arg(power)
            .arg("off")
            .stderr(Stdio::null())
            .status();
    }
}

/// From the manifest to available, in use, cleaned, and gone.
async fn lives(firmware: &str) {
    let machine = Machine::new(firmware).await;
    let cluster = machine.bench.cluster.clone();
    let mode = if firmware == "uefi" { "UEFI" } else { "legacy" };
    cluster
        .change(&json!({"spec": {"inspectionMode": "agent", "bootMode": mode, "online": false}}));
    machine.until_state(State::Available).await;
    let hardware = cluster.0.lock().unwrap().hardware.clone().unwrap();
    let serials: Vec<_> = hardware
        .storage
        .iter()
        .filter_map(|disk| disk.serial_number.as_deref())
        .collect();
    assert_eq!(serials, ["other-disk", "root-disk"], "{hardware:?}");
    assert_eq!(hardware.nics[0].mac.as_deref(), Some("52:54:00:12:34:56"));
    let host = machine.bench.host().unwrap();
    assert_eq!(
        host.spec.boot_mac_address.as_deref(),
        Some("52:54:00:12:34:56")
    );

    let file = built("minimal/minimal.qcow2");
    let sha256: String = Sha256::digest(fs::read(&file).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let url = machine.server.publish("minimal.qcow2", &file).unwrap();
    cluster.0.lock().unwrap().secrets = vec![(
        "seed".to_owned(),
        "userData".to_owned(),
        format!("#!/bin/sh\necho '{MARK}' >/dev/ttyS0\n"),
    )];
    cluster.change(&json!({"spec": {
        "online": true, "userData": {"name": "seed"}, "rootDeviceHints": {"serialNumber": "root-disk"},
        "image": {"url": url, "checksum": sha256, "format": "qcow2"},
    }}));
    machine.until_state(State::Provisioned).await;
    let booted = |machine: &Machine| machine.console().contains(MARK);
    machine.until("the image booted", booted).await;
    assert_ne!(machine.begin_of("root")[..], [0; 512]);
    assert_eq!(machine.begin_of("other")[..], [0; 512]);

    cluster.change(&json!({"spec": {"image": null, "online": false}}));
    machine.until_state(State::Available).await;
    assert_eq!(machine.begin_of("root")[..], [0; 512], "it was cleaned");

    machine.bench.delete();
    machine
        .until("deleted", |one| one.bench.host().is_none())
        .await;
    assert!(!machine.bench.bmc.is_on());
    assert!(!machine.folder.path().join("pid").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots a server four times: minutes"]
async fn a_server_with_uefi_lives_from_manifest_to_deletion() {
    lives("uefi").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots a server four times: minutes"]
async fn a_server_with_bios_lives_from_manifest_to_deletion() {
    lives("bios").await;
}
