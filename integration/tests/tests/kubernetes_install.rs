//! Installation, upgrade and removal, without Helm and with it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::install::Product;
use catamaran_tests::cluster::{self, Cluster, SYSTEM, machine};
use catamaran_tests::command::{output, stdout};
use catamaran_tests::programs::root;
use catamaran_tests::{BOOT, SHORT, metrics, wait::Seen, wait_for};
use serde_json::{Value, json};

/// Longest that a Job of the installation takes: machines and pods end, definitions go.
const JOB: Duration = Duration::from_secs(240);
/// Longest until a new webhook is trusted: the leader looks by itself once a minute, and is to look at once.
const TRUST: Duration = Duration::from_secs(20);
/// Everything of an installation has this label.
const OURS: &str = "app.kubernetes.io/part-of=catamaran";
/// Kinds of an installation outside its namespace.
const CLUSTER_WIDE: &str = "crd,apiservice,validatingwebhookconfiguration,mutatingwebhookconfiguration,validatingadmissionpolicy,\
    validatingadmissionpolicybinding,clusterrole,clusterrolebinding";

/// `kubectl` in the namespace of the product.
fn system(cluster: &Cluster, words: &[&str]) -> Result<String> {
    cluster.kubectl(["--namespace", SYSTEM].iter().chain(words))
}

/// Whether a Job has succeeded, once it has ended, and what it said.
fn job(cluster: &Cluster, name: &str) -> Result<(bool, String)> {
    let selector = format!("app.kubernetes.io/name={name}");
    let succeeded = wait_for(&format!("job {name} has ended"), JOB, || {
        let job = system(cluster, &["get", "job", name, "-o", "json"])?;
        let job: Value = serde_json::from_str(&job)?;
        let conditions = job["status"]["conditions"].as_array();
        let ended = conditions.into_iter().flatten().find_map(|condition| {
            let holds = condition["status"] == "True";
            match condition["type"].as_str() {
                Some("Complete") if holds => Some(true),
                Some("Failed") if holds => Some(false),
                _ => None,
            }
        });
        Ok(ended.map_or_else(|| Seen::NotYet(job["status"].to_string()), Seen::Yes))
    })?;
    let said = system(cluster, &["logs", "--selector", &selector, "--tail=-1"])?;
    Ok((succeeded, said))
}

/// Runs a Job of `controller/deploy` anew.
fn run_job(cluster: &Cluster, name: &str, manifest: &str) -> Result<(bool, String)> {
    let job_name = format!("job/{name}");
    // A namespace that has just been made is the Job's own.
    let _ = system(cluster, &["delete", &job_name, "--ignore-not-found"]);
    cluster.apply_system(manifest)?;
    job(cluster, name)
}

/// Removes the product without Helm.
fn uninstall(cluster: &Cluster, product: &Product, manifest: &str) -> Result<()> {
    let (succeeded, said) = run_job(cluster, "catamaran-uninstall", manifest)?;
    ensure!(succeeded, "{said}");
    for file in ["install.yaml", "uninstall.yaml"] {
        delete(cluster, &product.manifest(file)?)?;
    }
    Ok(())
}

/// Deletes what a manifest names and waits until it is gone.
fn delete(cluster: &Cluster, manifest: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifest)?;
    let path = file.path().display().to_string();
    // In the namespaces that the manifest names.
    let words = ["kubectl", "delete", "--ignore-not-found", "--timeout=120s"];
    stdout(cluster.command(words).args(["-f", &path])).map(drop)
}

/// What an installation has left behind.
fn leftovers(cluster: &Cluster) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut lines = |text: String| found.extend(text.lines().map(str::to_owned));
    lines(cluster.kubectl(["get", CLUSTER_WIDE, "-l", OURS, "-o", "name"])?);
    lines(cluster.kubectl(["get", "role,rolebinding", "-A", "-l", OURS, "-o", "name"])?);
    for name in [
        format!("namespace/{SYSTEM}"),
        "crd/virtualmachines.kubevirt.io".to_owned(),
    ] {
        lines(cluster.kubectl(["get", &name, "--ignore-not-found", "-o", "name"])?);
    }
    let signer = "spec.signerName=catamaran.dev/node-serving";
    lines(cluster.kubectl(["get", "csr", "--field-selector", signer, "-o", "name"])?);
    let nodes: Value = serde_json::from_str(&cluster.kubectl(["get", "node", "-o", "json"])?)?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let metadata = &node["metadata"];
        for marks in [&metadata["labels"], &metadata["annotations"]] {
            let keys = marks.as_object().into_iter().flatten().map(|(key, _)| key);
            let ours =
                keys.filter(|key| key.contains("kubevirt.io/") || key.contains("catamaran.dev/"));
            found.extend(ours.map(|key| format!("{}: {key}", metadata["name"])));
        }
    }
    for node in 1..=cluster.nodes() {
        let sockets = "ls /var/lib/kubelet/device-plugins | grep catamaran || true";
        let listed = cluster.on_node(node, &["sh", "-c", sockets])?;
        found.extend(listed.lines().map(|socket| format!("node{node}: {socket}")));
    }
    Ok(found)
}

fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    wait_for("nothing is left of the installation", SHORT, || {
        let left = leftovers(cluster)?;
        Ok(Seen::when(left.is_empty(), left.join("\n")))
    })
}

/// The definition and the API service of a KubeVirt that is not there.
fn peer() -> [Value; 2] {
    let version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "virtualmachines.kubevirt.io",
            "labels": {"app.kubernetes.io/managed-by": "virt-operator", "kubevirt.io": ""},
        },
        "spec": {
            "group": "kubevirt.io", "scope": "Namespaced", "versions": [version],
            "names": {"kind": "VirtualMachine", "plural": "virtualmachines", "singular": "virtualmachine", "shortNames": ["vm"]},
        },
    });
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.subresources.kubevirt.io"},
        "spec": {
            "group": "subresources.kubevirt.io", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "insecureSkipTLSVerify": true, "service": {"namespace": "kubevirt", "name": "virt-api"},
        },
    });
    [definition, service]
}

fn remove_peer(cluster: &Cluster) -> Result<()> {
    let [definition, service] = peer();
    delete(cluster, &format!("{definition}\n---\n{service}"))
}

#[test]
fn a_guest_does_not_notice_an_upgrade() -> Result<()> {
    cluster::run(1, |cluster| {
        let product = cluster.product()?;
        upgrade(cluster, &cluster.earlier(&product)?, &product)
    })
}

#[test]
#[ignore = "builds the programs of an earlier commit: `cargo xtask test --long a_guest_does_not_notice`"]
fn a_guest_does_not_notice_an_upgrade_from_an_earlier_commit() -> Result<()> {
    cluster::run(1, |cluster| {
        let tree = std::env::var_os("CATAMARAN_EARLIER");
        let tree = PathBuf::from(
            tree.context("CATAMARAN_EARLIER: a work tree with programs in target/debug")?,
        );
        let earlier = cluster.product_of(&tree, &tree.join("target/debug"))?;
        let product = cluster.product()?;
        upgrade(cluster, &earlier, &product)?;
        // What the earlier one has written down is understood: the next run is in its own launcher.
        cluster.run_again("steady")?;
        let pod = cluster.launcher_pod("steady")?;
        let image = &pod["spec"]["containers"][0]["image"];
        ensure!(*image == product.node, "{image}");
        cluster.boot_id("steady").map(drop)
    })
}

/// Upgrades the product under a guest that runs.
fn upgrade(cluster: &Cluster, earlier: &Product, product: &Product) -> Result<()> {
    ensure!(earlier.node != product.node && earlier.controller != product.controller);
    cluster.install(earlier)?;
    cluster.apply(&[&machine("steady")])?;
    let before = cluster.wait_field("vmi/steady", "/status/phase", "Running", BOOT)?;
    let pod = cluster.launcher_pod("steady")?;
    let (proxy, mut guest) = cluster.shell("steady")?;
    let boot = guest.shell("cat /proc/sys/kernel/random/boot_id")?;
    guest.shell("(n=0; while :; do n=$((n+1)); echo tick $n. > /dev/ttyS0; sleep 1; done) & :")?;
    guest.wait_for("tick 3.", SHORT)?;
    drop((guest, proxy));

    cluster.install(product)?;
    available(cluster)?;
    let daemon = system(
        cluster,
        &[
            "get",
            "pod",
            "-l",
            "app.kubernetes.io/name=catamaran-node",
            "-o",
            "jsonpath={.items[*].spec.containers[*].image}",
        ],
    )?;
    ensure!(
        daemon.split(' ').all(|image| image == product.node),
        "{daemon}"
    );

    let (_proxy, mut guest) = cluster.shell("steady")?;
    let from = guest.text().len();
    let counted: u32 = wait_for("the guest counts on", SHORT, || {
        let text = guest.text();
        let news = text.get(from..).unwrap_or_default();
        let mut ticks = news.rsplit("tick ");
        let last = ticks.find_map(|tick| tick.split_once('.')?.0.parse().ok());
        Ok(last.map_or_else(|| Seen::NotYet(news.to_owned()), Seen::Yes))
    })?;
    ensure!(counted > 5, "{counted}");
    // The counter would speak between the next lines.
    guest.shell("kill $!; sleep 2")?;
    ensure!(
        guest.shell("cat /proc/sys/kernel/random/boot_id")? == boot,
        "the guest was booted again"
    );
    let after = cluster.get("vmi/steady")?;
    ensure!(after["metadata"]["uid"] == before["metadata"]["uid"]);
    let now = cluster.launcher_pod("steady")?;
    ensure!(now["metadata"]["uid"] == pod["metadata"]["uid"]);
    ensure!(now["status"]["containerStatuses"][0]["restartCount"] == 0);
    // Its own program is still the earlier one: only a restart would change that.
    let image = &now["spec"]["containers"][0]["image"];
    ensure!(*image == earlier.node, "{image}");
    Ok(())
}

/// Waits until the installation's object says that all of it runs, in the version that is wanted.
fn available(cluster: &Cluster) -> Result<Value> {
    wait_for("the installation is available", SHORT, || {
        let object = system(cluster, &["get", "kubevirt/catamaran", "-o", "json"])?;
        let object: Value = serde_json::from_str(&object)?;
        let status = &object["status"];
        let conditions = status["conditions"].as_array();
        let available = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Available" && condition["status"] == "True");
        let observed = status["observedGeneration"] == object["metadata"]["generation"]
            && status["observedDeploymentID"] == status["targetDeploymentID"];
        if available && observed && status["phase"] == "Deployed" {
            Ok(Seen::Yes(object))
        } else {
            Ok(Seen::NotYet(status.to_string()))
        }
    })
}

/// Waits until the API server knows whom to trust at all of the webhooks.
fn trusted(cluster: &Cluster) -> Result<()> {
    let kinds = "validatingwebhookconfiguration/catamaran mutatingwebhookconfiguration/catamaran";
    wait_for("the webhooks are trusted", TRUST, || {
        let mut open = Vec::new();
        for object in kinds.split(' ') {
            let object = cluster.get(object)?;
            let hooks = object["webhooks"].as_array().cloned().unwrap_or_default();
            ensure!(!hooks.is_empty(), "{object} has no webhooks");
            let unknown = |hook: &Value| hook["clientConfig"]["caBundle"].is_null();
            open.extend(hooks.into_iter().filter(unknown));
        }
        Ok(Seen::when(open.is_empty(), format!("{open:?}")))
    })
}

#[test]
fn webhooks_that_are_made_after_the_controller_are_trusted_at_once() -> Result<()> {
    cluster::run(1, |cluster| {
        available(cluster)?;
        for kind in [
            "validatingwebhookconfiguration",
            "mutatingwebhookconfiguration",
        ] {
            cluster.kubectl(["delete", kind, "catamaran"])?;
        }
        cluster.install(&cluster.product()?)?;
        trusted(cluster)
    })
}

#[test]
fn the_installation_says_when_a_daemon_is_not_there() -> Result<()> {
    cluster::run(1, |cluster| {
        available(cluster)?;
        let daemons = "daemonset/catamaran-node";
        let broken = r#"{"spec":{"template":{"spec":{"containers":[{"name":"node","command":["/usr/bin/false"]}]}}}}"#;
        system(cluster, &["patch", daemons, "--patch", broken])?;
        let told = wait_for("the installation is not available", SHORT, || {
            let object = system(cluster, &["get", "kubevirt/catamaran", "-o", "json"])?;
            let object: Value = serde_json::from_str(&object)?;
            let conditions = object["status"]["conditions"].to_string();
            Ok(
                // How many depends on how many nodes are up; one is not.
                if conditions.contains("DaemonSet catamaran-node: ") {
                    Seen::Yes(object)
                } else {
                    Seen::NotYet(conditions)
                },
            )
        });
        cluster.install(&cluster.product()?)?;
        told?;
        available(cluster).map(drop)
    })
}

#[test]
fn everything_goes_with_an_installation_and_no_machine_by_accident() -> Result<()> {
    cluster::run(1, |cluster| {
        let product = cluster.product()?;
        let manifest = product.manifest("uninstall.yaml")?;
        cluster.apply(&[&machine("dear")])?;
        cluster.wait_field("vmi/dear", "/status/phase", "Running", BOOT)?;

        let (succeeded, said) = run_job(cluster, "catamaran-uninstall", &manifest)?;
        let name = format!("{}/dear", cluster.namespace());
        ensure!(
            !succeeded && said.contains(&name) && said.contains("--delete-vms"),
            "{said}"
        );
        ensure!(cluster.get("vmi/dear")?["status"]["phase"] == "Running");

        let all = manifest.replace("--delete-vms=false", "--delete-vms=true");
        ensure!(all != manifest);
        uninstall(cluster, &product, &all)?;
        nothing_is_left(cluster)?;
        let pods = cluster.list("pod", "kubevirt.io=virt-launcher")?;
        ensure!(pods.is_empty(), "{} pods of machines are left", pods.len());
        // And it can be installed again.
        cluster.install(&product)?;
        available(cluster).map(drop)
    })
}

#[test]
fn beside_a_kubevirt_nothing_is_installed_and_nothing_reconciles() -> Result<()> {
    cluster::run(1, |cluster| {
        let product = cluster.product()?;
        let preflight = product.manifest("preflight.yaml")?;
        uninstall(cluster, &product, &product.manifest("uninstall.yaml")?)?;
        let (succeeded, said) = run_job(cluster, "catamaran-preflight", &preflight)?;
        ensure!(succeeded, "{said}");

        let [definition, service] = peer();
        cluster.apply_system(&format!("{definition}\n---\n{service}"))?;
        let refused = run_job(cluster, "catamaran-preflight", &preflight).and_then(|(succeeded, said)| {
            ensure!(!succeeded, "{said}");
            for words in [
                "CustomResourceDefinition virtualmachines.kubevirt.io is managed by virt-operator",
                "APIService v1.subresources.kubevirt.io is served by kubevirt/virt-api",
            ] {
                ensure!(said.contains(words), "{said} lacks {words}");
            }
            idle(cluster, &product)
        });
        remove_peer(cluster)?;
        refused?;
        // Now it is alone.
        cluster.install(&product)?;
        available(cluster)?;
        delete(cluster, &preflight_job(&preflight))
    })
}

/// The preflight without the namespace that it shares with the product.
fn preflight_job(manifest: &str) -> String {
    let documents: Vec<&str> = manifest.split("\n---\n").skip(1).collect();
    documents.join("\n---\n")
}

/// A controller beside a KubeVirt says so, takes no lease, and leaves the peer's objects alone.
fn idle(cluster: &Cluster, product: &Product) -> Result<()> {
    let install = product.manifest("install.yaml")?;
    let ours = |document: &&str| {
        !document.contains("kind: CustomResourceDefinition\n")
            && !document.contains("kind: APIService\n")
    };
    let documents: Vec<&str> = install.split("\n---\n").filter(ours).collect();
    cluster.apply_system(&documents.join("\n---\n"))?;
    wait_for("the controller refuses", SHORT, || {
        let said = system(cluster, &["logs", "deployment/catamaran-controller"])?;
        Ok(Seen::when(
            said.contains("is managed by virt-operator")
                && said.contains("nothing is reconciled until then"),
            said,
        ))
    })?;
    let lease = system(
        cluster,
        &[
            "get",
            "lease/catamaran-controller",
            "--ignore-not-found",
            "-o",
            "name",
        ],
    )?;
    ensure!(lease.is_empty(), "{lease} was taken");
    let service = cluster.get("apiservice/v1.subresources.kubevirt.io")?;
    ensure!(service["spec"]["caBundle"].is_null(), "{service}");
    Ok(())
}

#[test]
fn every_metric_that_a_rule_or_a_dashboard_asks_for_is_in_a_scrape() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("counted")])?;
        cluster.wait_field("vmi/counted", "/status/phase", "Running", BOOT)?;
        wait_for("all metrics are exported", BOOT, || {
            let found = scrape(cluster)?;
            let asked = metrics::asked()?;
            let absent: Vec<&String> = asked.iter().filter(|name| !found.contains(*name)).collect();
            Ok(Seen::when(absent.is_empty(), format!("absent: {absent:?}")))
        })
    })
}

/// Names of all metrics that pods of the product export.
fn scrape(cluster: &Cluster) -> Result<Vec<String>> {
    let pods = system(
        cluster,
        &[
            "get",
            "pod",
            "-l",
            "prometheus.kubevirt.io=true",
            "-o",
            "json",
        ],
    )?;
    let pods: Value = serde_json::from_str(&pods)?;
    let mut names = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let address = pod["status"]["podIP"].as_str().context("no address")?;
        let port = pod["metadata"]["annotations"]["prometheus.io/port"].as_str();
        let url = format!("http://{address}:{}/metrics", port.context("no port")?);
        let page = stdout(&mut cluster.command(["exec", "curl", "-sSf", &url]))?;
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        names.extend(samples.flat_map(metrics::names));
    }
    Ok(names)
}

/// `helm`, which is built when it is first asked for. That takes minutes, and so these tests run with `--long` only.
fn helm(cluster: &Cluster, words: &[&str]) -> Result<String> {
    stdout(&mut cluster.command(["helm"].iter().chain(words)))
}

/// The chart's folder.
fn chart() -> String {
    root().join("controller/deploy/chart").display().to_string()
}

/// Objects of a manifest by kind, namespace and name, without what is said to Helm alone.
fn objects(manifest: &str) -> Result<Vec<(String, Value)>> {
    use serde::Deserialize as _;
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifest) {
        let mut object = Value::deserialize(document)?;
        if object.is_null() || object["metadata"]["annotations"]["helm.sh/hook"].is_string() {
            continue;
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            let annotations = metadata
                .get_mut("annotations")
                .and_then(Value::as_object_mut);
            let none = annotations.is_some_and(|annotations| {
                annotations.remove("helm.sh/resource-policy");
                annotations.is_empty()
            });
            if none {
                metadata.remove("annotations");
            }
        }
        let (kind, metadata) = (&object["kind"], &object["metadata"]);
        objects.push((
            format!("{kind} {} {}", metadata["namespace"], metadata["name"]),
            object,
        ));
    }
    objects.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(objects)
}

#[test]
#[ignore = "builds Helm, which takes minutes"]
fn helm_renders_the_objects_of_install_yaml() -> Result<()> {
    cluster::run(1, |cluster| {
        let chart = chart();
        helm(cluster, &["lint", "--strict", &chart])?;
        let rendered = objects(&helm(
            cluster,
            &["template", "catamaran", &chart, "--namespace", SYSTEM],
        )?)?;
        let install = std::fs::read_to_string(root().join("controller/deploy/install.yaml"))?;
        let mut wanted = objects(&install)?;
        wanted.retain(|(_, object)| object["kind"] != "Namespace");
        let names = |objects: &[(String, Value)]| {
            objects
                .iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        ensure!(
            names(&rendered) == names(&wanted),
            "{:?}\n{:?}",
            names(&rendered),
            names(&wanted)
        );
        for ((name, ours), (_, theirs)) in rendered.iter().zip(&wanted) {
            ensure!(ours == theirs, "{name}:\n{ours}\n{theirs}");
        }
        let alerts = helm(
            cluster,
            &[
                "template",
                "catamaran",
                &chart,
                "--set",
                "alerts.enabled=true",
            ],
        )?;
        ensure!(
            alerts.contains("kind: PrometheusRule") && alerts.contains("alert: VirtControllerDown")
        );
        Ok(())
    })
}

#[test]
#[ignore = "builds Helm, which takes minutes"]
fn helm_installs_refuses_and_removes() -> Result<()> {
    cluster::run(1, |cluster| {
        let product = cluster.product()?;
        uninstall(cluster, &product, &product.manifest("uninstall.yaml")?)?;
        let (chart, controller, node) = (
            chart(),
            format!("image.controller={}", product.controller),
            format!("image.node={}", product.node),
        );
        let words = [
            "install",
            "catamaran",
            &chart,
            "--namespace",
            SYSTEM,
            "--create-namespace",
            "--set",
            &controller,
            "--set",
            &node,
            "--wait",
            "--timeout",
            "170s",
        ];

        let [definition, service] = peer();
        cluster.apply_system(&format!("{definition}\n---\n{service}"))?;
        let refused = output(&mut cluster.command(["helm"].iter().chain(&words)))?;
        let left = leftovers(cluster)?;
        remove_peer(cluster)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(
            !refused.status.success()
                && said.contains("KubeVirt, or another Catamaran, is in this cluster"),
            "{said}"
        );
        let (namespace, definition) = (
            format!("namespace/{SYSTEM}"),
            "customresourcedefinition.apiextensions.k8s.io/virtualmachines.kubevirt.io",
        );
        ensure!(
            left.iter()
                .all(|left| *left == namespace || left == definition),
            "the refused installation has left {left:?}"
        );

        helm(cluster, &words)?;
        cluster.settle()?;
        available(cluster)?;
        cluster.apply(&[&machine("aboard")])?;
        cluster.wait_field("vmi/aboard", "/status/phase", "Running", BOOT)?;

        let remove = [
            "uninstall",
            "catamaran",
            "--namespace",
            SYSTEM,
            "--wait",
            "--timeout",
            "170s",
        ];
        let refused = output(&mut cluster.command(["helm"].iter().chain(&remove)))?;
        ensure!(!refused.status.success());
        let (_, said) = job(cluster, "catamaran-uninstall")?;
        ensure!(said.contains("aboard"), "{said}");
        ensure!(cluster.get("vmi/aboard")?["status"]["phase"] == "Running");

        cluster.kubectl(["delete", "vm/aboard"])?;
        helm(cluster, &remove)?;
        cluster.kubectl(["delete", "namespace", SYSTEM])?;
        nothing_is_left(cluster)
    })
}
