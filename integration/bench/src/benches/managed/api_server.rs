//! A real API server alone with its etcd, on the loopback: the programs are those of `integration/cluster`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::{command, programs};
use serde_json::json;
use tempfile::TempDir;

use super::NAMESPACE;
use crate::wait;

const START: Duration = Duration::from_secs(120);

/// A port that nobody listens on now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The API server. Killed on drop, with its etcd.
pub(super) struct ApiServer {
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
    /// Starts it with the definitions of our kinds and the namespace.
    pub(super) fn start() -> Result<Self> {
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
            "clusters": [{"name": "bench", "cluster": {"server": url, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "bench", "user": {"token": "bench"}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        });
        fs::write(server.kubeconfig(), kubeconfig.to_string())?;
        server.spawn(
            "kube-apiserver",
            &[
                "--etcd-servers",
                &etcd,
                "--bind-address",
                "127.0.0.1",
                "--secure-port",
                &port.to_string(),
                "--cert-dir",
                &file("tls"),
                "--authorization-mode",
                "RBAC",
                "--token-auth-file",
                &file("tokens"),
                "--service-cluster-ip-range",
                "10.79.0.0/16",
                "--service-account-issuer",
                "https://kubernetes.default.svc",
                "--service-account-key-file",
                &file("service-account.key"),
                "--service-account-signing-key-file",
                &file("service-account.key"),
            ],
        )?;
        wait::every(
            Duration::from_millis(300),
            "ready API server",
            START,
            || Ok(server.kubectl(&["get", "--raw", "/readyz"]).ok()),
        )?;
        let definitions = at.join("definitions.yaml");
        fs::write(&definitions, definitions_of(&programs::root())?)?;
        server.kubectl(&["create", "namespace", NAMESPACE])?;
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

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Of who may do anything.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Gives what it printed.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.args(words).env("KUBECONFIG", self.kubeconfig());
        command::stdout(&mut kubectl)
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

/// Folder of the cluster's programs.
fn cluster_programs() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let folder = set("CATAMARAN_CLUSTER_PROGRAMS")
        .or_else(|| Some(cache()?.join("catamaran/cluster/bin")))
        .context("HOME is not set")?;
    let missing = !folder.join("kube-apiserver").exists();
    ensure!(
        !missing,
        "{} has no kube-apiserver; `cargo xtask cluster build` makes it",
        folder.display()
    );
    Ok(folder)
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
