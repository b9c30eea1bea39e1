//! The table of Pod fields: what is supported, what is accepted with a warning, and (everything else) what is
//! refused by name. [`check`] walks a manifest as it was written, so that a field which the types would drop is
//! refused too; the documentation is generated from [`all_fields`].

use serde_json::Value;

use super::problem::{Problem, Warning};

/// What happens to one field of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Has its Kubernetes effect.
    Supported,
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

const fn yes(path: &'static str) -> Field {
    Field {
        path,
        support: Support::Supported,
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

/// Fields outside of containers.
const TABLE: &[Field] = &[
    yes("apiVersion"),
    yes("kind"),
    yes("metadata.name"),
    yes("metadata.namespace"),
    yes("metadata.uid"),
    yes("metadata.labels"),
    yes("metadata.annotations"),
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
    yes("spec.dnsPolicy"),
    yes("spec.dnsConfig.nameservers"),
    yes("spec.dnsConfig.searches"),
    yes("spec.dnsConfig.options[].name"),
    yes("spec.dnsConfig.options[].value"),
    yes("spec.hostAliases[].ip"),
    yes("spec.hostAliases[].hostnames"),
    yes("spec.hostname"),
    yes("spec.imagePullSecrets[].name"),
    yes("spec.os.name"),
    yes("spec.restartPolicy"),
    yes("spec.shareProcessNamespace"),
    yes("spec.terminationGracePeriodSeconds"),
    yes("spec.securityContext.runAsUser"),
    yes("spec.securityContext.runAsGroup"),
    yes("spec.securityContext.runAsNonRoot"),
    yes("spec.securityContext.supplementalGroups"),
    yes("spec.securityContext.seccompProfile.type"),
    yes("spec.volumes[].name"),
    yes("spec.volumes[].emptyDir.medium"),
    yes("spec.volumes[].emptyDir.sizeLimit"),
    yes("spec.volumes[].hostPath.path"),
    yes("spec.volumes[].hostPath.type"),
    yes("spec.volumes[].configMap.name"),
    yes("spec.volumes[].configMap.optional"),
    yes("spec.volumes[].configMap.defaultMode"),
    yes("spec.volumes[].configMap.items[].key"),
    yes("spec.volumes[].configMap.items[].path"),
    yes("spec.volumes[].configMap.items[].mode"),
    yes("spec.volumes[].secret.secretName"),
    yes("spec.volumes[].secret.optional"),
    yes("spec.volumes[].secret.defaultMode"),
    yes("spec.volumes[].secret.items[].key"),
    yes("spec.volumes[].secret.items[].path"),
    yes("spec.volumes[].secret.items[].mode"),
];

/// Fields of a container, relative to it; they hold for `spec.containers[]` and `spec.initContainers[]`.
const CONTAINER: &[Field] = &[
    yes("name"),
    yes("image"),
    yes("imagePullPolicy"),
    yes("command"),
    yes("args"),
    yes("workingDir"),
    yes("tty"),
    yes("env[].name"),
    yes("env[].value"),
    yes("env[].valueFrom.configMapKeyRef.name"),
    yes("env[].valueFrom.configMapKeyRef.key"),
    yes("env[].valueFrom.configMapKeyRef.optional"),
    yes("env[].valueFrom.secretKeyRef.name"),
    yes("env[].valueFrom.secretKeyRef.key"),
    yes("env[].valueFrom.secretKeyRef.optional"),
    yes("env[].valueFrom.fieldRef.apiVersion"),
    yes("env[].valueFrom.fieldRef.fieldPath"),
    yes("envFrom[].prefix"),
    yes("envFrom[].configMapRef.name"),
    yes("envFrom[].configMapRef.optional"),
    yes("envFrom[].secretRef.name"),
    yes("envFrom[].secretRef.optional"),
    yes("volumeMounts[].name"),
    yes("volumeMounts[].mountPath"),
    yes("volumeMounts[].readOnly"),
    yes("volumeMounts[].subPath"),
    yes("ports[].name"),
    yes("ports[].containerPort"),
    yes("ports[].hostPort"),
    yes("ports[].hostIP"),
    yes("ports[].protocol"),
    yes("resources.limits.cpu"),
    yes("resources.limits.memory"),
    yes("resources.requests.cpu"),
    yes("resources.requests.memory"),
    warn(
        "resources.limits.ephemeral-storage",
        "container disks are not limited here",
    ),
    warn(
        "resources.requests.ephemeral-storage",
        "container disks are not limited here",
    ),
    yes("securityContext.runAsUser"),
    yes("securityContext.runAsGroup"),
    yes("securityContext.runAsNonRoot"),
    yes("securityContext.readOnlyRootFilesystem"),
    yes("securityContext.privileged"),
    yes("securityContext.allowPrivilegeEscalation"),
    yes("securityContext.capabilities.add"),
    yes("securityContext.capabilities.drop"),
    yes("securityContext.seccompProfile.type"),
    warn("terminationMessagePath", MESSAGE),
    warn("terminationMessagePolicy", MESSAGE),
    warn(
        "resizePolicy",
        "a changed container is replaced, never resized",
    ),
];

/// Fields of a probe, relative to it; they hold for `livenessProbe`, `readinessProbe` and `startupProbe`.
const PROBE: &[Field] = &[
    yes("exec.command"),
    yes("httpGet.host"),
    yes("httpGet.path"),
    yes("httpGet.port"),
    yes("httpGet.scheme"),
    yes("httpGet.httpHeaders[].name"),
    yes("httpGet.httpHeaders[].value"),
    yes("tcpSocket.host"),
    yes("tcpSocket.port"),
    yes("initialDelaySeconds"),
    yes("periodSeconds"),
    yes("timeoutSeconds"),
    yes("successThreshold"),
    yes("failureThreshold"),
    yes("terminationGracePeriodSeconds"),
];

/// Lists of containers, and whether their containers may have probes.
const CONTAINER_LISTS: &[(&str, bool)] = &[
    ("spec.containers[]", true),
    ("spec.initContainers[]", false),
];
const PROBES: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];

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
        for probe in PROBES.iter().filter(|_| *probes) {
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
