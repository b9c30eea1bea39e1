//! What can't be done is refused with one clear message, and leaves nothing behind.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{machine, pod};
use catamaran_tests::wait::Seen;
use catamaran_tests::{SHORT, command, run, wait_for};
use serde_json::{Value, json};

/// Applies what must be refused; gives the message.
fn refused(bench: &Bench, object: &Value) -> Result<String> {
    let path = bench.manifest(&[object])?;
    bench.refused([OsStr::new("apply"), OsStr::new("-f"), path.as_os_str()])
}

fn says(message: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in {message:?}");
    }
    Ok(())
}

#[test]
fn a_wrong_manifest_is_refused_with_the_path_of_each_mistake() -> Result<()> {
    run(|bench| {
        let empty = bench.snapshot();
        let mut vm = machine("wrong");
        vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["colour"] = "red".into();
        says(
            &refused(bench, &vm)?,
            &["colour", "domain.devices.disks[0]"],
        )?;

        let mut vm = machine("wrong");
        let volumes = &mut vm["spec"]["template"]["spec"]["volumes"];
        *volumes = json!([volumes[0], volumes[0]]);
        says(&refused(bench, &vm)?, &["volumes[1]", "root"])?;

        let mut vm = machine("wrong");
        vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"] = json!([{"name": "root", "disk": {"bus": "virtio"}}, {"name": "ghost", "disk": {"bus": "virtio"}}]);
        says(&refused(bench, &vm)?, &["disks[1]", "ghost"])?;

        // All mistakes at once.
        let mut vm = machine("wrong");
        vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "many".into();
        vm["spec"]["template"]["spec"]["domain"]["cpu"] = json!({"cores": 0, "flavour": "mint"});
        says(&refused(bench, &vm)?, &["memory.guest", "flavour"])?;

        says(
            &refused(
                bench,
                &json!({"apiVersion": "v1", "kind": "Deployment", "metadata": {"name": "x"}}),
            )?,
            &["Deployment"],
        )?;
        let mut wrong_pod = pod("wrong", &["true"]);
        wrong_pod["spec"]["hostNetwork"] = true.into();
        says(&refused(bench, &wrong_pod)?, &["hostNetwork"])?;
        ensure!(
            bench.snapshot() == empty,
            "{}",
            bench.snapshot().difference(&empty)
        );
        Ok(())
    })
}

#[test]
fn an_image_that_nobody_has_is_told_and_its_machine_can_be_deleted() -> Result<()> {
    run(|bench| {
        let empty = bench.snapshot();
        let mut vm = machine("orphan");
        // Nobody listens on that port of the bench's own loopback.
        vm["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["image"] =
            "127.0.0.1:5999/no/such:image".into();
        bench.apply(&[&vm])?;
        wait_for("the machine says why it does not start", SHORT, || {
            let said = bench.catamaran(["describe", "orphan"])?;
            Ok(Seen::when(
                said.contains("registry 127.0.0.1:5999 cannot be used")
                    && said.contains("ErrImagePull"),
                said.clone(),
            ))
        })?;
        bench.catamaran(["delete", "orphan"])?;
        wait_for("nothing is left", SHORT, || {
            let difference = bench.snapshot().difference(&empty);
            Ok(Seen::when(difference.is_empty(), difference.to_string()))
        })
    })
}

#[test]
fn a_second_daemon_on_one_state_folder_is_refused() -> Result<()> {
    run(|bench| {
        let before = bench.snapshot();
        let output = command::output(&mut bench.play::<&str>([]))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success());
        ensure!(said.lines().count() <= 2, "it says much: {said}");
        says(
            &said,
            &["another daemon", &bench.state().display().to_string()],
        )?;
        ensure!(bench.answers(), "the first daemon was disturbed");
        let difference = bench.snapshot().difference(&before);
        ensure!(difference.is_empty(), "{difference}");
        Ok(())
    })
}

#[test]
fn verbs_on_what_is_not_there_say_so() -> Result<()> {
    run(|bench| {
        for verb in [
            "start", "stop", "pause", "console", "dmesg", "ip", "describe", "delete",
        ] {
            let said = bench.refused([verb, "nobody"])?;
            ensure!(
                said.contains("nobody") && said.contains("not found"),
                "{verb}: {said}"
            );
            ensure!(said.lines().count() <= 2, "{verb} says much: {said}");
        }
        Ok(())
    })
}

#[test]
fn a_plan_needs_no_daemon_and_starts_nothing() -> Result<()> {
    run(|bench| {
        let before = bench.snapshot();
        let path = bench.manifest(&[&machine("paper")])?;
        let mut plan = Command::new(bench.folder().join("bin/catamaran"));
        plan.arg("--state")
            .arg(bench.folder().join("nowhere"))
            .args(["plan", "--xml", "-f"])
            .arg(&path);
        let xml = command::stdout(&mut plan)?;
        says(&xml, &["<domain type=", "paper"])?;
        ensure!(
            !bench.folder().join("nowhere").exists(),
            "a plan made a state folder"
        );
        ensure!(bench.snapshot() == before);
        Ok(())
    })
}
