//! What a guest wrote to its claims is there in the next pod, on whichever node.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, machine};
use catamaran_tests::{BOOT, command, manifest};
use serde_json::{Value, json};

/// Claims of the machine, which are the serial numbers of its disks too: a file on a file system, and a block device.
const CLAIMS: [&str; 2] = ["file", "block"];

/// A disk of the guest.
fn device(claim: &str) -> String {
    format!("/dev/$(grep -l -x {claim} /sys/block/vd*/serial | cut -d/ -f4)")
}

/// A machine with the claims as further disks.
fn with_claims(name: &str) -> Value {
    let mut machine = machine(name);
    for claim in CLAIMS {
        let disk = json!({"serial": claim, "disk": {"bus": "virtio"}});
        let volume = json!({"persistentVolumeClaim": {"claimName": claim}});
        manifest::add_disk(&mut machine, claim, &disk, &volume);
    }
    machine
}

/// What the guest finds on its disks.
fn read(cluster: &Cluster, name: &str) -> Result<String> {
    let (_proxy, mut guest) = cluster.shell(name)?;
    let [file, block] = CLAIMS.map(device);
    guest.shell(&format!("head -n 1 {file}; head -n 1 {block}"))
}

/// A block device of this machine, which all nodes see; it goes with the value.
struct Loop {
    file: tempfile::NamedTempFile,
    path: String,
}

impl Loop {
    fn make() -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        file.as_file().set_len(64 << 20)?;
        let words = [PathBuf::from("--find"), "--show".into(), file.path().into()];
        let said = command::stdout(&mut command::program("losetup", words))?;
        Ok(Self {
            file,
            path: said.trim().to_owned(),
        })
    }

    /// A claim as for a file system, made one of this device.
    fn claimed(&self, cluster: &Cluster, objects: &mut [Value; 2]) {
        let [volume, claim] = objects;
        let spec = &mut volume["spec"];
        spec["hostPath"] = Value::Null;
        spec["local"] = json!({"path": self.path});
        let names: Vec<_> = (1..=cluster.nodes()).map(|n| format!("node{n}")).collect();
        spec["nodeAffinity"]["required"]["nodeSelectorTerms"] = json!([{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": names},
        ]}]);
        for spec in [spec, &mut claim["spec"]] {
            spec["volumeMode"] = "Block".into();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = command::stdout(&mut command::program("losetup", ["--detach", &self.path]));
    }
}

#[test]
fn claims_keep_their_data_across_runs_and_nodes() -> Result<()> {
    cluster::run(2, |cluster| {
        let device_below = Loop::make()?;
        let ([volume, claim], folder) = cluster.shared_claim(CLAIMS[0]);
        let (mut block, _) = cluster.shared_claim(CLAIMS[1]);
        device_below.claimed(cluster, &mut block);
        let names = [&volume, &block[0]].map(|volume| volume["metadata"]["name"].as_str());
        let names = names.into_iter().flatten();
        let _gone = cluster.gone_afterwards(names.map(|name| format!("pv/{name}")));
        let machine = with_claims("keeper");
        cluster.apply(&[&volume, &claim, &block[0], &block[1], &machine])?;
        cluster.wait_field("vmi/keeper", "/status/phase", "Running", BOOT)?;
        let (proxy, mut guest) = cluster.shell("keeper")?;
        for claim in CLAIMS {
            guest.shell(&format!("echo kept on {claim} > {} && sync", device(claim)))?;
        }
        drop((guest, proxy));
        let kept = "kept on file\nkept on block";

        cluster.run_again("keeper")?;
        let said = read(cluster, "keeper")?;
        ensure!(said == kept, "in the next run: {said:?}");

        let node = cluster.node_of("keeper")?;
        cluster.kubectl(["cordon", &format!("node{node}")])?;
        let moved = cluster.run_again("keeper");
        cluster.kubectl(["uncordon", &format!("node{node}")])?;
        moved?;
        ensure!(cluster.node_of("keeper")? != node, "it is on the same node");
        let said = read(cluster, "keeper")?;
        ensure!(said == kept, "on the other node: {said:?}");

        // The device itself holds what the guest wrote.
        cluster.kubectl(["delete", "vm/keeper"])?;
        let said = std::fs::read(device_below.file.path())?;
        ensure!(said.starts_with(b"kept on block\n"), "{:?}", &said[..16]);
        cluster.on_node(1, &["rm", "-r", &folder]).map(drop)
    })
}
