//! Machines of the tests on a cluster: what they are made of, where they run, and their consoles.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::websocket::Proxy;
use super::{Cluster, MINIMAL};
use crate::guest::Console;
use crate::manifest;
use crate::programs;
use crate::wait::{BOOT, Seen, wait_for};

/// [`manifest::machine`] with a disk that the cluster's registry has.
#[must_use]
pub fn machine(name: &str) -> Value {
    let mut machine = manifest::machine(name);
    machine["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["image"] = MINIMAL.into();
    machine
}

impl Cluster {
    /// The serial console of an instance; the proxy is the way there.
    ///
    /// # Errors
    /// When the instance has none.
    pub fn console(&self, instance: &str) -> Result<(Proxy, Console)> {
        let proxy = self.proxy()?;
        let (output, input) = proxy.stream(&self.subresource(instance, "console"))?;
        Ok((proxy, Console::over(output, input)))
    }

    /// A shell on the serial console of an instance, once it has booted.
    ///
    /// # Errors
    /// When it does not.
    pub fn shell(&self, instance: &str) -> Result<(Proxy, Console)> {
        let (proxy, mut guest) = self.console(instance)?;
        guest.type_in("\n")?;
        guest.wait_for(":/root# ", BOOT)?;
        Ok((proxy, guest))
    }

    /// Which boot of the guest it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn boot_id(&self, instance: &str) -> Result<String> {
        let (_proxy, mut guest) = self.shell(instance)?;
        guest.shell("cat /proc/sys/kernel/random/boot_id")
    }

    /// Number of the node that an instance runs on.
    ///
    /// # Errors
    /// When it runs on none.
    pub fn node_of(&self, instance: &str) -> Result<u8> {
        let instance = self.get(&format!("vmi/{instance}"))?;
        let name = instance["status"]["nodeName"].as_str().unwrap_or_default();
        name.trim_start_matches("node")
            .parse()
            .with_context(|| format!("no node in {}", instance["status"]))
    }

    /// Has a machine's guest answer as a QEMU guest agent does, from a Secret `agent` that is made for it.
    ///
    /// # Errors
    /// When the Secret is there already.
    pub fn add_guest_agent(&self, machine: &mut Value) -> Result<()> {
        let script = programs::root().join("integration/tests/peers/guest-agent.sh");
        let file = format!("--from-file=userdata={}", script.display());
        self.kubectl(["create", "secret", "generic", "agent", &file])?;
        let seed = json!({"cloudInitNoCloud": {"secretRef": {"name": "agent"}}});
        manifest::add_disk(machine, "seed", &json!({"disk": {}}), &seed);
        Ok(())
    }

    /// Ends the run of a machine, and waits for the next one.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn run_again(&self, machine: &str) -> Result<Value> {
        let instance = format!("vmi/{machine}");
        let before = self.get(&instance)?;
        self.kubectl(["delete", &instance, "--wait=false"])?;
        self.wait_next(machine, &before["metadata"]["uid"])
    }

    /// Waits until an instance of a machine runs that is another one than that with the UID `old`.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_next(&self, machine: &str, old: &Value) -> Result<Value> {
        wait_for("another instance runs", BOOT, || {
            let found = self.get(&format!("vmi/{machine}")).unwrap_or_default();
            let next = found["metadata"]["uid"] != *old && found["status"]["phase"] == "Running";
            Ok(if next {
                Seen::Yes(found)
            } else {
                Seen::NotYet(found["status"].to_string())
            })
        })
    }

    /// A volume on the disk that all nodes share with a claim of it, and the volume's folder there.
    #[must_use]
    pub fn shared_claim(&self, name: &str) -> ([Value; 2], String) {
        let unique = format!("{}-{name}", self.namespace());
        let folder = format!("/tmp/catamaran-{unique}");
        let size = json!({"storage": "64Mi"});
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": unique},
            "spec": {
                "capacity": size, "accessModes": ["ReadWriteOnce"], "storageClassName": unique,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": folder, "type": "DirectoryOrCreate"},
            },
        });
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"storageClassName": unique, "accessModes": ["ReadWriteOnce"], "resources": {"requests": size}},
        });
        ([volume, claim], folder)
    }
}
