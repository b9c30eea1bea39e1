//! The deploy ISO in QEMU, by UEFI and by BIOS: inventory, choice of a disk, what is refused, an image and its config drive on the disk.
//!
//! Machines have user networking only, so the controller's side is a server on loopback, which they reach as 10.0.2.2.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use catamaran_deploy_server::{
    ConfigDriveFiles, DeployServer, MemoryLedger, Settings, Status, Template, Told, Wanted,
    config_drive, serve, server_config,
};
use catamaran_deploy_wire::{
    Action, Answer, Checksum, ChecksumKind, Format, Image, Reason, RootDeviceHints, WipeScope,
    WriteImage,
};
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const HOST: &str = "metal-1";
/// For the firmware, the kernel and the agent's way to the server, under emulation.
const BOOT: Duration = Duration::from_secs(300);
/// For one command.
const COMMAND: Duration = Duration::from_secs(240);
const MIB: u64 = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Firmware {
    Uefi,
    Bios,
}

fn built(path: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../guest-images/out")
        .join(path);
    ensure!(
        path.exists(),
        "{} is not there (guest-images/build minimal deploy-iso makes it)",
        path.display()
    );
    Ok(path)
}

/// A server for agents on loopback.
struct Server {
    deploy: DeployServer,
    address: SocketAddr,
    ca: String,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Result<Self> {
        let key = KeyPair::generate()?;
        let names = vec!["10.0.2.2".to_owned(), "127.0.0.1".to_owned()];
        let ca = CertificateParams::new(names)?.self_signed(&key)?.pem();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let settings = Settings {
            url: format!("https://10.0.2.2:{}", address.port()),
            ca: ca.clone(),
            template: Template::open(&built("deploy-iso/deploy.iso")?)?,
        };
        let deploy = DeployServer::new(settings, Arc::new(MemoryLedger::default()));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let config = server_config(&ca, &key.serialize_pem())?;
        tasks.spawn(serve(deploy.router(), listener, config, stop.clone()));
        Ok(Self {
            deploy,
            address,
            ca,
            stop,
            tasks,
        })
    }

    /// The host's ISO, as its BMC would fetch it.
    async fn fetch_iso(&self, to: &Path) -> Result<()> {
        let url = self.deploy.enrol(HOST, "test", None)?.iso_url;
        let own = format!("https://{}", self.address);
        let url = url.replace(&format!("https://10.0.2.2:{}", self.address.port()), &own);
        let ca = to.with_extension("pem");
        fs::write(&ca, &self.ca)?;
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"])
            .args([&ca, Path::new("--output"), to])
            .arg(url);
        ensure!(curl.status().await?.success(), "the ISO can't be fetched");
        Ok(())
    }

    /// Waits until the host's status is as wanted.
    async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let begin = Instant::now();
        let mut changes = self.deploy.changes();
        loop {
            let status = self.deploy.status(HOST).context("the host is enrolled")?;
            if wanted(&status) {
                eprintln!("{what}: after {:.1} s", begin.elapsed().as_secs_f32());
                return Ok(status);
            }
            if begin.elapsed() > limit {
                bail!("{what}: not within {} s; {status:?}", limit.as_secs());
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
        }
    }

    /// Asks, and waits for the outcome.
    async fn ask(&self, what: &str, wanted: Wanted) -> Result<Told> {
        let id = self.deploy.ask(HOST, wanted)?;
        let status = self
            .until(what, COMMAND, |status| {
                status.outcome.is_some() && status.command.as_ref().is_some_and(|c| c.id == id)
            })
            .await?;
        status.outcome.context("it ended")
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A machine with an empty disk of 1 GiB and one that is too small for anything.
struct Machine {
    qemu: Child,
    folder: TempDir,
}

impl Machine {
    fn start(firmware: Firmware, folder: TempDir) -> Result<Self> {
        let at = |name: &str| folder.path().join(name);
        let shown = |name: &str| at(name).display().to_string();
        File::create(at("root"))?.set_len(1 << 30)?;
        File::create(at("small"))?.set_len(32 << 20)?;
        let machine = match firmware {
            Firmware::Uefi => "q35",
            Firmware::Bios => "pc",
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", &format!("{machine},accel=tcg"), "-cpu", "max"])
            .args([
                "-m",
                "1024",
                "-display",
                "none",
                "-no-reboot",
                "-nodefaults",
                "-vga",
                "std",
                "-boot",
                "d",
            ])
            .args(["-serial", &format!("file:{}", shown("serial"))])
            .args(["-cdrom", &shown("host.iso")])
            .args([
                "-netdev",
                "user,id=net",
                "-device",
                "virtio-net-pci,netdev=net,mac=52:54:00:12:34:56",
            ])
            .args([
                "-drive",
                &format!("if=none,id=root,format=raw,file={}", shown("root")),
            ])
            .args(["-device", "virtio-blk-pci,drive=root,serial=root-disk"])
            .args([
                "-drive",
                &format!("if=none,id=small,format=raw,file={}", shown("small")),
            ])
            .args(["-device", "ide-hd,drive=small,serial=SMALL1,bus=ide.0"])
            .stdin(Stdio::null());
        if firmware == Firmware::Uefi {
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", at("vars"))?;
            let code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
            command
                .args([
                    "-drive",
                    &format!("if=pflash,format=raw,readonly=on,file={code}"),
                ])
                .args([
                    "-drive",
                    &format!("if=pflash,format=raw,file={}", shown("vars")),
                ]);
        }
        let qemu = command.spawn().context("qemu-system-x86_64")?;
        Ok(Self { qemu, folder })
    }

    fn disk(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.folder.path().join("root"))?)
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.console());
        }
    }
}

fn hints(serial: &str) -> RootDeviceHints {
    RootDeviceHints {
        serial_number: Some(serial.into()),
        ..RootDeviceHints::default()
    }
}

fn image(url: &str, sha256: &str, serial: &str) -> WriteImage {
    WriteImage {
        image: Image {
            url: url.into(),
            format: Format::Qcow2,
            checksum: Checksum {
                kind: Some(ChecksumKind::Sha256),
                value: sha256.into(),
            },
            ca: None,
        },
        hints: hints(serial),
        config_drive: None,
        overwrite: false,
    }
}

fn drive() -> Result<bytes::Bytes> {
    Ok(config_drive(&ConfigDriveFiles {
        meta_data: serde_json::from_str(r#"{"uuid":"1","hostname":"metal-1"}"#)?,
        user_data: Some(b"#!/bin/sh\necho hello\n".to_vec()),
        network_data: Some(serde_json::json!({"links": [], "networks": [], "services": []})),
    })?)
}

fn failed(told: &Told) -> Option<Reason> {
    match told {
        Told::Failed(failure) => {
            eprintln!("as wanted: {}", failure.message);
            Some(failure.reason)
        }
        Told::Done(_) => None,
    }
}

/// The disk has the image, but for the partition that was added, and behind it the config drive.
fn check_disk(disk: &[u8], drive: &[u8]) -> Result<()> {
    let raw = fs::read(built("minimal/minimal.raw")?)?;
    ensure!(disk[..440] == raw[..440], "the boot code differs");
    ensure!(
        disk[512..raw.len()] == raw[512..],
        "the disk differs from the image"
    );
    let begin = usize::try_from((1 << 30) - 2 * MIB)?;
    ensure!(
        disk[begin..begin + drive.len()] == *drive,
        "no config drive at its place"
    );
    let entry = &disk[446 + 16..446 + 32];
    let start = u32::from_le_bytes(entry[8..12].try_into()?);
    ensure!(
        start as usize * 512 == begin,
        "partition 2 begins at sector {start}"
    );
    Ok(())
}

async fn boot(firmware: Firmware) -> Result<(Server, Machine)> {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    server.fetch_iso(&folder.path().join("host.iso")).await?;
    let machine = Machine::start(firmware, folder)?;
    let booted = server
        .until("booted, inventory told", BOOT, |status| {
            status.inventory.is_some()
        })
        .await;
    let status = booted.with_context(|| machine.console())?;
    let inventory = status.inventory.context("it was told")?;
    let names: Vec<&str> = inventory
        .storage
        .iter()
        .map(|disk| disk.serial_number.as_str())
        .collect();
    ensure!(names == ["SMALL1", "root-disk"], "{:?}", inventory.storage);
    ensure!(
        inventory.ram_mebibytes == 1024,
        "{} MiB",
        inventory.ram_mebibytes
    );
    ensure!(
        inventory.system_vendor.manufacturer == "QEMU",
        "{:?}",
        inventory.system_vendor
    );
    ensure!(
        inventory.nics.len() == 1 && inventory.nics[0].pxe,
        "{:?}",
        inventory.nics
    );
    ensure!(
        inventory.nics[0].mac == "52:54:00:12:34:56",
        "{:?}",
        inventory.nics
    );
    ensure!(
        inventory.cpu.count == 1 && !inventory.cpu.flags.is_empty(),
        "{:?}",
        inventory.cpu
    );
    eprintln!("{}", serde_json::to_string(&inventory.storage)?);
    Ok((server, machine))
}

fn publish(server: &Server) -> Result<(String, String)> {
    let file = built("minimal/minimal.qcow2")?;
    let sha256 = Sha256::digest(fs::read(&file)?);
    let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((server.deploy.publish("minimal.qcow2", &file)?, sha256))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots servers from it: minutes"]
async fn a_host_with_uefi_is_inspected_refused_written_and_wiped() -> Result<()> {
    let (server, machine) = boot(Firmware::Uefi).await?;
    let (url, sha256) = publish(&server)?;
    let choose = |serial: &str| {
        Wanted::Action(Action::ChooseDisk {
            hints: Box::new(hints(serial)),
        })
    };
    let told = server.ask("dry run", choose("root-disk")).await?;
    let Told::Done(Answer::Chosen {
        device, contents, ..
    }) = &told
    else {
        bail!("{told:?}");
    };
    ensure!(device == "/dev/vda" && contents.is_empty(), "{told:?}");
    let told = server.ask("no such disk", choose("other")).await?;
    ensure!(failed(&told) == Some(Reason::NoDisk), "{told:?}");
    let write = |write: WriteImage| Wanted::Action(Action::Write(Box::new(write)));
    let told = server
        .ask("too small", write(image(&url, &sha256, "SMALL1")))
        .await?;
    ensure!(failed(&told) == Some(Reason::DiskTooSmall), "{told:?}");
    let wrong = image(&url, &"0".repeat(64), "root-disk");
    let told = server.ask("wrong checksum", write(wrong)).await?;
    ensure!(failed(&told) == Some(Reason::ChecksumMismatch), "{told:?}");
    ensure!(machine.disk()?[..512] == [0; 512], "a boot sector is left");
    let drive = drive()?;
    let wanted = Box::new(image(&url, &sha256, "root-disk"));
    let wanted = Wanted::WriteWithConfigDrive(wanted, drive.clone());
    let told = server.ask("written", wanted).await?;
    let Told::Done(Answer::Written {
        bytes,
        config_drive_partition,
        ..
    }) = &told
    else {
        bail!("{told:?}");
    };
    ensure!(
        (*bytes, *config_drive_partition) == (40 * MIB, Some(2)),
        "{told:?}"
    );
    check_disk(&machine.disk()?, &drive)?;
    let again = write(image(&url, &sha256, "root-disk"));
    let told = server.ask("has data", again).await?;
    ensure!(failed(&told) == Some(Reason::DiskHasData), "{told:?}");
    let wipe = Wanted::Action(Action::Wipe {
        disks: WipeScope::All,
    });
    let told = server.ask("wiped", wipe).await?;
    ensure!(
        matches!(&told, Told::Done(Answer::Wiped { disks }) if disks.len() == 2),
        "{told:?}"
    );
    let told = server
        .ask("dry run of a wiped disk", choose("root-disk"))
        .await?;
    ensure!(
        matches!(&told, Told::Done(Answer::Chosen { contents, .. }) if contents.is_empty()),
        "{told:?}"
    );
    ensure!(
        machine.console().contains("catamaran-deploy-agent"),
        "nothing on ttyS0"
    );
    drop(machine);
    server.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the deploy ISO and boots servers from it: minutes"]
async fn a_host_with_bios_is_written_and_goes_down() -> Result<()> {
    let (server, mut machine) = boot(Firmware::Bios).await?;
    let (url, sha256) = publish(&server)?;
    let drive = drive()?;
    let wanted = Box::new(image(&url, &sha256, "root-disk"));
    let wanted = Wanted::WriteWithConfigDrive(wanted, drive.clone());
    let told = server.ask("written", wanted).await?;
    ensure!(
        matches!(told, Told::Done(Answer::Written { .. })),
        "{told:?}"
    );
    check_disk(&machine.disk()?, &drive)?;
    server
        .ask("power off", Wanted::Action(Action::PowerOff))
        .await?;
    let begin = Instant::now();
    while machine.qemu.try_wait()?.is_none() {
        ensure!(
            begin.elapsed() < Duration::from_secs(60),
            "the host stays on"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.end().await;
    Ok(())
}
