//! What a launcher that was taken over can do from inside its sandbox: nothing beyond its own machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::machine;
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, SHORT, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// Tries everything by bare system calls (x86-64 numbers) and writes one line each; then it stays, as a launcher would.
const PROBE: &str = r#"#!/usr/bin/perl
open(my $out, '>', '/vm/probe.new') or exit 1;
sub try { my ($what, $number, @rest) = @_; my $got = syscall($number, @rest); print $out "$what=", ($got == -1 ? "refused" : "done"), "\n"; }
my ($none, $tmpfs, $folder, $zero) = ("none\0", "tmpfs\0", "/vm\0", "\0" x 120);
try('nothing', 39);
try('mount', 165, $none, $folder, $tmpfs, 0, 0);
try('bpf', 321, 5, $zero, 120);
try('ptrace', 101, 16, OTHER, 0, 0);
try('kill', 62, OTHER, 0);
try('raw socket', 41, 2, 3, 1);
try('packet socket', 41, 17, 3, 768);
try('user namespace', 272, 0x10000000);
try('network namespace', 272, 0x40000000);
try('setuid', 105, 0);
try('keyring', 250, 0, -3, 0, 0, 0);
for my $disk (DISKS) { print $out "disk $disk=", (open(my $in, '<', $disk) ? "done" : "refused"), "\n"; }
print $out 'own=', (open(my $in, '<', '/vm/plan.json') ? "done" : "refused"), "\n";
close $out; rename '/vm/probe.new', '/vm/probe';
sleep 600;
"#;

/// Puts the probe in the place of the launcher, so that init itself starts it in the sandbox; gives what came out.
fn probe(
    bench: &Bench,
    name: &str,
    other: i32,
    disks: &[String],
) -> Result<BTreeMap<String, String>> {
    let quoted: Vec<String> = disks.iter().map(|disk| format!("'{disk}'")).collect();
    let text = PROBE
        .replace("OTHER", &other.to_string())
        .replace("DISKS", &quoted.join(", "));
    let code = bench.state().join("code/current").canonicalize()?;
    fs::write(code.join("probe"), text)?;
    fs::set_permissions(code.join("probe"), fs::Permissions::from_mode(0o755))?;
    fs::rename(code.join("catamaran-launcher"), code.join("real"))?;
    fs::rename(code.join("probe"), code.join("catamaran-launcher"))?;
    let launcher = bench.process(name, "catamaran-launcher")?;
    kill_process(Pid::from_raw(launcher).context("no pid")?, Signal::KILL)?;
    let found = bench.state().join(format!("vms/default_{name}/run/probe"));
    let text = wait_for("the probe has tried everything", SHORT, || {
        Ok(fs::read_to_string(&found)
            .map_or_else(|error| Seen::NotYet(error.to_string()), Seen::Yes))
    })?;
    // The real launcher takes the machine up again.
    fs::rename(code.join("real"), code.join("catamaran-launcher"))?;
    kill_process(
        Pid::from_raw(bench.process(name, "perl")?).context("no pid")?,
        Signal::KILL,
    )?;
    Ok(text
        .lines()
        .filter_map(|line| line.rsplit_once('='))
        .map(|(what, how)| (what.to_owned(), how.to_owned()))
        .collect())
}

fn status(pid: i32, field: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value
        .with_context(|| format!("no {field} of {pid}"))?
        .trim()
        .to_owned())
}

#[test]
fn from_inside_a_sandbox_nothing_beyond_the_own_machine_can_be_reached() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("victim"), &machine("attacker")])?;
        for name in ["victim", "attacker"] {
            bench.wait_field(
                &format!("vm/{name}"),
                "/status/printableStatus",
                "Running",
                BOOT,
            )?;
            for program in ["catamaran-launcher", "qemu-system-x86_64", "catamaran-init"] {
                let pid = bench.process(name, program)?;
                for (field, wanted) in [
                    ("CapEff", "0000000000000000"),
                    ("CapBnd", "0000000000000000"),
                    ("NoNewPrivs", "1"),
                    ("Seccomp", "2"),
                ] {
                    let found = status(pid, field)?;
                    ensure!(found == wanted, "{field} of {program} is {found}");
                }
                ensure!(
                    status(pid, "Uid")?
                        .split_whitespace()
                        .all(|uid| uid == "107"),
                    "{program} does not run as uid 107"
                );
                for namespace in ["mnt", "pid", "net", "ipc", "uts"] {
                    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
                    ensure!(
                        of(&pid.to_string())? != of("self")?,
                        "{program} shares the host's {namespace} namespace"
                    );
                }
            }
        }
        let victim = bench.process("victim", "qemu-system-x86_64")?;
        let root = bench
            .state()
            .join("vms/default_victim/run/overlays/root.qcow2")
            .display()
            .to_string();
        let disks = [
            root.clone(),
            format!("/proc/{victim}/root/vm/overlays/root.qcow2"),
            format!("/proc/1/root{root}"),
        ];
        let mut found = probe(bench, "attacker", victim, &disks)?;
        // The probe works: harmless things succeed.
        for what in ["nothing", "own"] {
            ensure!(
                found.remove(what).as_deref() == Some("done"),
                "{what} was refused"
            );
        }
        ensure!(found.len() == 10 + disks.len(), "{found:?}");
        let done: Vec<_> = found.iter().filter(|(_, how)| *how != "refused").collect();
        ensure!(done.is_empty(), "from inside the sandbox: {done:?}");
        ensure!(bench.process("victim", "qemu-system-x86_64")? == victim);
        wait_for("the launcher answers again", SHORT, || {
            bench
                .catamaran(["screenshot", "attacker", "--file", "/dev/null"])
                .map(Seen::Yes)
        })?;
        Ok(())
    })
}
