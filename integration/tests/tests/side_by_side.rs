//! A machine and a container from manifests, on one network.

use std::ffi::OsStr;
use std::fs;

use anyhow::{Result, ensure};
use catamaran_tests::{BOOT, Console, SHORT, programs, run, wait::Seen, wait_for};

#[test]
fn a_machine_and_a_container_run_side_by_side_and_talk_by_name() -> Result<()> {
    run(|bench| {
        let empty = bench.snapshot();
        let examples = programs::root().join("crds/examples");
        let (machine, pod) = (examples.join("vm.yaml"), examples.join("pod.yaml"));
        bench.catamaran([
            OsStr::new("apply"),
            OsStr::new("-f"),
            machine.as_os_str(),
            OsStr::new("-f"),
            pod.as_os_str(),
        ])?;

        // The guest has its name, address and words from cloud-init.
        let mut guest = bench.booted("demo")?;
        bench.wait_serial("demo", "hello from cloud-init", SHORT)?;
        bench.wait_serial(
            "demo",
            "catamaran-guest ready: demo 10.0.2.2 fd10:0:2::2",
            SHORT,
        )?;
        ensure!(guest.shell("hostname")? == "demo");
        bench.wait_field("vm/demo", "/status/printableStatus", "Running", SHORT)?;
        bench.wait_field("pod/web", "/status/phase", "Running", SHORT)?;

        // Each fetches the other's page by name.
        ensure!(guest.shell("wget -qO- http://web/")? == "catamaran-tiny");
        let page = wait_for(
            "the container fetches the guest's page by name",
            SHORT,
            || {
                bench
                    .in_pod("web", "wget", &["-qO-", "http://demo/"])
                    .map(Seen::Yes)
            },
        )?;
        ensure!(page.starts_with("catamaran-guest demo\n"), "{page:?}");

        // What a user looks at.
        let table = bench.catamaran(["ps"])?;
        ensure!(table.contains("demo") && table.contains("web"), "{table}");
        ensure!(
            bench
                .catamaran(["describe", "demo"])?
                .contains("SuccessfulCreate")
        );
        let address = bench.catamaran(["ip", "demo"])?;
        ensure!(address.starts_with("10.88."), "{address}");
        ensure!(
            bench
                .catamaran(["logs", "demo"])?
                .contains("hello from cloud-init")
        );
        let replay = Console::open(bench, "demo", &["--replay", "--read-only"])?;
        replay.wait_for("hello from cloud-init", SHORT)?;
        let picture = bench.folder().join("screen.png");
        bench.catamaran([
            OsStr::new("screenshot"),
            OsStr::new("demo"),
            OsStr::new("--file"),
            picture.as_os_str(),
        ])?;
        ensure!(
            fs::read(&picture)?.starts_with(b"\x89PNG\r\n"),
            "not a PNG file"
        );
        drop((guest, replay));

        // The guest shuts itself down when it is asked to.
        bench.catamaran(["stop", "demo"])?;
        bench.wait_field("vm/demo", "/status/printableStatus", "Stopped", BOOT)?;
        let log = bench.catamaran(["describe", "demo"])?;
        ensure!(!log.contains("grace period"), "the plug was pulled: {log}");

        bench.catamaran([
            OsStr::new("delete"),
            OsStr::new("-f"),
            machine.as_os_str(),
            OsStr::new("-f"),
            pod.as_os_str(),
        ])?;
        wait_for("nothing is left of machine and container", SHORT, || {
            let difference = bench.snapshot().difference(&empty);
            Ok(Seen::when(difference.is_empty(), difference.to_string()))
        })
    })
}
