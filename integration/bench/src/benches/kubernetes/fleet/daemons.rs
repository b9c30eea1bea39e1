//! The daemons of pretended nodes: they say of machines what a real daemon says, in its name, with its rights and in as many writes.
//!
//! What a status is made of comes from a machine that has really run on a real node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use catamaran_tests::cluster::SYSTEM;
use catamaran_tests::cluster::websocket::Proxy;
use serde_json::{Map, Value, json};

use super::super::{LONGEST, LOOK, Rig, machine, runs, text};
use super::crowd::{BUSY, has_too_much_to_do};
use crate::{say, wait};

/// Between two heartbeats, as of the real one.
const BEAT: Duration = Duration::from_secs(90);
/// Longest that a daemon follows its machines with one request.
const WATCH: Duration = Duration::from_secs(3600);
/// What a daemon writes once its guest runs, beside phase and conditions.
const FIELDS: [&str; 7] = [
    "runtimeUser",
    "machine",
    "resolvedHardware",
    "memory",
    "currentCPUTopology",
    "volumeStatus",
    "interfaces",
];

/// What the real daemon has written of a guest that runs.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    fields: Map<String, Value>,
    /// That the guest is emulated, where it is.
    emulation: Option<Value>,
}

impl Pattern {
    /// Runs a machine on a real node and takes what is said of it.
    pub(super) fn take(rig: &Rig<'_>) -> Result<Self> {
        let mut watch = rig.follow("virtualmachineinstances", "pattern")?;
        rig.create("virtualmachines", &machine("pattern"))?;
        let instance = watch.until("the pattern runs", LONGEST, |_, instance| runs(instance))?;
        let status = &instance["status"];
        let mut watch = rig.follow("virtualmachines", "pattern")?;
        rig.delete("virtualmachines", "pattern")?;
        watch.until("it is gone", LONGEST, |word, _| word == "DELETED")?;
        let fields = FIELDS.iter().filter_map(|name| {
            let value = status.get(name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        Ok(Self {
            fields: fields.collect(),
            emulation: conditions(status)
                .into_iter()
                .find(|condition| condition["type"] == "SoftwareEmulation"),
        })
    }
}

/// All daemons. They end with the value.
pub(super) struct Daemons {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Result<()>>>,
    beating: Option<Sender<()>>,
}

struct Shared {
    proxy: Proxy,
    namespace: String,
    pattern: Pattern,
    over: AtomicBool,
    refused: AtomicU64,
}

impl Daemons {
    /// One for each node.
    pub(super) fn start(rig: &Rig<'_>, nodes: &[String], pattern: Pattern) -> Result<Self> {
        let shared = Arc::new(Shared {
            proxy: rig.cluster.proxy()?,
            namespace: rig.cluster.namespace().to_owned(),
            pattern,
            over: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        shared.beat(nodes)?;
        let mut tasks: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (shared, node) = (shared.clone(), node.clone());
                thread::spawn(move || shared.drive(&node))
            })
            .collect();
        let (beating, beats) = channel::<()>();
        let (heart, nodes) = (shared.clone(), nodes.to_vec());
        tasks.push(thread::spawn(move || {
            while beats.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                heart.beat(&nodes)?;
            }
            Ok(())
        }));
        Ok(Self {
            shared,
            tasks,
            beating: Some(beating),
        })
    }

    /// Ends them; fails where one could not do its work.
    pub(super) fn end(mut self) -> Result<()> {
        self.stop()?;
        for task in self.tasks.drain(..) {
            task.join()
                .map_err(|_| anyhow!("a daemon has panicked"))??;
        }
        let refused = self.shared.refused.load(Ordering::Relaxed);
        if refused > 0 {
            say(&format!(
                "{refused} writes of daemons came after somebody else's and were made anew"
            ));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.beating = None;
        self.shared.proxy.end()
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl Shared {
    /// Follows the machines of one node until all is over.
    fn drive(&self, node: &str) -> Result<()> {
        let list = format!(
            "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances",
            self.namespace
        );
        let selector = format!("labelSelector=kubevirt.io%2FnodeName%3D{node}");
        loop {
            let watch = self.proxy.watch(&list, &selector);
            if self.over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut failed = None;
            let ended = watch?.until("the end", WATCH, |word, instance| {
                if word != "DELETED" && instance["kind"] == "VirtualMachineInstance" {
                    failed = self.look(node, &list, instance).err();
                }
                failed.is_some()
            });
            if self.over.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Some(error) = failed {
                say(&format!("the daemon of {node}: {error:#}"));
                return Err(error);
            }
            // The API server ends each watch some day.
            drop(ended);
        }
    }

    /// What the daemon does about one machine.
    fn look(&self, node: &str, list: &str, instance: &Value) -> Result<()> {
        let status = &instance["status"];
        let leaving = instance["metadata"].get("deletionTimestamp").is_some();
        let (change, reason, words) = match (status["phase"].as_str(), leaving) {
            (Some("Scheduled"), false) => {
                let mut change = entered(status, "Running", self.pattern.emulation.as_ref());
                change.extend(self.pattern.fields.clone());
                (change, "Started", "VirtualMachineInstance started.")
            }
            (Some("Running"), true) => {
                let mut change = entered(status, "Succeeded", None);
                let words = "The guest was shut down";
                change.insert("reason".to_owned(), words.into());
                (change, "Stopped", words)
            }
            _ => return Ok(()),
        };
        let name = text(instance, "/metadata/name")?;
        let body = json!({
            "metadata": {
                "uid": instance["metadata"]["uid"],
                "resourceVersion": instance["metadata"]["resourceVersion"],
            },
            "status": change,
        });
        match self.patch(node, &format!("{list}/{name}"), &body)? {
            // Whoever wrote in between: the watch tells of it.
            404 | 409 => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ => self.tell(node, instance, reason, words),
        }
    }

    fn tell(&self, node: &str, instance: &Value, reason: &str, words: &str) -> Result<()> {
        let metadata = &instance["metadata"];
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": format!("{}.", text(instance, "/metadata/name")?), "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "namespace": self.namespace,
                "name": metadata["name"], "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
            },
            "type": "Normal", "reason": reason, "message": words, "count": 1,
            "source": {"component": "virt-handler", "host": node},
            "reportingComponent": "virt-handler", "reportingInstance": node,
        });
        let path = format!("/api/v1/namespaces/{}/events", self.namespace);
        self.send("POST", node, &path, "application/json", &event)
            .map(drop)
    }

    /// Says of each node that its daemon is there.
    fn beat(&self, nodes: &[String]) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        for node in nodes {
            let body = json!({"metadata": {
                "labels": {"kubevirt.io/schedulable": "true", "catamaran.dev/kvm": "false"},
                "annotations": {"kubevirt.io/heartbeat": now.as_secs().to_string()},
            }});
            let answered = self.patch(node, &format!("/api/v1/nodes/{node}"), &body);
            if self.over.load(Ordering::Relaxed) {
                return Ok(());
            }
            answered.with_context(|| format!("the heartbeat of {node}"))?;
        }
        Ok(())
    }

    fn patch(&self, node: &str, path: &str, body: &Value) -> Result<u16> {
        let path = format!("{path}?fieldManager=catamaran-node");
        self.send("PATCH", node, &path, "application/merge-patch+json", body)
    }

    /// A request in the name of the daemon on a node, with what the API server would read from its token.
    fn send(
        &self,
        method: &str,
        node: &str,
        path: &str,
        content: &str,
        body: &Value,
    ) -> Result<u16> {
        let further = format!(
            "Content-Type: {content}\r\nImpersonate-User: system:serviceaccount:{SYSTEM}:catamaran-node\r\n\
             Impersonate-Extra-authentication.kubernetes.io%2Fnode-name: {node}\r\n"
        );
        let body = body.to_string();
        wait::every(LOOK, "an API server with time", BUSY, || {
            let sent = self.proxy.request_with(method, path, &further, &body);
            let (status, said) = sent.with_context(|| format!("{method} {path}"))?;
            if has_too_much_to_do(status) && !self.over.load(Ordering::Relaxed) {
                return Ok(None);
            }
            ensure!(
                (200..300).contains(&status) || matches!(status, 404 | 409),
                "{method} {path}: {status} {said}"
            );
            Ok(Some(status))
        })
    }
}

fn conditions(status: &Value) -> Vec<Value> {
    status["conditions"].as_array().cloned().unwrap_or_default()
}

/// The change of a status to a phase. Times have whole seconds: it is that of the phase before.
fn entered(status: &Value, phase: &str, further: Option<&Value>) -> Map<String, Value> {
    let mut times = status["phaseTransitionTimestamps"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let now = times
        .last()
        .map(|last| last["phaseTransitionTimestamp"].clone());
    times.push(json!({"phase": phase, "phaseTransitionTimestamp": now}));
    let mut all = conditions(status);
    all.retain(|condition| !matches!(condition["type"].as_str(), Some("Ready" | "Synchronized")));
    all.push(match phase {
        "Running" => json!({"type": "Ready", "status": "True", "lastTransitionTime": now}),
        _ => {
            json!({"type": "Ready", "status": "False", "reason": "GuestNotRunning", "message": "Guest VM is not reported as running",
                   "lastTransitionTime": now})
        }
    });
    all.extend(further.cloned());
    let mut change = Map::new();
    change.insert("phase".to_owned(), phase.into());
    change.insert("phaseTransitionTimestamps".to_owned(), times.into());
    change.insert("conditions".to_owned(), all.into());
    change
}
