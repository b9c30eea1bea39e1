//! One test's world: images, CNI configuration, a private containerd, and proof that nothing is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use catamaran_containers::{
    ImageSources, LogLine, LogOptions, NodeDns, Objects, PodKey, PodSpec, PodStatusSummary, Pods,
    PodsOptions, PrivateOptions, Runtime, RuntimeOptions,
};
use futures::{FutureExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const BUSYBOX: &str = "catamaran.local/busybox:dev";
/// Time for what takes one or two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// ConfigMaps and Secrets, by kind, namespace and name.
#[derive(Default)]
pub(crate) struct Store(Mutex<BTreeMap<(bool, String, String), Value>>);

impl Store {
    pub(crate) fn put(&self, secret: bool, name: &str, object: &Value) {
        self.0.lock().unwrap().insert(
            (secret, "default".to_owned(), name.to_owned()),
            object.clone(),
        );
    }
    fn get<T: serde::de::DeserializeOwned>(
        &self,
        secret: bool,
        namespace: &str,
        name: &str,
    ) -> Option<T> {
        let object = self
            .0
            .lock()
            .unwrap()
            .get(&(secret, namespace.to_owned(), name.to_owned()))
            .cloned()?;
        Some(serde_json::from_value(object).unwrap())
    }
}

impl Objects for Store {
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap> {
        self.get(false, namespace, name)
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.get(true, namespace, name)
    }
}

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) store: Arc<Store>,
    pods: Option<Pods>,
}

/// Runs a test in a network namespace and a state folder of its own, and checks that nothing is left of it.
pub(crate) fn world(name: &str, test: impl AsyncFnOnce(&mut World) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: {name} needs root");
        return;
    }
    let folder = tempfile::Builder::new().prefix("ctm-").tempdir().unwrap();
    let path = folder.path().to_owned();
    // A namespace belongs to a thread; threads and processes made by it are in it too.
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::prepare(path);
            let result = AssertUnwindSafe(test(&mut world)).catch_unwind().await;
            if result.is_err() {
                world.explain();
            }
            let cleaned = AssertUnwindSafe(world.clean()).catch_unwind().await;
            if let Err(panic) = result.and(cleaned) {
                resume_unwind(panic);
            }
        });
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl World {
    fn prepare(folder: PathBuf) -> Self {
        busybox_layout(&folder.join("oci/busybox"), "dev", &["/bin/sh"], "");
        busybox_layout(
            &folder.join("oci/pause"),
            "dev",
            &["/bin/busybox", "sleep", "2147483647"],
            "",
        );
        let cni = folder.join("cni");
        std::fs::create_dir(&cni).unwrap();
        let network = json!({"cniVersion": "1.0.0", "name": "test", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": folder.join("addresses"), "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}}]});
        std::fs::write(cni.join("10-test.conflist"), network.to_string()).unwrap();
        Self {
            folder,
            store: Arc::default(),
            pods: None,
        }
    }

    /// Options for this world's containerd.
    pub(crate) fn private(&self) -> PrivateOptions {
        PrivateOptions {
            registries_dir: None,
            ..PrivateOptions::new(self.folder.join("containerd"), self.folder.join("cni"))
        }
    }

    /// Finds, starts or adopts the runtime, and makes the Pods' owner.
    pub(crate) async fn connect(&mut self) -> &Pods {
        let runtime = Runtime::connect(RuntimeOptions {
            socket: None,
            known: vec![],
            private: self.private(),
        })
        .await
        .unwrap();
        assert_eq!((runtime.name(), runtime.is_private()), ("containerd", true));
        let options = PodsOptions {
            folder: self.folder.join("pods"),
            images: ImageSources {
                layouts: vec![self.folder.join("oci")],
                auth_files: vec![self.folder.join("auth.json")],
            },
            dns: NodeDns {
                servers: vec!["10.88.0.1".parse().unwrap()],
                zone: "vm.test".to_owned(),
            },
            node_name: "node-1".to_owned(),
            host_ips: vec!["192.0.2.1".parse().unwrap()],
            port_mappings: true,
        };
        self.pods = Some(Pods::new(runtime, options, self.store.clone()).unwrap());
        self.pods.as_ref().unwrap()
    }

    pub(crate) fn pods(&self) -> &Pods {
        self.pods.as_ref().expect("connect() comes first")
    }

    /// What `kill -9` of the daemon leaves: nothing of it in this process.
    pub(crate) fn forget(&mut self) {
        self.pods = None;
    }

    /// What a power cut leaves: files. Every process and mount of this world goes.
    pub(crate) fn power_cut(&mut self) {
        self.forget();
        let kill = |pid: i32| {
            let pid = nix::unistd::Pid::from_raw(pid);
            // What is gone already needs no signal.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        };
        kill(self.containerd_pid());
        let (own, instance) = (self.folder.to_str().unwrap().to_owned(), self.instance());
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut found = false;
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok())
                else {
                    continue;
                };
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let group =
                    std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
                if !line.is_empty()
                    && (String::from_utf8_lossy(&line).contains(&own) || group.contains(&instance))
                {
                    kill(pid);
                    found = true;
                }
            }
            if !found {
                break;
            }
            assert!(Instant::now() < deadline, "something cannot be killed");
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for point in mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| point.starts_with(&own))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
    }

    /// Reconciles until the condition holds.
    pub(crate) async fn until(
        &self,
        pod: &PodSpec,
        what: &str,
        holds: impl Fn(&PodStatusSummary) -> bool,
    ) -> PodStatusSummary {
        let deadline = Instant::now() + PATIENCE;
        let mut changes = self.pods().changes();
        loop {
            changes.borrow_and_update();
            let status = self.pods().reconcile(pod).await.unwrap();
            if holds(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not within {} s: {status:#?}",
                PATIENCE.as_secs()
            );
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.changed()).await;
        }
    }

    pub(crate) async fn ready(&self, pod: &PodSpec) -> PodStatusSummary {
        self.until(pod, "ready", |status| status.ready).await
    }

    /// Standard output of a command in a container; the command must succeed.
    pub(crate) async fn sh(&self, pod: &PodSpec, script: &str) -> String {
        let container = &pod.containers[0].name;
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let (code, out, err) = self
            .pods()
            .exec(&pod.key, container, &command, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(
            code,
            0,
            "{script}: {}{}",
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&err)
        );
        String::from_utf8(out).unwrap().trim_end().to_owned()
    }

    pub(crate) async fn log(
        &self,
        pod: &PodSpec,
        container: &str,
        options: LogOptions,
    ) -> Vec<String> {
        let lines: Vec<LogLine> = self
            .pods()
            .logs(pod, Some(container), options)
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    pub(crate) fn containerd_pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.folder.join("containerd/containerd.pid")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["pid"]
            .as_i64()
            .unwrap()
            .try_into()
            .unwrap()
    }

    fn explain(&self) {
        let log = std::fs::read_to_string(self.folder.join("containerd/containerd.log"))
            .unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        println!(
            "containerd's log:\n{}",
            lines[lines.len().saturating_sub(15)..].join("\n")
        );
    }

    /// Removes every Pod, stops containerd, and asserts that nothing is left.
    async fn clean(&mut self) {
        if self.pods.is_none() && self.folder.join("containerd/containerd.pid").exists() {
            self.connect().await;
        }
        if let Some(pods) = self.pods.take() {
            pods.runtime().ensure().await.unwrap();
            for key in pods.list().await.unwrap() {
                pods.remove(&key, Duration::from_secs(1)).await.unwrap();
            }
            pods.runtime().shutdown().await;
        }
        assert_eq!(self.leftovers(false), BTreeSet::new());
    }

    /// Processes, mounts, cgroups and Pods' files that belong to this world. `running`: containerd itself may be there.
    pub(crate) fn leftovers(&self, running: bool) -> BTreeSet<String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.leftovers_now(running);
            // A cgroup and a process are there for a moment after their end.
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn leftovers_now(&self, running: bool) -> BTreeSet<String> {
        let own = self.folder.to_str().unwrap();
        let mut left = BTreeSet::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(own) && !(running && line.contains("containerd --config")) {
                left.insert(format!("process {line}"));
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(own))
                .map(|line| format!("mount {line}")),
        );
        let instance = self.instance();
        for controller in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = controller
                .path()
                .join("catamaran")
                .join(format!("pods-{instance}"));
            if group.exists() {
                left.insert(format!("cgroup {}", group.display()));
            }
        }
        for folder in ["pods", "addresses/test"] {
            let entries = std::fs::read_dir(self.folder.join(folder))
                .into_iter()
                .flatten()
                .flatten();
            let names = entries.map(|entry| entry.file_name().into_string().unwrap());
            left.extend(
                names
                    .filter(|name| !matches!(name.as_str(), "lock" | "last_reserved_ip.0"))
                    .map(|name| format!("file {folder}/{name}")),
            );
        }
        left
    }

    pub(crate) fn instance(&self) -> String {
        let folder = std::fs::canonicalize(&self.folder).unwrap().join("pods");
        hex(folder.as_os_str().as_encoded_bytes())[..12].to_owned()
    }
}

/// sha256 in hexadecimal.
pub(crate) fn hex(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A Pod in namespace `default` with that `spec`.
pub(crate) fn pod(name: &str, spec: Value) -> PodSpec {
    PodSpec::parse(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}),
    )
    .unwrap()
    .0
}

/// A Pod with one busybox container that runs a script.
pub(crate) fn script(name: &str, text: &str, more: Value) -> PodSpec {
    let mut container =
        json!({"name": "main", "image": BUSYBOX, "command": ["/bin/sh", "-c", text]});
    let mut spec = json!({"terminationGracePeriodSeconds": 1});
    for (key, value) in more.as_object().unwrap() {
        match key.strip_prefix("pod:") {
            Some(key) => spec[key] = value.clone(),
            None => container[key] = value.clone(),
        }
    }
    spec["containers"] = json!([container]);
    pod(name, spec)
}

/// A script that runs until SIGTERM, then ends at once.
pub(crate) const FOREVER: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

pub(crate) fn key(name: &str) -> PodKey {
    PodKey::new("default", name)
}

/// An OCI layout with busybox and all its applets; `mark` makes another image of it.
pub(crate) fn busybox_layout(folder: &Path, tag: &str, entrypoint: &[&str], mark: &str) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |content: &[u8], kind: &str| {
        let hash = hex(content);
        std::fs::write(blobs.join(&hash), content).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{hash}"), "size": content.len()})
    };
    let layer = layer(mark);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]}});
    let config = blob(config.to_string().as_bytes(), "config.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [blob(&layer, "layer.v1.tar")]});
    let mut manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    std::fs::write(
        folder.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )
    .unwrap();
    std::fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}

fn layer(mark: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |path: &str, kind: tar::EntryType, mode: u32, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_path(path).unwrap();
        header
    };
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        let mut header = header(folder, tar::EntryType::Directory, mode, 0);
        header.set_cksum();
        tar.append(&header, &[][..]).unwrap();
    }
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    for (path, content) in [
        ("bin/busybox", busybox.as_slice()),
        ("etc/mark", mark.as_bytes()),
        ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    ] {
        let mut header = header(path, tar::EntryType::Regular, 0o755, content.len());
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    for applet in [
        "sh", "sleep", "cat", "ls", "id", "touch", "stat", "wget", "httpd", "nc", "true", "false",
        "echo", "grep", "hostname", "rm", "mkdir", "mount", "ps", "seq", "env", "pwd", "test",
        "kill",
    ] {
        let mut header = header(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, 0);
        header.set_link_name("busybox").unwrap();
        header.set_cksum();
        tar.append(&header, &[][..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Mode bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
