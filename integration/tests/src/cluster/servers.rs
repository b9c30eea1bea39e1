//! Servers on the cluster's switch: QEMU with a card in the cluster's network, behind a BMC that the cluster's pods reach.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use catamaran_redfish_mock::{Availability, Certificate, Options, Personality};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::bmcs::{Bmc, HUB};
use super::{Cluster, SYSTEM, step};
use crate::command;
use crate::programs;
use crate::wait::{SHORT, Seen, wait_for};

/// A server is the cluster's node of this number, as far as addresses and its port of the switch go: the cluster's routes lead there.
pub const NUMBER: u8 = 9;
/// Name of the node that a server becomes. `cluster up` forgets nodes of such names that are off.
pub const NODE: &str = "node9";
/// Its address.
pub const ADDRESS: &str = "10.77.0.19";
/// Of its card.
const MAC: &str = "52:54:00:12:34:56";
/// Of its disks: sparse files.
const DISK: u64 = 10 << 30;
/// By which servers and BMCs reach the deploy server: a port of the first node.
const DEPLOY: (&str, u16) = ("10.77.0.11", 30_844);

/// Lines of the console that a report has.
const LAST_LINES: usize = 60;

/// Programs in a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// OVMF.
    Uefi,
    /// SeaBIOS.
    Bios,
}

/// A server; it is switched off and goes with the value.
#[derive(Debug)]
pub struct Server {
    /// Its BMC, which goes first: it must not switch the server on again.
    pub bmc: Bmc,
    folder: TempDir,
    switch: PathBuf,
}

impl Cluster {
    /// A server that is off, with two empty disks. The BMC of one with UEFI speaks TLS.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn server(&self, firmware: Firmware) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for disk in ["root", "other"] {
            File::create(at(disk))?.set_len(DISK)?;
        }
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", at("vars"))?;
        let join = at("join");
        // The card is the switch's port of that node.
        fs::write(&join, "#!/bin/sh\nexec ip link set \"$1\" master lab0 up\n")?;
        command::stdout(Command::new("chmod").arg("+x").arg(&join))?;
        let switch = programs::root().join("integration/redfish-mock/qemu-server");
        let uefi = firmware == Firmware::Uefi;
        let certificate = uefi
            .then(|| Certificate::self_signed(&[&HUB.map(|part| part.to_string()).join(".")]))
            .transpose()?;
        let mut options = Options::new("server", NUMBER.into(), Personality::named("standard")?);
        options.command = vec![
            "env".to_owned(),
            format!("FIRMWARE={}", if uefi { "uefi" } else { "bios" }),
            format!("MAC={MAC}"),
            "MEMORY=3072".to_owned(),
            // With one, what a node does in the background takes the time of what it is asked for.
            "CPUS=2".to_owned(),
            format!(
                "NETWORK=tap,ifname={NODE},script={},downscript=no",
                join.display()
            ),
            switch.display().to_string(),
            folder.path().display().to_string(),
        ];
        Ok(Server {
            bmc: self.start_bmc(options, certificate)?,
            folder,
            switch,
        })
    }

    /// Has the installed controllers write servers' disks, and waits until they do. `further`: more settings of theirs.
    ///
    /// # Errors
    /// When it does not.
    pub fn deploy(&self, further: &[&str]) -> Result<()> {
        let (address, port) = DEPLOY;
        let service = json!({"spec": {"type": "NodePort", "ports": [
            {"name": "deploy", "port": 8444, "targetPort": 8444, "nodePort": port},
        ]}});
        self.kubectl([
            "--namespace",
            SYSTEM,
            "patch",
            "service/catamaran-deploy",
            "--type=merge",
            "--patch",
            &service.to_string(),
        ])?;
        let url = format!("CATAMARAN_DEPLOY_URL=https://{address}:{port}");
        self.set_controllers(&[&[url.as_str()], further].concat())?;
        wait_for("the deploy server answers", SHORT, || {
            let url = format!("https://{address}:{port}/");
            let mut curl = self.command(["exec", "curl", "--silent", "--insecure", &url]);
            let said = command::output(&mut curl)?;
            Ok(Seen::when(said.status.success(), said.status.to_string()))
        })
    }

    /// The image of a server that a cluster's node can be made of: its URL and its SHA-256. Built and put into the cluster's registry, a server
    /// that answers ranges, where that has not been done yet.
    ///
    /// # Errors
    /// When it can't be built or put there.
    pub fn server_image(&self) -> Result<(String, String)> {
        let build = programs::root().join("guest-images/build");
        step(command::program(&build.display().to_string(), ["server"]))?;
        self.publish(&programs::guest("server/server.qcow2"))
    }

    /// A file in the cluster's registry, as servers reach it, and its SHA-256.
    ///
    /// # Errors
    /// When it can't be read or put there.
    pub fn publish(&self, file: &std::path::Path) -> Result<(String, String)> {
        let mut hasher = Sha256::new();
        std::io::copy(
            &mut File::open(file).with_context(|| file.display().to_string())?,
            &mut hasher,
        )?;
        let sha256: String = hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let base = format!("http://10.77.0.1:{}/v2/servers/blobs", registry_port());
        let url = format!("{base}/sha256:{sha256}");
        let curl = |words: &[&str]| {
            let all = ["exec", "curl", "--silent", "--show-error", "--fail"];
            command::stdout(&mut self.command(all.iter().chain(words)))
        };
        if curl(&["--head", &url]).is_ok() {
            return Ok((url, sha256));
        }
        let begun = curl(&[
            "--request",
            "POST",
            "--dump-header",
            "-",
            &format!("{base}/uploads/"),
        ])?;
        let place = begun
            .lines()
            .find_map(|line| line.strip_prefix("Location: "));
        let place = place.context("the registry takes nothing")?.trim();
        let place = format!("{place}&digest=sha256:{sha256}");
        let path = file.display().to_string();
        curl(&["--upload-file", &path, &place])?;
        Ok((url, sha256))
    }

    /// The network of a server, as OpenStack writes it down: its address is that of a node of the cluster.
    #[must_use]
    pub fn server_network(&self) -> Value {
        json!({
            "links": [{"id": "eth0", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1500}],
            "networks": [{
                "id": "eth0", "type": "ipv4", "link": "eth0", "ip_address": ADDRESS, "netmask": "255.255.255.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.77.0.1"}],
            }],
            "services": [{"type": "dns", "address": "10.77.0.1"}],
        })
    }
}

/// Port of the registry, in the cluster's network too.
pub(super) fn registry_port() -> String {
    std::env::var("PORT_REGISTRY").unwrap_or_else(|_| "5000".to_owned())
}

impl Server {
    /// What it said on its serial port since it was turned on.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether its QEMU is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.folder.path().join("pid").exists()
    }

    /// What there is to know when it does not do what it should.
    #[must_use]
    pub fn report(&self) -> String {
        let console = self.console();
        let lines: Vec<_> = console.lines().rev().take(LAST_LINES).collect();
        let last: Vec<_> = lines.into_iter().rev().collect();
        format!(
            "on: {}; boots: {:?}; power command: {:?}; its console:\n{}",
            self.bmc.is_on(),
            self.bmc.boots(),
            self.bmc.command_error(),
            last.join("\n")
        )
    }

    /// The first sector of a disk: `root`, `other`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begin_of(&self, disk: &str) -> Result<Vec<u8>> {
        use std::io::Read as _;
        let mut begin = Vec::new();
        let file = File::open(self.folder.path().join(disk))?;
        file.take(512).read_to_end(&mut begin)?;
        ensure!(begin.len() == 512, "{disk} is empty");
        Ok(begin)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.bmc.availability(Availability::Gone);
        let _ = command::stdout(
            Command::new(&self.switch)
                .arg(self.folder.path())
                .arg("off"),
        );
    }
}
