//! Stores with test settings, real registries on loopback ports, and waiting with a deadline.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use catamaran_images::{
    AuthFiles, DiskImage, ImageError, ImageRequest, ImageStore, RegistryConfig, StoreConfig,
    WorkerConfig,
};
use tempfile::TempDir;

pub(crate) fn worker() -> WorkerConfig {
    WorkerConfig {
        program: env!("CARGO_BIN_EXE_image-worker-for-tests").into(),
        arguments: Vec::new(),
        ..WorkerConfig::default()
    }
}

/// No files of this machine, short pauses, local references allowed.
pub(crate) fn config() -> StoreConfig {
    let mut config = StoreConfig {
        registry: RegistryConfig {
            ca_folders: Vec::new(),
            auth_files: AuthFiles::none(),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            backoff: Duration::from_millis(10),
            ..RegistryConfig::default()
        },
        worker: worker(),
        local_references: true,
        ..StoreConfig::default()
    };
    config.limits.keep_free = 0;
    config
}

pub(crate) fn store(folder: &Path) -> ImageStore {
    ImageStore::open(&folder.join("store"), config()).unwrap()
}

pub(crate) fn request(reference: &str) -> ImageRequest {
    ImageRequest::new(reference.parse().unwrap())
}

pub(crate) async fn resolve(store: &ImageStore, reference: &str) -> Result<DiskImage, ImageError> {
    store.resolve(request(reference), None).await
}

/// Files that the store holds: disks and temporary files.
pub(crate) fn held(folder: &Path) -> Vec<String> {
    let list = |name: &str| {
        let entries = fs::read_dir(folder.join("store").join(name)).unwrap();
        entries
            .map(|e| format!("{name}/{}", e.unwrap().file_name().display()))
            .collect::<Vec<_>>()
    };
    [list("disks"), list("tmp")].concat()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until the condition gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Says which test is skipped and why, where a tool is missing.
pub(crate) fn missing(test: &str) -> bool {
    for tool in ["docker-registry", "skopeo", "openssl"] {
        if !installed(tool) {
            eprintln!("SKIPPED {test}: {tool} is not installed");
            return true;
        }
    }
    false
}

/// User and password of [`Access::Password`].
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "s3cret";
const HTPASSWD: &str = "alice:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Access {
    Open,
    Password,
    Tls,
}

/// A running registry; ends when dropped.
pub(crate) struct Registry {
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    access: Access,
    child: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Registry {
    pub(crate) fn start(access: Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            path("data").display()
        );
        match access {
            Access::Open => {}
            Access::Password => {
                fs::write(path("htpasswd"), HTPASSWD).unwrap();
                config += &format!(
                    "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                    path("htpasswd").display()
                );
            }
            Access::Tls => {
                certificates(folder.path());
                config += &format!(
                    "  tls: {{certificate: {}, key: {}}}\n",
                    path("server.crt").display(),
                    path("server.key").display()
                );
            }
        }
        fs::write(path("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self {
            port,
            folder,
            access,
            child,
        };
        wait_for("the registry", || {
            assert!(
                registry.child.try_wait().unwrap().is_none(),
                "docker-registry ended"
            );
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        registry
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Copies `x:1` of a layout to `name`.
    pub(crate) fn push(&self, layout: &Path, name: &str) {
        let mut command = Command::new("skopeo");
        // Not as root's home says: no files of this machine.
        command
            .env("HOME", self.folder.path())
            .env_remove("XDG_RUNTIME_DIR");
        command.args([
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            "--preserve-digests",
        ]);
        if self.access == Access::Password {
            command.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        command
            .arg(format!("oci:{}:x:1", layout.display()))
            .arg(format!("docker://{}", self.reference(name)));
        run(&mut command);
    }

    /// Where the registry keeps a blob.
    pub(crate) fn blob_path(&self, digest: &catamaran_images::Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder
            .path()
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

/// `ca.crt`, and `server.crt` with `server.key` for 127.0.0.1.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl")
            .current_dir(folder)
            .args(arguments.split(' ')));
    };
    fs::write(
        folder.join("ext"),
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca",
    );
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1",
    );
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile ext",
    );
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
