//! Containers of a Pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::problem::Problem;
use super::volume::{Volume, VolumeSource};
use super::{Probe, probe, quantity, words};

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

/// All entries of an object as variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// Put before each key.
    pub prefix: String,
    /// The object is a Secret, else a ConfigMap.
    pub secret: bool,
    /// Name of the object.
    pub name: String,
    /// Without the object there are no variables, and the container runs all the same.
    pub optional: bool,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value.
    pub source: EnvSource,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvSource {
    /// Text; `$(NAME)` is expanded.
    Value(String),
    /// An entry of a ConfigMap or (`secret`) of a Secret.
    Key {
        /// The object is a Secret.
        secret: bool,
        /// Name of the object.
        name: String,
        /// Key of the entry.
        key: String,
        /// Without the entry the variable is left out.
        optional: bool,
    },
    /// A field of the Pod.
    Field(PodField),
}

/// A field of the Pod that a variable can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodField {
    /// A field without a subscript.
    Plain(FieldPath),
    /// `metadata.labels['…']`.
    Label(String),
    /// `metadata.annotations['…']`.
    Annotation(String),
}

/// A field without a subscript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPath {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `spec.nodeName`
    NodeName,
    /// `spec.serviceAccountName`
    ServiceAccountName,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`
    HostIps,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
}

const FIELDS: &[(&str, FieldPath)] = &[
    ("metadata.name", FieldPath::Name),
    ("metadata.namespace", FieldPath::Namespace),
    ("metadata.uid", FieldPath::Uid),
    ("spec.nodeName", FieldPath::NodeName),
    ("spec.serviceAccountName", FieldPath::ServiceAccountName),
    ("status.hostIP", FieldPath::HostIp),
    ("status.hostIPs", FieldPath::HostIps),
    ("status.podIP", FieldPath::PodIp),
    ("status.podIPs", FieldPath::PodIps),
];

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

/// Requests and limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Share of CPU when it is scarce, in thousandths of a CPU.
    pub cpu_request: Option<i64>,
    /// Most CPU, in thousandths of a CPU.
    pub cpu_limit: Option<i64>,
    /// Expected memory in bytes; says who is killed first when memory is scarce.
    pub memory_request: Option<i64>,
    /// Most memory in bytes.
    pub memory_limit: Option<i64>,
}

/// Security context of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// User of the first process.
    pub run_as_user: Option<i64>,
    /// Group of the first process.
    pub run_as_group: Option<i64>,
    /// Refuse to start as user 0.
    pub run_as_non_root: Option<bool>,
    /// Root file system read-only.
    pub read_only_root: bool,
    /// Every device and capability of the host.
    pub privileged: bool,
    /// Whether a process may get more rights than its parent.
    pub allow_privilege_escalation: bool,
    /// Capabilities added, without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped, without `CAP_`; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// `RuntimeDefault` (true) or `Unconfined` (false).
    pub seccomp: Option<bool>,
}

/// What a container's fields refer to.
pub(super) struct Context<'a> {
    pub(super) volumes: &'a [Volume],
    /// Names of all volumes, those of unsupported types too (they have had their error).
    pub(super) volume_names: BTreeSet<&'a str>,
}

pub(super) fn parse(at: &str, container: &wire::Container, init: bool, context: &Context<'_>, problems: &mut Vec<Problem>) -> Container {
    words::label(&format!("{at}.name"), &container.name, problems);
    let image = container.image.clone().unwrap_or_default();
    if image.is_empty() {
        problems.push(Problem::required(format!("{at}.image")));
    } else if image.trim() != image || image.contains(char::is_whitespace) {
        problems.push(Problem::invalid(format!("{at}.image"), &image, "must not have white space"));
    }
    let pull = match container.image_pull_policy.as_deref().unwrap_or_default() {
        "" if is_latest(&image) => PullPolicy::Always,
        "" | "IfNotPresent" => PullPolicy::IfNotPresent,
        "Always" => PullPolicy::Always,
        "Never" => PullPolicy::Never,
        other => {
            problems.push(Problem::unsupported(format!("{at}.imagePullPolicy"), other, &["Always", "IfNotPresent", "Never"]));
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
                problems.push(Problem::forbidden(format!("{at}.{field}"), "may not be set for init containers"));
            }
        }
    }
    let mut parsed = Container {
        name: container.name.clone(),
        image,
        pull,
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        working_dir: container.working_dir.clone().filter(|folder| !folder.is_empty()),
        env_from: container.env_from.iter().flatten().enumerate().filter_map(|(index, from)| env_from(&format!("{at}.envFrom[{index}]"), from, problems)).collect(),
        env: container.env.iter().flatten().enumerate().filter_map(|(index, var)| env(&format!("{at}.env[{index}]"), var, problems)).collect(),
        mounts: mounts(at, container, context, problems),
        ports: ports(at, container, problems),
        resources: resources(&format!("{at}.resources"), container.resources.as_ref(), problems),
        security: security(&format!("{at}.securityContext"), container.security_context.as_ref(), problems),
        tty: container.tty.unwrap_or(false),
        liveness: None,
        readiness: None,
        startup: None,
    };
    let mut probe = |field: &str, wire: &Option<wire::Probe>, readiness| {
        wire.as_ref().filter(|_| !init).and_then(|wire| probe::parse(&format!("{at}.{field}"), wire, readiness, &parsed, problems))
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

fn env_from(at: &str, from: &wire::EnvFromSource, problems: &mut Vec<Problem>) -> Option<EnvFrom> {
    let prefix = from.prefix.clone().unwrap_or_default();
    let (secret, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), None) => (false, &map.name, map.optional),
        (None, Some(secret)) => (true, &secret.name, secret.optional),
        (None, None) => {
            problems.push(Problem { field: at.to_owned(), message: "Required value: must specify one of: configMapRef, secretRef".to_owned() });
            return None;
        }
        (Some(_), Some(_)) => {
            problems.push(Problem::invalid(at, "", "may not have more than one field specified at a time"));
            return None;
        }
    };
    words::subdomain(&format!("{at}.{}.name", if secret { "secretRef" } else { "configMapRef" }), name, problems);
    Some(EnvFrom { prefix, secret, name: name.clone(), optional: optional.unwrap_or(false) })
}

fn env(at: &str, var: &wire::EnvVar, problems: &mut Vec<Problem>) -> Option<EnvVar> {
    words::variable(&format!("{at}.name"), &var.name, problems);
    let Some(from) = &var.value_from else {
        return Some(EnvVar { name: var.name.clone(), source: EnvSource::Value(var.value.clone().unwrap_or_default()) });
    };
    let at = format!("{at}.valueFrom");
    if var.value.as_ref().is_some_and(|value| !value.is_empty()) {
        problems.push(Problem::invalid(&at, "", "may not be specified when `value` is not empty"));
    }
    let mut sources = Vec::new();
    let mut keys = Vec::new();
    if let Some(key) = &from.config_map_key_ref {
        keys.push(("configMapKeyRef", false, &key.name, &key.key, key.optional));
    }
    if let Some(key) = &from.secret_key_ref {
        keys.push(("secretKeyRef", true, &key.name, &key.key, key.optional));
    }
    for (field, secret, name, key, optional) in keys {
        words::subdomain(&format!("{at}.{field}.name"), name, problems);
        if key.is_empty() {
            problems.push(Problem::required(format!("{at}.{field}.key")));
        }
        sources.push(EnvSource::Key { secret, name: name.clone(), key: key.clone(), optional: optional.unwrap_or(false) });
    }
    if let Some(field) = &from.field_ref {
        let at = format!("{at}.fieldRef");
        if let Some(version) = field.api_version.as_deref().filter(|version| !matches!(*version, "" | "v1")) {
            problems.push(Problem::unsupported(format!("{at}.apiVersion"), version, &["v1"]));
        }
        match pod_field(&field.field_path) {
            Some(field) => sources.push(EnvSource::Field(field)),
            None => {
                let mut allowed: Vec<_> = FIELDS.iter().map(|(path, _)| *path).collect();
                allowed.extend(["metadata.labels['<KEY>']", "metadata.annotations['<KEY>']"]);
                problems.push(Problem::unsupported(format!("{at}.fieldPath"), &field.field_path, &allowed));
                return None;
            }
        }
    }
    if sources.len() > 1 {
        problems.push(Problem::invalid(&at, "", "may not have more than one field specified at a time"));
    }
    // A source that is not supported was refused by name already.
    if sources.is_empty() && from.file_key_ref.is_none() && from.resource_field_ref.is_none() {
        problems.push(Problem { field: at, message: "Required value: must specify one of: configMapKeyRef, secretKeyRef, fieldRef".to_owned() });
    }
    sources.into_iter().next().map(|source| EnvVar { name: var.name.clone(), source })
}

fn pod_field(path: &str) -> Option<PodField> {
    if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == path) {
        return Some(PodField::Plain(*field));
    }
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned);
    subscript("metadata.labels").map(PodField::Label).or_else(|| subscript("metadata.annotations").map(PodField::Annotation))
}

fn mounts(at: &str, container: &wire::Container, context: &Context<'_>, problems: &mut Vec<Problem>) -> Vec<VolumeMount> {
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
            problems.push(Problem::invalid(format!("{at}.mountPath"), &mount.mount_path, "must be an absolute path without ':'"));
        }
        if !paths.insert(mount.mount_path.trim_end_matches('/')) {
            problems.push(Problem::invalid(format!("{at}.mountPath"), &mount.mount_path, "must be unique"));
        }
        let sub_path = mount.sub_path.clone().filter(|path| !path.is_empty());
        if let Some(path) = &sub_path {
            let field = format!("{at}.subPath");
            words::local_path(&field, path, problems);
            // In other volumes a container could put a symbolic link there that leads out of the volume.
            let ours = |source: &VolumeSource| matches!(source, VolumeSource::ConfigMap(_) | VolumeSource::Secret(_));
            if context.volumes.iter().any(|volume| volume.name == mount.name && !ours(&volume.source)) {
                problems.push(Problem::forbidden(field, "subPath is supported for configMap and secret volumes only"));
            }
        }
        mounts.push(VolumeMount { volume: mount.name.clone(), path: mount.mount_path.clone(), read_only: mount.read_only.unwrap_or(false), sub_path });
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
                problems.push(Problem::invalid(format!("{at}.name"), name, "must be at most 15 characters with at least one letter"));
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
                problems.push(Problem::unsupported(format!("{at}.protocol"), other, &["TCP", "UDP", "SCTP"]));
                Protocol::Tcp
            }
        };
        let mut number = |field: &str, value: i32| {
            words::range(&format!("{at}.{field}"), value.into(), 1, 65535, problems);
            u16::try_from(value).unwrap_or_default()
        };
        let container_port = number("containerPort", port.container_port);
        let host_port = port.host_port.filter(|port| *port != 0).map(|port| number("hostPort", port));
        let host_ip = port.host_ip.as_deref().filter(|address| !address.is_empty()).and_then(|address| {
            address.parse().map_err(|_| problems.push(Problem::invalid(format!("{at}.hostIP"), address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))).ok()
        });
        ports.push(Port { name, container_port, host_port, host_ip, protocol });
    }
    ports
}

fn resources(at: &str, resources: Option<&wire::ResourceRequirements>, problems: &mut Vec<Problem>) -> Resources {
    let Some(resources) = resources else { return Resources::default() };
    let mut read = |kind: &str, name: &str, parse: fn(&str) -> Option<i64>| {
        let list = if kind == "limits" { &resources.limits } else { &resources.requests };
        let Quantity(text) = list.as_ref()?.get(name)?;
        let value = parse(text).filter(|value| *value >= 0);
        if value.is_none() {
            problems.push(Problem::invalid(format!("{at}.{kind}.{name}"), text, "must be a quantity that is not negative, as in 100m, 2 or 64Mi"));
        }
        value
    };
    let cpu_limit = read("limits", "cpu", quantity::milli);
    let memory_limit = read("limits", "memory", quantity::whole);
    let cpu_request = read("requests", "cpu", quantity::milli);
    let memory_request = read("requests", "memory", quantity::whole);
    for (name, request, limit) in [("cpu", cpu_request, cpu_limit), ("memory", memory_request, memory_limit)] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let text = resources.requests.as_ref().and_then(|list| list.get(name)).map(|quantity| quantity.0.clone()).unwrap_or_default();
            problems.push(Problem::invalid(format!("{at}.requests.{name}"), text, format_args!("must be less than or equal to {name} limit")));
        }
    }
    Resources { cpu_request: cpu_request.or(cpu_limit), cpu_limit, memory_request: memory_request.or(memory_limit), memory_limit }
}

/// `RuntimeDefault` is true, `Unconfined` is false.
pub(super) fn seccomp(at: &str, profile: Option<&wire::SeccompProfile>, problems: &mut Vec<Problem>) -> Option<bool> {
    match profile?.type_.as_str() {
        "RuntimeDefault" => Some(true),
        "Unconfined" => Some(false),
        other => {
            problems.push(Problem::unsupported(format!("{at}.seccompProfile.type"), other, &["RuntimeDefault", "Unconfined"]));
            None
        }
    }
}

/// A user or group number.
pub(super) fn id(field: &str, value: Option<i64>, problems: &mut Vec<Problem>) -> Option<i64> {
    if let Some(value) = value {
        words::range(field, value, 0, i64::from(i32::MAX), problems);
    }
    value
}

fn security(at: &str, context: Option<&wire::SecurityContext>, problems: &mut Vec<Problem>) -> Security {
    let Some(context) = context else { return Security { allow_privilege_escalation: true, ..Security::default() } };
    let capabilities = |list: Option<&Vec<String>>| list.into_iter().flatten().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned()).collect::<Vec<_>>();
    let added = context.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
    let dropped = context.capabilities.as_ref().and_then(|capabilities| capabilities.drop.as_ref());
    let security = Security {
        run_as_user: id(&format!("{at}.runAsUser"), context.run_as_user, problems),
        run_as_group: id(&format!("{at}.runAsGroup"), context.run_as_group, problems),
        run_as_non_root: context.run_as_non_root,
        read_only_root: context.read_only_root_filesystem.unwrap_or(false),
        privileged: context.privileged.unwrap_or(false),
        allow_privilege_escalation: context.allow_privilege_escalation.unwrap_or(true),
        add_capabilities: capabilities(added),
        drop_capabilities: capabilities(dropped),
        seccomp: seccomp(at, context.seccomp_profile.as_ref(), problems),
    };
    let admin = security.add_capabilities.iter().any(|name| name == "SYS_ADMIN");
    if !security.allow_privilege_escalation && (security.privileged || admin) {
        let other = if security.privileged { "`privileged` is true" } else { "`capabilities.add` has SYS_ADMIN" };
        problems.push(Problem::invalid(format!("{at}.allowPrivilegeEscalation"), false, format_args!("must not be false when {other}")));
    }
    security
}
