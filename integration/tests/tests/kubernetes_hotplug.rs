//! Claims that are plugged into machines while they run, and out again.

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::websocket::Proxy;
use catamaran_tests::cluster::{self, BlockDevice, Cluster, machine};
use catamaran_tests::{BOOT, Console, SHORT, wait::Seen, wait_for};
use serde_json::{Value, json};

/// A verb of a machine, as the peer's command line sends it: status and answer.
fn ask(
    cluster: &Cluster,
    proxy: &Proxy,
    name: &str,
    verb: &str,
    body: &Value,
) -> Result<(u16, String)> {
    let namespace = cluster.namespace();
    let path = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}/{verb}"
    );
    proxy.request("PUT", &path, &body.to_string())
}

/// A verb that must be accepted.
fn put(cluster: &Cluster, proxy: &Proxy, name: &str, verb: &str, body: &Value) -> Result<()> {
    let (code, said) = ask(cluster, proxy, name, verb, body)?;
    ensure!(code == 202, "{verb}: {code}: {said}");
    Ok(())
}

/// What is said to who wants a pod evicted, as a drain does.
fn evict(cluster: &Cluster, proxy: &Proxy, pod: &Value) -> Result<(u16, String)> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let path = format!(
        "/api/v1/namespaces/{}/pods/{name}/eviction",
        cluster.namespace()
    );
    proxy.request("POST", &path, &eviction.to_string())
}

fn added(bus: &str) -> Value {
    json!({
        "name": "data", "disk": {"name": "", "serial": "data", "disk": {"bus": bus}},
        "volumeSource": {"persistentVolumeClaim": {"claimName": "data", "hotpluggable": true}},
    })
}

/// Waits until what is said of the volume is so; null: nothing.
fn wait_said(
    cluster: &Cluster,
    instance: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Result<()> {
    wait_for(&format!("the volume is {what}"), BOOT, || {
        let found = cluster.get(&format!("vmi/{instance}"))?;
        let all = found["status"]["volumeStatus"].as_array();
        let mut all = all.into_iter().flatten();
        let said = all.find(|volume| volume["name"] == "data");
        let said = said.unwrap_or(&Value::Null);
        Ok(Seen::when(is(said), said.to_string()))
    })
}

/// Waits until the volume is in that phase; `None`: until nothing is said of it any more.
fn wait_phase(cluster: &Cluster, instance: &str, phase: Option<&str>) -> Result<()> {
    let is = |said: &Value| said["phase"].as_str() == phase;
    wait_said(cluster, instance, &format!("{phase:?}"), is)
}

/// Removes the attachment pod, and waits until another one is there of which such words are said.
fn remake_attachment(cluster: &Cluster, instance: &str, words: Option<&str>) -> Result<()> {
    let pods = attachments(cluster)?;
    ensure!(pods.len() == 1, "{} attachment pods", pods.len());
    let metadata = &pods[0]["metadata"];
    let name = metadata["name"].as_str().context("a pod without a name")?;
    cluster.kubectl(["delete", &format!("pod/{name}")])?;
    let what = format!("held by another pod, with the words {words:?}");
    wait_said(cluster, instance, &what, |said| {
        let message = said["message"].as_str();
        said["phase"] == "Ready"
            && said["hotplugVolume"]["attachPodUID"] != metadata["uid"]
            && match words {
                Some(words) => message.is_some_and(|message| message.contains(words)),
                None => message.is_none(),
            }
    })
}

fn attachments(cluster: &Cluster) -> Result<Vec<Value>> {
    cluster.list("pod", "kubevirt.io=hotplug-disk")
}

fn wait_no_attachment(cluster: &Cluster) -> Result<()> {
    wait_for("no attachment pod is left", BOOT, || {
        let pods = attachments(cluster)?;
        Ok(Seen::when(
            pods.is_empty(),
            format!("{} are there", pods.len()),
        ))
    })
}

/// Waits until the guest prints that.
fn wait_guest(guest: &mut Console, command: &str, expected: &str) -> Result<()> {
    wait_for(&format!("{command:?} in the guest"), SHORT, || {
        let said = guest.shell(command)?;
        Ok(Seen::when(said == expected, said))
    })
}

#[test]
fn a_claim_is_plugged_into_a_running_machine_and_out_again() -> Result<()> {
    cluster::run(1, |cluster| {
        let ([volume, claim], folder) = cluster.shared_claim("data");
        cluster.apply(&[&volume, &claim, &machine("first"), &machine("second")])?;
        let proxy = cluster.proxy()?;
        for name in ["first", "second"] {
            cluster.wait_field(&format!("vmi/{name}"), "/status/phase", "Running", BOOT)?;
        }

        // In: the guest sees the disk and writes.
        let (way, mut guest) = cluster.shell("first")?;
        put(cluster, &proxy, "first", "addvolume", &added("scsi"))?;
        wait_phase(cluster, "first", Some("Ready"))?;
        let pods = attachments(cluster)?;
        let launcher = cluster.launcher_pod("first")?;
        ensure!(pods.len() == 1, "{} attachment pods", pods.len());
        ensure!(pods[0]["metadata"]["ownerReferences"][0]["uid"] == launcher["metadata"]["uid"]);
        ensure!(pods[0]["spec"]["nodeName"] == launcher["spec"]["nodeName"]);
        let there = "test -b /dev/sda && echo yes || echo no";
        wait_guest(&mut guest, there, "yes")?;
        guest.shell("echo kept > /dev/sda && sync")?;

        // A drain does not take the disk from under the guest.
        let (code, said) = evict(cluster, &proxy, &pods[0])?;
        ensure!(code == 429, "{code}: {said}");
        ensure!(said.contains("plugged into VMI"), "{said}");

        // What it is plugged in as stays.
        let disks = cluster.get("vm/first")?;
        let disks = &disks["spec"]["template"]["spec"]["domain"]["devices"]["disks"];
        let at = disks.as_array().map_or(0, Vec::len).saturating_sub(1);
        let field = format!("/spec/template/spec/domain/devices/disks/{at}/disk/bus");
        let patch = json!([{"op": "replace", "path": field, "value": "virtio"}]);
        let patch = format!("--patch={patch}");
        let refused = cluster.refused(["patch", "vm/first", "--type=json", &patch])?;
        ensure!(
            refused.contains(&format!("disks[{at}].disk.bus")),
            "{refused}"
        );

        // A pod that holds something else than the guest uses is told, and the guest goes on.
        let (own, other) = (format!("{folder}.own"), format!("{folder}.other"));
        cluster.on_node(1, &["mv", &folder, &own])?;
        remake_attachment(cluster, "first", Some("another file system or device"))?;
        wait_guest(&mut guest, "head -n 1 /dev/sda", "kept")?;
        cluster.on_node(1, &["mv", &folder, &other])?;
        cluster.on_node(1, &["mv", &own, &folder])?;
        remake_attachment(cluster, "first", None)?;
        cluster.on_node(1, &["rm", "-r", &other])?;

        // A daemon that begins anew knows the disk.
        cluster.kubectl([
            "--namespace=catamaran-system",
            "delete",
            "pod",
            "--selector=app.kubernetes.io/name=catamaran-node",
        ])?;

        // Out: the guest has it no more, and nothing is left of it.
        put(
            cluster,
            &proxy,
            "first",
            "removevolume",
            &json!({"name": "data"}),
        )?;
        wait_phase(cluster, "first", None)?;
        drop((guest, way));
        let (way, mut guest) = cluster.shell("first")?;
        wait_guest(&mut guest, there, "no")?;
        wait_no_attachment(cluster)?;
        let conditions = cluster.get("vm/first")?["status"]["conditions"].to_string();
        ensure!(!conditions.contains("RestartRequired"), "{conditions}");
        drop((guest, way));

        // Another machine reads what the first one wrote.
        put(cluster, &proxy, "second", "addvolume", &added("virtio"))?;
        wait_phase(cluster, "second", Some("Ready"))?;
        let (way, mut guest) = cluster.shell("second")?;
        let read = "head -n 1 /dev/$(grep -l data /sys/block/vd*/serial | cut -d/ -f4) 2>/dev/null";
        wait_guest(&mut guest, read, "kept")?;
        drop((guest, way, proxy));

        // A machine that goes takes everything with it.
        cluster.kubectl(["delete", "vm/second", "vm/first"])?;
        wait_no_attachment(cluster)?;
        let name = volume["metadata"]["name"].as_str();
        let name = name.context("a volume without a name")?;
        cluster.kubectl(["delete", "pvc/data", &format!("pv/{name}")])?;
        cluster.on_node(1, &["rm", "-r", &folder])?;
        Ok(())
    })
}

#[test]
fn a_block_claim_is_plugged_into_a_running_machine_and_out_again() -> Result<()> {
    cluster::run(1, |cluster| {
        let below = BlockDevice::make()?;
        let (mut objects, _) = cluster.shared_claim("data");
        below.claimed(&mut objects);
        let [volume, claim] = objects;
        let name = volume["metadata"]["name"].as_str().unwrap_or_default();
        let _gone = cluster.gone_afterwards([format!("pv/{name}")]);
        cluster.apply(&[&volume, &claim, &machine("raw")])?;
        let proxy = cluster.proxy()?;
        cluster.wait_field("vmi/raw", "/status/phase", "Running", BOOT)?;
        let node = cluster.node_of("raw")?;

        let (way, mut guest) = cluster.shell("raw")?;
        put(cluster, &proxy, "raw", "addvolume", &added("scsi"))?;
        wait_phase(cluster, "raw", Some("Ready"))?;
        let said = &cluster.get("vmi/raw")?["status"]["volumeStatus"];
        ensure!(
            said[1]["persistentVolumeClaimInfo"]["volumeMode"] == "Block"
                && said[1]["size"] == 64 << 20,
            "{said}"
        );
        let there = "test -b /dev/sda && echo yes || echo no";
        wait_guest(&mut guest, there, "yes")?;
        guest.shell("echo kept > /dev/sda && sync")?;
        ensure!(
            opened(cluster, node, &below)? == 1,
            "the launcher may not open it"
        );

        // Another pod with the same device changes nothing.
        remake_attachment(cluster, "raw", None)?;

        let name = json!({"name": "data"});
        put(cluster, &proxy, "raw", "removevolume", &name)?;
        wait_phase(cluster, "raw", None)?;
        wait_guest(&mut guest, there, "no")?;
        drop((guest, way));
        wait_no_attachment(cluster)?;
        ensure!(
            opened(cluster, node, &below)? == 0,
            "the launcher may open it still"
        );
        let pod = cluster.launcher_pod("raw")?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        let left = cluster.in_pod(pod, &["ls", "/vm/hotplug"])?;
        ensure!(left.is_empty(), "{left}");
        wait_for("the device holds what the guest wrote", SHORT, || {
            let start = below.content()?[..16].to_vec();
            let kept = start.starts_with(b"kept\n");
            Ok(Seen::when(kept, start.escape_ascii().to_string()))
        })
    })
}

/// How many control groups of pods have our rule that lets them open a device. The kubelet's own has one word more.
fn opened(cluster: &Cluster, node: u8, device: &BlockDevice) -> Result<usize> {
    let number = device.path().trim_start_matches("/dev/loop");
    let groups = "/sys/fs/cgroup/devices";
    let look = format!("grep -r -l -x --include=devices.list 'b 7:{number} rw' {groups} || :");
    let found = cluster.on_node(node, &["sh", "-c", &look])?;
    Ok(found.lines().count())
}

#[test]
fn a_claim_that_is_not_there_is_told_and_can_be_given_up() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("waiter")])?;
        cluster.wait_field("vmi/waiter", "/status/phase", "Running", BOOT)?;
        let proxy = cluster.proxy()?;
        let (code, said) = ask(cluster, &proxy, "waiter", "addvolume", &added("sata"))?;
        ensure!(code == 400 && said.contains("disk.bus"), "{code}: {said}");
        put(cluster, &proxy, "waiter", "addvolume", &added("scsi"))?;
        wait_phase(cluster, "waiter", Some("Pending"))?;
        let said = cluster.get("vmi/waiter")?["status"]["volumeStatus"].to_string();
        ensure!(
            said.contains("PersistentVolumeClaim data is not there"),
            "{said}"
        );
        put(
            cluster,
            &proxy,
            "waiter",
            "removevolume",
            &json!({"name": "data"}),
        )?;
        wait_phase(cluster, "waiter", None)?;
        wait_no_attachment(cluster)
    })
}
