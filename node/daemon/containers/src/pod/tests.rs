//! What a Pod is read as, what is refused and how it is said, and that each supported field has its test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;

fn manifest(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "team"}, "spec": spec})
}

fn one(container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!("i:1");
    manifest(&json!({"containers": [container]}))
}

fn problems(manifest: &Value) -> Vec<String> {
    PodSpec::parse(manifest)
        .map(|_| vec![])
        .unwrap_or_else(|error| error.problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_small_pod_has_the_defaults_of_kubernetes() {
    let (pod, warnings) = PodSpec::parse(&manifest(
        &json!({"containers": [{"name": "c", "image": "busybox"}]}),
    ))
    .unwrap();
    assert_eq!(
        (
            pod.key.to_string().as_str(),
            pod.hostname.as_str(),
            pod.grace.as_secs()
        ),
        ("team/web", "web", 30)
    );
    assert_eq!(
        (pod.restart_policy, pod.dns, pod.containers[0].pull),
        (
            RestartPolicy::Always,
            DnsPolicy::ClusterFirst,
            PullPolicy::Always
        )
    );
    assert_eq!(warnings, []);
    let tagged = PodSpec::parse(&one(json!({}))).unwrap().0;
    assert_eq!(tagged.containers[0].pull, PullPolicy::IfNotPresent);
    assert!(tagged.containers[0].security.allow_privilege_escalation);
}

#[test]
fn every_error_is_reported_at_once_with_its_path() {
    let found = problems(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "Web"}, "spec": {
            "restartPolicy": "Sometimes",
            "hostNetwork": true,
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}, {"name": "p", "persistentVolumeClaim": {"claimName": "x"}}, {"name": "n"}],
            "containers": [
                {"name": "a", "image": "UP", "volumeMounts": [{"name": "w", "mountPath": "rel"}], "imagePulPolicy": "Always"},
                {"name": "a", "image": "i:1", "ports": [{"containerPort": 0, "hostPort": 80}], "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}},
                {"name": "b", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1", "memory": "1Gb", "nvidia.com/gpu": "1"}}},
            ],
        }}),
    );
    let expected = [
        "spec.containers[0].imagePulPolicy: Forbidden: unknown field",
        "spec.containers[1].lifecycle: Forbidden: this field of a Pod is not supported",
        "spec.containers[2].resources.limits.nvidia.com/gpu: Forbidden: this field of a Pod is not supported",
        "spec.hostNetwork: Forbidden: this field of a Pod is not supported",
        "spec.volumes[2].persistentVolumeClaim: Forbidden: this field of a Pod is not supported",
        "metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain",
        "spec.volumes[1].name: Duplicate value: \"v\"",
        "spec.volumes[3]: Required value: must specify a volume type",
        "spec.containers[0].image: Invalid value: \"UP\": must be an image reference",
        "spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
        "spec.containers[0].volumeMounts[0].mountPath: Invalid value: \"rel\": must be an absolute path",
        "spec.containers[1].name: Duplicate value: \"a\"",
        "spec.containers[1].ports[0].containerPort: Invalid value: \"0\": must be between 1 and 65535, inclusive",
        "spec.containers[2].image: Required value",
        "spec.containers[2].resources.limits.memory: Invalid value: \"1Gb\": must be a quantity",
        "spec.containers[2].resources.requests.cpu: Invalid value: \"2\": must be less than or equal to cpu limit",
        "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
    ];
    for line in expected {
        assert!(
            found.iter().any(|found| found.starts_with(line)),
            "{line}\nis not in\n{}",
            found.join("\n")
        );
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let found = problems(&one(json!({"command": "sh", "unknownThing": 1})));
    assert!(
        found.iter().any(|line| line
            .starts_with("spec.containers[0].command: Invalid value: invalid type: string \"sh\"")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("spec.containers[0].unknownThing: Forbidden")),
        "{found:?}"
    );
}

#[test]
fn single_fields_are_checked() {
    for (container, expected) in [
        (
            json!({"livenessProbe": {"httpGet": {"port": "http"}}}),
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"http\": must be a number or the name of one",
        ),
        (
            json!({"livenessProbe": {}}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"livenessProbe": {"grpc": {"port": 1}}}),
            "spec.containers[0].livenessProbe.grpc: Forbidden: this field",
        ),
        (
            json!({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: \"2\": must be 1",
        ),
        (
            json!({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 2}}),
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid",
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}),
            "spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: \"HTTPS\"",
        ),
        (
            json!({"startupProbe": {"exec": {}}}),
            "spec.containers[0].startupProbe.exec.command: Required value",
        ),
        (
            json!({"startupProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "A B", "value": "x"}]}}}),
            "spec.containers[0].startupProbe.httpGet.httpHeaders[0].name: Invalid",
        ),
        (
            json!({"env": [{"name": "A=B"}]}),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\"",
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            "spec.containers[0].env[0].valueFrom: Invalid",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.x\"",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {}}]}),
            "spec.containers[0].env[0].valueFrom: Required value",
        ),
        (
            json!({"envFrom": [{"prefix": "X"}]}),
            "spec.containers[0].envFrom[0]: Required value",
        ),
        (
            json!({"imagePullPolicy": "Maybe"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\"",
        ),
        (
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}}),
            "spec.containers[0].securityContext.allowPrivilegeEscalation: Invalid value: \"false\"",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}),
            "spec.containers[0].securityContext.runAsUser: Invalid value: \"0\"",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}}),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden",
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"9\"",
        ),
        (
            json!({"stdin": true}),
            "spec.containers[0].stdin: Forbidden: this field",
        ),
        (
            json!({"restartPolicy": "Always"}),
            "spec.containers[0].restartPolicy: Forbidden: this field",
        ),
    ] {
        let found = problems(&one(container));
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}\nis not in\n{}",
            found.join("\n")
        );
    }
    for (spec, expected) in [
        (json!({}), "spec.containers: Invalid value: missing field"),
        (json!({"containers": []}), "spec.containers: Required value"),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig.nameservers: Required value",
        ),
        (json!({"hostname": "A"}), "spec.hostname: Invalid value"),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: Invalid value",
        ),
        (
            json!({"os": {"name": "windows"}}),
            "spec.os.name: Unsupported value: \"windows\"",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Disk"}}]}),
            "spec.volumes[0].emptyDir.medium: Unsupported value: \"Disk\"",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}),
            "spec.volumes[0].hostPath.path: Invalid value",
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 4096}}]}),
            "spec.volumes[0].secret.defaultMode: Invalid value: \"4096\"",
        ),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "s", "items": [{"key": "a", "path": "../a"}]}}]}),
            "spec.volumes[0].configMap.items[0].path: Invalid value",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i:1", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
            "spec.initContainers[0].readinessProbe",
        ),
    ] {
        let mut whole = spec.clone();
        if whole.get("containers").is_none() && whole != json!({}) {
            whole["containers"] = json!([{"name": "c", "image": "i:1"}]);
        }
        let found = problems(&manifest(&whole));
        let missing_list = spec == json!({}) && found.iter().any(|line| line.starts_with("spec"));
        assert!(
            missing_list || found.iter().any(|line| line.starts_with(expected)),
            "{expected}\nis not in\n{}",
            found.join("\n")
        );
    }
}

#[test]
fn what_has_no_effect_here_is_a_warning_and_empty_values_are_none() {
    let mut manifest = manifest(&json!({
        "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "serviceAccountName": "robot", "priorityClassName": "high", "schedulerName": "own",
        "automountServiceAccountToken": false, "enableServiceLinks": true, "hostNetwork": false, "affinity": {}, "ephemeralContainers": [],
        "containers": [{"name": "c", "image": "i:1", "terminationMessagePath": "/dev/x", "resources": {}, "securityContext": {}, "stdin": false, "lifecycle": null}],
    }));
    manifest["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    manifest["status"] = json!({"phase": "Running"});
    let (pod, warnings) = PodSpec::parse(&manifest).unwrap();
    let fields: BTreeSet<_> = warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect();
    let expected = [
        "spec.nodeSelector",
        "spec.tolerations",
        "spec.serviceAccountName",
        "spec.priorityClassName",
        "spec.schedulerName",
        "spec.enableServiceLinks",
        "spec.containers[0].terminationMessagePath",
        "status",
    ];
    assert_eq!(fields, BTreeSet::from(expected));
    assert_eq!(pod.service_account, "robot");
}

#[test]
fn a_digest_depends_on_the_spec_and_not_on_its_spelling() {
    let digest = |manifest: &Value| PodSpec::parse(manifest).unwrap().0.digest;
    let first = digest(&one(json!({"args": ["a"]})));
    let mut spelt = one(json!({"env": null, "args": ["a"]}));
    spelt["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(first, digest(&spelt));
    assert_ne!(first, digest(&one(json!({"args": ["b"]}))));
    let typed: k8s_openapi::api::core::v1::Pod = serde_json::from_value(spelt).unwrap();
    assert_eq!(first, PodSpec::try_from(&typed).unwrap().digest);
}

/// Test functions of `tests/containerd`, with their bodies.
fn tests_on_a_real_runtime() -> BTreeMap<String, String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containerd");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split("#[test]\n").skip(1) {
            let (head, body) = part.split_once('{').unwrap();
            let name = head.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            // A function ends with the first bracket that begins a line.
            let body = body.split("\n}").next().unwrap();
            let code = body.lines().filter(|l| !l.trim_start().starts_with("//"));
            found.insert(name.to_owned(), code.collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

/// The manifest in that text sets the field. The helpers of the tests write the outermost words themselves, or take `pod:` before one.
fn names(body: &str, path: &str) -> bool {
    path.split(['.', '[', ']'])
        .filter(|word| !["", "metadata", "spec", "containers", "initContainers"].contains(word))
        .filter(|word| !word.ends_with("Probe"))
        .all(|word| {
            ["\"", "\"pod:", "\"metadata."]
                .iter()
                .any(|before| body.contains(&format!("{before}{word}\"")))
        })
}

#[test]
fn every_supported_field_has_a_test_on_a_real_runtime() {
    let tests = tests_on_a_real_runtime();
    let mut problems = Vec::new();
    for (path, support) in all_fields() {
        let Support::Supported(test) = support else {
            continue;
        };
        match tests.get(test) {
            None => problems.push(format!("{path}: there is no test {test}")),
            Some(body) if !names(body, &path) => {
                problems.push(format!("{path}: {test} does not set it"));
            }
            Some(_) => {}
        }
    }
    assert_eq!(problems, Vec::<String>::new());
}
