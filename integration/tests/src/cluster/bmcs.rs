//! BMCs that the cluster's pods reach: mocks that listen where its control plane is.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use catamaran_redfish_mock::{Certificate, Handle, Mock, Options, Personality};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Cluster, SYSTEM, script};

/// Address of the control plane in the cluster's network, where pods reach it.
pub(super) const HUB: [u8; 4] = [10, 77, 0, 1];

/// A BMC; it goes with the value.
#[derive(Debug)]
pub struct Bmc {
    handle: Handle,
    /// Where it speaks TLS.
    authority: Option<String>,
    _mock: Mock,
    _runtime: Runtime,
}

impl Deref for Bmc {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Cluster {
    /// The BMC of a server that is off and there for nothing.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn bmc(&self) -> Result<Bmc> {
        self.start_bmc(Options::new("bmc0", 0, Personality::named("dell")?), None)
    }

    /// The BMC of a node: its power is the node's.
    ///
    /// # Errors
    /// When the node does not say who it is, or the BMC can't be started.
    pub fn bmc_of(&self, node: u8) -> Result<Bmc> {
        let object = self.get(&format!("node/node{node}"))?;
        let uuid = &object["status"]["nodeInfo"]["systemUUID"];
        let mut options = Options::new("bmc0", 0, Personality::named("dell")?);
        options.uuid = uuid
            .as_str()
            .unwrap_or_default()
            .parse()
            .with_context(|| format!("node{node} has systemUUID {uuid}"))?;
        options.on = true;
        let script = script().display().to_string();
        let switch = format!("exec '{script}' node \"$1\" {node}");
        options.command = ["sh", "-c", &switch, "power"].map(str::to_owned).to_vec();
        self.start_bmc(options, None)
    }

    pub(super) fn start_bmc(
        &self,
        mut options: Options,
        certificate: Option<Certificate>,
    ) -> Result<Bmc> {
        let runtime = runtime_of(self)?;
        options.listen = (HUB, 0).into();
        let authority = certificate.as_ref().map(|one| one.pem.clone());
        let mut mock = Mock::new();
        // In one of the runtime's own threads.
        let adding = runtime.spawn(async move {
            let handle = mock.add(options, certificate.as_ref()).await?;
            anyhow::Ok((mock, handle))
        });
        let (mock, handle) = runtime.block_on(adding)??;
        Ok(Bmc {
            handle,
            authority,
            _mock: mock,
            _runtime: runtime,
        })
    }

    /// Makes a host of the BMC's server; `spec` is what it has besides.
    ///
    /// # Errors
    /// When it is refused.
    pub fn enrol(&self, name: &str, bmc: &Bmc, mut spec: Value) -> Result<()> {
        // The controller reads the Secrets of a namespace with hosts only where it was let.
        let account = format!("--serviceaccount={SYSTEM}:catamaran-controller");
        let role = "--clusterrole=catamaran-bmc-credentials";
        self.kubectl(["create", "rolebinding", "bmcs", role, &account])?;
        let address = bmc.url().replacen("http", "redfish-virtualmedia+http", 1);
        spec["bmc"] = json!({"address": address, "credentialsName": "bmc"});
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bmc"},
            "stringData": {"username": "admin", "password": "password"},
        });
        if let Some(authority) = &bmc.authority {
            secret["stringData"]["ca.crt"] = json!(authority);
        }
        self.apply(&[
            &secret,
            &json!({
                "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": name}, "spec": spec,
            }),
        ])
        .map(drop)
    }
}

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
