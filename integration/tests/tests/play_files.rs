//! `play -f`: files and folders that are watched while the daemon runs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{add_disk, machine, pod};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, SHORT, command, run, wait_for};
use serde_json::{Value, json};

/// The watched things of a test: a file, and a folder with files.
struct Files {
    file: PathBuf,
    folder: PathBuf,
}

impl Files {
    fn new(bench: &Bench) -> Result<Self> {
        let folder = bench.folder().join("manifests");
        fs::create_dir(&folder)?;
        Ok(Self {
            file: bench.folder().join("file.yaml"),
            folder,
        })
    }

    fn words(&self) -> [&OsStr; 4] {
        let f = OsStr::new("-f");
        [f, self.file.as_os_str(), f, self.folder.as_os_str()]
    }

    fn start(&self, bench: &mut Bench) -> Result<()> {
        let words = self.words();
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        bench.start_daemon_with(&words)
    }

    fn write(&self, name: &str, objects: &[&Value]) -> Result<()> {
        write(&self.folder.join(name), objects)
    }
}

fn write(path: &Path, objects: &[&Value]) -> Result<()> {
    let texts: Vec<String> = objects.iter().map(|object| object.to_string()).collect();
    Ok(fs::write(path, texts.join("\n---\n"))?)
}

fn map(name: &str, word: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"word": word}})
}

fn wait_word(bench: &Bench, name: &str, word: &str) -> Result<()> {
    bench.wait_field(&format!("cm/{name}"), "/data/word", word, SHORT)?;
    Ok(())
}

fn sleeper(name: &str) -> Value {
    pod(name, &["sleep", "infinity"])
}

fn pids(bench: &Bench, name: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = bench
        .pod_processes(name)
        .iter()
        .map(|process| process.pid)
        .collect();
    pids.sort_unstable();
    pids
}

#[test]
fn files_act_when_they_change_and_a_bad_one_keeps_no_other_down() -> Result<()> {
    run(|bench| {
        bench.kill_daemon()?;
        let files = Files::new(bench)?;
        write(&files.file, &[&map("single", "one")])?;
        files.write("a.yaml", &[&sleeper("sleeper")])?;
        fs::write(files.folder.join("b.yaml"), "a: [\n")?;
        files.write("c.yaml", &[&map("kept", "one"), &map("dropped", "one")])?;

        // A mistake in a file of the command line is told, and nothing is started.
        let bad = files.folder.join("b.yaml");
        let output = command::output(&mut bench.play([OsStr::new("-f"), bad.as_os_str()]))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && said.contains("b.yaml"),
            "{said}"
        );

        // In a folder it holds up no other.
        files.start(bench)?;
        for name in ["single", "kept", "dropped"] {
            wait_word(bench, name, "one")?;
        }
        bench.wait_field("pod/sleeper", "/status/phase", "Running", SHORT)?;
        ensure!(bench.daemon_log().contains("b.yaml"), "it is not told");
        let said = bench.refused(["delete", "cm/single"])?;
        ensure!(said.contains("file.yaml"), "{said}");

        // Changed.
        write(&files.file, &[&map("single", "two")])?;
        wait_word(bench, "single", "two")?;

        // A document taken out goes, and can come back.
        files.write("c.yaml", &[&map("kept", "two")])?;
        bench.wait_gone("cm/dropped", SHORT)?;
        wait_word(bench, "kept", "two")?;
        files.write("c.yaml", &[&map("kept", "two"), &map("dropped", "three")])?;
        wait_word(bench, "dropped", "three")?;

        // Replaced as editors do it: nobody is stopped. What is written last is seen by the looks after it.
        let before = pids(bench, "sleeper");
        let path = files.folder.join("a.yaml");
        let text = fs::read(&path)?;
        for turn in 0..3 {
            fs::remove_file(&path)?;
            fs::write(&path, &text)?;
            let word = format!("turn {turn}");
            write(&files.file, &[&map("single", &word)])?;
            wait_word(bench, "single", &word)?;
        }
        ensure!(!before.is_empty() && pids(bench, "sleeper") == before);

        // Removed: its pod goes. Back while that stops: it is started anew.
        fs::remove_file(&path)?;
        wait_for("the pod is asked to stop", SHORT, || {
            let output = bench.try_catamaran(["get", "pod/sleeper", "-o", "json"])?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let asked = !output.status.success() || said.contains("deletionTimestamp");
            Ok(Seen::when(asked, said))
        })?;
        fs::write(&path, &text)?;
        wait_for("another one runs", SHORT, || {
            let now = pids(bench, "sleeper");
            let new = !now.is_empty() && now.iter().all(|pid| !before.contains(pid));
            Ok(Seen::when(new, format!("{now:?}")))
        })?;
        fs::remove_file(&path)?;
        bench.wait_gone("pod/sleeper", SHORT)?;

        // The bad file is still there at the next start.
        bench.kill_daemon()?;
        files.start(bench)?;
        wait_word(bench, "kept", "two")?;
        fs::write(
            files.folder.join("b.yaml"),
            map("mended", "one").to_string(),
        )?;
        wait_word(bench, "mended", "one")
    })
}

#[test]
fn a_removed_file_takes_a_machine_with_its_claim_and_a_stop_outlives_the_same_manifest()
-> Result<()> {
    run(|bench| {
        bench.kill_daemon()?;
        let files = Files::new(bench)?;
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cargo"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
        });
        let mut vm = machine("carrier");
        vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
        add_disk(
            &mut vm,
            "cargo",
            &json!({"disk": {"bus": "virtio"}}),
            &json!({"persistentVolumeClaim": {"claimName": "cargo"}}),
        );
        write(&files.file, &[&claim, &vm])?;
        files.start(bench)?;
        bench.wait_field("vmi/carrier", "/status/phase", "Running", BOOT)?;

        // The same manifest from elsewhere starts nothing, and the file stays its home.
        bench.catamaran(["stop", "carrier"])?;
        bench.wait_gone("vmi/carrier", SHORT)?;
        let said = bench.apply(&[&claim, &vm])?;
        ensure!(said.contains("unchanged"), "{said}");
        let stopped = bench.get("vm/carrier")?["spec"]["runStrategy"].clone();
        ensure!(stopped == "Halted", "{stopped}");
        let said = bench.refused(["delete", "carrier"])?;
        ensure!(said.contains("file.yaml"), "{said}");

        bench.catamaran(["start", "carrier"])?;
        bench.wait_field("vmi/carrier", "/status/phase", "Running", BOOT)?;
        fs::remove_file(&files.file)?;
        bench.wait_gone("vm/carrier", SHORT)?;
        bench.wait_gone("pvc/cargo", SHORT)?;

        // `delete -f` in either order.
        for objects in [[&claim, &vm], [&vm, &claim]] {
            let manifest = bench.manifest(&objects)?;
            let verb = |verb| [OsStr::new(verb), OsStr::new("-f"), manifest.as_os_str()];
            bench.catamaran(verb("apply"))?;
            bench.wait_field("vmi/carrier", "/status/phase", "Running", BOOT)?;
            bench.catamaran(verb("delete"))?;
            bench.refused(["get", "vm/carrier"])?;
            bench.refused(["get", "pvc/cargo"])?;
        }
        Ok(())
    })
}
