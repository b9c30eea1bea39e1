//! The deploy agent's own code against this server, over HTTPS on loopback, with files that stand for disks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use catamaran_deploy_agent::Failed;
use catamaran_deploy_agent::client::{ClientError, Controller};
use catamaran_deploy_agent::write::Write;
use catamaran_deploy_server::{
    ConfigDriveFiles, DeployServer, MemoryLedger, Settings, Template, Wanted, config_drive, serve,
    server_config,
};
use catamaran_deploy_wire::{
    Action, Answer, Checksum, ChecksumKind, Disk, Format, Image, Parameters, Reason,
    RootDeviceHints, SLOT_SIZE, WriteImage, render_slot,
};
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest, Sha256, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
const HOST: &str = "metal-1";

/// A server, an agent with a session, and a disk of 64 MiB.
struct World {
    server: DeployServer,
    controller: Controller,
    ca: String,
    folder: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let ca = names.self_signed(&key).unwrap().pem();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut parameters = Parameters {
            version: 1,
            controller: url.clone(),
            host: HOST.into(),
            token: "-".repeat(32),
            ca: ca.clone(),
            issued_at: 0,
            network: None,
        };
        let iso = folder.path().join("deploy.iso");
        fs::write(&iso, render_slot(&parameters).unwrap()).unwrap();
        let settings = Settings {
            url,
            ca: ca.clone(),
            template: Template::open(&iso).unwrap(),
        };
        let server = DeployServer::new(settings, Arc::new(MemoryLedger::default()));
        let mut tasks = JoinSet::new();
        let config = server_config(&ca, &key.serialize_pem()).unwrap();
        tasks.spawn(serve(
            server.router(),
            listener,
            config,
            CancellationToken::new(),
        ));
        let session = "s".repeat(64);
        let controller = Controller::new(&parameters, session).unwrap();
        let mut world = Self {
            server,
            controller,
            ca,
            folder,
            tasks,
        };
        parameters.token = world.token().await;
        world
            .controller
            .hello(&parameters.token, "boot")
            .await
            .unwrap();
        world
    }

    /// What is in the slot of the host's ISO.
    async fn token(&mut self) -> String {
        let url = self.server.enrol(HOST, "test", None).unwrap().iso_url;
        let ca = self.path("ca.pem");
        fs::write(&ca, &self.ca).unwrap();
        let mut curl = tokio::process::Command::new("curl");
        let curl = curl.args(["-sSf", "--cacert"]).arg(ca).arg(url);
        let iso = curl.output().await.unwrap().stdout;
        assert_eq!(iso.len(), SLOT_SIZE);
        let text = String::from_utf8(iso[132..SLOT_SIZE - 124].to_vec()).unwrap();
        Parameters::parse(&text).unwrap().token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty disk.
    fn disk(&self, size: usize) -> Disk {
        let path = self.path("disk");
        fs::write(&path, vec![0; size]).unwrap();
        Disk {
            name: path.to_str().unwrap().into(),
            size_bytes: size as u64,
            ..Disk::default()
        }
    }

    fn published(&self, file: &Path, format: Format) -> Image {
        let name = file.file_name().unwrap().to_str().unwrap();
        Image {
            url: self.server.publish(name, file).unwrap(),
            format,
            checksum: Checksum {
                kind: Some(ChecksumKind::Sha256),
                value: hex::encode(Sha256::digest(fs::read(file).unwrap())),
            },
            ca: None,
        }
    }

    async fn write(
        &self,
        disk: &Disk,
        image: Image,
        drive: Option<bytes::Bytes>,
    ) -> Result<Answer, Failed> {
        self.run(disk, image, drive, false).await
    }

    async fn run(
        &self,
        disk: &Disk,
        image: Image,
        drive: Option<bytes::Bytes>,
        overwrite: bool,
    ) -> Result<Answer, Failed> {
        let write = Box::new(WriteImage {
            image,
            hints: RootDeviceHints {
                device_name: Some(disk.name.clone()),
                ..RootDeviceHints::default()
            },
            config_drive: None,
            overwrite,
        });
        let wanted = match drive {
            Some(drive) => Wanted::WriteWithConfigDrive(write, drive),
            None => Wanted::Action(Action::Write(write)),
        };
        self.server.ask(HOST, wanted).unwrap();
        let command = self.controller.command(0).await.unwrap().unwrap();
        let Action::Write(wanted) = &command.action else {
            panic!("{command:?}");
        };
        let write = Write {
            id: command.id,
            wanted,
            disks: std::slice::from_ref(disk),
            ca: &self.ca,
            controller: &self.controller,
        };
        Box::pin(write.run()).await
    }
}

/// An image with a partition table, data and holes.
fn raw(folder: &Path, label: &str) -> PathBuf {
    let path = folder.join("image.raw");
    let mut bytes = vec![0; 24 * MIB];
    for (number, block) in bytes[MIB..9 * MIB].chunks_mut(100_000).enumerate() {
        block.fill(u8::try_from(number % 200).unwrap());
    }
    fs::write(&path, bytes).unwrap();
    let script = format!(
        "printf 'label: {label}\\nsize=16M, type=L\\n' | sfdisk -q {}",
        path.display()
    );
    let made = Command::new("sh").args(["-c", &script]).status();
    assert!(made.unwrap().success());
    path
}

fn qcow2(raw: &Path) -> PathBuf {
    let path = raw.with_extension("qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
    assert!(convert.args([raw, &path]).status().unwrap().success());
    path
}

fn drive() -> bytes::Bytes {
    config_drive(&ConfigDriveFiles {
        user_data: Some(b"#cloud-config\n".to_vec()),
        ..ConfigDriveFiles::default()
    })
    .unwrap()
}

#[tokio::test]
async fn a_qcow2_and_its_config_drive_come_onto_the_disk() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "gpt");
    let disk = world.disk(64 * MIB);
    let drive = drive();
    let image = world.published(&qcow2(&raw), Format::Qcow2);
    let answer = world
        .write(&disk, image, Some(drive.clone()))
        .await
        .unwrap();
    let Answer::Written {
        bytes,
        config_drive_partition,
        ..
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!((bytes, config_drive_partition), (24 << 20, Some(2)));
    let (written, image) = (fs::read(&disk.name).unwrap(), fs::read(raw).unwrap());
    assert!(written[MIB..23 * MIB] == image[MIB..23 * MIB]);
    let begin = 62 * MIB;
    assert!(written[begin..begin + drive.len()] == drive);
    let status = world.server.status(HOST).unwrap();
    assert!(status.progress.is_some() && status.seen.is_some());
}

#[tokio::test]
async fn a_raw_image_with_an_mbr_is_written_and_not_overwritten_unasked() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let disk = world.disk(64 * MIB);
    let mut image = world.published(&raw, Format::Raw);
    let bytes = fs::read(&raw).unwrap();
    image.checksum = Checksum {
        kind: Some(ChecksumKind::Sha512),
        value: hex::encode(Sha512::digest(&bytes)).to_uppercase(),
    };
    world.write(&disk, image.clone(), None).await.unwrap();
    assert!(fs::read(&disk.name).unwrap()[..24 * MIB] == bytes);
    let failed = world
        .run(&disk, image.clone(), Some(drive()), false)
        .await
        .unwrap_err();
    assert_eq!(failed.reason, Reason::DiskHasData);
    assert!(failed.message.contains("(dos)"), "{failed}");
    world.run(&disk, image, Some(drive()), true).await.unwrap();
}

#[tokio::test]
async fn a_checksum_comes_from_a_file_of_them() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let disk = world.disk(64 * MIB);
    let mut image = world.published(&raw, Format::Raw);
    let name = image.url.rsplit('/').next().unwrap().to_owned();
    let (digest, other) = (image.checksum.value.clone(), "0".repeat(64));
    let publish = |file: &str, text: String| {
        let path = world.path(file);
        fs::write(&path, text).unwrap();
        Checksum {
            kind: None,
            value: world.server.publish(file, &path).unwrap(),
        }
    };
    image.checksum = publish("SUMS", format!("{other}  other.img\n{digest} *{name}\n"));
    world.write(&disk, image.clone(), None).await.unwrap();

    let disk = world.disk(64 * MIB);
    image.checksum = publish("OTHER", format!("{other}  a.img\n{other}  b.img\n"));
    let failed = world.write(&disk, image.clone(), None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::ImageInvalid);
    assert!(failed.message.contains(&name), "{failed}");
    image.checksum = publish("WRONG", other);
    let failed = world.write(&disk, image, None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::ChecksumMismatch);
}

#[tokio::test]
async fn after_a_wrong_checksum_nothing_boots_from_the_disk() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let disk = world.disk(64 * MIB);
    let mut image = world.published(&raw, Format::Raw);
    image.checksum.value = "0".repeat(64);
    let failed = world.write(&disk, image, None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::ChecksumMismatch);
    assert!(failed.message.contains("00000 is wanted"), "{failed}");
    let written = fs::read(&disk.name).unwrap();
    assert!(
        written[..MIB]
            .iter()
            .chain(&written[63 * MIB..])
            .all(|byte| *byte == 0)
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_the_disk_is_touched() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let disk = world.disk(8 * MIB);
    fs::write(&disk.name, vec![7; 8 * MIB]).unwrap();
    let image = world.published(&qcow2(&raw), Format::Qcow2);
    let failed = world.write(&disk, image, None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::DiskTooSmall);
    assert!(fs::read(&disk.name).unwrap() == vec![7; 8 * MIB]);
}

#[tokio::test]
async fn images_that_are_absent_or_not_what_they_say_are_named() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let disk = world.disk(64 * MIB);
    let mut absent = world.published(&raw, Format::Raw);
    absent.url.push_str("-gone");
    let failed = world.write(&disk, absent, None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::ImageUnreachable);
    assert!(failed.message.contains("404"), "{failed}");
    let wrong = world.published(&raw, Format::Qcow2);
    let failed = world.write(&disk, wrong, None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::ImageInvalid);
    assert!(failed.message.contains("no qcow2"), "{failed}");
}

#[tokio::test]
async fn a_command_that_is_not_wanted_any_more_is_stopped() {
    let world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let disk = world.disk(64 * MIB);
    let wanted = WriteImage {
        image: world.published(&raw, Format::Raw),
        hints: RootDeviceHints {
            device_name: Some(disk.name.clone()),
            ..RootDeviceHints::default()
        },
        config_drive: None,
        overwrite: false,
    };
    world
        .server
        .ask(HOST, Wanted::Action(Action::Inspect))
        .unwrap();
    let write = Write {
        id: 99,
        wanted: &wanted,
        disks: std::slice::from_ref(&disk),
        ca: &world.ca,
        controller: &world.controller,
    };
    let failed = Box::pin(write.run()).await.unwrap_err();
    assert_eq!(failed.reason, Reason::Aborted);
    assert!(fs::read(&disk.name).unwrap() == vec![0; 64 * MIB]);
}

/// A web server that ends each connection after 5 MB, and knows ranges or not.
async fn breaking(listener: TcpListener, file: Vec<u8>, ranges: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that goes away is what this is about.
        let _ = broken(stream, &file, ranges).await;
    }
}

async fn broken(mut stream: TcpStream, file: &[u8], ranges: bool) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let from = request
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="))
        .and_then(|range| range.split('-').next()?.parse::<usize>().ok())
        .filter(|_| ranges);
    let (head, from) = match from {
        Some(from) => {
            let range = format!(
                "content-range: bytes {from}-{}/{}\r\n",
                file.len() - 1,
                file.len()
            );
            (format!("HTTP/1.1 206 Partial Content\r\n{range}"), from)
        }
        None => ("HTTP/1.1 200 OK\r\n".to_owned(), 0),
    };
    let length = file.len() - from;
    let head = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    // Without ranges each connection gives more than the one before, or nobody would ever get to the end.
    let part = if ranges {
        5_000_000.min(length)
    } else {
        length
    };
    stream.write_all(&file[from..from + part]).await?;
    stream.shutdown().await
}

#[tokio::test]
async fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let mut world = World::start().await;
    let raw = raw(world.folder.path(), "dos");
    let bytes = fs::read(&raw).unwrap();
    let disk = world.disk(64 * MIB);
    let mut image = world.published(&raw, Format::Raw);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    image.url = format!("http://{}/image.raw", listener.local_addr().unwrap());
    world.tasks.spawn(breaking(listener, bytes.clone(), true));
    world.write(&disk, image, None).await.unwrap();
    assert!(fs::read(&disk.name).unwrap()[..24 * MIB] == bytes);
}

#[tokio::test]
async fn qcow2_from_a_server_without_ranges_is_refused_with_what_helps() {
    let mut world = World::start().await;
    let qcow2 = qcow2(&raw(world.folder.path(), "dos"));
    let disk = world.disk(64 * MIB);
    let mut image = world.published(&qcow2, Format::Qcow2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    image.url = format!("http://{}/image.qcow2", listener.local_addr().unwrap());
    let file = fs::read(&qcow2).unwrap();
    world.tasks.spawn(breaking(listener, file, false));
    let failed = world.write(&disk, image, None).await.unwrap_err();
    assert_eq!(failed.reason, Reason::ImageInvalid);
    assert!(
        failed.message.contains("use another server, or format raw"),
        "{failed}"
    );
}

#[tokio::test]
async fn another_session_with_the_token_is_refused_and_a_forgotten_host_too() {
    let mut world = World::start().await;
    let token = world.token().await;
    let error = world.controller.command(0).await.unwrap_err();
    assert!(matches!(error, ClientError::Session), "{error}");
    world.controller.hello(&token, "boot").await.unwrap();
    let parameters = Parameters {
        version: 1,
        controller: world.server.url("").replace("/deploy/v1/hosts/", ""),
        host: HOST.into(),
        token: token.clone(),
        ca: world.ca.clone(),
        issued_at: 0,
        network: None,
    };
    let other = Controller::new(&parameters, "t".repeat(64)).unwrap();
    let error = other.hello(&token, "boot").await.unwrap_err();
    assert!(error.to_string().contains("used already"), "{error}");
    world.server.forget(HOST).unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(5), world.controller.command(0)).await;
    assert!(matches!(waited, Ok(Err(ClientError::Session))));
}
