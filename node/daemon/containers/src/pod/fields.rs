//! The table of Pod fields: what is supported, what is accepted with a warning, and (everything else) what is
//! refused by name. [`check`] walks a manifest as it was written, so that a field which the types would drop is
//! refused too; the documentation is generated from [`all_fields`].

use serde_json::Value;

use super::problem::{Problem, Warning};

/// What happens to one field of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Has its Kubernetes effect, which the test of that name reads from a container on a real runtime.
    Supported(&'static str),
    /// Is read and has no effect here; the text says why, and reaches the user as a warning.
    Accepted(&'static str),
    /// May be present and says nothing that could be lost (what a server writes into an object).
    Ignored,
}

/// One line of the table. `[]` stands for any element of a list, and a line covers everything below its field.
#[derive(Clone, Copy, Debug)]
struct Field {
    /// Path from the object's root, as in `spec.containers[].image`.
    path: &'static str,
    /// What happens to it.
    support: Support,
}

const fn yes(path: &'static str, test: &'static str) -> Field {
    Field {
        path,
        support: Support::Supported(test),
    }
}
const fn warn(path: &'static str, why: &'static str) -> Field {
    Field {
        path,
        support: Support::Accepted(why),
    }
}
const fn skip(path: &'static str) -> Field {
    Field {
        path,
        support: Support::Ignored,
    }
}

const ONE_NODE: &str = "there is one machine, so nothing is scheduled";
const NO_API: &str = "there is no Kubernetes API here, so no token is mounted";
const MESSAGE: &str = "termination messages are not read; see the container's log";

// Tests of `tests/containerd`. That each is there and names its fields is itself tested.
const ENVIRONMENT: &str = "environment_command_and_names";
const HOST_PORTS: &str = "host_ports_lead_to_the_container_and_are_taken_once";
const METADATA: &str = "metadata_dns_policies_and_terminals";
const PROBES: &str = "probes_decide_who_is_ready_and_who_is_restarted";
const PROBE_HOSTS: &str = "probes_ask_the_host_that_they_name";
const PROBE_SETTINGS: &str = "probes_have_delays_timeouts_thresholds_and_headers";
const REGISTRY: &str = "images_of_a_registry_need_its_login";
const RESOURCES: &str = "resources_are_limits_of_the_cgroup";
const RESTARTS: &str = "restart_policies_back_off_and_exit_codes_are_those_of_kubernetes";
const SECURITY: &str = "security_context_is_obeyed";
const START_ERRORS: &str = "a_program_that_cannot_be_started_is_a_run_error";
const STOP: &str = "a_stopped_pod_keeps_its_files_and_a_removed_one_leaves_nothing";
const UDP: &str = "udp_host_ports_of_one_address_reach_the_network";
const VOLUMES: &str = "volumes_have_their_content_modes_and_limits";

/// Fields outside of containers.
const TABLE: &[Field] = &[
    yes("apiVersion", METADATA),
    yes("kind", METADATA),
    yes("metadata.name", METADATA),
    yes("metadata.namespace", ENVIRONMENT),
    yes("metadata.uid", METADATA),
    yes("metadata.labels", METADATA),
    yes("metadata.annotations", METADATA),
    skip("metadata.creationTimestamp"),
    skip("metadata.generation"),
    skip("metadata.resourceVersion"),
    skip("metadata.selfLink"),
    skip("metadata.managedFields"),
    warn("metadata.finalizers", "nothing waits for finalizers here"),
    warn("metadata.ownerReferences", "owners are not followed here"),
    warn("metadata.generateName", "metadata.name is used"),
    warn(
        "status",
        "a status is made here and never read from a manifest",
    ),
    warn("spec.affinity", ONE_NODE),
    warn("spec.nodeName", ONE_NODE),
    warn("spec.nodeSelector", ONE_NODE),
    warn("spec.preemptionPolicy", ONE_NODE),
    warn("spec.priority", ONE_NODE),
    warn("spec.priorityClassName", ONE_NODE),
    warn("spec.schedulerName", ONE_NODE),
    warn("spec.tolerations", ONE_NODE),
    warn("spec.topologySpreadConstraints", ONE_NODE),
    warn("spec.automountServiceAccountToken", NO_API),
    warn("spec.serviceAccount", NO_API),
    warn("spec.serviceAccountName", NO_API),
    warn(
        "spec.enableServiceLinks",
        "there are no Services here, so no variables for them",
    ),
    yes("spec.dnsPolicy", METADATA),
    yes("spec.dnsConfig.nameservers", METADATA),
    yes("spec.dnsConfig.searches", ENVIRONMENT),
    yes("spec.dnsConfig.options[].name", ENVIRONMENT),
    yes("spec.dnsConfig.options[].value", ENVIRONMENT),
    yes("spec.hostAliases[].ip", ENVIRONMENT),
    yes("spec.hostAliases[].hostnames", ENVIRONMENT),
    yes("spec.hostname", ENVIRONMENT),
    yes("spec.imagePullSecrets[].name", REGISTRY),
    yes("spec.os.name", METADATA),
    yes("spec.restartPolicy", RESTARTS),
    yes("spec.shareProcessNamespace", ENVIRONMENT),
    yes("spec.terminationGracePeriodSeconds", STOP),
    yes("spec.securityContext.runAsUser", SECURITY),
    yes("spec.securityContext.runAsGroup", SECURITY),
    yes("spec.securityContext.runAsNonRoot", SECURITY),
    yes("spec.securityContext.supplementalGroups", SECURITY),
    yes("spec.securityContext.seccompProfile.type", SECURITY),
    yes("spec.volumes[].name", VOLUMES),
    yes("spec.volumes[].emptyDir.medium", VOLUMES),
    yes("spec.volumes[].emptyDir.sizeLimit", VOLUMES),
    yes("spec.volumes[].hostPath.path", VOLUMES),
    yes("spec.volumes[].hostPath.type", VOLUMES),
    yes("spec.volumes[].configMap.name", VOLUMES),
    yes("spec.volumes[].configMap.optional", VOLUMES),
    yes("spec.volumes[].configMap.defaultMode", VOLUMES),
    yes("spec.volumes[].configMap.items[].key", VOLUMES),
    yes("spec.volumes[].configMap.items[].path", VOLUMES),
    yes("spec.volumes[].configMap.items[].mode", VOLUMES),
    yes("spec.volumes[].secret.secretName", VOLUMES),
    yes("spec.volumes[].secret.optional", VOLUMES),
    yes("spec.volumes[].secret.defaultMode", VOLUMES),
    yes("spec.volumes[].secret.items[].key", VOLUMES),
    yes("spec.volumes[].secret.items[].path", VOLUMES),
    yes("spec.volumes[].secret.items[].mode", VOLUMES),
];

/// Fields of a container, relative to it; they hold for `spec.containers[]` and `spec.initContainers[]`.
const CONTAINER: &[Field] = &[
    yes("name", ENVIRONMENT),
    yes("image", REGISTRY),
    yes("imagePullPolicy", REGISTRY),
    yes("command", ENVIRONMENT),
    yes("args", ENVIRONMENT),
    yes("workingDir", ENVIRONMENT),
    yes("tty", METADATA),
    yes("env[].name", ENVIRONMENT),
    yes("env[].value", ENVIRONMENT),
    yes("env[].valueFrom.configMapKeyRef.name", ENVIRONMENT),
    yes("env[].valueFrom.configMapKeyRef.key", ENVIRONMENT),
    yes("env[].valueFrom.configMapKeyRef.optional", ENVIRONMENT),
    yes("env[].valueFrom.secretKeyRef.name", ENVIRONMENT),
    yes("env[].valueFrom.secretKeyRef.key", ENVIRONMENT),
    yes("env[].valueFrom.secretKeyRef.optional", ENVIRONMENT),
    yes("env[].valueFrom.fieldRef.apiVersion", METADATA),
    yes("env[].valueFrom.fieldRef.fieldPath", ENVIRONMENT),
    yes("envFrom[].prefix", ENVIRONMENT),
    yes("envFrom[].configMapRef.name", ENVIRONMENT),
    yes("envFrom[].configMapRef.optional", ENVIRONMENT),
    yes("envFrom[].secretRef.name", ENVIRONMENT),
    yes("envFrom[].secretRef.optional", ENVIRONMENT),
    yes("volumeMounts[].name", VOLUMES),
    yes("volumeMounts[].mountPath", VOLUMES),
    yes("volumeMounts[].readOnly", VOLUMES),
    yes("volumeMounts[].subPath", VOLUMES),
    yes("ports[].name", HOST_PORTS),
    yes("ports[].containerPort", HOST_PORTS),
    yes("ports[].hostPort", HOST_PORTS),
    yes("ports[].hostIP", UDP),
    yes("ports[].protocol", UDP),
    yes("resources.limits.cpu", RESOURCES),
    yes("resources.limits.memory", RESOURCES),
    yes("resources.requests.cpu", RESOURCES),
    yes("resources.requests.memory", RESOURCES),
    warn(
        "resources.limits.ephemeral-storage",
        "container disks are not limited here",
    ),
    warn(
        "resources.requests.ephemeral-storage",
        "container disks are not limited here",
    ),
    yes("securityContext.runAsUser", SECURITY),
    yes("securityContext.runAsGroup", SECURITY),
    yes("securityContext.runAsNonRoot", START_ERRORS),
    yes("securityContext.readOnlyRootFilesystem", SECURITY),
    yes("securityContext.privileged", SECURITY),
    yes("securityContext.allowPrivilegeEscalation", SECURITY),
    yes("securityContext.capabilities.add", SECURITY),
    yes("securityContext.capabilities.drop", SECURITY),
    yes("securityContext.seccompProfile.type", SECURITY),
    warn("terminationMessagePath", MESSAGE),
    warn("terminationMessagePolicy", MESSAGE),
    warn(
        "resizePolicy",
        "a changed container is replaced, never resized",
    ),
];

/// Fields of a probe, relative to it; they hold for `livenessProbe`, `readinessProbe` and `startupProbe`.
const PROBE: &[Field] = &[
    yes("exec.command", PROBES),
    yes("httpGet.host", PROBE_HOSTS),
    yes("httpGet.path", PROBE_SETTINGS),
    yes("httpGet.port", PROBE_SETTINGS),
    yes("httpGet.scheme", PROBE_SETTINGS),
    yes("httpGet.httpHeaders[].name", PROBE_SETTINGS),
    yes("httpGet.httpHeaders[].value", PROBE_SETTINGS),
    yes("tcpSocket.host", PROBE_HOSTS),
    yes("tcpSocket.port", PROBES),
    yes("initialDelaySeconds", PROBE_SETTINGS),
    yes("periodSeconds", PROBE_SETTINGS),
    yes("timeoutSeconds", PROBE_SETTINGS),
    yes("successThreshold", PROBE_SETTINGS),
    yes("failureThreshold", PROBES),
    yes("terminationGracePeriodSeconds", PROBES),
];

/// Lists of containers, and whether their containers may have probes.
const CONTAINER_LISTS: &[(&str, bool)] = &[
    ("spec.containers[]", true),
    ("spec.initContainers[]", false),
];
const PROBE_KINDS: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];

/// Every line of the table with its whole path, for the check and for the documentation.
pub fn all_fields() -> Vec<(String, Support)> {
    let mut fields: Vec<_> = TABLE
        .iter()
        .map(|field| (field.path.to_owned(), field.support))
        .collect();
    for (list, probes) in CONTAINER_LISTS {
        fields.extend(
            CONTAINER
                .iter()
                .map(|field| (format!("{list}.{}", field.path), field.support)),
        );
        for probe in PROBE_KINDS.iter().filter(|_| *probes) {
            fields.extend(
                PROBE
                    .iter()
                    .map(|field| (format!("{list}.{probe}.{}", field.path), field.support)),
            );
        }
    }
    fields
}

/// Walks `manifest` and reports each field that is not in the table, and a warning for each accepted one.
/// `typed` is the manifest after a round through the types: a field that is missing there is unknown to Kubernetes.
pub(crate) fn check(manifest: &Value, typed: Option<&Value>) -> (Vec<Problem>, Vec<Warning>) {
    let mut walk = Walk {
        fields: all_fields(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    walk.value(manifest, typed, "", "");
    (walk.problems, walk.warnings)
}

struct Walk {
    fields: Vec<(String, Support)>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Walk {
    /// `path` has indices, `pattern` has `[]` in their place.
    fn value(&mut self, value: &Value, typed: Option<&Value>, path: &str, pattern: &str) {
        if value.is_null() {
            return;
        }
        if let Some((_, support)) = self.fields.iter().find(|(field, _)| field == pattern) {
            if let Support::Accepted(why) = support
                && !is_empty(value)
            {
                self.warnings.push(Warning::new(path, *why));
            }
            return;
        }
        let inside = |rest: char| {
            move |(field, _): &(String, Support)| {
                field
                    .strip_prefix(pattern)
                    .is_some_and(|tail| tail.starts_with(rest))
            }
        };
        match value {
            Value::Object(map) if pattern.is_empty() || self.fields.iter().any(inside('.')) => {
                for (key, value) in map {
                    let (path, pattern) = match pattern {
                        "" => (key.clone(), key.clone()),
                        _ => (format!("{path}.{key}"), format!("{pattern}.{key}")),
                    };
                    self.value(
                        value,
                        typed.and_then(|typed| typed.get(key)),
                        &path,
                        &pattern,
                    );
                }
            }
            Value::Array(list) if self.fields.iter().any(inside('[')) => {
                for (index, value) in list.iter().enumerate() {
                    self.value(
                        value,
                        typed.and_then(|typed| typed.get(index)),
                        &format!("{path}[{index}]"),
                        &format!("{pattern}[]"),
                    );
                }
            }
            // A list where an object belongs, or the other way round: the types say so.
            _ if self.fields.iter().any(inside('.')) || self.fields.iter().any(inside('[')) => {}
            _ if is_empty(value) && typed.is_some() => {}
            _ if typed.is_some() => self.problems.push(Problem::forbidden(
                path,
                "this field of a Pod is not supported",
            )),
            _ => self
                .problems
                .push(Problem::forbidden(path, "unknown field")),
        }
    }
}

/// `false`, `{}`, `[]` and `""` ask for nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}
