//! What a launcher that was taken over can do from inside its sandbox: nothing beyond its own machine. And how little those may who read what
//! strangers wrote.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::machine;
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, SHORT, programs, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// Tries everything by bare system calls (x86-64 numbers) and writes one line each, with the word for the system's answer; then it stays, as a
/// launcher would.
const PROBE: &str = r#"#!/usr/bin/perl
open(my $out, '>', '/vm/probe.new') or exit 1;
my %words = (1 => 'EPERM', 2 => 'ENOENT', 3 => 'ESRCH', 13 => 'EACCES', 38 => 'ENOSYS');
sub note { my ($what, $done) = @_; print $out "$what=", ($done ? 'done' : $words{$!+0} // $!+0), "\n"; }
sub try { my ($what, $number, @rest) = @_; note($what, syscall($number, @rest) != -1); }
my ($none, $tmpfs, $folder, $node, $zero) = ("none\0", "tmpfs\0", "/vm\0", "/vm/node\0", "\0" x 120);
try('nothing', 39);
try('mount', 165, $none, $folder, $tmpfs, 0, 0);
try('open_tree', 428, -100, $folder, 1);
try('fsopen', 430, $tmpfs, 0);
try('pivot_root', 155, $folder, $folder);
try('chroot', 161, $folder);
try('bpf', 321, 5, $zero, 120);
try('perf_event_open', 298, $zero, 0, -1, -1, 0);
try('ptrace by its number on the host', 101, 16, OTHER, 0, 0);
try('read the memory of a number of the host', 310, OTHER, $zero, 0, $zero, 0, 0);
try('signal to a number of the host', 62, OTHER, 0);
try('pidfd of a number of the host', 434, OTHER, 0);
try('raw socket', 41, 2, 3, 1);
try('raw socket of IPv6', 41, 10, 3, 58);
try('packet socket', 41, 17, 3, 768);
try('user namespace', 272, 0x10000000);
try('mount namespace', 272, 0x20000);
try('network namespace', 272, 0x40000000);
try('user namespace by clone', 56, 0x10000011, 0, 0, 0, 0);
try('user namespace by clone3', 435, $zero, 88);
try('enter a namespace', 308, 0, 0);
try('setuid', 105, 0);
try('setgid', 106, 0);
try('keyring', 250, 0, -3, 0, 0, 0);
try('module', 175, $zero, 0, $zero);
try('device', 133, $node, 060600, 0x0800);
try('system clock', 227, 0, $zero);
for my $disk (DISKS) { note("disk $disk", open(my $in, '<', $disk)); }
note('own', open(my $in, '<', '/vm/plan.json'));
# Whom it sees: numbers of its own pid namespace only.
opendir(my $proc, '/proc');
my @pids = grep { /^\d+$/ } readdir $proc;
sub command { open(my $in, '<', "/proc/$_[0]/cmdline") or return ''; my $words = <$in>; return $words // ''; }
sub processes { my ($name) = @_; return scalar grep { command($_) =~ /\Q$name\E/ } @pids; }
print $out "pids=", join(' ', sort { $a <=> $b } @pids), "\nstrange processes=", processes('OTHERNAME'), "\nown processes=", processes('OWNNAME'), "\n";
# What it sees: no file anywhere is the other's disk.
my ($seen, $own, @folders) = (0, 0, '/');
while (defined(my $at = shift @folders)) {
    next if $at =~ m{^//?(proc|sys|usr)$};
    opendir(my $dir, $at) or next;
    for my $name (grep { !/^\.\.?$/ } readdir $dir) {
        my $path = "$at/$name";
        my @stat = lstat $path or next;
        push @folders, $path if -d _ && !-l _;
        $seen++ if "$stat[0]:$stat[1]" eq 'OTHERDISK';
        $own++ if "$stat[0]:$stat[1]" eq 'OWNDISK';
    }
}
print $out "strange disks=$seen\nown disks=$own\n";
close $out; rename '/vm/probe.new', '/vm/probe';
sleep 600;
"#;

/// Somebody else's machine, as the host knows it.
struct Other<'a> {
    name: &'a str,
    /// QEMU's process id on the host.
    qemu: i32,
    /// Its disk on the host.
    disk: &'a Path,
    /// Paths by which one could think of opening the disk.
    paths: Vec<String>,
}

/// The overlay of a machine's disk, on the host.
fn disk_of(bench: &Bench, name: &str) -> PathBuf {
    let run = bench.state().join(format!("vms/default_{name}/run"));
    run.join("overlays/root.qcow2")
}

/// Puts the probe in the place of the launcher, so that init itself starts it in the sandbox; gives what came out.
fn probe(bench: &Bench, name: &str, other: &Other<'_>) -> Result<BTreeMap<String, String>> {
    let quoted: Vec<String> = other.paths.iter().map(|disk| format!("'{disk}'")).collect();
    let number = |disk: &Path| {
        let file = fs::metadata(disk)?;
        anyhow::Ok(format!("{}:{}", file.dev(), file.ino()))
    };
    let text = PROBE
        .replace("OTHERNAME", other.name)
        .replace("OWNNAME", &format!("default_{name}"))
        .replace("OTHERDISK", &number(other.disk)?)
        .replace("OWNDISK", &number(&disk_of(bench, name))?)
        .replace("OTHER", &other.qemu.to_string())
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
        let disk = disk_of(bench, "victim");
        let root = disk.display().to_string();
        let other = Other {
            name: "default_victim",
            qemu: victim,
            disk: &disk,
            paths: vec![
                root.clone(),
                format!("/proc/{victim}/root/vm/overlays/root.qcow2"),
                format!("/proc/1/root{root}"),
                format!("/vm/../../../..{root}"),
                "/vm/../../default_victim/run/overlays/root.qcow2".to_owned(),
            ],
        };
        let mut found = probe(bench, "attacker", &other)?;
        // The probe works: harmless things succeed.
        for what in ["nothing", "own"] {
            ensure!(
                found.remove(what).as_deref() == Some("done"),
                "{what} was refused"
            );
        }
        for what in ["own processes", "own disks"] {
            let seen = found.remove(what);
            ensure!(
                seen.as_deref().is_some_and(|seen| seen != "0"),
                "{what}: {seen:?}"
            );
        }
        // Others are not even seen.
        for what in ["strange processes", "strange disks"] {
            ensure!(
                found.remove(what).as_deref() == Some("0"),
                "{what}: {found:?}"
            );
        }
        let pids = found.remove("pids").unwrap_or_default();
        ensure!(
            pids.split(' ').any(|pid| pid == "1")
                && !pids.split(' ').any(|pid| pid == victim.to_string()),
            "it sees the processes {pids}"
        );
        for what in [
            "signal to a number of the host",
            "pidfd of a number of the host",
        ] {
            let said = found.remove(what);
            ensure!(said.as_deref() == Some("ESRCH"), "{what}: {said:?}");
        }
        for path in &other.paths {
            let said = found.remove(&format!("disk {path}"));
            ensure!(said.as_deref() == Some("ENOENT"), "{path}: {said:?}");
        }
        // Everything else is refused, by the filter of system calls or for lack of a capability.
        ensure!(found.len() == 24, "{} things: {found:?}", found.len());
        let missing = found.remove("user namespace by clone3");
        ensure!(missing.as_deref() == Some("ENOSYS"), "clone3: {missing:?}");
        let other: Vec<_> = found.iter().filter(|(_, how)| *how != "EPERM").collect();
        ensure!(other.is_empty(), "from inside the sandbox: {other:?}");
        ensure!(bench.process("victim", "qemu-system-x86_64")? == victim);
        wait_for("the launcher answers again", SHORT, || {
            bench
                .catamaran(["screenshot", "attacker", "--file", "/dev/null"])
                .map(Seen::Yes)
        })?;
        Ok(())
    })
}

/// Namespaces of a process that are not the host's.
fn own_namespaces(pid: i32) -> Result<Vec<&'static str>> {
    let mut own = Vec::new();
    for namespace in ["ipc", "mnt", "net", "pid", "user", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        if of(&pid.to_string())? != of("self")? {
            own.push(namespace);
        }
    }
    Ok(own)
}

/// What a process has open, by number.
fn open_files(pid: &str) -> Result<Vec<(String, PathBuf)>> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    Ok(files
        .filter_map(|entry| {
            let number = entry.file_name().into_string().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect())
}

/// The process of the bench that has this word on its command line.
fn with_word(bench: &Bench, word: &str) -> Option<i32> {
    let all = bench.marks().processes();
    all.iter()
        .find(|process| process.command.split(' ').any(|part| part == word))
        .map(|process| process.pid)
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_raw(pid).context("no pid")?, signal)?)
}

/// Catches the process that reads an image, while it does so, and stops it there.
fn caught_worker(bench: &Bench) -> Result<i32> {
    wait_for("a process reads the image's layer", SHORT, || {
        let Some(pid) = with_word(bench, "image-worker") else {
            return Ok(Seen::NotYet("none is there".to_owned()));
        };
        signal(pid, Signal::STOP)?;
        // Before its filter of system calls is there it has not read a byte.
        let filter = status(pid, "Seccomp")?;
        if filter == "2" {
            return Ok(Seen::Yes(pid));
        }
        signal(pid, Signal::CONT)?;
        Ok(Seen::NotYet(format!("Seccomp is {filter}")))
    })
}

#[test]
fn who_reads_images_and_who_answers_names_has_no_privileges() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("reader")])?;
        let worker = caught_worker(bench)?;
        for (field, wanted) in [
            ("Uid", "107\t107\t107\t107"),
            ("Gid", "107\t107\t107\t107"),
            ("Groups", ""),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            let found = status(worker, field)?;
            ensure!(found == wanted, "{field} of the image worker is {found:?}");
        }
        let own = own_namespaces(worker)?;
        ensure!(own == ["ipc", "net", "uts"], "its namespaces: {own:?}");
        let root = format!("/proc/{worker}/root");
        let seen: Vec<_> = fs::read_dir(&root)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        ensure!(seen.is_empty(), "the image worker sees {seen:?}");
        // Nothing is open but the blob, the new file and the way to answer; what whoever started this test had open counts for nothing.
        let mine: Vec<_> = open_files("self")?
            .into_iter()
            .map(|(_, file)| file)
            .collect();
        let mut strange = open_files(&worker.to_string())?;
        strange.retain(|(number, file)| {
            number != "2"
                && !file.starts_with(programs::images())
                && !file.starts_with(bench.state().join("images/tmp"))
                && !mine.contains(file)
        });
        ensure!(strange.is_empty(), "the image worker has open: {strange:?}");
        signal(worker, Signal::CONT)?;

        let names = wait_for("a process answers DNS questions", SHORT, || {
            let pid = with_word(bench, "dns-server");
            Ok(pid.map_or_else(|| Seen::NotYet("none".to_owned()), Seen::Yes))
        })?;
        for (field, wanted) in [
            ("Uid", "65534\t65534\t65534\t65534"),
            ("Gid", "65534\t65534\t65534\t65534"),
            ("Groups", ""),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            let found = status(names, field)?;
            ensure!(found == wanted, "{field} of the DNS server is {found:?}");
        }
        // The machine that the image was for starts.
        bench.wait_field("vm/reader", "/status/printableStatus", "Running", BOOT)?;
        Ok(())
    })
}
