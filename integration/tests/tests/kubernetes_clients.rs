//! Clients that were written for the peer, by others, against ours; and one written from its description alone.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, MINIMAL};
use catamaran_tests::command::stdout;
use catamaran_tests::manifest;
use catamaran_tests::programs::root;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// What a set-up of `integration/setup` has made; it does so on the first run.
fn installed(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), PathBuf::from)
        .join(name);
    stdout(Command::new(root().join("integration/setup").join(name)).arg(&folder))?;
    Ok(folder)
}

/// A Python client of `peers`, with the access of a kubeconfig.
fn python(client: &str, access: &NamedTempFile) -> Result<Command> {
    let mut command = Command::new(installed("kubevirt-clients")?.join("bin/python"));
    command
        // Compiled files would lie in the repository.
        .args(["-B", "-Wignore"])
        .arg(root().join("integration/tests/peers").join(client))
        .env("KUBECONFIG", access.path());
    Ok(command)
}

/// A file with some JSON.
fn file(content: &Value) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    serde_json::to_writer(&file, content)?;
    Ok(file)
}

/// The kubeconfig of the administrator, who has a certificate.
fn administrator(cluster: &Cluster) -> Result<Value> {
    let words = ["config", "view", "--raw", "--minify", "--flatten", "-ojson"];
    Ok(serde_json::from_str(&cluster.kubectl(words)?)?)
}

/// The kubeconfig of a service account, who has a token and may use streams and nothing else.
fn visitor(cluster: &Cluster) -> Result<Value> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "visitor"},
        "rules": [{
            "apiGroups": ["subresources.kubevirt.io"],
            "resources": [
                "virtualmachineinstances/console", "virtualmachineinstances/vnc", "virtualmachineinstances/vnc/screenshot",
                "virtualmachineinstances/portforward", "virtualmachines/portforward",
            ],
            "verbs": ["get"],
        }],
    });
    cluster.apply(&[&role])?;
    cluster.kubectl(["create", "serviceaccount", "visitor"])?;
    let account = format!("--serviceaccount={}:visitor", cluster.namespace());
    cluster.kubectl([
        "create",
        "rolebinding",
        "visitor",
        "--role=visitor",
        &account,
    ])?;
    let token = cluster.kubectl(["create", "token", "visitor"])?;
    let mut access = administrator(cluster)?;
    access["users"][0]["user"] = json!({"token": token.trim()});
    Ok(access)
}

/// A machine with the minimal guest.
fn machine(name: &str) -> Value {
    let mut machine = manifest::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["volumes"][0]["containerDisk"]["image"] = MINIMAL.into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    machine
}

#[test]
fn openshift_python_wrapper_lives_through_the_life_of_a_machine() -> Result<()> {
    cluster::run(1, |cluster| {
        let access = file(&administrator(cluster)?)?;
        let said =
            stdout(python("drive_kubevirt.py", &access)?.args([cluster.namespace(), MINIMAL]))?;
        let steps: Vec<&str> = said.lines().collect();
        let wanted = [
            "created",
            "started",
            "read",
            "paused",
            "unpaused",
            "restarted",
            "stopped",
            "deleted",
        ];
        ensure!(steps == wanted, "{said}");
        Ok(())
    })
}

#[test]
fn a_client_written_from_the_description_uses_console_screen_and_ports() -> Result<()> {
    cluster::run(1, |cluster| {
        // Before the machine, so that its console is open when the guest boots.
        let owner = file(&administrator(cluster)?)?;
        let visitor = file(&visitor(cluster)?)?;
        let mut first = python("drive_streams.py", &owner)?;
        let mut second = python("drive_streams.py", &visitor)?;
        cluster.apply(&[&machine("seen")])?;
        cluster.kubectl(["wait", "--for=create", "vmi/seen"])?;
        let said = stdout(first.args([cluster.namespace(), "seen", "boot"]))?;
        ensure!(
            said == "boot\nconsole\nscreen\nscreenshot\nports\n",
            "{said}"
        );
        let said = stdout(second.args([cluster.namespace(), "seen", "browser"]))?;
        ensure!(said == "console\nscreen\nscreenshot\nports\n", "{said}");
        Ok(())
    })
}
