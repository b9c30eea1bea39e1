//! From a manifest to a [`PodSpec`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1 as wire;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::container::{self, Context};
use super::problem::{InvalidPod, Problem, Warning};
use super::{
    Container, DnsConfig, DnsPolicy, HostAlias, PodKey, PodSecurity, PodSpec, RestartPolicy,
    fields, limits, volume, words,
};

/// Namespace of the uids that are made from names.
const UIDS: uuid::Uuid = uuid::uuid!("6f0b6d0e-7b0b-5c3e-9a55-1f6f3a9d5c11");

impl PodSpec {
    /// Reads a manifest as it was written.
    ///
    /// # Errors
    /// [`InvalidPod`] with every field that is unknown, not supported, or wrong.
    pub fn parse(manifest: &Value) -> Result<(Self, Vec<Warning>), InvalidPod> {
        let typed = serde_path_to_error::deserialize::<_, wire::Pod>(manifest);
        let round_trip = typed
            .as_ref()
            .ok()
            .and_then(|pod| serde_json::to_value(pod).ok());
        // Without types nothing is known to be unknown.
        let (mut problems, mut warnings) = fields::check(
            manifest,
            round_trip.as_ref().or(typed.is_err().then_some(manifest)),
        );
        let spec = match &typed {
            Ok(pod) => Some(spec(pod, manifest, &mut problems, &mut warnings)),
            Err(error) => {
                problems.push(Problem {
                    field: error.path().to_string(),
                    message: format!("Invalid value: {}", error.inner()),
                });
                None
            }
        };
        match spec {
            Some(spec) if problems.is_empty() => Ok((spec, warnings)),
            _ => {
                let text = |field: &str| manifest.pointer(field).and_then(Value::as_str);
                let namespace = text("/metadata/namespace")
                    .filter(|text| !text.is_empty())
                    .unwrap_or("default");
                Err(InvalidPod {
                    pod: format!("{namespace}/{}", text("/metadata/name").unwrap_or_default()),
                    problems,
                })
            }
        }
    }
}

impl TryFrom<&wire::Pod> for PodSpec {
    type Error = InvalidPod;

    /// As [`PodSpec::parse`], for a Pod that has been through the types already (which drop unknown fields).
    fn try_from(pod: &wire::Pod) -> Result<Self, InvalidPod> {
        let manifest = serde_json::to_value(pod).expect("a Pod has no map whose keys are not text");
        Self::parse(&manifest).map(|(spec, _)| spec)
    }
}

fn spec(
    pod: &wire::Pod,
    manifest: &Value,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> PodSpec {
    let meta = &pod.metadata;
    let key = PodKey {
        namespace: meta
            .namespace
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        name: meta.name.clone().unwrap_or_default(),
    };
    words::subdomain("metadata.name", &key.name, problems);
    words::label("metadata.namespace", &key.namespace, problems);
    let uid = meta
        .uid
        .clone()
        .unwrap_or_else(|| uuid::Uuid::new_v5(&UIDS, key.to_string().as_bytes()).to_string());
    if pod.spec.is_none() {
        problems.push(Problem::required("spec"));
    }
    let empty = wire::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);

    let volumes = volume::parse(
        spec.volumes.as_deref().unwrap_or_default(),
        problems,
        warnings,
    );
    let context = Context {
        volumes: &volumes,
        volume_names: spec
            .volumes
            .iter()
            .flatten()
            .map(|volume| volume.name.as_str())
            .collect(),
    };
    let mut names = BTreeSet::new();
    let mut list = |field: &str,
                    list: &[wire::Container],
                    init,
                    problems: &mut Vec<Problem>|
     -> Vec<Container> {
        let parse = |(index, container): (usize, &wire::Container)| {
            let at = format!("spec.{field}[{index}]");
            if !names.insert(container.name.clone()) {
                problems.push(Problem::duplicate(format!("{at}.name"), &container.name));
            }
            container::parse(&at, container, init, &context, problems)
        };
        list.iter().enumerate().map(parse).collect()
    };
    let init_containers = list(
        "initContainers",
        spec.init_containers.as_deref().unwrap_or_default(),
        true,
        problems,
    );
    let containers = list("containers", &spec.containers, false, problems);
    if containers.is_empty() && pod.spec.is_some() {
        problems.push(Problem::required("spec.containers"));
    }
    host_ports(&containers, problems);
    non_root(spec, problems);

    let restart_policy = match spec.restart_policy.as_deref().unwrap_or("Always") {
        "Always" => RestartPolicy::Always,
        "OnFailure" => RestartPolicy::OnFailure,
        "Never" => RestartPolicy::Never,
        other => {
            problems.push(Problem::unsupported(
                "spec.restartPolicy",
                other,
                &["Always", "OnFailure", "Never"],
            ));
            RestartPolicy::Always
        }
    };
    let dns = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" | "ClusterFirstWithHostNet" => DnsPolicy::ClusterFirst,
        "Default" => DnsPolicy::Default,
        "None" => DnsPolicy::None,
        other => {
            problems.push(Problem::unsupported(
                "spec.dnsPolicy",
                other,
                &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
            ));
            DnsPolicy::ClusterFirst
        }
    };
    let dns_config = dns_config(spec, problems);
    if dns == DnsPolicy::None && dns_config.servers.is_empty() {
        problems.push(Problem {
            field: "spec.dnsConfig.nameservers".to_owned(),
            message:
                "Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"
                    .to_owned(),
        });
    }
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        problems.push(Problem::unsupported("spec.os.name", &os.name, &["linux"]));
    }
    let hostname = match spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            words::label("spec.hostname", name, problems);
            name
        }
        None => key
            .name
            .get(..63)
            .unwrap_or(&key.name)
            .trim_end_matches(['-', '.']),
    }
    .to_owned();
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    words::range(
        "spec.terminationGracePeriodSeconds",
        grace,
        0,
        i64::from(u32::MAX),
        problems,
    );
    let host_aliases = host_aliases(spec, problems);
    let security = pod_security(spec, problems);
    let pull_secrets = spec
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|secret| secret.name.clone())
        .collect();

    PodSpec {
        key,
        uid,
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
        hostname,
        host_aliases,
        dns,
        dns_config,
        restart_policy,
        grace: Duration::from_secs(u64::try_from(grace).unwrap_or_default()),
        volumes,
        init_containers,
        containers,
        share_process_namespace: spec.share_process_namespace.unwrap_or(false),
        security,
        pull_secrets,
        service_account: spec
            .service_account_name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        digest: digest(manifest.get("spec").unwrap_or(&Value::Null)),
    }
}

fn host_ports(containers: &[Container], problems: &mut Vec<Problem>) {
    let mut used = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (number, port) in container.ports.iter().enumerate() {
            if let Some(host_port) = port.host_port
                && !used.insert((port.protocol, host_port, port.host_ip))
            {
                problems.push(Problem::duplicate(
                    format!("spec.containers[{index}].ports[{number}].hostPort"),
                    host_port,
                ));
            }
        }
    }
}

/// `runAsNonRoot` and user 0 can never start: said at once rather than at each start.
fn non_root(spec: &wire::PodSpec, problems: &mut Vec<Problem>) {
    let pod = spec.security_context.as_ref();
    let lists = [
        ("containers", spec.containers.as_slice()),
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
    ];
    for (field, list) in lists {
        for (index, container) in list.iter().enumerate() {
            let own = container.security_context.as_ref();
            let non_root = own
                .and_then(|own| own.run_as_non_root)
                .or(pod.and_then(|pod| pod.run_as_non_root));
            let user = own
                .and_then(|own| own.run_as_user)
                .or(pod.and_then(|pod| pod.run_as_user));
            if non_root == Some(true) && user == Some(0) {
                problems.push(Problem::invalid(
                    format!("spec.{field}[{index}].securityContext.runAsUser"),
                    0,
                    "must not be 0 when `runAsNonRoot` is true",
                ));
            }
        }
    }
}

fn dns_config(spec: &wire::PodSpec, problems: &mut Vec<Problem>) -> DnsConfig {
    let Some(config) = &spec.dns_config else {
        return DnsConfig::default();
    };
    for (index, server) in config.nameservers.iter().flatten().enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            problems.push(Problem::invalid(
                format!("spec.dnsConfig.nameservers[{index}]"),
                server,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
    }
    let option = |option: &wire::PodDNSConfigOption| {
        let name = option.name.clone()?;
        Some(
            option
                .value
                .as_ref()
                .map_or_else(|| name.clone(), |value| format!("{name}:{value}")),
        )
    };
    DnsConfig {
        servers: config.nameservers.clone().unwrap_or_default(),
        searches: config.searches.clone().unwrap_or_default(),
        options: config.options.iter().flatten().filter_map(option).collect(),
    }
}

fn host_aliases(spec: &wire::PodSpec, problems: &mut Vec<Problem>) -> Vec<HostAlias> {
    let mut aliases = Vec::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = format!("spec.hostAliases[{index}]");
        let names = alias.hostnames.clone().unwrap_or_default();
        for (number, name) in names.iter().enumerate() {
            words::subdomain(&format!("{at}.hostnames[{number}]"), name, problems);
        }
        match alias.ip.parse() {
            Ok(address) => aliases.push(HostAlias { address, names }),
            Err(_) => problems.push(Problem::invalid(
                format!("{at}.ip"),
                &alias.ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )),
        }
    }
    aliases
}

fn pod_security(spec: &wire::PodSpec, problems: &mut Vec<Problem>) -> PodSecurity {
    let at = "spec.securityContext";
    let Some(context) = &spec.security_context else {
        return PodSecurity::default();
    };
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        words::range(
            &format!("{at}.supplementalGroups[{index}]"),
            *group,
            0,
            i64::from(i32::MAX),
            problems,
        );
    }
    PodSecurity {
        run_as_user: limits::id(&format!("{at}.runAsUser"), context.run_as_user, problems),
        run_as_group: limits::id(&format!("{at}.runAsGroup"), context.run_as_group, problems),
        run_as_non_root: context.run_as_non_root.unwrap_or(false),
        supplemental_groups: context.supplemental_groups.clone().unwrap_or_default(),
        seccomp: limits::seccomp(at, context.seccomp_profile.as_ref(), problems),
    }
}

/// Digest of a JSON value that does not depend on the order of its keys; nulls and absent fields are the same.
fn digest(value: &Value) -> String {
    fn write(value: &Value, text: &mut String) {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> =
                    map.iter().filter(|(_, value)| !value.is_null()).collect();
                entries.sort_by_key(|(key, _)| *key);
                text.push('{');
                for (key, value) in entries {
                    // Quoted, so that no key can look like the end of a value.
                    let _ = write!(text, "{key:?}:");
                    write(value, text);
                    text.push(',');
                }
                text.push('}');
            }
            Value::Array(list) => {
                text.push('[');
                for value in list {
                    write(value, text);
                    text.push(',');
                }
                text.push(']');
            }
            other => text.push_str(&other.to_string()),
        }
    }
    let mut text = String::new();
    write(value, &mut text);
    hex::encode(Sha256::digest(text))
}
