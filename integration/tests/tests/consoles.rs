//! Several people at one serial console.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::manifest::machine;
use catamaran_tests::wait::{Seen, wait_for};
use catamaran_tests::{BOOT, Console, SHORT, run};
use rustix::process::{Pid, Signal, kill_process};

/// What the launcher may grow by while a viewer stands still, KiB.
const GROWTH: u64 = 2 << 10;

/// Memory of its own, KiB: code comes and goes with what the launcher does.
fn own_memory(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn signal(console: &Console, signal: Signal) -> Result<()> {
    let pid = console.pid().context("no client")?;
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
    Ok(kill_process(pid, signal)?)
}

#[test]
fn a_viewer_that_stands_still_holds_up_neither_the_guest_nor_other_viewers() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("busy")])?;
        let mut typist = bench.booted("busy")?;
        let (watcher, stopped) = (
            Console::open(bench, "busy", &["--read-only"])?,
            Console::open(bench, "busy", &[])?,
        );
        typist.type_in("echo all are 'he're\n")?;
        for console in [&typist, &watcher, &stopped] {
            console.wait_for("all are here", SHORT)?;
        }
        let launcher = bench.process("busy", "catamaran-launcher")?;
        let before = own_memory(launcher)?;
        signal(&stopped, Signal::STOP)?;
        // More than the stopped viewer's ring and its socket hold.
        typist.type_in("seq 1000000 1090000; echo 'do'ne\n")?;
        watcher.wait_for("1090000\r\ndone\r\n", BOOT)?;
        typist.wait_for("1090000\r\ndone\r\n", SHORT)?;
        let after = own_memory(launcher)?;
        ensure!(
            after <= before + GROWTH,
            "the launcher grew from {before} to {after} KiB"
        );
        for number in 1_000_000..=1_090_000 {
            // Nobody who reads loses anything.
            ensure!(
                number % 1000 != 0 || watcher.text().contains(&format!("{number}\r\n")),
                "{number} is missing"
            );
        }
        signal(&stopped, Signal::CONT)?;
        stopped.wait_for("1090000\r\ndone\r\n", SHORT)?;
        // It is a viewer as all others again.
        typist.type_in("echo good mor'ni'ng\n")?;
        stopped.wait_for("good morning", SHORT)
    })
}

#[test]
fn piped_input_reaches_the_guest_and_ends_the_console() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("piped")])?;
        let guest = bench.booted("piped")?;
        let mut child = bench
            .client(["console", "vm/piped"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(b"echo to the la'st wo'rd\n")?;
        drop(input);
        let status = wait_for("the console ends with its input", SHORT, || {
            Ok(match child.try_wait()? {
                Some(status) => Seen::Yes(status),
                None => Seen::NotYet("it runs".to_owned()),
            })
        })?;
        ensure!(status.success(), "it ended with {status}");
        guest.wait_for("to the last word", SHORT)
    })
}

#[test]
fn who_comes_late_sees_the_boot() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("late")])?;
        drop(bench.booted("late")?);
        let mut late = Console::open(bench, "late", &["--replay"])?;
        late.wait_for("catamaran-guest ready: ", SHORT)?;
        ensure!(late.shell("hostname")? == "late");
        let silent = Console::open(bench, "late", &["--replay", "--read-only"])?;
        silent.wait_for("catamaran-guest ready: ", SHORT)?;
        ensure!(
            silent.text().matches("catamaran-guest ready: ").count() == 1,
            "the boot came twice"
        );
        Ok(())
    })
}
