//! `kubectl catamaran host import` reads a real Ironic: standalone, of PyPI, with nodes in several states whose BMCs are mocks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use catamaran_redfish_mock::{Mock, Options, Personality};
use catamaran_tests::api_server::ApiServer;
use catamaran_tests::cluster::SYSTEM;
use catamaran_tests::command::output;
use catamaran_tests::ironic::{Ironic, PASSWORD, USER};
use catamaran_tests::programs::{find_all, python_environment};
use catamaran_tests::{SHORT, wait::Seen, wait_for};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const PLUGIN: &str = "kubectl-catamaran";

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
        command.args(["host", "import", "--from-ironic", self.ironic.url()]);
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
    let ironic = Ironic::start(&environment, 2)?;
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
