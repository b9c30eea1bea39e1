//! Tests on a real Kubernetes, with Catamaran installed.
//!
//! [`run`] sees to it that the cluster of `integration/cluster` is up, that the product's images are in its registry as they were built last and
//! that what runs is what was built; it hands the test a [`Cluster`] with a namespace of its own, and looks afterwards whether anything was left
//! in the namespace or on the nodes. The cluster stays up for the next test; who started it takes it down (`cargo xtask cluster down`).

pub mod audit;
mod block;
pub mod bmcs;
pub mod browser;
pub mod chromium;
pub mod install;
mod join;
mod machines;
mod nodes;
pub mod servers;
mod users;
pub mod websocket;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command;
use crate::manifest;
use crate::programs;
use crate::wait::{SHORT, Seen, wait_field, wait_for};
pub use block::BlockDevice;
pub use machines::machine;
use nodes::Leftovers;
use websocket::Proxy;

/// One test at a time: the guests of two would share the processors and meet no deadline.
static TURN: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Image of the pods that tests run beside machines: busybox, and without a command a web server.
pub const TINY: &str = "registry.lab:5000/tiny:dev";
/// Image of the machines' disk.
pub const MINIMAL: &str = "registry.lab:5000/minimal:dev";
/// How many lines of a failed step's output its error has.
const LAST_LINES: usize = 20;
/// Namespace of the product.
pub const SYSTEM: &str = "catamaran-system";

/// The cluster, as one test sees it.
#[derive(Debug)]
pub struct Cluster {
    namespace: String,
    nodes: u8,
}

/// Runs a test on a cluster of that many nodes at least.
///
/// # Errors
/// When the test fails, or leaves something behind.
pub fn run(nodes: u8, test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    if let Some(why) = missing() {
        ensure!(
            std::env::var_os("CATAMARAN_NO_SKIP").is_none(),
            "can't run here: {why}"
        );
        eprintln!("skipped: {why}");
        return Ok(());
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cluster = Cluster {
        namespace: format!("t{}-{number}", std::process::id()),
        nodes,
    };
    install::ensure(&cluster)?;
    let before = Leftovers::of(&cluster);
    cluster.kubectl(["create", "namespace", &cluster.namespace])?;
    let result = cluster
        .kubectl(["wait", "--for=create", "serviceaccount/default"])
        .and_then(|_| test(&cluster));
    if let Err(error) = result {
        // The report first: the objects tell why.
        let error = error.context(cluster.report());
        let _ = cluster.leave();
        return Err(error);
    }
    cluster.leave()?;
    wait_for("nothing is left on the nodes", SHORT, || {
        let left = Leftovers::of(&cluster).since(&before);
        Ok(Seen::when(left.is_empty(), left.join("\n")))
    })
    .with_context(|| cluster.report())
}

/// Why this machine can't run the tests.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    for program in ["tini", "docker-registry", "skopeo", "nft", "conntrack"] {
        if programs::which(program).is_none() {
            return Some(format!(
                "{program} is not installed (integration/setup/packages.sh cluster installs it)"
            ));
        }
    }
    programs::find().err().map(|error| error.to_string())
}

impl Cluster {
    /// The test's own namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How many nodes the test asked for.
    #[must_use]
    pub fn nodes(&self) -> u8 {
        self.nodes
    }

    /// `integration/cluster/cluster` with words.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        command::program(&script().display().to_string(), words)
    }

    /// The network namespace of the control plane, which is the cluster's switch.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        network("hub")
    }

    /// The network namespace of a node, where services answer at their addresses.
    #[must_use]
    pub fn network_of(&self, node: u8) -> PathBuf {
        network(&format!("node{node}"))
    }

    /// `kubectl` as administrator, in the test's namespace.
    pub fn kubectl_command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(["kubectl", "--namespace", &self.namespace]);
        command.args(words);
        command
    }

    /// Runs `kubectl`, which must succeed, and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        command::stdout(&mut self.kubectl_command(words))
    }

    /// Runs `kubectl`, which must be refused, and gives the message.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn refused<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        command::refused(&mut self.kubectl_command(words))
    }

    /// Applies objects to the test's namespace.
    ///
    /// # Errors
    /// When they are refused.
    pub fn apply(&self, objects: &[&Value]) -> Result<String> {
        let apply = self.kubectl_command(["apply", "-f", "-"]);
        feed(apply, &manifest::file(objects))
    }

    /// An object; `vm/NAME`, `vmi/NAME`, `pod/NAME`.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, object: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(["get", object, "-o", "json"])?,
        )?)
    }

    /// Objects of a kind by a label selector.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.kubectl([
            "get",
            kind,
            "--selector",
            selector,
            "-o",
            "json",
        ])?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The launcher pod of a machine that is there now.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn launcher_pod(&self, machine: &str) -> Result<Value> {
        let mut pods = self.list("pod", &format!("vm.kubevirt.io/name={machine}"))?;
        ensure!(pods.len() == 1, "{machine} has {} pods", pods.len());
        pods.pop().context("no pod")
    }

    /// Waits until a field of an object has a value; `pointer` is a JSON pointer.
    ///
    /// # Errors
    /// When it does not get it in time.
    pub fn wait_field(
        &self,
        object: &str,
        pointer: &str,
        wanted: &str,
        deadline: Duration,
    ) -> Result<Value> {
        wait_field(object, pointer, wanted, deadline, || self.get(object))
    }

    /// Waits until a condition of an object has a status.
    ///
    /// # Errors
    /// When it does not get it in time.
    pub fn wait_condition(
        &self,
        object: &str,
        condition: &str,
        status: &str,
        deadline: Duration,
    ) -> Result<Value> {
        wait_for(
            &format!("condition {condition} of {object} is {status}"),
            deadline,
            || {
                let value = self.get(object)?;
                let conditions = value["status"]["conditions"].as_array();
                let found = conditions
                    .into_iter()
                    .flatten()
                    .find(|found| found["type"] == condition);
                Ok(match found {
                    Some(found) if found["status"] == status => Seen::Yes(value),
                    other => Seen::NotYet(format!("{other:?}; status {}", value["status"])),
                })
            },
        )
    }

    /// Waits until an object is not there any more.
    ///
    /// # Errors
    /// When it stays.
    pub fn wait_gone(&self, object: &str, deadline: Duration) -> Result<()> {
        wait_for(&format!("{object} is gone"), deadline, || {
            let there = self.kubectl(["get", object, "--ignore-not-found", "-o", "yaml"])?;
            Ok(Seen::when(there.is_empty(), there))
        })
    }

    /// Deletes objects of the whole cluster when the value is dropped, even when the test has failed; `KIND/NAME`.
    pub fn gone_afterwards(&self, objects: impl IntoIterator<Item = String>) -> Gone<'_> {
        Gone(self, objects.into_iter().collect())
    }

    /// What the API server says under a path, untouched by `kubectl`.
    ///
    /// # Errors
    /// When it refuses, or says no JSON.
    pub fn raw(&self, path: &str) -> Result<Value> {
        let said = self.kubectl(["get", "--raw", path])?;
        serde_json::from_str(&said).with_context(|| format!("{path}: {said}"))
    }

    /// Runs a program in a pod.
    ///
    /// # Errors
    /// When it fails.
    pub fn in_pod(&self, pod: &str, words: &[&str]) -> Result<String> {
        self.kubectl(["exec", pod, "--"].iter().chain(words))
    }

    /// Runs a program inside a node.
    ///
    /// # Errors
    /// When it fails.
    pub fn on_node(&self, node: u8, words: &[&str]) -> Result<String> {
        command::stdout(self.command(["on", &node.to_string()]).args(words))
    }

    /// Power, network and scheduler of a node: `off`, `on`, `cut`, `heal`, `freeze`, `thaw`.
    ///
    /// # Errors
    /// When it can't be done.
    pub fn node(&self, verb: &str, node: u8) -> Result<()> {
        command::stdout(&mut self.command(["node", verb, &node.to_string()])).map(drop)
    }

    /// Kills the API server; it is there again afterwards.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn kill_api_server(&self) -> Result<()> {
        command::stdout(&mut self.command(["kill-api-server"])).map(drop)
    }

    /// A way to the API server for one test, by which requests need neither TLS nor a certificate.
    ///
    /// # Errors
    /// When `kubectl proxy` does not answer.
    pub fn proxy(&self) -> Result<Proxy> {
        Proxy::open(self)
    }

    /// Path of a subresource of a machine's instance.
    #[must_use]
    pub fn subresource(&self, instance: &str, name: &str) -> String {
        format!(
            "/apis/subresources.kubevirt.io/v1/namespaces/{}/virtualmachineinstances/{instance}/{name}",
            self.namespace
        )
    }

    /// Deletes the namespace and waits until it is gone.
    fn leave(&self) -> Result<()> {
        self.kubectl([
            "delete",
            "namespace",
            &self.namespace,
            "--ignore-not-found",
            "--wait=false",
        ])?;
        let name = format!("namespace/{}", self.namespace);
        self.wait_gone(&name, Duration::from_secs(120))
    }

    /// What there is to know after a failure.
    fn report(&self) -> String {
        let mut text = format!("in namespace {}:\n", self.namespace);
        let mut add = |title: &str, words: &[&str]| {
            let said = match command::output(&mut self.kubectl_command(words)) {
                Ok(output) => [output.stdout, output.stderr].concat(),
                Err(error) => error.to_string().into_bytes(),
            };
            text.push_str(&format!(
                "---- {title}\n{}\n",
                String::from_utf8_lossy(&said).trim_end()
            ));
        };
        add("objects", &["get", "vm,vmi,pod,service", "-o", "wide"]);
        add("machines", &["get", "vm,vmi", "-o", "yaml"]);
        add("pods", &["describe", "pod"]);
        add(
            "events",
            &["get", "events", "--sort-by", ".metadata.creationTimestamp"],
        );
        let all = "--all-containers=true";
        add(
            "launchers",
            &[
                "logs",
                "--selector",
                "kubevirt.io=virt-launcher",
                "--tail=60",
                all,
            ],
        );
        add(
            "product",
            &["--namespace", SYSTEM, "get", "pod", "-o", "wide"],
        );
        for part in ["virt-controller", "virt-handler"] {
            let selector = format!("kubevirt.io={part}");
            add(
                part,
                &[
                    "--namespace",
                    SYSTEM,
                    "logs",
                    "--prefix",
                    "--selector",
                    &selector,
                    "--tail=60",
                    all,
                ],
            );
        }
        text
    }
}

/// Objects that go with this value; made by [`Cluster::gone_afterwards`].
#[derive(Debug)]
pub struct Gone<'a>(&'a Cluster, Vec<String>);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        for object in &self.1 {
            // A volume waits for its claim, which goes with the test's namespace.
            let delete = ["delete", object, "--ignore-not-found", "--wait=false"];
            let _ = self.0.kubectl(delete);
        }
    }
}

/// Runs a program with something to read.
///
/// # Errors
/// When it fails.
fn feed(mut command: Command, input: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), input)?;
    command.stdin(std::fs::File::open(file.path())?);
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A network namespace of the cluster.
fn network(part: &str) -> PathBuf {
    let name = std::env::var("CATAMARAN_CLUSTER_NAME");
    format!("/run/netns/{}-{part}", name.as_deref().unwrap_or("lab")).into()
}

/// The program that drives the cluster.
pub(crate) fn script() -> PathBuf {
    programs::root().join("integration/cluster/cluster")
}

/// Runs a step of the set-up, which may take minutes and says itself what it does.
///
/// # Errors
/// When it fails, with the last lines of what it said: a report of failed tests shows those only.
fn step(mut command: Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let mut last = VecDeque::new();
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|stderr| BufReader::new(stderr).split(b'\n'))
    {
        let line = String::from_utf8_lossy(&line?).into_owned();
        // Not by eprintln!, whose output is kept back until a test has failed.
        writeln!(io::stderr(), "{line}")?;
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "{command:?}: {status}\n{}",
        last.make_contiguous().join("\n")
    );
    Ok(())
}
