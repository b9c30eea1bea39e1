//! What goes wrong on a host gives one clear message and leaves nothing behind.
//!
//! Other themes have their own failures: `refusals` (manifests, a registry that is down, a second daemon on one state folder), `lifecycle`
//! (a QEMU that is killed), `daemon_restart` (daemon and launcher killed, a manifest changed while its machine starts), `storage` (full disks).

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{machine, pod};
use catamaran_tests::setting::without;
use catamaran_tests::steps::{delete, listener, page, wait_described, wait_page};
use catamaran_tests::{BOOT, SHORT, Setting, command, programs, run, run_in};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Where the daemon looks for QEMU.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// What the launcher loads to drive QEMU.
const DRIVER: &str = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so";

#[test]
fn a_machine_is_not_emulated_where_kvm_is_required() -> Result<()> {
    run_in(Setting::words(&["--require-kvm"]), |bench| {
        let empty = bench.snapshot();
        bench.apply(&[&machine("fast")])?;
        if bench.catamaran(["host"])?.contains("guests run under KVM") {
            return bench
                .wait_field("vm/fast", "/status/printableStatus", "Running", BOOT)
                .map(drop);
        }
        wait_described(bench, "vm/fast", &["--require-kvm: KVM is"])?;
        delete(bench, &["vm/fast"], &empty)
    })
}

#[test]
fn a_pod_whose_host_port_is_taken_says_by_whom_and_waits() -> Result<()> {
    run(|bench| {
        let empty = bench.snapshot();
        let mut web = pod("first", &["httpd", "-f", "-p", "80", "-h", "/www"]);
        web["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
        bench.apply(&[&web])?;
        let url = |port: u16| format!("http://127.0.0.1:{port}/");
        wait_page(bench, &url(8080), "catamaran-tiny")?;

        // Taken by another pod, and by a program of the host.
        let mut second = web.clone();
        second["metadata"]["name"] = "second".into();
        let listener = listener(bench, 8081)?;
        let mut third = web.clone();
        third["metadata"]["name"] = "third".into();
        third["spec"]["containers"][0]["ports"][0]["hostPort"] = 8081.into();
        bench.apply(&[&second, &third])?;
        for (name, words) in [
            ("second", ["host port 8080", "default/first"]),
            ("third", ["host port 8081", "in use"]),
        ] {
            let words = [&["HostPortConflict"], &words[..]].concat();
            let said = wait_described(bench, &format!("pod/{name}"), &words)?;
            let told = |line: &&str| {
                ["Warning", "HostPortConflict"]
                    .iter()
                    .all(|word| line.contains(word))
            };
            ensure!(said.lines().filter(told).count() == 1, "{said}");
            ensure!(
                bench.get(&format!("pod/{name}"))?["status"]["phase"] == "Pending",
                "{said}"
            );
        }
        ensure!(
            page(bench, &url(8080))?.trim() == "catamaran-tiny",
            "the first has lost its port"
        );

        // They get it when it is free.
        drop(listener);
        bench.catamaran(["delete", "pod/first"])?;
        wait_page(bench, &url(8080), "catamaran-tiny")?;
        wait_page(bench, &url(8081), "catamaran-tiny")?;
        delete(bench, &["pod/second", "pod/third"], &empty)
    })
}

/// A copy of the minimal guest's image in which one byte of the layer has changed; gives the reference.
fn broken_image(bench: &Bench) -> Result<String> {
    let copy = bench.folder().join("broken");
    let (from, to) = (
        format!(
            "oci:{}:catamaran.local/minimal:dev",
            programs::images().display()
        ),
        format!("oci:{}:bad", copy.display()),
    );
    command::stdout(&mut command::program(
        "skopeo",
        ["copy", "--quiet", &from, &to],
    ))?;
    let mut largest = (0, PathBuf::new());
    for blob in fs::read_dir(copy.join("blobs/sha256"))? {
        let blob = blob?;
        largest = largest.max((blob.metadata()?.len(), blob.path()));
    }
    let mut layer = File::options().write(true).open(largest.1)?;
    layer.seek(SeekFrom::Start(largest.0 / 2))?;
    layer.write_all(b"another byte")?;
    Ok(to)
}

#[test]
fn an_image_whose_bytes_are_not_its_digests_is_not_used() -> Result<()> {
    run(|bench| {
        let empty = bench.snapshot();
        let cache = bench.state().join("images/disks");
        let mut vm = machine("forged");
        vm["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["image"] =
            broken_image(bench)?.into();
        bench.apply(&[&vm])?;
        wait_described(
            bench,
            "forged",
            &[
                "ErrImagePull",
                "does not match its digest: expected sha256:",
            ],
        )?;
        let left: Vec<_> = fs::read_dir(&cache)?
            .flatten()
            .map(|file| file.path())
            .collect();
        ensure!(left.is_empty(), "it is kept: {left:?}");
        delete(bench, &["forged"], &empty)
    })
}

#[test]
fn without_qemu_or_libvirt_the_daemon_says_so_and_changes_nothing() -> Result<()> {
    run(|bench| {
        let before = bench.snapshot();
        let scratch = bench.folder().join("scratch");
        fs::create_dir(&scratch)?;
        for (hidden, words) in [
            (QEMU, [QEMU, "Debian package qemu-system-x86"]),
            (
                DRIVER,
                [
                    "libvirt's driver for QEMU",
                    "Debian package libvirt-daemon-driver-qemu",
                ],
            ),
        ] {
            let mut play = bench.inside([bench.folder().join("bin/catamaran")]);
            play.arg("--state").arg(bench.folder().join("other"));
            play.args(["play", "--bridge", "ctbr1", "--runtime", "private"]);
            play.args(["--metrics", "127.0.0.1:9192"]);
            let output = command::output(&mut without(&[hidden.into()], &scratch, &play))?;
            ensure!(!output.status.success(), "it runs without {hidden}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            for words in words {
                ensure!(said.contains(words), "{words:?} is not in {said:?}");
            }
            ensure!(said.matches("is not installed").count() == 1, "{said}");
            let difference = bench.snapshot().difference(&before);
            ensure!(difference.is_empty(), "{difference}");
        }
        Ok(())
    })
}

#[test]
fn without_containerd_pods_say_what_is_missing_and_machines_run() -> Result<()> {
    let containerd = programs::which("containerd").context("no containerd")?;
    let setting = Setting {
        hidden: vec![containerd],
        ..Setting::default()
    };
    run_in(setting, |bench| {
        let empty = bench.snapshot();
        let mut vm = machine("alone");
        vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
        bench.apply(&[&pod("lonely", &["sleep", "1000"]), &vm])?;
        let object = "pod/lonely";
        let pod = bench.wait_field(object, "/status/reason", "NoContainerRuntime", SHORT)?;
        let message = pod["status"]["message"].as_str().unwrap_or_default();
        for words in [
            "containerd not found",
            "install the Debian packages containerd",
        ] {
            ensure!(message.contains(words), "{words:?} is not in {message:?}");
        }
        bench.wait_field("vm/alone", "/status/printableStatus", "Running", SHORT)?;
        delete(bench, &[object, "vm/alone"], &empty)
    })
}

/// Stops a machine's launcher, so that it answers nobody any more.
fn freeze_launcher(bench: &Bench, name: &str) -> Result<()> {
    let pid = bench.process(name, "catamaran-launcher")?;
    kill_process(Pid::from_raw(pid).context("no pid")?, Signal::STOP)?;
    Ok(())
}

#[test]
fn a_launcher_that_never_answers_holds_up_neither_stop_nor_delete() -> Result<()> {
    /// Grace period and what is given to a launcher beyond it, with something for a busy machine.
    const LONGEST: Duration = Duration::from_secs(1 + 20 + 15);
    run(|bench| {
        let empty = bench.snapshot();
        let names = ["stopped", "deleted"];
        for name in names {
            let mut vm = machine(name);
            vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1.into();
            bench.apply(&[&vm])?;
        }
        for name in names {
            let vm = format!("vm/{name}");
            bench.wait_field(&vm, "/status/printableStatus", "Running", SHORT)?;
        }
        for name in names {
            freeze_launcher(bench, name)?;
        }
        let begin = Instant::now();
        bench.catamaran(["stop", "stopped"])?;
        bench.catamaran(["delete", "deleted", "--no-wait"])?;
        bench.wait_field("vm/stopped", "/status/printableStatus", "Stopped", LONGEST)?;
        bench.wait_gone("vm/deleted", LONGEST.saturating_sub(begin.elapsed()))?;
        let told = bench.catamaran(["describe", "stopped"])?;
        ensure!(told.contains("Overdue"), "{told}");
        for name in names {
            let left = bench.processes(name, "qemu-system-x86_64");
            ensure!(left.is_empty(), "{name} still has {left:?}");
        }

        // It is a machine as before.
        bench.catamaran(["start", "stopped"])?;
        bench.wait_field("vm/stopped", "/status/printableStatus", "Running", SHORT)?;
        delete(bench, &["stopped"], &empty)
    })
}

#[test]
fn the_kernel_log_of_a_guest_can_be_read_live_paused_hung_and_after_its_panic() -> Result<()> {
    run(|bench| {
        let mut vm = machine("sailor");
        vm["spec"]["runStrategy"] = "Once".into();
        bench.apply(&[&vm])?;
        let mut guest = bench.booted("sailor")?;
        let said = bench.refused(["dmesg", "sailor", "--previous"])?;
        ensure!(said.lines().count() <= 2, "{said}");

        guest.shell("echo the mast holds >/dev/kmsg")?;
        let live = bench.catamaran(["dmesg", "sailor"])?;
        for words in ["Linux version", "the mast holds"] {
            ensure!(live.contains(words), "{words:?} is not in {live}");
        }
        let tail = bench.catamaran(["dmesg", "sailor", "--tail", "200"])?;
        ensure!(
            tail.len() <= 201 && tail.contains("the mast holds"),
            "{tail:?}"
        );

        // A guest whose processors stand still can't be asked anything.
        bench.catamaran(["pause", "sailor"])?;
        bench.wait_field("vm/sailor", "/status/printableStatus", "Paused", SHORT)?;
        let paused = bench.catamaran(["dmesg", "sailor"])?;
        ensure!(paused.contains("the mast holds"), "{paused}");
        bench.catamaran(["unpause", "sailor"])?;

        // Nor one whose hypervisor answers nobody any more.
        let qemu = bench.process("sailor", "qemu-system-x86_64")?;
        let qemu = Pid::from_raw(qemu).context("no pid")?;
        kill_process(qemu, Signal::STOP)?;
        let hung = bench.catamaran(["dmesg", "sailor"]);
        kill_process(qemu, Signal::CONT)?;
        let hung = hung?;
        ensure!(hung.contains("the mast holds"), "{hung}");

        guest.type_in("echo the mast breaks >/dev/kmsg; echo c >/proc/sysrq-trigger\n")?;
        bench.wait_field("vmi/sailor", "/status/phase", "Failed", BOOT)?;
        wait_described(bench, "sailor", &["panicked"])?;
        let tail = bench.catamaran(["dmesg", "sailor", "--previous"])?;
        for words in [
            "the mast holds",
            "the mast breaks",
            "Kernel panic - not syncing: sysrq triggered crash",
        ] {
            ensure!(tail.contains(words), "{words:?} is not in {tail}");
        }
        ensure!(bench.processes("sailor", "qemu-system-x86_64").is_empty());

        // It is kept until the machine goes, whatever becomes of the daemon.
        bench.kill_daemon()?;
        bench.start_daemon()?;
        ensure!(bench.catamaran(["dmesg", "sailor", "--previous"])? == tail);
        Ok(())
    })
}
