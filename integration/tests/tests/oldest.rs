//! A machine under the oldest libvirt and QEMU that are supported: those of a plain Debian 12.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::{BOOT, SHORT, manifest, programs, run};

/// Set for the part of the test that runs in that Debian.
const INSIDE: &str = "CATAMARAN_TESTS_OLDEST";
const NAME: &str = "a_machine_boots_with_the_libvirt_and_qemu_of_a_plain_debian_12";

#[test]
#[ignore = "installs a Debian: minutes"]
fn a_machine_boots_with_the_libvirt_and_qemu_of_a_plain_debian_12() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return boot();
    }
    if let Some(why) = programs::missing() {
        eprintln!("skipped: {why}");
        return Ok(());
    }
    let status = Command::new(programs::root().join("integration/setup/plain-bookworm"))
        .arg(programs::root().join("target/plain-bookworm"))
        .arg(env::current_exe()?)
        .args(["--exact", NAME, "--include-ignored", "--nocapture"])
        .envs([(INSIDE, "1"), ("CATAMARAN_NO_SKIP", "1")])
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .status()
        .context("integration/setup/plain-bookworm")?;
    ensure!(status.success(), "in a plain Debian 12: {status}");
    Ok(())
}

fn boot() -> Result<()> {
    run(|bench| {
        let host = bench.catamaran(["host"])?;
        ensure!(host.contains("7.2."), "not Debian 12's QEMU: {host}");
        let mut firmware = manifest::machine("uefi");
        let domain = &mut firmware["spec"]["template"]["spec"]["domain"];
        // GRUB wants that much under UEFI.
        domain["memory"] = serde_json::json!({"guest": "512Mi"});
        domain["firmware"] = serde_json::json!({"bootloader": {"efi": {"secureBoot": false}}});
        bench.apply(&[&manifest::machine("old"), &firmware])?;
        for machine in ["old", "uefi"] {
            let mut guest = bench.booted(machine)?;
            ensure!(guest.shell("hostname")? == machine);
            bench.wait_field(
                &format!("vm/{machine}"),
                "/status/printableStatus",
                "Running",
                SHORT,
            )?;
            bench.catamaran(["stop", machine])?;
            bench.wait_field(
                &format!("vm/{machine}"),
                "/status/printableStatus",
                "Stopped",
                BOOT,
            )?;
        }
        Ok(())
    })
}
