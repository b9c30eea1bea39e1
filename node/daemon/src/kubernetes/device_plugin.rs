//! The devices that launcher pods ask for, offered to the kubelet: `devices.kubevirt.io/tun`, and `kvm` and `vhost-net` where they work.
//!
//! A device stands for the right to run a guest; there are as many as the kubelet may ever need. With `tun` comes the node's cache of QEMU's
//! abilities, so that a pod needs no host path for it.
//!
//! ```text
//!   bind our socket -> Register at kubelet.sock -> ListAndWatch, Allocate
//!        ^                                             │
//!        └── kubelet.sock is another, or ours is gone ─┘
//! ```

mod proto;
mod service;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catamaran_plan::Accelerator;
use catamaran_sandbox::CAPABILITIES_SEED;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::kubernetes::world::World;
use proto::RegisterRequest;
use service::Plugin;

/// Version of the kubelet's interface.
const VERSION: &str = "v1beta1";
/// How often it is looked whether the kubelet has restarted.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// A device and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name after `devices.kubevirt.io/`.
    pub name: &'static str,
    /// Device node.
    pub node: &'static str,
    /// Folders of the host that are shown, as (host, container).
    pub folders: Vec<(PathBuf, &'static str)>,
}

/// What this node has to offer.
#[must_use]
pub fn devices(world: &World) -> Vec<Device> {
    let there =
        |node: &str| fs::metadata(node).is_ok_and(|metadata| metadata.file_type().is_char_device());
    let mut devices = vec![Device {
        name: "tun",
        node: "/dev/net/tun",
        folders: vec![(world.capabilities(), CAPABILITIES_SEED)],
    }];
    if world.host.facts.accelerator == Accelerator::Kvm {
        devices.push(Device {
            name: "kvm",
            node: "/dev/kvm",
            folders: Vec::new(),
        });
        if there("/dev/vhost-net") {
            devices.push(Device {
                name: "vhost-net",
                node: "/dev/vhost-net",
                folders: Vec::new(),
            });
        }
    }
    devices.retain(|device| there(device.node));
    devices
}

/// Offers one device, for ever.
pub async fn run(world: Arc<World>, device: Device) {
    open_to_guests(&device);
    let folder = Path::new(&world.kubelet).join("device-plugins");
    loop {
        match offer(&folder, &device).await {
            Ok(()) => tracing::info!(
                device = device.name,
                "the kubelet has restarted; the device is offered anew"
            ),
            Err(error) => {
                tracing::warn!(device = device.name, error = %error, "the device is not offered to the kubelet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Launchers are uid 107: distributions let everybody open these nodes, some images do not.
fn open_to_guests(device: &Device) {
    let Ok(metadata) = fs::metadata(device.node) else {
        return;
    };
    if metadata.mode() & 0o006 == 0o006 {
        return;
    }
    let mode = metadata.mode() & 0o7777 | 0o006;
    if let Err(error) = fs::set_permissions(device.node, fs::Permissions::from_mode(mode)) {
        tracing::warn!(device = device.node, error = %error, "guests can't open the device");
    }
}

/// Serves and registers until the kubelet restarts.
async fn offer(folder: &Path, device: &Device) -> io::Result<()> {
    let kubelet = folder.join("kubelet.sock");
    let name = format!("catamaran-{}.sock", device.name);
    let socket = folder.join(&name);
    let generation = inode(&kubelet)?;
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    let own = inode(&socket)?;
    // At the end of the daemon too: an installation that is removed leaves no socket behind.
    let _removed = Socket(&socket, own);
    let server = Server::builder()
        .add_service(Plugin::new(device.clone()))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let registered = async {
        register(&kubelet, name, device).await?;
        tracing::info!(device = device.name, "the device is offered to the kubelet");
        loop {
            tokio::time::sleep(LOOK).await;
            let same = |path: &Path, before| inode(path).is_ok_and(|now| now == before);
            if !same(&kubelet, generation) || !same(&socket, own) {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = server => result.map_err(io::Error::other),
        result = registered => result,
    }
}

/// Our socket, removed with the value unless another daemon has put its own in its place.
struct Socket<'a>(&'a Path, (u64, i64, i64));

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        let Self(path, own) = *self;
        if inode(path).is_ok_and(|now| now == own) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Which file it is: a kubelet that restarts makes its socket anew.
fn inode(path: &Path) -> io::Result<(u64, i64, i64)> {
    let metadata = fs::metadata(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

async fn register(kubelet: &Path, endpoint: String, device: &Device) -> io::Result<()> {
    let path = kubelet.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel: Channel = Endpoint::from_static("http://localhost")
        .connect_timeout(AGAIN)
        .timeout(AGAIN)
        .connect_with_connector(connect)
        .await
        .map_err(io::Error::other)?;
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint,
        resource_name: format!("devices.kubevirt.io/{}", device.name),
        options: None,
    };
    service::register(channel, request)
        .await
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn device(folder: &Path) -> Device {
        Device {
            name: "tun",
            node: "/dev/net/tun",
            folders: vec![(folder.to_owned(), CAPABILITIES_SEED)],
        }
    }

    /// A kubelet that takes registrations.
    fn kubelet(folder: &Path, seen: &Arc<Mutex<Vec<RegisterRequest>>>) -> tokio::task::JoinSet<()> {
        let path = folder.join("kubelet.sock");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let service = service::tests::FakeKubelet(seen.clone());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let server = Server::builder().add_service(service);
            let _ = server
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await;
        });
        tasks
    }

    async fn until(condition: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "not in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_restarted_kubelet_is_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let first = kubelet(dir.path(), &seen);
        let mut tasks = tokio::task::JoinSet::new();
        let (folder, offered) = (dir.path().to_owned(), device(dir.path()));
        tasks.spawn(async move {
            loop {
                let _ = offer(&folder, &offered).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        until(|| seen.lock().unwrap().len() == 1).await;
        drop(first);
        let _second = kubelet(dir.path(), &seen);
        until(|| seen.lock().unwrap().len() == 2).await;
        let request = seen.lock().unwrap()[1].clone();
        assert_eq!(request.resource_name, "devices.kubevirt.io/tun");
        assert!(dir.path().join(request.endpoint).exists());
    }

    #[tokio::test]
    async fn a_daemon_that_ends_leaves_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let _kubelet = kubelet(dir.path(), &seen);
        let offered = device(dir.path());
        let socket = dir.path().join("catamaran-tun.sock");
        tokio::select! {
            result = offer(dir.path(), &offered) => panic!("{result:?}"),
            () = until(|| seen.lock().unwrap().len() == 1 && socket.exists()) => {}
        }
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn an_allocation_brings_device_and_cache() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = Plugin::new(device(dir.path()));
        let answer = plugin.allocation();
        assert_eq!(answer.devices[0].container_path, "/dev/net/tun");
        assert_eq!(answer.mounts[0].container_path, CAPABILITIES_SEED);
        assert!(answer.mounts[0].read_only);
        let gone = Plugin::new(device(&dir.path().join("missing")));
        assert!(gone.allocation().mounts.is_empty());
    }
}
