//! Looks at a Pod in the runtime.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_cri::v1 as cri;

use super::Shared;
use crate::Error;
use crate::observed::{Exit, Observed, Run, RunState, Sandbox};
use crate::pod::PodKey;
use crate::requests::{DIGEST, LEVEL, RESTARTS, pod_labels};

/// Nanoseconds since 1970; 0 means never.
fn time(nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanoseconds.into())
        .ok()
        .filter(|_| nanoseconds > 0)
}

impl Shared {
    /// What the runtime has of the Pod.
    pub(super) async fn observe(&self, key: &PodKey) -> Result<Observed, Error> {
        let cri = self.runtime.cri();
        let filter = cri::PodSandboxFilter {
            label_selector: pod_labels(&self.instance, key),
            ..cri::PodSandboxFilter::default()
        };
        let mut sandboxes: Vec<_> = cri
            .list_sandboxes(filter)
            .await?
            .into_iter()
            .map(sandbox)
            .collect();
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.attempt)));
        let mut runs = Vec::new();
        if let Some(newest) = sandboxes.first_mut() {
            if newest.ready {
                match cri.sandbox_status(&newest.id).await {
                    Ok(status) => newest.ips = addresses(status.network),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            let filter = cri::ContainerFilter {
                pod_sandbox_id: newest.id.clone(),
                ..cri::ContainerFilter::default()
            };
            for container in cri.list_containers(filter).await? {
                match cri.container_status(&container.id).await {
                    Ok(status) => runs.extend(run(status)),
                    // It went away between the two calls.
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        runs.sort_by_key(|run: &Run| std::cmp::Reverse(run.attempt));
        Ok(Observed {
            sandboxes,
            runs,
            ..Observed::default()
        })
    }
}

fn sandbox(sandbox: cri::PodSandbox) -> Sandbox {
    let meta = sandbox.metadata.unwrap_or_default();
    let text = |name: &str| {
        sandbox
            .annotations
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    Sandbox {
        attempt: meta.attempt,
        uid: meta.uid,
        digest: text(DIGEST).to_owned(),
        ready: sandbox.state == i32::from(cri::PodSandboxState::SandboxReady),
        created_at: time(sandbox.created_at).unwrap_or_default(),
        ips: Vec::new(),
        restarts: serde_json::from_str(text(RESTARTS)).unwrap_or_default(),
        id: sandbox.id,
    }
}

fn addresses(network: Option<cri::PodSandboxNetworkStatus>) -> Vec<String> {
    let network = network.unwrap_or_default();
    let first = Some(network.ip).filter(|ip| !ip.is_empty());
    first
        .into_iter()
        .chain(network.additional_ips.into_iter().map(|ip| ip.ip))
        .collect()
}

/// The daemon died while the runtime started it, so that the runtime gave up: it never ran, and is no failure of it.
fn was_cut_off(status: &cri::ContainerStatus) -> bool {
    let given_up = ["context canceled", "start failed: : signal: killed"];
    status.reason == "StartError"
        && status.started_at == 0
        && given_up.iter().any(|words| status.message.contains(words))
}

fn run(status: cri::ContainerStatus) -> Option<Run> {
    let meta = status.metadata.clone()?;
    let level = |annotations: &HashMap<String, String>| {
        annotations
            .get(LEVEL)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    let state = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => RunState::Created,
        Ok(cri::ContainerState::ContainerRunning) => RunState::Running {
            since: time(status.started_at).unwrap_or_default(),
        },
        Ok(cri::ContainerState::ContainerExited) if was_cut_off(&status) => RunState::Created,
        Ok(cri::ContainerState::ContainerExited) => RunState::Exited(Exit {
            code: status.exit_code,
            // containerd's words for an ordinary end are Kubernetes' own.
            reason: status.reason,
            message: status.message,
            started_at: time(status.started_at),
            finished_at: time(status.finished_at).unwrap_or_default(),
        }),
        Ok(cri::ContainerState::ContainerUnknown) | Err(_) => RunState::Unknown,
    };
    Some(Run {
        name: meta.name,
        attempt: meta.attempt,
        level: level(&status.annotations),
        state,
        image: status.image.unwrap_or_default().image,
        image_id: status.image_ref,
        id: status.id,
    })
}
