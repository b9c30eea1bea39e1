//! Processes of pods, as this machine has them. They are known by their control groups: there may be another cluster beside this one.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::SYSTEM;
use serde_json::Value;

use super::{Rig, text};
use crate::process::{self, Pid};

/// Name of the controller's processes, as far as the kernel keeps it.
const CONTROLLER: &str = "catamaran-contr";
/// Label of the controller's pods.
const CONTROLLERS: &str = "kubevirt.io=virt-controller";

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfPod {
    /// Name of the pod.
    pub(super) pod: String,
    /// The process.
    pub(super) pid: Pid,
}

/// The processes of a name in the pods that a label selects.
pub(super) fn of_pods(
    rig: &Rig<'_>,
    namespace: &str,
    label: &str,
    name: &str,
) -> Result<Vec<OfPod>> {
    let words = ["get", "pods", "--namespace", namespace];
    let listed = rig
        .cluster
        .kubectl(words.iter().chain(&["--selector", label, "-o", "json"]))?;
    let listed: Value = serde_json::from_str(&listed)?;
    let pods: Vec<(String, String)> = listed["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| {
            let uid = text(pod, "/metadata/uid")?;
            Ok((format!("pod{uid}"), text(pod, "/metadata/name")?.to_owned()))
        })
        .collect::<Result<_>>()?;
    let found = process::all().filter(|pid| process::name(*pid).as_deref() == Some(name));
    Ok(found
        .filter_map(|pid| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            let (_, pod) = pods.iter().find(|(group, _)| groups.contains(group))?;
            Some(OfPod {
                pod: pod.clone(),
                pid,
            })
        })
        .collect())
}

/// The controller that leads, and those that only serve.
pub(super) fn controllers(rig: &Rig<'_>) -> Result<(OfPod, Vec<OfPod>)> {
    let holder = rig.cluster.kubectl([
        "get",
        "lease",
        "catamaran-controller",
        "--namespace",
        SYSTEM,
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ])?;
    let all = of_pods(rig, SYSTEM, CONTROLLERS, CONTROLLER)?;
    let (leaders, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.pod == holder);
    ensure!(
        leaders.len() == 1,
        "{} processes in the pod {holder:?}, which leads",
        leaders.len()
    );
    let leader = leaders.into_iter().next().context("no leader")?;
    Ok((leader, others))
}
