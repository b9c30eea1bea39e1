//! Does what was decided, one action at a time, and remembers what failed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Shared;
use crate::containerd::PAUSE_IMAGE;
use crate::decide::Action;
use crate::environment::{self, Place};
use crate::observed::Fault;
use crate::pod::{Container, PodKey, PodSpec, Port, Protocol, PullPolicy};
use crate::requests::{self, ContainerContext, SandboxContext};
use crate::{Error, volumes};

const SECOND: Duration = Duration::from_secs(1);

/// What failed, and how long to wait before it is tried again: at first, and at most.
struct Failure {
    reason: &'static str,
    message: String,
    first: Duration,
    most: Duration,
}

impl Failure {
    /// Something outside of the Pod is missing and may come at any time.
    fn soon(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            first: SECOND,
            most: 10 * SECOND,
        }
    }
    /// Something is wrong, and trying it costs.
    fn later(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            first: 10 * SECOND,
            most: 300 * SECOND,
        }
    }
    fn of(reason: &'static str, error: &Error) -> Self {
        Self::soon(reason, catamaran_client::chain(&error))
    }
}

impl Shared {
    /// Does it. False when it failed (and is remembered) or was cancelled.
    pub(super) async fn execute(
        &self,
        pod: &PodSpec,
        action: Action,
        cancel: &CancellationToken,
    ) -> bool {
        let container = action.container().map(str::to_owned);
        let result = match action {
            Action::StopContainers { ids, grace, why } => {
                info!(
                    pod.namespace = pod.key.namespace,
                    pod.name = pod.key.name,
                    why,
                    "stopping containers"
                );
                self.execute_stop(&ids, grace)
                    .await
                    .map_err(|error| Failure::of("FailedKillPod", &error))
            }
            Action::StopSandbox { id } => self
                .runtime
                .cri()
                .stop_sandbox(&id)
                .await
                .map_err(|error| Failure::of("FailedKillPod", &error)),
            Action::RemoveSandbox { id } => self
                .runtime
                .cri()
                .remove_sandbox(&id)
                .await
                .map_err(|error| Failure::of("FailedKillPod", &error)),
            Action::RemoveContainer { id } => self
                .remove_run(pod, &id)
                .await
                .map_err(|error| Failure::of("FailedKillPod", &error)),
            Action::ClearVolumes => volumes::clear(&self.pod_folder(&pod.key))
                .map_err(|error| Failure::of("FailedMount", &error)),
            Action::CreateSandbox { attempt, restarts } => {
                self.create_sandbox(pod, attempt, &restarts).await
            }
            Action::Start {
                container,
                sandbox,
                attempt,
                level,
            } => match pod.container(&container) {
                Some(container) => {
                    // Boxed: what it waits for keeps whole requests.
                    let start = self.start(pod, container, &sandbox, attempt, level, cancel);
                    Box::pin(start).await
                }
                None => Ok(()),
            },
        };
        let now = Timestamp::now();
        self.entry(&pod.key, |entry| {
            let Err(failure) = &result else {
                entry.pod_fault = None;
                if let Some(name) = &container {
                    entry.faults.remove(name);
                }
                return;
            };
            if cancel.is_cancelled() {
                return;
            }
            warn!(
                pod.namespace = pod.key.namespace,
                pod.name = pod.key.name,
                container,
                failure.reason,
                failure.message,
                "will be tried again"
            );
            let after = |previous: Option<&Fault>| {
                let message = failure.message.clone();
                Fault::after(
                    previous,
                    failure.reason,
                    message,
                    failure.first,
                    failure.most,
                    now,
                )
            };
            match container {
                // A volume is the whole Pod's.
                Some(name) if failure.reason != "FailedMount" => {
                    let fault = after(entry.faults.get(&name));
                    entry.faults.insert(name, fault);
                }
                _ => entry.pod_fault = Some(after(entry.pod_fault.as_ref())),
            }
        });
        result.is_ok()
    }

    /// Ends containers side by side.
    pub(super) async fn execute_stop(&self, ids: &[String], grace: Duration) -> Result<(), Error> {
        let results = join_all(
            ids.iter()
                .map(|id| self.runtime.cri().stop_container(id, grace)),
        )
        .await;
        results
            .into_iter()
            .filter(|result| !result.as_ref().is_err_and(Error::is_not_found))
            .collect()
    }

    /// Removes an ended run and its log.
    async fn remove_run(&self, pod: &PodSpec, id: &str) -> Result<(), Error> {
        let status = self.runtime.cri().container_status(id).await;
        self.runtime.cri().remove_container(id).await?;
        if let Some(meta) = status.ok().and_then(|status| status.metadata) {
            let path = self
                .pod_folder(&pod.key)
                .join("logs")
                .join(&meta.name)
                .join(format!("{}.log", meta.attempt));
            let _ = std::fs::remove_file(crate::logs::older(&path));
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    async fn create_sandbox(
        &self,
        pod: &PodSpec,
        attempt: u32,
        restarts: &BTreeMap<String, u32>,
    ) -> Result<(), Failure> {
        let failed = |error: Error| Failure {
            reason: "FailedCreatePodSandBox",
            message: catamaran_client::chain(&error),
            first: SECOND,
            most: 30 * SECOND,
        };
        for port in pod.host_ports() {
            self.check_host_port(&pod.key, port)
                .map_err(|why| Failure::soon("HostPortConflict", why))?;
        }
        if self.runtime.is_private() {
            let none = crate::images::Logins::default();
            let pause = self
                .options
                .images
                .ensure(&self.runtime, PAUSE_IMAGE, PullPolicy::IfNotPresent, &none)
                .await;
            pause.map_err(|failure| Failure::soon("FailedCreatePodSandBox", failure.message))?;
        }
        let logs = self.pod_folder(&pod.key).join("logs");
        volumes::make_folder(&self.pod_folder(&pod.key), 0o700)
            .and_then(|()| volumes::make_folder(&logs, 0o700))
            .map_err(failed)?;
        let config =
            requests::sandbox_config(pod, &self.sandbox_context(&pod.key), attempt, restarts);
        let id = self
            .runtime
            .cri()
            .run_sandbox(config)
            .await
            .map_err(failed)?;
        info!(
            pod.namespace = pod.key.namespace,
            pod.name = pod.key.name,
            pod.uid = pod.uid,
            sandbox = id,
            attempt,
            "made a sandbox"
        );
        Ok(())
    }

    fn sandbox_context(&self, key: &PodKey) -> SandboxContext<'_> {
        SandboxContext {
            instance: &self.instance,
            dns: &self.options.dns,
            log_directory: self
                .pod_folder(key)
                .join("logs")
                .to_string_lossy()
                .into_owned(),
            cgroup_parent: if self.runtime.is_private() {
                self.cgroup_parent(Some(key))
            } else {
                String::new()
            },
            port_mappings: self.options.port_mappings,
        }
    }

    /// A host port is free when no other Pod and no virtual machine has it and nothing on the host listens on it.
    fn check_host_port(&self, key: &PodKey, port: &Port) -> Result<(), String> {
        let number = port.host_port.unwrap_or_default();
        let overlaps = |other: &Port| {
            let same = other.host_port == port.host_port && other.protocol == port.protocol;
            same && (other.host_ip.is_none()
                || port.host_ip.is_none()
                || other.host_ip == port.host_ip)
        };
        let others = self.lock();
        let holder = others.iter().find(|(other, entry)| {
            *other != key
                && entry
                    .desired
                    .as_ref()
                    .is_some_and(|pod| pod.host_ports().any(overlaps))
        });
        let holder = holder
            .map(|(pod, _)| format!("Pod {pod}"))
            .or_else(|| self.objects.host_port_holder(port));
        if let Some(holder) = holder {
            return Err(format!(
                "host port {number}/{} is in use by {holder}",
                port.protocol
            ));
        }
        let address = SocketAddr::new(
            port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            number,
        );
        let bound = match port.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(|_| ()),
            Protocol::Udp => UdpSocket::bind(address).map(|_| ()),
            Protocol::Sctp => Ok(()),
        };
        bound.map_err(|error| {
            format!(
                "host port {number}/{} cannot be used: {error}",
                port.protocol
            )
        })
    }

    async fn start(
        &self,
        pod: &PodSpec,
        container: &Container,
        sandbox: &str,
        attempt: u32,
        level: u32,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let folder = self.pod_folder(&pod.key);
        volumes::prepare(&folder, pod, self.objects.as_ref())
            .map_err(|why| Failure::soon("FailedMount", why))?;
        let logins = self.options.images.logins(pod, self.objects.as_ref());
        let image = tokio::select! {
            image = self.options.images.ensure(&self.runtime, &container.image, container.pull, &logins) => image,
            () = cancel.cancelled() => return Err(Failure::soon("ErrImagePull", "given up")),
        };
        let image = image.map_err(|failure| Failure::later(failure.reason, failure.message))?;

        let create =
            |error: Error| Failure::later("CreateContainerError", catamaran_client::chain(&error));
        let pod_ips = self
            .observe(&pod.key)
            .await
            .map_err(create)?
            .sandbox()
            .map(|sandbox| sandbox.ips.clone())
            .unwrap_or_default();
        let place = Place {
            node_name: self.options.node_name.clone(),
            host_ips: self.options.host_ips.clone(),
            pod_ips,
        };
        let config_error = |why: String| Failure::soon("CreateContainerConfigError", why);
        let variables = environment::variables(pod, container, &place, self.objects.as_ref())
            .map_err(config_error)?;
        let mounts = self.mounts(pod, container, &place.pod_ips)?;
        let context = ContainerContext {
            image: &image,
            variables,
            mounts,
            attempt,
            level,
            memory: self.memory,
        };
        let mut config =
            requests::container_config(pod, container, context).map_err(config_error)?;
        config
            .labels
            .insert(requests::INSTANCE.to_owned(), self.instance.clone());
        volumes::make_folder(&folder.join("logs").join(&container.name), 0o700).map_err(create)?;
        let sandbox_config =
            requests::sandbox_config(pod, &self.sandbox_context(&pod.key), 0, &BTreeMap::new());

        let made = self
            .runtime
            .cri()
            .create_container(sandbox, config, sandbox_config);
        let id = Box::pin(made).await.map_err(create)?;
        self.runtime
            .cri()
            .start_container(&id)
            .await
            .map_err(|error| {
                Failure::later("RunContainerError", catamaran_client::chain(&error))
            })?;
        info!(
            pod.namespace = pod.key.namespace,
            pod.name = pod.key.name,
            container = container.name,
            id,
            attempt,
            "started"
        );
        Ok(())
    }

    fn mounts(
        &self,
        pod: &PodSpec,
        container: &Container,
        pod_ips: &[String],
    ) -> Result<Vec<cri::Mount>, Failure> {
        let folder = self.pod_folder(&pod.key);
        let mut mounts = Vec::new();
        for mount in &container.mounts {
            let (source, readonly) = volumes::mount_source(&folder, pod, mount)
                .map_err(|why| Failure::soon("CreateContainerConfigError", why))?;
            mounts.push(cri::Mount {
                container_path: mount.path.clone(),
                host_path: source.to_string_lossy().into_owned(),
                readonly,
                ..cri::Mount::default()
            });
        }
        if !mounts
            .iter()
            .any(|mount| mount.container_path == "/etc/hosts")
        {
            let path = folder.join("etc-hosts");
            // Other containers have this very file mounted: it is written in place.
            let text = volumes::hosts_file(pod, pod_ips);
            // Containers may write to it, so it may be of any length.
            let same = std::fs::metadata(&path).is_ok_and(|file| file.len() == text.len() as u64)
                && std::fs::read_to_string(&path).is_ok_and(|old| old == text);
            if !same {
                std::fs::write(&path, text).map_err(|error| {
                    Failure::of("CreateContainerError", &Error::file("write", &path)(error))
                })?;
            }
            mounts.push(cri::Mount {
                container_path: "/etc/hosts".to_owned(),
                host_path: path.to_string_lossy().into_owned(),
                ..cri::Mount::default()
            });
        }
        Ok(mounts)
    }
}
