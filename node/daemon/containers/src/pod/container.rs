//! Containers of a Pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;

use super::problem::Problem;
use super::volume::{Volume, VolumeSource};
use super::{EnvFrom, EnvVar, Probe, Resources, Security, env, limits, probe, words};

/// A container, init or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Unique name in the Pod.
    pub name: String,
    /// Reference of the image.
    pub image: String,
    /// When the image is pulled.
    pub pull: PullPolicy,
    /// Entry point, if not the image's; `$(NAME)` is expanded.
    pub command: Vec<String>,
    /// Arguments, if not the image's; `$(NAME)` is expanded.
    pub args: Vec<String>,
    /// Folder of the first process, if not the image's.
    pub working_dir: Option<String>,
    /// Whole objects as variables; earlier than `env`.
    pub env_from: Vec<EnvFrom>,
    /// Variables in order.
    pub env: Vec<EnvVar>,
    /// Mounts, by unique path.
    pub mounts: Vec<VolumeMount>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Limits and requests.
    pub resources: Resources,
    /// Security context.
    pub security: Security,
    /// Standard output is a terminal.
    pub tty: bool,
    /// Ends the container when it fails.
    pub liveness: Option<Probe>,
    /// Makes the Pod not ready while it fails.
    pub readiness: Option<Probe>,
    /// Holds back the other two until it succeeds once; ends the container when it fails.
    pub startup: Option<Probe>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start of a container.
    Always,
    /// When the runtime does not have it.
    IfNotPresent,
    /// Never: an image that is absent is an error.
    Never,
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// Name of the volume.
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// One file or folder of a configMap or secret volume.
    pub sub_path: Option<String>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name, for probes.
    pub name: Option<String>,
    /// Port in the Pod.
    pub container_port: u16,
    /// Port of the host that leads to it.
    pub host_port: Option<u16>,
    /// Address of the host, if not every one.
    pub host_ip: Option<IpAddr>,
    /// Protocol.
    pub protocol: Protocol,
}

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What a container's fields refer to.
pub(super) struct Context<'a> {
    pub(super) volumes: &'a [Volume],
    /// Names of all volumes, those of unsupported types too (they have had their error).
    pub(super) volume_names: BTreeSet<&'a str>,
}

pub(super) fn parse(
    at: &str,
    container: &wire::Container,
    init: bool,
    context: &Context<'_>,
    problems: &mut Vec<Problem>,
) -> Container {
    words::label(&format!("{at}.name"), &container.name, problems);
    let image = container.image.clone().unwrap_or_default();
    if image.is_empty() {
        problems.push(Problem::required(format!("{at}.image")));
    } else if !words::is_image(&image) {
        problems.push(Problem::invalid(format!("{at}.image"), &image, "must be an image reference: [registry[:port]/]name[:tag][@digest], the name in lower case"));
    }
    let pull = match container.image_pull_policy.as_deref().unwrap_or_default() {
        "" if is_latest(&image) => PullPolicy::Always,
        "" | "IfNotPresent" => PullPolicy::IfNotPresent,
        "Always" => PullPolicy::Always,
        "Never" => PullPolicy::Never,
        other => {
            problems.push(Problem::unsupported(
                format!("{at}.imagePullPolicy"),
                other,
                &["Always", "IfNotPresent", "Never"],
            ));
            PullPolicy::IfNotPresent
        }
    };
    if init {
        for (field, present) in [
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if present {
                problems.push(Problem::forbidden(
                    format!("{at}.{field}"),
                    "may not be set for init containers",
                ));
            }
        }
    }
    let mut parsed = Container {
        name: container.name.clone(),
        image,
        pull,
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        working_dir: container
            .working_dir
            .clone()
            .filter(|folder| !folder.is_empty()),
        env_from: container
            .env_from
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, from)| {
                env::env_from(&format!("{at}.envFrom[{index}]"), from, problems)
            })
            .collect(),
        env: container
            .env
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, var)| env::env(&format!("{at}.env[{index}]"), var, problems))
            .collect(),
        mounts: mounts(at, container, context, problems),
        ports: ports(at, container, problems),
        resources: limits::resources(
            &format!("{at}.resources"),
            container.resources.as_ref(),
            problems,
        ),
        security: limits::security(
            &format!("{at}.securityContext"),
            container.security_context.as_ref(),
            problems,
        ),
        tty: container.tty.unwrap_or(false),
        liveness: None,
        readiness: None,
        startup: None,
    };
    let mut probe = |field: &str, wire: &Option<wire::Probe>, readiness| {
        wire.as_ref().filter(|_| !init).and_then(|wire| {
            probe::parse(&format!("{at}.{field}"), wire, readiness, &parsed, problems)
        })
    };
    let liveness = probe("livenessProbe", &container.liveness_probe, false);
    let readiness = probe("readinessProbe", &container.readiness_probe, true);
    let startup = probe("startupProbe", &container.startup_probe, false);
    (parsed.liveness, parsed.readiness, parsed.startup) = (liveness, readiness, startup);
    parsed
}

/// No tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn mounts(
    at: &str,
    container: &wire::Container,
    context: &Context<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<VolumeMount> {
    let mut paths = BTreeSet::new();
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        if mount.name.is_empty() {
            problems.push(Problem::required(format!("{at}.name")));
        } else if !context.volume_names.contains(mount.name.as_str()) {
            problems.push(Problem::not_found(format!("{at}.name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            problems.push(Problem::required(format!("{at}.mountPath")));
        } else if !mount.mount_path.starts_with('/') || mount.mount_path.contains(':') {
            problems.push(Problem::invalid(
                format!("{at}.mountPath"),
                &mount.mount_path,
                "must be an absolute path without ':'",
            ));
        }
        if !paths.insert(mount.mount_path.trim_end_matches('/')) {
            problems.push(Problem::invalid(
                format!("{at}.mountPath"),
                &mount.mount_path,
                "must be unique",
            ));
        }
        let sub_path = mount.sub_path.clone().filter(|path| !path.is_empty());
        if let Some(path) = &sub_path {
            let field = format!("{at}.subPath");
            words::local_path(&field, path, problems);
            // In other volumes a container could put a symbolic link there that leads out of the volume.
            let ours = |source: &VolumeSource| {
                matches!(source, VolumeSource::ConfigMap(_) | VolumeSource::Secret(_))
            };
            if context
                .volumes
                .iter()
                .any(|volume| volume.name == mount.name && !ours(&volume.source))
            {
                problems.push(Problem::forbidden(
                    field,
                    "subPath is supported for configMap and secret volumes only",
                ));
            }
        }
        mounts.push(VolumeMount {
            volume: mount.name.clone(),
            path: mount.mount_path.clone(),
            read_only: mount.read_only.unwrap_or(false),
            sub_path,
        });
    }
    mounts
}

fn ports(at: &str, container: &wire::Container, problems: &mut Vec<Problem>) -> Vec<Port> {
    let mut names = BTreeSet::new();
    let mut ports = Vec::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let at = format!("{at}.ports[{index}]");
        let name = port.name.clone().filter(|name| !name.is_empty());
        if let Some(name) = &name {
            if name.len() > 15 || !name.bytes().any(|b| b.is_ascii_lowercase()) {
                problems.push(Problem::invalid(
                    format!("{at}.name"),
                    name,
                    "must be at most 15 characters with at least one letter",
                ));
            }
            words::label(&format!("{at}.name"), name, problems);
            if !names.insert(name.clone()) {
                problems.push(Problem::duplicate(format!("{at}.name"), name));
            }
        }
        let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            other => {
                problems.push(Problem::unsupported(
                    format!("{at}.protocol"),
                    other,
                    &["TCP", "UDP", "SCTP"],
                ));
                Protocol::Tcp
            }
        };
        let mut number = |field: &str, value: i32| {
            words::range(&format!("{at}.{field}"), value.into(), 1, 65535, problems);
            u16::try_from(value).unwrap_or_default()
        };
        let container_port = number("containerPort", port.container_port);
        let host_port = port
            .host_port
            .filter(|port| *port != 0)
            .map(|port| number("hostPort", port));
        let host_ip = port
            .host_ip
            .as_deref()
            .filter(|address| !address.is_empty())
            .and_then(|address| {
                address
                    .parse()
                    .map_err(|_| {
                        problems.push(Problem::invalid(
                            format!("{at}.hostIP"),
                            address,
                            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                        ));
                    })
                    .ok()
            });
        ports.push(Port {
            name,
            container_port,
            host_port,
            host_ip,
            protocol,
        });
    }
    ports
}
