//! A Pod plugged in by the CNI plugins of the distribution, with our settings, beside a VM.

use std::path::Path;
use std::process::{Command, Stdio};

use catamaran_network::cni::conflist;

use crate::sandbox::{OUTSIDE, Process, addresses, key, must_hear, must_ping, on_a_host, speaker};

/// Where Debian has them.
const PLUGINS: &str = "/usr/lib/cni";

#[test]
fn a_pod_of_the_bridge_plugin_and_a_vm_reach_each_other() {
    if !Path::new(PLUGINS).join("bridge").exists() {
        eprintln!("skipped: no CNI plugins in {PLUGINS}");
        return;
    }
    on_a_host(async |host| {
        let network = host.network().await;
        let vm = network.attach(&key("a"), None).await.unwrap();
        let list = conflist(&host.config, &host.config.folder.join("cni"));
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        let pod = Process::start(Command::new("unshare").args([
            "-n",
            "sh",
            "-c",
            "echo ready; exec sleep 600",
        ]));
        let settings = host.config.folder.join("settings.json");
        std::fs::write(&settings, plugin.to_string()).unwrap();
        let call = |verb: &str| {
            let output = Command::new(format!("{PLUGINS}/bridge"))
                .stdin(Stdio::from(std::fs::File::open(&settings).unwrap()))
                .env("CNI_COMMAND", verb)
                .env("CNI_CONTAINERID", "pod")
                .env("CNI_NETNS", pod.netns())
                .env("CNI_IFNAME", "eth0")
                .env("CNI_PATH", PLUGINS)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{verb}: {}",
                String::from_utf8_lossy(&output.stdout)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let result: serde_json::Value = serde_json::from_str(&call("ADD")).unwrap();
        let ip = |n: usize| {
            result["ips"][n]["address"]
                .as_str()
                .unwrap()
                .split('/')
                .next()
                .unwrap()
                .to_owned()
        };
        assert!(ip(0).starts_with("10.77.128."), "{result}");
        for address in addresses(&vm) {
            must_ping(&pod.netns(), &address);
        }
        let _server = speaker(&pod.netns(), 80, "pod");
        for address in [ip(0), ip(1)] {
            must_hear(&vm.netns, &address, 80, "pod");
        }
        must_ping(&pod.netns(), OUTSIDE);
        // The plugin changed nothing of ours: the next daemon finds it as it was.
        let before = host.snapshot().await;
        host.network().await;
        assert_eq!(host.snapshot().await, before);
        call("DEL");
        must_ping(&vm.netns, OUTSIDE);
    });
}
