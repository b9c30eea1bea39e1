//! What a guest wrote to its claims is there in the next pod, on whichever node.

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, BlockDevice, Cluster, machine};
use catamaran_tests::{BOOT, manifest};
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

#[test]
fn claims_keep_their_data_across_runs_and_nodes() -> Result<()> {
    cluster::run(2, |cluster| {
        let device_below = BlockDevice::make()?;
        let ([volume, claim], folder) = cluster.shared_claim(CLAIMS[0]);
        let (mut block, _) = cluster.shared_claim(CLAIMS[1]);
        device_below.claimed(&mut block);
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
        let said = device_below.content()?;
        ensure!(said.starts_with(b"kept on block\n"), "{:?}", &said[..16]);
        cluster.on_node(1, &["rm", "-r", &folder]).map(drop)
    })
}
