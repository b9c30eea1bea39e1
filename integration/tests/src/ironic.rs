//! A real Ironic: standalone, of PyPI, on the loopback.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{program, stdout};
use crate::wait::{BOOT, Seen, wait_for};

/// Who may ask it.
pub const USER: &str = "admin";
/// That user's password.
pub const PASSWORD: &str = "s3cret pass";

/// An Ironic that asks for user and password. Ends with the value.
#[derive(Debug)]
pub struct Ironic {
    process: Child,
    url: String,
    folder: TempDir,
}

impl Drop for Ironic {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw)
        {
            // With its worker. It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

impl Ironic {
    /// Starts one of a Python environment ([`crate::programs::python_environment`]), with so many nodes a page.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(environment: &Path, page: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("http://127.0.0.1:{port}");
        let hash = "import bcrypt, sys; print('admin:' + bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())";
        let python = environment.join("bin/python3");
        fs::write(
            at.join("users"),
            stdout(Command::new(python).args(["-c", hash, PASSWORD]))?,
        )?;
        let here = at.display();
        // One process for API and conductor: the only mode that works with SQLite.
        let settings = format!(
            "[DEFAULT]\nauth_strategy = http_basic\nhttp_basic_auth_user_file = {here}/users\nhost = lab\nmy_ip = 127.0.0.1\nstate_path = {here}\n\
             rpc_transport = none\nenabled_hardware_types = redfish,fake-hardware\nenabled_boot_interfaces = redfish-virtual-media,fake\n\
             enabled_bios_interfaces = no-bios\nenabled_console_interfaces = no-console\nenabled_deploy_interfaces = direct,ramdisk,fake\n\
             enabled_firmware_interfaces = no-firmware\nenabled_inspect_interfaces = redfish,no-inspect\n\
             enabled_management_interfaces = redfish,fake\nenabled_network_interfaces = noop\nenabled_power_interfaces = redfish,fake\n\
             enabled_raid_interfaces = no-raid\nenabled_rescue_interfaces = no-rescue\nenabled_storage_interfaces = noop\n\
             enabled_vendor_interfaces = no-vendor\ndefault_network_interface = noop\n\
             [api]\nhost_ip = 127.0.0.1\nport = {port}\nmax_limit = {page}\n[conductor]\nautomated_clean = false\n\
             [database]\nconnection = sqlite:///{here}/ironic.db\n[deploy]\nhttp_root = {here}\nhttp_url = http://127.0.0.1:1\n\
             [oslo_concurrency]\nlock_path = {here}\n[service_catalog]\nauth_type = none\nendpoint_override = {url}\n"
        );
        let file = at.join("ironic.conf");
        fs::write(&file, settings)?;
        let bin = |name: &str| {
            let mut command = Command::new(environment.join("bin").join(name));
            command
                .arg("--config-file")
                .arg(&file)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        stdout(bin("ironic-dbsync").arg("create_schema"))?;
        let log = fs::File::create(at.join("log"))?;
        let process = bin("ironic")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("ironic")?;
        let ironic = Self {
            process,
            url,
            folder,
        };
        wait_for("Ironic answers", BOOT, || {
            let answer = ironic.ask("GET", "nodes", None);
            let log = || fs::read_to_string(ironic.folder.path().join("log")).unwrap_or_default();
            Ok(Seen::when(answer.is_ok(), log()))
        })?;
        Ok(ironic)
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One request: a path below `/v1/`, and what comes of it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut curl = program("curl", ["--silent", "--show-error", "--fail-with-body"]);
        curl.args(["--request", method, "--user", &format!("{USER}:{PASSWORD}")]);
        curl.args(["--header", "X-OpenStack-Ironic-API-Version: 1.81"]);
        if let Some(body) = body {
            curl.args(["--header", "Content-Type: application/json", "--data"]);
            curl.arg(body.to_string());
        }
        let said = stdout(curl.arg(format!("{}/v1/{path}", self.url)))?;
        Ok(serde_json::from_str(if said.is_empty() {
            "null"
        } else {
            &said
        })?)
    }

    /// Makes a node; gives its UUID.
    ///
    /// # Errors
    /// When it is refused.
    pub fn node(&self, node: &Value) -> Result<String> {
        let made = self.ask("POST", "nodes", Some(node))?;
        Ok(made["uuid"].as_str().context("no UUID")?.to_owned())
    }

    /// Orders a node to go on.
    ///
    /// # Errors
    /// When that is refused.
    pub fn order(&self, node: &str, verb: &str) -> Result<()> {
        let path = format!("nodes/{node}/states/provision");
        let order = json!({"target": verb});
        self.ask("PUT", &path, Some(&order)).map(drop)
    }

    /// Orders a node to go on, and waits until it is there.
    ///
    /// # Errors
    /// When it does not get there in time.
    pub fn goes(&self, node: &str, verb: &str, state: &str) -> Result<()> {
        self.order(node, verb)?;
        wait_for(&format!("{node} {verb}"), BOOT, || {
            let seen = self.ask("GET", &format!("nodes/{node}"), None)?;
            let there =
                seen["provision_state"] == state && seen["target_provision_state"].is_null();
            Ok(Seen::when(
                there,
                format!("{} {}", seen["provision_state"], seen["last_error"]),
            ))
        })
    }
}
