//! Starting, stopping and ending machines.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{machine, with_user_data};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, Console, SHORT, command, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What a guest sees of its hardware, and what others see of its address.
#[derive(Debug, PartialEq, Eq)]
struct Hardware {
    uuid: String,
    serial: String,
    mac: String,
    disk: String,
    devices: String,
    addresses: Value,
}

fn hardware(bench: &Bench, guest: &mut Console, name: &str) -> Result<Hardware> {
    Ok(Hardware {
        uuid: guest.shell("cat /sys/class/dmi/id/product_uuid")?,
        serial: guest.shell("cat /sys/class/dmi/id/product_serial")?,
        mac: guest.shell("cat /sys/class/net/eth0/address")?,
        disk: guest.shell("cat /sys/block/vda/serial")?,
        devices: guest
            .shell("cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/device); done")?,
        addresses: bench.get(&format!("vmi/{name}"))?["summary"]["ips"].clone(),
    })
}

fn kill(pid: i32) -> Result<()> {
    kill_process(Pid::from_raw(pid).context("no pid")?, Signal::KILL)?;
    Ok(())
}

/// Waits until another QEMU than `before` has booted the guest.
fn booted_again(bench: &Bench, name: &str, before: i32) -> Result<Console> {
    wait_for("a new QEMU runs", BOOT, || {
        let now = bench.processes(name, "qemu-system-x86_64");
        Ok(Seen::when(
            now.len() == 1 && now[0] != before,
            format!("{now:?}, before {before}"),
        ))
    })?;
    bench.booted(name)
}

fn boot_id(guest: &mut Console) -> Result<String> {
    guest.shell("cat /proc/sys/kernel/random/boot_id")
}

#[test]
fn a_machine_whose_qemu_is_killed_comes_back_with_the_same_hardware() -> Result<()> {
    run(|bench| {
        let mut vm = machine("phoenix");
        vm["spec"]["template"]["spec"]["domain"]["firmware"] = json!({"serial": "ship-7"});
        vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["serial"] = "root-7".into();
        bench.apply(&[&vm])?;
        let mut guest = bench.booted("phoenix")?;
        let before = hardware(bench, &mut guest, "phoenix")?;
        ensure!(
            before.serial == "ship-7" && before.disk == "root-7",
            "{before:?}"
        );
        let qemu = bench.process("phoenix", "qemu-system-x86_64")?;
        kill(qemu)?;
        let mut guest = booted_again(bench, "phoenix", qemu)?;
        ensure!(
            bench
                .catamaran(["describe", "phoenix"])?
                .contains("Stopped"),
            "the end was not told"
        );
        let listed = bench.catamaran(["ps", "-o", "wide"])?;
        ensure!(
            bench.get("vm/phoenix")?["summary"]["restarts"] == 1
                && listed.contains("the last restart: "),
            "{listed}"
        );
        let killed = hardware(bench, &mut guest, "phoenix")?;
        ensure!(killed == before, "{before:?} became {killed:?}");

        // The same after an orderly stop.
        bench.catamaran(["stop", "vm", "phoenix"])?;
        bench.wait_field("vm/phoenix", "/status/printableStatus", "Stopped", BOOT)?;
        bench.catamaran(["start", "phoenix"])?;
        let mut guest = bench.booted("phoenix")?;
        let started = hardware(bench, &mut guest, "phoenix")?;
        ensure!(started == before, "{before:?} became {started:?}");
        Ok(())
    })
}

#[test]
#[ignore = "boots four guests one after the other: `cargo xtask test --long`"]
fn run_strategies_keep_their_word() -> Result<()> {
    run(|bench| {
        let mut vm = machine("strategist");
        vm["spec"]["runStrategy"] = "Manual".into();
        bench.apply(&[&vm])?;
        bench.wait_field("vm/strategist", "/status/printableStatus", "Stopped", SHORT)?;
        ensure!(
            bench.get("vmi/strategist").is_err(),
            "Manual started by itself"
        );

        // Manual: a killed machine stays down until somebody starts it.
        bench.catamaran(["start", "strategist"])?;
        drop(bench.booted("strategist")?);
        kill(bench.process("strategist", "qemu-system-x86_64")?)?;
        bench.wait_field("vm/strategist", "/status/printableStatus", "Stopped", SHORT)?;

        // RerunOnFailure: a killed machine is started again, one that the guest has shut down is not.
        vm["spec"]["runStrategy"] = "RerunOnFailure".into();
        bench.apply(&[&vm])?;
        drop(bench.booted("strategist")?);
        let qemu = bench.process("strategist", "qemu-system-x86_64")?;
        kill(qemu)?;
        let mut guest = booted_again(bench, "strategist", qemu)?;
        guest.type_in("poweroff\n")?;
        wait_for("the guest has shut itself down", BOOT, || {
            let said = bench.catamaran(["describe", "strategist"])?;
            Ok(Seen::when(said.contains("The guest ended: Shutdown"), said))
        })?;
        bench.wait_gone("vmi/strategist", SHORT)?;

        // Halted: a running machine is stopped. Another machine: the kills above hold back the next start of the first.
        let mut vm = machine("halted");
        bench.apply(&[&vm])?;
        drop(bench.booted("halted")?);
        vm["spec"]["runStrategy"] = "Halted".into();
        bench.apply(&[&vm])?;
        bench.wait_field("vm/halted", "/status/printableStatus", "Stopped", BOOT)?;
        bench.wait_gone("vmi/halted", SHORT)
    })
}

#[test]
fn a_machine_is_paused_reset_and_rebooted_without_a_new_qemu() -> Result<()> {
    run(|bench| {
        bench.apply(&[&with_user_data(
            machine("verbs"),
            "#cloud-config\n# catamaran.counter=1\n",
        )])?;
        drop(bench.booted("verbs")?);
        let qemu = bench.process("verbs", "qemu-system-x86_64")?;

        bench.wait_serial("verbs", "counter 10\r", SHORT)?;
        bench.catamaran(["pause", "verbs"])?;
        bench.wait_field("vm/verbs", "/status/printableStatus", "Paused", SHORT)?;
        let paused = bench.serial("verbs");
        // The look at all of this takes longer than a dozen steps of the counter.
        for _ in 0..20 {
            bench.catamaran(["describe", "verbs"])?;
        }
        ensure!(bench.serial("verbs") == paused, "a paused guest spoke");
        ensure!(
            bench
                .refused(["soft-reboot", "verbs"])?
                .to_lowercase()
                .contains("paused")
        );
        bench.catamaran(["unpause", "verbs"])?;
        wait_for("the counter goes on", SHORT, || {
            let said = bench.serial("verbs");
            Ok(Seen::when(said.len() > paused.len() + 50, "no more output"))
        })?;

        for verb in ["soft-reboot", "reset"] {
            let boots = bench
                .serial("verbs")
                .matches("catamaran-guest ready: ")
                .count();
            bench.catamaran([verb, "verbs"])?;
            wait_for(&format!("the guest boots again after {verb}"), BOOT, || {
                let now = bench
                    .serial("verbs")
                    .matches("catamaran-guest ready: ")
                    .count();
                Ok(Seen::when(now == boots + 1, format!("{now} boots")))
            })?;
        }
        ensure!(
            bench.process("verbs", "qemu-system-x86_64")? == qemu,
            "QEMU was started anew"
        );
        Ok(())
    })
}

#[test]
fn restart_gives_a_new_run_and_starts_only_once() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("again")])?;
        let mut guest = bench.booted("again")?;
        let first = boot_id(&mut guest)?;
        let qemu = bench.process("again", "qemu-system-x86_64")?;
        let said = bench.try_catamaran(["start", "again"])?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        ensure!(said.contains("running"), "{said}");
        bench.catamaran(["restart", "again"])?;
        let mut guest = booted_again(bench, "again", qemu)?;
        ensure!(boot_id(&mut guest)? != first);
        Ok(())
    })
}

#[test]
fn an_ssh_key_of_a_secret_lets_its_owner_in() -> Result<()> {
    run(|bench| {
        let key = bench.folder().join("key");
        command::stdout(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&key),
        )?;
        let public = std::fs::read_to_string(key.with_extension("pub"))?;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"mine": public.trim()}});
        let mut vm = with_user_data(machine("door"), "#cloud-config\nhostname: door\n");
        vm["spec"]["template"]["spec"]["accessCredentials"] = json!([{"sshPublicKey": {
            "source": {"secret": {"secretName": "keys"}}, "propagationMethod": {"noCloud": {}}}}]);
        bench.apply(&[&secret, &vm])?;
        drop(bench.booted("door")?);
        let address = bench.catamaran(["ip", "door"])?;
        let address = address.lines().next().context("no address")?.to_owned();
        let options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ConnectTimeout=20",
        ];
        let said = wait_for("login by ssh", BOOT, || {
            let mut ssh = bench.inside(["ssh", "-i"]);
            ssh.arg(&key)
                .args(options)
                .args([&format!("root@{address}"), "hostname"]);
            command::stdout(&mut ssh).map(Seen::Yes)
        })?;
        ensure!(said.trim() == "door", "{said:?}");
        Ok(())
    })
}

#[test]
#[ignore = "UEFI takes a minute when it is emulated: `cargo xtask test --long`"]
fn a_guest_boots_securely_and_has_a_tpm() -> Result<()> {
    /// Firmware, shim and GRUB check signatures at the speed of an emulated processor.
    const SECURE_BOOT: Duration = Duration::from_secs(400);
    run(|bench| {
        let mut vm = machine("vault");
        let domain = &mut vm["spec"]["template"]["spec"]["domain"];
        domain["memory"]["guest"] = "512Mi".into();
        domain["firmware"] = json!({"bootloader": {"efi": {"secureBoot": true}}});
        domain["features"] = json!({"smm": {"enabled": true}});
        domain["devices"]["tpm"] = json!({"persistent": true});
        bench.apply(&[&vm])?;
        bench.wait_serial("vault", "catamaran-guest ready: ", SECURE_BOOT)?;
        let mut guest = bench.booted("vault")?;
        let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let state = guest.shell(&format!("tail -c 1 {variable} | od -An -t u1"))?;
        ensure!(state.trim() == "1", "SecureBoot is {state:?}");
        let version = guest.shell("cat /sys/class/tpm/tpm0/tpm_version_major")?;
        ensure!(version == "2", "the TPM is of version {version:?}");
        // It is emulated inside the sandbox, and its state stays with the machine.
        let swtpm = bench.process("vault", "swtpm")?;
        let status = std::fs::read_to_string(format!("/proc/{swtpm}/status"))?;
        ensure!(status.contains("Uid:\t107\t107\t107\t107"), "{status}");
        let state = bench.state().join("vms/default_vault/state");
        ensure!(
            state.join("tpm").is_dir(),
            "no TPM state in {}",
            state.display()
        );
        Ok(())
    })
}
