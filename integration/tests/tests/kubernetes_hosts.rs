//! A server from enrolment to its end by the kubectl plugin alone, with the real controller on a real API server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use catamaran_redfish_mock::{Mock, Options, Personality};
use catamaran_tests::api_server::ApiServer;
use catamaran_tests::cluster::SYSTEM;
use catamaran_tests::{BOOT, programs, wait::Seen, wait_for};
use serde_json::Value;
use tokio::runtime::Runtime;

const PLUGIN: &str = "kubectl-catamaran";

struct User<'a> {
    server: &'a ApiServer,
    plugin: PathBuf,
}

impl User<'_> {
    /// `kubectl-catamaran host WORDS`, with that on standard input; gives both outputs and whether it went well.
    fn host(&self, words: &[&str], input: &str) -> Result<(bool, String, String)> {
        let mut child = Command::new(&self.plugin)
            .arg("host")
            .args(words)
            .args(["--namespace", SYSTEM])
            .env("KUBECONFIG", self.server.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(PLUGIN)?;
        child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (said, told) = (text(output.stdout), text(output.stderr));
        Ok((output.status.success(), said, told))
    }

    fn does(&self, words: &[&str]) -> Result<(String, String)> {
        let (well, said, told) = self.host(words, "")?;
        ensure!(well, "host {}: {said}{told}", words.join(" "));
        Ok((said, told))
    }
}

#[test]
fn a_server_lives_by_the_plugin_alone() -> Result<()> {
    let programs = programs::find_all(&[PLUGIN, "catamaran-controller"])?;
    let (runtime, mut mock) = (Runtime::new()?, Mock::new());
    let options = Options::new("bmc0", 0, Personality::named("dell")?);
    let bmc = runtime.block_on(mock.add(options, None))?;
    let server = ApiServer::start()?;
    let _controller = server.controller(&programs)?;
    let user = User {
        server: &server,
        plugin: programs.join(PLUGIN),
    };

    // Enrolled with a wrong password: the reason is told, and a right one is enough to go on.
    let address = bmc.url().replacen("http", "redfish-virtualmedia+http", 1);
    let login = ["--bmc", &address, "--user", "admin", "--password-stdin"];
    let enroll = [&["enroll", "rack1", "--offline"][..], &login].concat();
    let (well, said, told) = user.host(&enroll, "wrong\n")?;
    ensure!(
        well && said.contains("baremetalhost.metal3.io/rack1 created"),
        "{said}{told}"
    );
    let (well, _, told) = user.host(&enroll, "wrong\n")?;
    ensure!(!well && told.contains("AlreadyExists"), "{told}");
    let list = || user.does(&["list"]).map(|(said, _)| said);
    wait_for("the wrong password is told", BOOT, || {
        let list = list()?;
        let told = list.contains("registering") && list.contains("user name or password");
        Ok(Seen::when(told, list))
    })?;
    let right = r#"{"stringData": {"password": "password"}}"#;
    let words = [
        "patch",
        "secret",
        "rack1-bmc",
        "--namespace",
        SYSTEM,
        "--patch",
        right,
    ];
    server.kubectl(&words)?;
    wait_for("it is available", BOOT, || {
        let list = list()?;
        Ok(Seen::when(list.contains("available"), list))
    })?;

    for (words, on) in [
        (&["power", "on", "rack1"][..], true),
        (&["power", "reboot", "rack1", "--hard"], true),
        (&["power", "off", "bmh/rack1", "--hard"], false),
    ] {
        let boots = bmc.boots().len();
        let (said, told) = user.does(&[words, &["--wait", "--timeout", "150"]].concat())?;
        ensure!(bmc.is_on() == on, "{words:?}: {said}{told}");
        ensure!(
            bmc.boots().len() == boots + usize::from(on),
            "{words:?}: {said}{told}"
        );
    }

    let words = [
        "inspect",
        "rack1",
        "--wait",
        "--timeout",
        "150",
        "-o",
        "json",
    ];
    let data: Value = serde_json::from_str(&user.does(&words)?.0)?;
    let nics = data["spec"]["hardware"]["nics"].as_array();
    ensure!(nics.is_some_and(|nics| nics.len() == 2), "{data}");
    let (said, _) = user.does(&["describe", "rack1"])?;
    for words in [
        "State:        available",
        "Power:        off",
        "PowerOn",
        "InspectionComplete",
    ] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    server.kubectl(&[
        "delete",
        "bmh",
        "rack1",
        "--namespace",
        SYSTEM,
        "--timeout=150s",
    ])?;
    ensure!(bmc.open_sessions() == 0 && !bmc.is_on());
    Ok(())
}
