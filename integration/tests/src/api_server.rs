//! A real API server alone with its etcd, on the loopback, and the controller as a process: for what needs no nodes. The programs are those of
//! `integration/cluster`; it needs no root.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::{SYSTEM, script};
use crate::wait::{BOOT, Seen, wait_for};
use crate::{command, programs};

/// A port that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The API server, with the definitions of our kinds. Killed on drop, with its etcd.
#[derive(Debug)]
pub struct ApiServer {
    processes: Vec<Child>,
    folder: TempDir,
    programs: PathBuf,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl ApiServer {
    /// Starts it, with the product's namespace.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts it with further flags.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_with(flags: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut server = Self {
            processes: Vec::new(),
            programs: cluster_programs()?,
            folder,
        };
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        let etcd = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let at = server.folder.path().to_owned();
        let file = |name: &str| at.join(name).display().to_string();
        server.spawn(
            "etcd",
            &[
                "--data-dir",
                &file("etcd"),
                "--unsafe-no-fsync",
                "--log-level",
                "warn",
                "--listen-client-urls",
                &etcd,
                "--advertise-client-urls",
                &etcd,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &format!("default={peer}"),
            ],
        )?;
        let key = ["genrsa", "-out", &file("service-account.key"), "2048"];
        command::stdout(&mut command::program("openssl", key))?;
        fs::write(at.join("tokens"), "bench,bench,bench,system:masters\n")?;
        let url = format!("https://127.0.0.1:{port}");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": url, "certificate-authority": file("tls/apiserver.crt")}}],
            "users": [{"name": "bench", "user": {"token": "bench"}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        });
        fs::write(server.kubeconfig(), kubeconfig.to_string())?;
        let tls = file("tls");
        let (port, tokens, key) = (
            port.to_string(),
            file("tokens"),
            file("service-account.key"),
        );
        let mut words = vec![
            "--etcd-servers",
            &etcd,
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            &port,
            "--cert-dir",
            &tls,
            "--authorization-mode",
            "RBAC",
            "--token-auth-file",
            &tokens,
            "--service-cluster-ip-range",
            "10.79.0.0/16",
            "--service-account-issuer",
            "https://kubernetes.default.svc",
            "--service-account-key-file",
            &key,
            "--service-account-signing-key-file",
            &key,
        ];
        words.extend(flags.iter().map(String::as_str));
        server.spawn("kube-apiserver", &words)?;
        wait_for("the API server is ready", BOOT, || {
            server.kubectl(&["get", "--raw", "/readyz"]).map(Seen::Yes)
        })?;
        let definitions = at.join("definitions.yaml");
        fs::write(&definitions, definitions_of(&programs::root())?)?;
        server.kubectl(&["create", "namespace", SYSTEM])?;
        server.kubectl(&["create", "--filename", &definitions.display().to_string()])?;
        server.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ])?;
        Ok(server)
    }

    /// Where its files are; others may be put there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Of who may do anything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.args(words).env("KUBECONFIG", self.kubeconfig());
        command::stdout(&mut kubectl)
    }

    /// Starts the controller.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn controller(&self, programs: &Path) -> Result<Controller> {
        self.controller_at(programs, 0, &[])
    }

    /// Starts the controller with its API on a port of the loopback, 0 being any, and further settings by their variables.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn controller_at(
        &self,
        programs: &Path,
        port: u16,
        settings: &[(&str, &str)],
    ) -> Result<Controller> {
        let listen = format!("127.0.0.1:{port}");
        let health = format!("127.0.0.1:{}", free_port()?);
        let log = File::create(self.folder().join("controller.log"))?;
        let process = Command::new(programs.join("catamaran-controller"))
            .args([
                "--node-image",
                "registry.example/none:1",
                "--health",
                &health,
            ])
            .args(["--listen", &listen, "--namespace", SYSTEM])
            .env("KUBECONFIG", self.kubeconfig())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context("catamaran-controller")?;
        Ok(Controller { process, health })
    }

    fn spawn(&mut self, name: &str, words: &[&str]) -> Result<()> {
        let log = File::create(self.folder.path().join(format!("{name}.log")))?;
        let process = Command::new(self.programs.join(name))
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| name.to_owned())?;
        self.processes.push(process);
        Ok(())
    }
}

/// The controller. Killed on drop.
#[derive(Debug)]
pub struct Controller {
    process: Child,
    health: String,
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Controller {
    /// Number of its process; an error once it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&mut self) -> Result<i32> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the controller ended: {status}");
        }
        Ok(i32::try_from(self.process.id())?)
    }

    /// Address of its health endpoints and metrics.
    #[must_use]
    pub fn health(&self) -> &str {
        &self.health
    }
}

/// Folder of the cluster's programs, which are built the first time.
fn cluster_programs() -> Result<PathBuf> {
    command::stdout(Command::new(script()).arg("build"))?;
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("CATAMARAN_CLUSTER_PROGRAMS")
        .or_else(|| Some(cache()?.join("catamaran/cluster/bin")))
        .context("HOME is not set")
}

/// The definitions among the manifests of the installation.
fn definitions_of(root: &Path) -> Result<String> {
    let manifests = fs::read_to_string(root.join("controller/deploy/install.yaml"))?;
    let documents = manifests.split("\n---\n");
    let definitions: Vec<&str> = documents
        .filter(|document| {
            document
                .lines()
                .any(|line| line == "kind: CustomResourceDefinition")
        })
        .collect();
    ensure!(!definitions.is_empty(), "install.yaml has no definitions");
    Ok(definitions.join("\n---\n"))
}
