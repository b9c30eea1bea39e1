//! `kubectl catamaran host import` reads a real Ironic: standalone, of PyPI, with nodes in several states whose BMCs are mocks.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use catamaran_redfish_mock::{Mock, Options, Personality};
use catamaran_tests::api_server::ApiServer;
use catamaran_tests::cluster::SYSTEM;
use catamaran_tests::command::{output, program, stdout};
use catamaran_tests::programs::{find_all, python_environment};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PLUGIN: &str = "kubectl-catamaran";
const USER: &str = "admin";
const PASSWORD: &str = "s3cret pass";

/// An Ironic that asks for user and password. Ends with the value.
struct Ironic {
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
    fn start(environment: &Path) -> Result<Self> {
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
        // One process for API and conductor: the only mode that works with SQLite. Two nodes a page.
        let settings = format!(
            "[DEFAULT]\nauth_strategy = http_basic\nhttp_basic_auth_user_file = {here}/users\nhost = lab\nmy_ip = 127.0.0.1\nstate_path = {here}\n\
             rpc_transport = none\nenabled_hardware_types = redfish,fake-hardware\nenabled_boot_interfaces = redfish-virtual-media,fake\n\
             enabled_bios_interfaces = no-bios\nenabled_console_interfaces = no-console\nenabled_deploy_interfaces = direct,ramdisk,fake\n\
             enabled_firmware_interfaces = no-firmware\nenabled_inspect_interfaces = redfish,no-inspect\n\
             enabled_management_interfaces = redfish,fake\nenabled_network_interfaces = noop\nenabled_power_interfaces = redfish,fake\n\
             enabled_raid_interfaces = no-raid\nenabled_rescue_interfaces = no-rescue\nenabled_storage_interfaces = noop\n\
             enabled_vendor_interfaces = no-vendor\ndefault_network_interface = noop\n\
             [api]\nhost_ip = 127.0.0.1\nport = {port}\nmax_limit = 2\n[conductor]\nautomated_clean = false\n\
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

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
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

    fn node(&self, node: &Value) -> Result<String> {
        let made = self.ask("POST", "nodes", Some(node))?;
        Ok(made["uuid"].as_str().context("no UUID")?.to_owned())
    }

    /// Orders a node to go on, and waits until it is there.
    fn goes(&self, node: &str, verb: &str, state: &str) -> Result<()> {
        let order = json!({"target": verb});
        self.ask(
            "PUT",
            &format!("nodes/{node}/states/provision"),
            Some(&order),
        )?;
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

/// Who imports.
struct User<'a> {
    folder: &'a Path,
    ironic: &'a Ironic,
    server: &'a ApiServer,
}

impl User<'_> {
    /// Gives both outputs and whether it went well.
    fn imports(&self, more: &[&str]) -> Result<(bool, String, String)> {
        let password = self.folder.join("password");
        fs::write(&password, PASSWORD)?;
        let mut command = Command::new(find_all(&[PLUGIN])?.join(PLUGIN));
        command.env("KUBECONFIG", self.server.kubeconfig());
        command.args(["host", "import", "--from-ironic", &self.ironic.url]);
        command.args(["--namespace", SYSTEM, "--ironic-user", USER]);
        command
            .arg("--ironic-password-file")
            .arg(password)
            .args(more);
        let output = output(&mut command)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((
            output.status.success(),
            text(output.stdout),
            text(output.stderr),
        ))
    }

    /// Names of what is there.
    fn there(&self, what: &str) -> Result<String> {
        let words = ["get", what, "--namespace", SYSTEM, "--output", "name"];
        self.server.kubectl(&words)
    }
}

/// All hosts are imported or none, and each once.
fn are_imported(user: &User<'_>, credentials: &str) -> Result<()> {
    let words = ["--credentials", credentials];
    // What is in the way of one is in the way of all.
    let secret = "rack-1-bmc";
    let make = ["create", "secret", "generic", secret, "--namespace", SYSTEM];
    user.server.kubectl(&make)?;
    let (done, _, said) = user.imports(&words)?;
    ensure!(!done && said.contains("AlreadyExists"), "{said}");
    ensure!(user.there("bmh")?.is_empty(), "hosts were made");
    ensure!(
        user.there("secrets")?.lines().count() == 1,
        "Secrets were made"
    );
    let take_away = ["delete", "secret", secret, "--namespace", SYSTEM];
    user.server.kubectl(&take_away)?;

    let (done, _, said) = user.imports(&words)?;
    ensure!(done, "{said}");
    for what in ["bmh", "secrets"] {
        let there = user.there(what)?;
        ensure!(there.lines().count() == 2, "{there}");
    }
    let (done, _, said) = user.imports(&words)?;
    ensure!(
        done && said.contains("There is nothing to import"),
        "{said}"
    );
    Ok(())
}

#[test]
#[ignore = "installs and starts an Ironic: minutes"]
fn nodes_of_a_real_ironic_become_hosts() -> Result<()> {
    let environment: PathBuf = python_environment("ironic")?;
    let (runtime, mut mock) = (Runtime::new()?, Mock::new());
    for (number, name) in (0..).zip(["standard", "dell"]) {
        let options = Options::new(&format!("bmc{number}"), number, Personality::named(name)?);
        runtime.block_on(mock.add(options, None))?;
    }
    let ironic = Ironic::start(&environment)?;
    let bmc = |at: usize| {
        let bmc = &mock.bmcs()[at];
        json!({"redfish_address": bmc.url(), "redfish_system_id": bmc.system(), "redfish_username": "admin", "redfish_password": "password"})
    };
    let free = ironic.node(&json!({
        "name": "Rack_1", "driver": "redfish", "driver_info": bmc(0), "inspect_interface": "redfish", "boot_interface": "redfish-virtual-media",
        "deploy_interface": "direct", "properties": {"capabilities": "boot_mode:uefi", "root_device": {"serial": "S1"}},
    }))?;
    let used = ironic.node(&json!({
        "name": "rack-1", "driver": "redfish", "driver_info": bmc(1), "inspect_interface": "redfish", "boot_interface": "redfish-virtual-media",
        "deploy_interface": "ramdisk", "instance_info": {"boot_iso": "http://127.0.0.1:1/live.iso"},
    }))?;
    ironic.node(&json!({"name": "other", "driver": "fake-hardware"}))?;
    for node in [&free, &used] {
        ironic.goes(node, "manage", "manageable")?;
        ironic.goes(node, "inspect", "manageable")?;
    }
    ironic.goes(&free, "provide", "available")?;
    ironic.goes(&used, "adopt", "active")?;
    let order = json!({"target": "power on"});
    ironic.ask("PUT", &format!("nodes/{used}/states/power"), Some(&order))?;
    wait_for("Ironic has turned it on", SHORT, || {
        let seen = ironic.ask("GET", &format!("nodes/{used}"), None)?;
        Ok(Seen::when(
            seen["power_state"] == "power on",
            seen["power_state"].to_string(),
        ))
    })?;

    let folder = tempfile::tempdir()?;
    let server = ApiServer::start()?;
    let user = User {
        folder: folder.path(),
        ironic: &ironic,
        server: &server,
    };
    let dry = ["--dry-run=client", "-o", "json"];
    let (done, _, said) = user.imports(&dry)?;
    ensure!(!done && said.contains("nothing was imported"), "{said}");
    ensure!(said.contains("its BMC's password is missing"), "{said}");

    // The form is filled in as a person does.
    let (done, form, said) = user.imports(&["--print-credentials"])?;
    ensure!(
        done && said.contains("other") && said.contains("'fake-hardware'"),
        "{said}"
    );
    let filled = form.replace("password: \"\"", "password: password");
    let credentials = folder.path().join("credentials.yaml");
    fs::write(&credentials, filled)?;
    let credentials = credentials.display().to_string();
    let words = [&dry[..], &["--credentials", &credentials]].concat();
    let (done, list, said) = user.imports(&words)?;
    ensure!(done, "{said}");
    let list: Value = serde_json::from_str(&list)?;
    let items = list["items"].as_array().context("no items")?;
    ensure!(items.len() == 4, "{list}");
    let host = |node: &str| {
        let of =
            |item: &&Value| item["metadata"]["annotations"]["catamaran.dev/ironic-node"] == node;
        items
            .iter()
            .find(of)
            .with_context(|| format!("no host of {node}: {list}"))
    };
    let available = host(&free)?;
    ensure!(available["metadata"]["name"] != "rack-1", "{available}");
    ensure!(
        available["spec"]["bootMode"] == "UEFI" && available["spec"]["online"] == false,
        "{available}"
    );
    ensure!(
        available["spec"]["externallyProvisioned"].is_null(),
        "{available}"
    );
    ensure!(
        available["spec"]["rootDeviceHints"]["serialNumber"] == "S1",
        "{available}"
    );
    let inventory = &available["metadata"]["annotations"]["inspect.metal3.io/hardwaredetails"];
    let inventory: Value = serde_json::from_str(inventory.as_str().context("no inventory")?)?;
    ensure!(
        inventory["nics"][0]["mac"] == "02:bc:00:00:00:00",
        "{inventory}"
    );
    let active = host(&used)?;
    ensure!(active["metadata"]["name"] == "rack-1", "{active}");
    ensure!(
        active["spec"]["externallyProvisioned"] == true && active["spec"]["online"] == true,
        "{active}"
    );
    are_imported(&user, &credentials)
}
