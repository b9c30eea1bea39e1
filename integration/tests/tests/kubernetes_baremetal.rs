//! A server as a `BareMetalHost` of a cluster: from the manifest to available, off and on, and gone. Its BMC is the mock, which listens where
//! the cluster's pods reach it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use catamaran_redfish_mock::{Mock, Options, Personality};
use catamaran_tests::cluster::{self, Cluster, SYSTEM};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;
use tokio::runtime::Runtime;

/// Address of the control plane in the cluster's network, where pods reach it.
const HUB: [u8; 4] = [10, 77, 0, 1];

/// A runtime whose threads are in the cluster's network: what its tasks listen on, pods reach.
fn runtime_of(cluster: &Cluster) -> Result<Runtime> {
    let namespace = File::open(cluster.network()).context("the cluster's network namespace")?;
    let inside = thread::spawn(move || {
        let net = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), net)?;
        anyhow::Ok(Runtime::new()?)
    });
    inside.join().map_err(|_| anyhow!("no runtime"))?
}

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
                "image": {"url": "http://192.0.2.1/a.raw", "checksum": "0".repeat(32), "checksumType": "md5"},
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
            "image.checksumType",
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
        let runtime = runtime_of(cluster)?;
        let mut mock = Mock::new();
        let mut options = Options::new("bmc0", 0, Personality::named("dell")?);
        options.listen = (HUB, 0).into();
        // In one of the runtime's own threads.
        let adding =
            runtime.spawn(async move { mock.add(options, None).await.map(|bmc| (mock, bmc)) });
        let (_mock, bmc) = runtime.block_on(adding)??;
        // The controller reads the Secrets of a namespace with hosts only where it was let.
        let account = format!("--serviceaccount={SYSTEM}:catamaran-controller");
        let role = "--clusterrole=catamaran-bmc-credentials";
        cluster.kubectl(["create", "rolebinding", "bmcs", role, &account])?;
        let address = bmc.url().replacen("http", "redfish-virtualmedia+http", 1);
        cluster.apply(&[
            &json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bmc"},
                "stringData": {"username": "admin", "password": "password"},
            }),
            &json!({
                "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": "server"},
                "spec": {"online": true, "bmc": {"address": address, "credentialsName": "bmc"}},
            }),
        ])?;
        let host = "bmh/server";
        cluster.wait_field(host, "/status/provisioning/state", "available", BOOT)?;
        let power = |online: bool| {
            let patch = json!({"spec": {"online": online}}).to_string();
            cluster.kubectl(["patch", host, "--type=merge", "-p", &patch])?;
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
        let data = cluster.get("hardwaredata/server")?;
        let nics = data["spec"]["hardware"]["nics"].as_array();
        ensure!(nics.context("no nics")?.len() == 2, "{data}");
        cluster.kubectl(["delete", host, "--wait=false"])?;
        cluster.wait_gone(host, BOOT)?;
        ensure!(!bmc.is_on(), "a deleted server is left on");
        wait_for("its session ends", SHORT, || {
            Ok(Seen::when(bmc.open_sessions() == 0, "a session is open"))
        })
    })
}
