//! The aggregated API and admission, as clients of the peer use them: through the API server, with its rights.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::websocket::Proxy;
use catamaran_tests::cluster::{self, Cluster, machine};
use catamaran_tests::{BOOT, SHORT, manifest, wait::Seen, wait_for};
use serde_json::{Value, json};

/// Routes, and the roles that may take them.
const RIGHTS: &str = include_str!("../../../controller/api/tests/golden/rights.txt");
const GROUP: &str = "/apis/subresources.kubevirt.io/v1";

/// A path of a machine (not of its instance).
fn of_machine(cluster: &Cluster, name: &str, verb: &str) -> String {
    let namespace = cluster.namespace();
    format!("{GROUP}/namespaces/{namespace}/virtualmachines/{name}/{verb}")
}

/// A request that must be answered with that code; gives the answer.
fn expect(proxy: &Proxy, method: &str, path: &str, body: &str, code: u16) -> Result<String> {
    let (found, said) = proxy.request(method, path, body)?;
    ensure!(
        found == code,
        "{method} {path}: {found} instead of {code}: {said}"
    );
    Ok(said)
}

/// A refusal: a Status of that code with those words.
fn refused(
    proxy: &Proxy,
    method: &str,
    path: &str,
    body: &str,
    code: u16,
    words: &str,
) -> Result<()> {
    let said = expect(proxy, method, path, body, code)?;
    let status: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    ensure!(
        status["kind"] == "Status" && status["code"] == code,
        "{said}"
    );
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains(words),
        "{message:?} does not say {words:?}"
    );
    Ok(())
}

/// Asks for the eviction of a machine's pod.
fn evict(cluster: &Cluster, proxy: &Proxy, name: &str, code: u16) -> Result<()> {
    let pod = cluster.launcher_pod(name)?["metadata"]["name"].clone();
    let namespace = cluster.namespace();
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{}/eviction",
        pod.as_str().context("a pod without a name")?
    );
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    });
    expect(proxy, "POST", &path, &eviction.to_string(), code).map(drop)
}

/// Waits for an instance that is not the one of that UID.
fn another_runs(cluster: &Cluster, name: &str, uid: &Value) -> Result<()> {
    wait_for("another instance runs", BOOT, || {
        let vmi = cluster.get(&format!("vmi/{name}"))?;
        let another = vmi["metadata"]["uid"] != *uid && vmi["status"]["phase"] == "Running";
        Ok(Seen::when(another, vmi["status"].to_string()))
    })
}

#[test]
fn clients_discover_the_group_and_its_version() -> Result<()> {
    cluster::run(1, |cluster| {
        for version in ["v1", "v1alpha3"] {
            let service = format!("apiservice/{version}.subresources.kubevirt.io");
            cluster.wait_condition(&service, "Available", "True", SHORT)?;
        }
        let listed = cluster.kubectl(["api-resources", "--api-group=subresources.kubevirt.io"])?;
        ensure!(listed.contains("expand-vm-spec"), "{listed}");
        let raw = |path: &str| -> Result<Value> {
            let said = cluster.kubectl(["get", "--raw", path])?;
            serde_json::from_str(&said).with_context(|| said)
        };
        let group = raw("/apis/subresources.kubevirt.io")?;
        ensure!(group["preferredVersion"]["version"] == "v1", "{group}");
        let version = raw(&format!("{GROUP}/version"))?;
        ensure!(version["gitVersion"] == "v1.9.0", "{version}");
        let health = raw(&format!("{GROUP}/healthz"))?;
        ensure!(health["apiserver"]["connectivity"] == "ok", "{health}");
        wait_for("the group's OpenAPI", SHORT, || {
            let document = raw("/openapi/v3/apis/subresources.kubevirt.io/v1")?;
            let path = format!("{GROUP}/namespaces/{{namespace}}/virtualmachines/{{name}}/start");
            let found = document["paths"][&path]["put"].is_object();
            Ok(Seen::when(found, "no start in it"))
        })
    })
}

#[test]
fn wrong_manifests_are_refused_with_every_path() -> Result<()> {
    cluster::run(1, |cluster| {
        let mut wrong = machine("wrong");
        wrong["spec"]["template"]["spec"]["domain"]["cpu"] = json!({"cors": 2});
        wrong["spec"]["template"]["spec"]["volumes"][0]["name"] = "other".into();
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), wrong.to_string())?;
        let path = file.path().display().to_string();
        let words = cluster.refused(["apply", "-f", path.as_str()])?;
        for part in [
            "spec.template.spec.domain.cpu.cors",
            "spec.template.spec.domain.devices.disks[0]",
        ] {
            ensure!(words.contains(part), "{part} is not named: {words}");
        }
        let mut odd = machine("odd");
        odd["spec"]["updateVolumesStrategy"] = "Replacement".into();
        std::fs::write(file.path(), odd.to_string())?;
        let mut command =
            cluster.kubectl_command(["apply", "--dry-run=server", "-f", path.as_str()]);
        let said = command.output()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(
            said.contains("Warning: spec.updateVolumesStrategy"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn rights_are_those_of_the_roles() -> Result<()> {
    cluster::run(1, |cluster| {
        let mut halted = machine("a");
        halted["spec"]["runStrategy"] = "Halted".into();
        cluster.apply(&[&halted])?;
        for role in ["view", "edit", "admin"] {
            let (clusterrole, user) = (
                format!("--clusterrole={role}"),
                format!("--user=the-{role}"),
            );
            cluster.kubectl(["create", "rolebinding", role, &clusterrole, &user])?;
        }
        let console = cluster.subresource("a", "console");
        let expand = of_machine(cluster, "a", "expand-spec");
        wait_for("the roles are bound", SHORT, || {
            let may = cluster.kubectl(["get", "--raw", &expand, "--as=the-view"])?;
            Ok(Seen::when(may.contains("runStrategy"), may))
        })?;
        for user in ["the-view", "nobody"] {
            let words = cluster.refused(["get", "--raw", &console, &format!("--as={user}")])?;
            ensure!(
                words.contains("Forbidden") || words.contains("forbidden"),
                "{user}: {words}"
            );
        }
        // Who may look is told that there is nothing to look at.
        for user in ["the-edit", "the-admin"] {
            let words = cluster.refused(["get", "--raw", &console, &format!("--as={user}")])?;
            ensure!(
                words.contains("virtualmachineinstance.kubevirt.io \"a\" not found"),
                "{user}: {words}"
            );
        }
        Ok(())
    })
}

#[test]
fn every_route_is_open_to_the_roles_of_the_table_only() -> Result<()> {
    cluster::run(1, |cluster| {
        let roles = ["admin", "edit", "view", "migrate", "default"];
        for role in roles {
            let clusterrole = format!("--clusterrole=kubevirt.io:{role}");
            let user = format!("--user=only-{role}");
            cluster.kubectl(["create", "rolebinding", role, &clusterrole, &user])?;
        }
        let proxy = cluster.proxy()?;
        let may = |user: &str, verb: &str, resource: &str, subresource: &str| -> Result<bool> {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": {
                    "namespace": cluster.namespace(), "group": "subresources.kubevirt.io", "version": "v1",
                    "verb": verb, "resource": resource, "subresource": subresource, "name": "a",
                }},
            });
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let said = expect(&proxy, "POST", path, &review.to_string(), 201)?;
            let answer: Value = serde_json::from_str(&said)?;
            Ok(answer["status"]["allowed"] == true)
        };
        wait_for("the roles are bound", SHORT, || {
            let bound = may("only-migrate", "update", "virtualmachines", "migrate")?
                && may("only-view", "get", "virtualmachines", "expand-spec")?
                && may("only-admin", "update", "virtualmachines", "start")?
                && may("only-edit", "update", "virtualmachines", "start")?;
            Ok(Seen::when(bound, "not yet"))
        })?;
        for line in RIGHTS.lines().filter(|line| !line.starts_with('#')) {
            let (route, expected) = line.split_once(": ").context("no colon")?;
            let (method, path) = route.split_once(' ').context("no method")?;
            let verb = if method == "PUT" { "update" } else { "get" };
            let mut parts = path.trim_start_matches('/').splitn(3, '/');
            let resource = parts.next().unwrap_or_default();
            // Behind the name; a port and its protocol are no part of a right.
            let whole = parts.nth(1).unwrap_or_default();
            let with_arguments = ["portforward", "viewers"];
            let whole = with_arguments
                .into_iter()
                .find(|word| whole.starts_with(word))
                .unwrap_or(whole);
            // The API server knows the first part only, and asks about that; we ask about all of it.
            let first = whole.split('/').next().unwrap_or_default();
            for role in roles {
                let user = format!("only-{role}");
                let allowed =
                    may(&user, verb, resource, whole)? && may(&user, verb, resource, first)?;
                let wanted = expected.split(' ').any(|word| word == role);
                ensure!(allowed == wanted, "{route} for {role}: {allowed}");
            }
        }
        Ok(())
    })
}

#[test]
fn verbs_questions_and_streams_reach_a_running_machine() -> Result<()> {
    cluster::run(1, |cluster| {
        let seeded = manifest::with_user_data(machine("a"), "#cloud-config\nhostname: a\n");
        cluster.apply(&[&seeded])?;
        let proxy = cluster.proxy()?;
        let of_instance = |word: &str| cluster.subresource("a", word);

        // Until it runs, a stream answers 400, so that clients try again.
        wait_for("the instance is there", SHORT, || {
            Ok(Seen::when(cluster.get("vmi/a").is_ok(), "none yet"))
        })?;
        cluster.wait_field("vmi/a", "/status/phase", "Running", BOOT)?;

        // Questions.
        wait_for("the kernel's log", BOOT, || {
            let (code, log) = proxy.request("GET", &of_instance("dmesg"), "")?;
            Ok(Seen::when(
                code == 200 && log.contains("Linux version"),
                log,
            ))
        })?;
        wait_for("what it used", BOOT, || {
            let said = expect(&proxy, "GET", &of_instance("usage"), "", 200)?;
            let usage: Value = serde_json::from_str(&said)?;
            let known = |series: &str| -> usize {
                let numbers = usage[series].as_array().into_iter().flatten();
                numbers
                    .filter_map(Value::as_f64)
                    .filter(|n| *n > 0.0)
                    .count()
            };
            let all = known("cpu") > 0 && known("resident") > 1 && usage["processors"] == 1;
            Ok(Seen::when(all, said))
        })?;
        refused(
            &proxy,
            "GET",
            &of_instance("guestosinfo"),
            "",
            409,
            "VMI does not have guest agent connected",
        )?;
        refused(
            &proxy,
            "GET",
            &of_instance("usbredir"),
            "",
            400,
            "USB redirection",
        )?;
        refused(&proxy, "GET", &of_instance("console"), "", 400, "websocket")?;

        // The screen: a greeting of RFB, and what it shows.
        let (mut screen, _keep) = proxy.stream(&of_instance("vnc"))?;
        let mut greeting = [0; 12];
        screen.read_exact(&mut greeting)?;
        ensure!(&greeting == b"RFB 003.008\n", "{greeting:?}");
        drop((screen, _keep));

        // A port of the guest.
        wait_for("the guest's page through a port-forward", BOOT, || {
            let (mut answer, mut request) =
                proxy.stream(&of_machine(cluster, "a", "portforward/80"))?;
            request.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            answer.read_to_string(&mut page)?;
            Ok(Seen::when(page.contains("catamaran-guest a"), page))
        })?;

        // Pause, and what a paused machine refuses.
        expect(&proxy, "PUT", &of_instance("pause"), "", 200)?;
        cluster.wait_condition("vmi/a", "Paused", "True", SHORT)?;
        refused(
            &proxy,
            "PUT",
            &of_instance("pause"),
            "",
            409,
            "VMI is already paused",
        )?;
        refused(
            &proxy,
            "GET",
            &of_instance("portforward/80"),
            "",
            409,
            "VMI is paused",
        )?;
        expect(&proxy, "PUT", &of_instance("unpause"), "", 200)?;
        wait_for("the machine goes on", SHORT, || {
            let conditions = cluster.get("vmi/a")?["status"]["conditions"].clone();
            let paused = conditions
                .as_array()
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Paused" && c["status"] == "True");
            Ok(Seen::when(!paused, conditions.to_string()))
        })?;

        // An eviction is allowed and said; the next instance runs by itself.
        let uid = cluster.get("vmi/a")?["metadata"]["uid"].clone();
        evict(cluster, &proxy, "a", 201)?;
        another_runs(cluster, "a", &uid)?;
        let events = cluster.kubectl(["get", "events", "-o", "jsonpath={.items[*].message}"])?;
        ensure!(events.contains("the pod is evicted"), "{events}");

        // What users may not write.
        let patch = r#"{"spec": {"terminationGracePeriodSeconds": 7}}"#;
        let words = cluster.refused(["patch", "vmi/a", "--type=merge", "-p", patch])?;
        ensure!(
            words.contains("update of VMI object is restricted"),
            "{words}"
        );
        let patch = r#"{"status": {"phase": "Succeeded"}}"#;
        cluster.refused(["patch", "vmi/a", "--type=merge", "-p", patch])?;

        // Start, restart, stop.
        refused(
            &proxy,
            "PUT",
            &of_machine(cluster, "a", "start"),
            "",
            409,
            "VM is already running",
        )?;
        let uid = cluster.get("vmi/a")?["metadata"]["uid"].clone();
        expect(
            &proxy,
            "PUT",
            &of_machine(cluster, "a", "restart"),
            r#"{"gracePeriodSeconds": 0}"#,
            202,
        )?;
        another_runs(cluster, "a", &uid)?;
        expect(
            &proxy,
            "PUT",
            &of_machine(cluster, "a", "stop"),
            r#"{"gracePeriod": 0}"#,
            202,
        )?;
        cluster.wait_gone("vmi/a", SHORT)?;
        cluster.wait_field("vm/a", "/status/printableStatus", "Stopped", SHORT)?;
        ensure!(cluster.get("vm/a")?["spec"]["runStrategy"] == "Halted");
        refused(
            &proxy,
            "PUT",
            &of_machine(cluster, "a", "restart"),
            "",
            409,
            "does not support manual restart",
        )
    })
}
