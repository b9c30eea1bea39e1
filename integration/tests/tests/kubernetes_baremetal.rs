//! A server as a `BareMetalHost` of a cluster: from the manifest to available, off and on, and gone. Its BMC is the mock, which listens where
//! the cluster's pods reach it.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use catamaran_redfish_mock::{Mock, Options, Personality};
use catamaran_tests::cluster::{self, SYSTEM};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use serde_json::json;
use tokio::runtime::Runtime;

/// Address of this machine that others reach. Nothing is sent.
fn own_address() -> Result<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip())
}

#[test]
fn a_server_is_enrolled_turned_off_and_on_and_deleted() -> Result<()> {
    cluster::run(1, |cluster| {
        let runtime = Runtime::new()?;
        let mut mock = Mock::new();
        let mut options = Options::new("bmc0", 0, Personality::named("dell")?);
        options.listen = (own_address()?, 0).into();
        let bmc = runtime.block_on(mock.add(options, None))?;
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
