//! The kubectl plugin, as a user calls it: through kubectl, by its name and by `kubectl create virtualmachine`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster, MINIMAL};
use catamaran_tests::display::Display;
use catamaran_tests::{BOOT, Console, SHORT, command, programs, wait::Seen, wait_for};
use tempfile::TempDir;

const PLUGIN: &str = "kubectl-catamaran";
/// An image that no registry has.
const NO_IMAGE: &str = "registry.lab:5000/none:dev";
/// What must not leave the cluster in a bundle.
const PASSWORD: &str = "correct-horse-battery";

/// A folder of the plugin under its three names, for PATH.
struct Plugin<'a> {
    cluster: &'a Cluster,
    folder: TempDir,
}

impl<'a> Plugin<'a> {
    fn install(cluster: &'a Cluster) -> Result<Self> {
        let programs = programs::find_all(&[PLUGIN])?;
        let folder = tempfile::tempdir()?;
        fs::copy(programs.join(PLUGIN), folder.path().join(PLUGIN))?;
        for link in ["kubectl-create-vm", "kubectl-create-virtualmachine"] {
            symlink(PLUGIN, folder.path().join(link))?;
        }
        Ok(Self { cluster, folder })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `kubectl WORDS --namespace …`: kubectl hands flags on only from behind the plugin's name.
    fn kubectl(&self, words: &[&str]) -> Command {
        let mut path = OsString::from(self.folder.path());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = self.cluster.command(["kubectl"]);
        command
            .args(words)
            .args(["--namespace", self.cluster.namespace()]);
        command.env("PATH", path);
        command
    }

    /// `kubectl catamaran WORDS`; gives what it printed.
    fn run(&self, words: &[&str]) -> Result<String> {
        let words: Vec<&str> = ["catamaran"].iter().chain(words).copied().collect();
        command::stdout(&mut self.kubectl(&words))
    }

    fn create(&self, words: &[&str]) -> Result<String> {
        let words: Vec<&str> = ["create", "virtualmachine"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        command::stdout(&mut self.kubectl(&words))
    }
}

fn wait_for_end(mut child: Child) -> Result<ExitStatus> {
    wait_for("the program ends", SHORT, || {
        Ok(match child.try_wait()? {
            Some(status) => Seen::Yes(status),
            None => Seen::NotYet("it runs".to_owned()),
        })
    })
}

fn console_answers_and_is_left(plugin: &Plugin) -> Result<()> {
    let mut child = plugin
        .kubectl(&["catamaran", "console", "demo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = child.stdout.take().context("no standard output")?;
    let input = child.stdin.take().context("no standard input")?;
    let mut guest = Console::over(output, input);
    guest.type_in("\n")?;
    guest.wait_for(":/root# ", BOOT)?;
    ensure!(guest.shell("hostname")? == "demo");
    guest.type_in("\x1d")?;
    let status = wait_for_end(child)?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn page_comes_through_a_forwarded_port(plugin: &Plugin) -> Result<()> {
    let request = plugin.file("request");
    fs::write(&request, "GET / HTTP/1.0\r\n\r\n")?;
    wait_for("the guest's page through port-forward", BOOT, || {
        let output = plugin
            .kubectl(&["catamaran", "port-forward", "--stdio", "vm/demo", "80"])
            .stdin(fs::File::open(&request)?)
            .output()?;
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Seen::when(page.contains("catamaran-guest demo"), page))
    })
}

/// OpenSSH, to the guest's ssh server: the key of the test opens it, and what a command ends with comes back.
fn ssh_reaches_the_guest(plugin: &Plugin) -> Result<()> {
    let (key, known) = (plugin.file("key"), plugin.file("known_hosts"));
    let ssh = |command: &str| {
        let mut kubectl = plugin.kubectl(&["catamaran"]);
        kubectl
            .args(["ssh", "root@demo", "-i", &key, "--known-hosts", &known])
            .args(["-c", command])
            .args(["--", "-F", "none", "-o", "StrictHostKeyChecking=accept-new"]);
        command::output(&mut kubectl)
    };
    wait_for("ssh lets us in", SHORT, || {
        let said = ssh("hostname")?;
        Ok(Seen::when(said.stdout == b"demo\n", format!("{said:?}")))
    })?;
    ensure!(ssh("exit 7")?.status.code() == Some(7));
    // The key is kept under the machine's name, so that another machine behind the same name is noticed.
    let keys = fs::read_to_string(&known)?;
    let name = format!("vm.demo.{} ", plugin.cluster.namespace());
    ensure!(keys.starts_with(&name), "{keys}");
    Ok(())
}

/// A real viewer shows the screen, and what is typed into its window reaches the guest.
fn viewer_shows_the_screen(plugin: &Plugin) -> Result<()> {
    let display = Display::open()?;
    let mut kubectl = plugin.kubectl(&["catamaran", "vnc", "demo"]);
    let child = display.show(&mut kubectl).spawn()?;
    let window = display.window("demo")?;
    let (_proxy, mut guest) = plugin.cluster.shell("demo")?;
    display.type_line(&window, "echo typed > /tmp/typed")?;
    wait_for("what was typed has come", SHORT, || {
        let said = guest.shell("cat /tmp/typed 2>/dev/null || true")?;
        Ok(Seen::when(said == "typed", said))
    })?;
    // Without a display the viewer ends, and the plugin tells how it did.
    drop(display);
    wait_for_end(child).map(drop)
}

fn why_names_the_missing_image(plugin: &Plugin) -> Result<()> {
    plugin.create(&["broken", "--image", NO_IMAGE, "--memory", "128Mi"])?;
    let cluster = plugin.cluster;
    cluster.kubectl([
        "create",
        "rolebinding",
        "eve",
        "--clusterrole=view",
        "--user=eve",
    ])?;
    let wanted = format!(
        "broken does not start because image {NO_IMAGE:?} of its volume \"image\" can't be pulled: "
    );
    for words in [&["why", "broken"][..], &["why", "broken", "--as", "eve"]] {
        wait_for("the plugin says why", SHORT, || {
            let sentence = plugin.run(words)?;
            Ok(Seen::when(sentence.starts_with(&wanted), sentence))
        })?;
    }
    let list = plugin.run(&["list", "--as", "eve"])?;
    let line = list.lines().find(|line| line.starts_with("broken"));
    // The reason is cut to the width of its column; `why` has the whole of it.
    ensure!(
        line.is_some_and(|line| line.contains("ImagePull") && line.contains("pull")),
        "{list}"
    );
    Ok(())
}

fn bundle_holds_no_secret(plugin: &Plugin) -> Result<()> {
    let file = plugin.file("bundle.tar.gz");
    plugin.run(&["bundle", "--file", &file])?;
    let folder = plugin.folder.path().join("unpacked");
    fs::create_dir(&folder)?;
    let folder_name = folder.display().to_string();
    command::stdout(&mut command::program(
        "tar",
        ["-xzf", &file, "-C", &folder_name],
    ))?;
    let bundle = folder.join("catamaran-bundle");
    for file in [
        "why.txt",
        "versions.yaml",
        "objects/virtualmachines/demo.yaml",
        "objects/virtualmachineinstances/demo.yaml",
    ] {
        ensure!(bundle.join(file).is_file(), "{file} is not in the bundle");
    }
    for part in ["objects/pods", "objects/events", "logs"] {
        let count = fs::read_dir(bundle.join(part)).map(Iterator::count);
        ensure!(count.is_ok_and(|count| count > 0), "{part} is empty");
    }
    let found = files_with(&bundle, PASSWORD)?;
    ensure!(found.is_empty(), "the password is in {found:?}");
    Ok(())
}

fn files_with(folder: &Path, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, text)?);
        } else if String::from_utf8_lossy(&fs::read(&path)?).contains(text) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[test]
fn a_user_lives_by_kubectl_alone() -> Result<()> {
    cluster::run(1, |cluster| {
        let plugin = Plugin::install(cluster)?;
        let user_data = plugin.file("user-data");
        fs::write(
            &user_data,
            format!("#cloud-config\nhostname: demo\npassword: {PASSWORD}\n"),
        )?;
        let key = plugin.file("key");
        let words = ["-q", "-t", "ed25519", "-N", "", "-f", &key];
        command::stdout(&mut command::program("ssh-keygen", words))?;
        let public_key = format!("{key}.pub");
        let words = [
            "demo",
            "--ssh-key",
            &public_key,
            "--image",
            MINIMAL,
            "--memory",
            "128Mi",
            "--cloud-init",
            &user_data,
        ];

        // Created by name; a dry run creates nothing.
        let dry = plugin.create(&[&words[..], &["--dry-run=server"]].concat())?;
        ensure!(
            dry == "virtualmachine.kubevirt.io/demo created (server dry run)\n",
            "{dry}"
        );
        ensure!(cluster.kubectl(["get", "vm"])?.is_empty());
        let manifest =
            plugin.create(&[&words[..], &["--dry-run=client", "-o", "yaml"]].concat())?;
        ensure!(manifest.contains("kind: VirtualMachine"), "{manifest}");
        let said = plugin.create(&words)?;
        ensure!(
            said == "virtualmachine.kubevirt.io/demo created\n",
            "{said}"
        );
        let twice =
            command::output(&mut plugin.kubectl(&["create", "vm", "demo", "--image", MINIMAL]))?;
        let error = String::from_utf8_lossy(&twice.stderr).into_owned();
        ensure!(twice.status.code() == Some(1), "{error}");
        ensure!(
            error.starts_with("Error from server (AlreadyExists)"),
            "{error}"
        );

        // It is seen to run.
        cluster.wait_condition("vm/demo", "Ready", "True", BOOT)?;
        let list = plugin.run(&["list"])?;
        let line = list.lines().find(|line| line.starts_with("demo"));
        ensure!(line.is_some_and(|line| line.contains("Running")), "{list}");
        let why = plugin.run(&["why", "demo"])?;
        ensure!(
            why.starts_with("demo runs on node node") && why.ends_with(" and is ready.\n"),
            "{why}"
        );

        // Its console and its ports.
        console_answers_and_is_left(&plugin)?;
        page_comes_through_a_forwarded_port(&plugin)?;
        ssh_reaches_the_guest(&plugin)?;
        viewer_shows_the_screen(&plugin)?;
        let png = plugin.file("screen.png");
        plugin.run(&["screenshot", "demo", "--file", &png])?;
        ensure!(fs::read(&png)?.starts_with(b"\x89PNG"));

        why_names_the_missing_image(&plugin)?;
        bundle_holds_no_secret(&plugin)?;

        // Stopped, and it says so.
        plugin.run(&["pause", "demo"])?;
        wait_for("the pause is told", SHORT, || {
            let why = plugin.run(&["why", "demo"])?;
            Ok(Seen::when(
                why.starts_with("demo is paused because somebody"),
                why,
            ))
        })?;
        plugin.run(&["unpause", "demo"])?;
        plugin.run(&["stop", "demo", "--force"])?;
        cluster.wait_field(
            "vm/demo",
            "/status/printableStatus",
            "Stopped",
            Duration::from_secs(90),
        )?;
        let why = plugin.run(&["why", "demo"])?;
        ensure!(
            why.starts_with("demo is stopped because its run strategy is Halted"),
            "{why}"
        );
        Ok(())
    })
}
