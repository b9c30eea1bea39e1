//! A server as a `BareMetalHost` of a cluster: from the manifest to available, off and on, and gone. Its BMC is the mock, which listens where
//! the cluster's pods reach it.

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use serde_json::{Value, json};

/// Where a host says how far it is.
const PHASE: &str = "/status/provisioning/state";

/// Whether an account of the test's namespace may do that with hosts.
fn may(cluster: &Cluster, verb: &str) -> bool {
    let account = format!("--as=system:serviceaccount:{}:default", cluster.namespace());
    let question = ["auth", "can-i", verb, "baremetalhosts.metal3.io", &account];
    cluster.kubectl(question).is_ok()
}

#[test]
fn who_administers_a_namespace_sees_its_servers_and_may_not_switch_them() -> Result<()> {
    cluster::run(1, |cluster| {
        ensure!(!may(cluster, "list"), "without any role");
        let account = format!("--serviceaccount={}:default", cluster.namespace());
        let bind = |role: &str| {
            let clusterrole = format!("--clusterrole={role}");
            let name = role.replace(':', "-");
            cluster.kubectl(["create", "rolebinding", &name, &clusterrole, &account])
        };
        bind("admin")?;
        wait_for("the right to see hosts", SHORT, || {
            Ok(Seen::when(may(cluster, "list"), "it may not list them"))
        })?;
        ensure!(!may(cluster, "patch"), "admin may switch servers");
        bind("metal3.io:admin")?;
        wait_for("the right to switch hosts", SHORT, || {
            Ok(Seen::when(may(cluster, "patch"), "it may not patch them"))
        })
    })
}

#[test]
fn fields_that_nothing_comes_of_are_warned_about() -> Result<()> {
    cluster::run(1, |cluster| {
        let file = tempfile::NamedTempFile::new()?;
        let host = json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": "odd"},
            "spec": {
                "online": false, "architecture": "x86_64", "hardwareProfile": "dell",
                "taints": [{"key": "a", "effect": "NoSchedule"}], "firmware": {"sriovEnabled": true},
                "image": {"url": "http://192.0.2.1/a.raw", "checksum": "0".repeat(32)},
            },
        });
        std::fs::write(file.path(), host.to_string())?;
        let path = file.path().display().to_string();
        let mut command = cluster.kubectl_command(["create", "--dry-run=server", "-f", &path]);
        let said = command.output()?;
        ensure!(said.status.success(), "{said:?}");
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        for field in [
            "architecture",
            "hardwareProfile",
            "taints",
            "firmware",
            "image.checksum",
        ] {
            let warned = said
                .lines()
                .any(|line| line.starts_with("Warning") && line.contains(&format!("spec.{field}")));
            ensure!(warned, "nothing about {field}: {said}");
        }
        Ok(())
    })
}

#[test]
fn a_server_is_enrolled_turned_off_and_on_and_deleted() -> Result<()> {
    cluster::run(1, |cluster| {
        let bmc = cluster.bmc()?;
        cluster.enrol("server", &bmc, json!({"online": true}))?;
        let host = "bmh/server";
        cluster.wait_field(host, PHASE, "available", BOOT)?;
        let power = |online: bool| {
            patch(cluster, host, &json!({"spec": {"online": online}}))?;
            wait_for("the server's power changes", BOOT, || {
                let object = cluster.get(host)?;
                let said = object["status"]["poweredOn"] == online;
                Ok(Seen::when(
                    said && bmc.is_on() == online,
                    object["status"].to_string(),
                ))
            })
        };
        power(true)?;
        power(false)?;
        power(true)?;
        let secret = cluster.get("secret/bmc")?;
        let meta = &secret["metadata"];
        ensure!(
            meta["labels"]["environment.metal3.io"] == "baremetal",
            "{meta}"
        );
        ensure!(
            meta["ownerReferences"][0]["kind"] == "BareMetalHost",
            "{meta}"
        );
        let data = cluster.get("hardwaredata/server")?;
        let nics = data["spec"]["hardware"]["nics"].as_array();
        ensure!(nics.context("no nics")?.len() == 2, "{data}");
        delete(cluster, host)?;
        ensure!(!bmc.is_on(), "a deleted server is left on");
        wait_for("its session ends", SHORT, || {
            Ok(Seen::when(bmc.open_sessions() == 0, "a session is open"))
        })
    })
}

#[test]
fn firmware_settings_are_shown_changed_and_refused() -> Result<()> {
    cluster::run(1, |cluster| {
        let (bmc, host, settings) = (cluster.bmc()?, "bmh/server", "hfs/server");
        cluster.enrol("server", &bmc, json!({"online": false}))?;
        cluster.wait_field(host, PHASE, "available", BOOT)?;
        let shown = "/status/settings/ProcVirtualization";
        let object = cluster.wait_field(settings, shown, "Enabled", SHORT)?;
        let owner = &object["metadata"]["ownerReferences"][0];
        ensure!(owner["kind"] == "BareMetalHost", "{object}");
        let schema = object["status"]["schema"]["name"].as_str();
        let schema = format!("firmwareschema/{}", schema.context("no schema")?);
        let described = cluster.get(&schema)?;
        let allowed = &described["spec"]["schema"]["ProcVirtualization"]["allowable_values"];
        ensure!(*allowed == json!(["Enabled", "Disabled"]), "{described}");

        let ask = |name: &str, value: Value| {
            let wanted = json!({"spec": {"settings": {name: value}}});
            patch(cluster, settings, &wanted)
        };
        ask("ProcVirtualization", json!("Disabled"))?;
        ask("NumCores", json!(8))?;
        cluster.wait_field(settings, "/status/settings/NumCores", "8", BOOT)?;
        cluster.wait_field(settings, shown, "Disabled", BOOT)?;
        cluster.wait_field(host, PHASE, "available", BOOT)?;
        wait_for("the server is off again", BOOT, || {
            Ok(Seen::when(!bmc.is_on(), "it is on"))
        })?;

        let starts = bmc.boots().len();
        ask("NumCores", json!(65))?;
        wait_for("the setting is refused", SHORT, || {
            let object = cluster.get(settings)?;
            let conditions = object["status"]["conditions"].as_array();
            let refused = conditions.into_iter().flatten().any(|one| {
                one["type"] == "Valid"
                    && one["reason"] == "ConfigurationError"
                    && one["message"]
                        .as_str()
                        .is_some_and(|text| text.contains("0 to 64"))
            });
            Ok(Seen::when(refused, object["status"].to_string()))
        })?;
        ensure!(bmc.boots().len() == starts, "it was started for nothing");
        delete(cluster, host)?;
        cluster.wait_gone(settings, BOOT)?;
        cluster.wait_gone(&schema, BOOT)
    })
}

/// Enrols a server that somebody else has provisioned, and waits until it is on.
fn in_use(cluster: &Cluster, bmc: &cluster::bmcs::Bmc) -> Result<()> {
    let spec = json!({"online": true, "externallyProvisioned": true});
    cluster.enrol("server", bmc, spec)?;
    cluster.wait_field("bmh/server", PHASE, "externally provisioned", BOOT)?;
    wait_for("the server is on", BOOT, || {
        Ok(Seen::when(bmc.is_on(), "it is off"))
    })
}

#[test]
fn a_cd_is_shown_to_a_server_at_its_next_reboot() -> Result<()> {
    cluster::run(1, |cluster| {
        let (bmc, host, data) = (cluster.bmc()?, "bmh/server", "dataimage/server");
        in_use(cluster, &bmc)?;
        let url = "http://192.0.2.1/data.iso";
        cluster.apply(&[&json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "DataImage", "metadata": {"name": "server"}, "spec": {"url": url},
        })])?;
        cluster.wait_field(data, "/metadata/finalizers/0", "dataimage.metal3.io", SHORT)?;
        ensure!(bmc.media().is_empty(), "{:?}", bmc.media());
        let reboot = || {
            let annotation = "reboot.metal3.io={\"mode\":\"hard\"}";
            cluster.kubectl(["annotate", host, annotation]).map(drop)
        };
        reboot()?;
        cluster.wait_field(data, "/status/attachedImage/url", url, BOOT)?;
        ensure!(bmc.media() == [url], "{:?}", bmc.media());
        cluster.kubectl(["delete", data, "--wait=false"])?;
        wait_for("the server is on again", BOOT, || {
            Ok(Seen::when(bmc.is_on(), "it is off"))
        })?;
        ensure!(bmc.media() == [url], "{:?}", bmc.media());
        reboot()?;
        cluster.wait_gone(data, BOOT)?;
        ensure!(bmc.media().is_empty(), "{:?}", bmc.media());

        // One without a host is nobody's business.
        cluster.apply(&[&json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "DataImage",
            "metadata": {"name": "nobody", "finalizers": ["dataimage.metal3.io"]}, "spec": {"url": url},
        })])?;
        cluster.kubectl(["delete", "dataimage/nobody", "--wait=false"])?;
        cluster.wait_gone("dataimage/nobody", SHORT)?;
        delete(cluster, host)
    })
}

/// What kubectl reads as an account of the test's namespace.
fn read(cluster: &Cluster, path: &str) -> Result<Value> {
    let account = format!("--as=system:serviceaccount:{}:default", cluster.namespace());
    let base = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/{}/baremetalhosts/server",
        cluster.namespace()
    );
    let said = cluster.kubectl(["get", "--raw", &format!("{base}/{path}"), &account])?;
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn sensors_and_the_event_log_are_read_by_who_may_see_a_server_and_it_boots_once_from_elsewhere()
-> Result<()> {
    cluster::run(1, |cluster| {
        let (bmc, host) = (cluster.bmc()?, "bmh/server");
        in_use(cluster, &bmc)?;
        ensure!(read(cluster, "sensors").is_err(), "without any role");
        let account = format!("--serviceaccount={}:default", cluster.namespace());
        cluster.kubectl([
            "create",
            "rolebinding",
            "view",
            "--clusterrole=view",
            &account,
        ])?;
        let sensors = wait_for("the right to read sensors", SHORT, || {
            Ok(match read(cluster, "sensors") {
                Ok(sensors) => Seen::Yes(sensors),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            })
        })?;
        let inlet = &sensors["sensors"][0];
        ensure!(
            inlet["name"] == "Inlet Temp" && inlet["unit"] == "°C",
            "{sensors}"
        );
        ensure!(
            inlet["reading"] == 24.0 && inlet["health"] == "OK",
            "{sensors}"
        );
        bmc.log(
            "2026-04-01T00:00:00Z",
            "Critical",
            "The chassis was opened.",
        );
        let events = read(cluster, "events?limit=2")?;
        ensure!(events["log"] == "Sel" && events["total"] == 5, "{events}");
        let messages: Vec<&str> = events["entries"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["message"].as_str())
            .collect();
        ensure!(
            messages.first() == Some(&"The chassis was opened.") && messages.len() == 2,
            "{events}"
        );
        // Readers are many, sessions few: at most one of the leader and one of each other replica.
        for _ in 0..5 {
            read(cluster, "sensors")?;
        }
        ensure!(bmc.open_sessions() <= 3, "{} sessions", bmc.open_sessions());
        ensure!(bmc.most_in_flight() <= 3, "{}", bmc.most_in_flight());

        let once = "catamaran.dev/boot-once=pxe";
        let reboot = "reboot.metal3.io={\"mode\":\"hard\"}";
        cluster.kubectl(["annotate", host, once, reboot])?;
        wait_for("it was started from the network", BOOT, || {
            let boots = bmc.boots();
            let last = boots.last().map(|boot| boot.device.clone());
            Ok(Seen::when(
                last.as_deref() == Some("Pxe"),
                format!("it booted from {last:?}"),
            ))
        })?;
        delete(cluster, host)
    })
}

#[test]
fn a_deploy_agents_image_that_is_asked_for_is_answered() -> Result<()> {
    cluster::run(1, |cluster| {
        let (bmc, image) = (cluster.bmc()?, "ppimg/server");
        cluster.enrol("server", &bmc, json!({"online": false}))?;
        cluster.apply(&[&json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "PreprovisioningImage", "metadata": {"name": "server"},
            "spec": {"acceptFormats": ["initrd"], "architecture": "x86_64"},
        })])?;
        let object = cluster.wait_condition(image, "Error", "True", BOOT)?;
        ensure!(
            object["status"]
                .to_string()
                .contains("spec.acceptFormats: 'initrd'"),
            "{object}"
        );
        cluster.wait_condition(image, "Ready", "False", SHORT)?;
        delete(cluster, "bmh/server")
    })
}

/// While its BMC is there: one that is not holds a host up.
fn delete(cluster: &Cluster, host: &str) -> Result<()> {
    cluster.kubectl(["delete", host, "--wait=false"])?;
    cluster.wait_gone(host, BOOT)
}

/// A change of a host, as another controller makes it.
fn patch(cluster: &Cluster, host: &str, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    cluster
        .kubectl(["patch", host, "--type=merge", "-p", &patch])
        .map(drop)
}

/// What Metal3's cluster-API provider does with a host: takes it for a machine, reboots and remediates it, gives it back.
#[test]
fn a_peers_controller_takes_a_server_and_gives_it_back() -> Result<()> {
    cluster::run(1, |cluster| {
        let (bmc, host) = (cluster.bmc()?, "bmh/spare");
        cluster.enrol("spare", &bmc, json!({"online": false}))?;
        let state = |wanted: &str| cluster.wait_field(host, PHASE, wanted, BOOT);
        let powered = |on: bool| {
            wait_for(&format!("powered on: {on}"), BOOT, || {
                let status = cluster.get(host)?["status"].clone();
                let seen = status["poweredOn"] == on && bmc.is_on() == on;
                Ok(Seen::when(seen, status.to_string()))
            })
        };

        let free = state("available")?;
        ensure!(free["spec"]["consumerRef"].is_null());
        ensure!(free["status"]["operationalStatus"] == "OK", "{free}");
        ensure!(free["status"]["errorMessage"] == "", "{free}");
        let consumer = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "Metal3Machine",
            "name": "machine-1", "namespace": cluster.namespace(),
        });
        cluster.kubectl([
            "create",
            "secret",
            "generic",
            "seed",
            "--from-literal=userData=x",
        ])?;
        patch(
            cluster,
            host,
            &json!({"spec": {
                "consumerRef": consumer, "online": true, "automatedCleaningMode": "disabled",
                "image": {"url": "http://192.0.2.1/live.iso", "format": "live-iso"},
                "userData": {"name": "seed", "namespace": cluster.namespace()},
            }}),
        )?;
        let taken = state("provisioned")?;
        powered(true)?;
        ensure!(taken["status"]["provisioning"]["image"]["url"] == "http://192.0.2.1/live.iso");

        // A remediation holds it off under a name of its own, and lets go.
        let hold = |value: Value| json!({"metadata": {"annotations": {"reboot.metal3.io/remediation-1": value}}});
        patch(
            cluster,
            host,
            &hold(json!({"mode": "hard"}).to_string().into()),
        )?;
        powered(false)?;
        patch(cluster, host, &hold(Value::Null))?;
        powered(true)?;

        // A reboot is done once, and the annotation goes.
        let boots = bmc.boots().len();
        cluster.kubectl(["annotate", host, "reboot.metal3.io={\"mode\":\"hard\"}"])?;
        wait_for("it is rebooted once", BOOT, || {
            let annotations = cluster.get(host)?["metadata"]["annotations"].clone();
            let done = annotations["reboot.metal3.io"].is_null() && bmc.boots().len() == boots + 1;
            Ok(Seen::when(done, format!("{annotations} {:?}", bmc.boots())))
        })?;
        powered(true)?;

        let nothing =
            json!({"consumerRef": null, "image": null, "userData": null, "online": false});
        patch(cluster, host, &json!({"spec": nothing}))?;
        state("available")?;
        powered(false)?;
        ensure!(bmc.media().is_empty(), "{:?}", bmc.media());
        delete(cluster, host)
    })
}
