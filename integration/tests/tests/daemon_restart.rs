//! The daemon and the launchers may die at any time; guests do not notice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{machine, pod, with_user_data};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, Console, SHORT, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// The numbers that a guest in counter mode has written, in their order. A line that is still being written is left out.
fn counted(text: &str) -> Vec<u64> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    // The prompt of the guest's shell may stand before one.
    whole
        .lines()
        .filter_map(|line| line.trim().rsplit_once("counter ")?.1.parse().ok())
        .collect()
}

/// Fails at the first reset or gap.
fn check(numbers: &[u64]) -> Result<()> {
    for pair in numbers.windows(2) {
        ensure!(
            pair[1] == pair[0] + 1,
            "the counter went from {} to {}",
            pair[0],
            pair[1]
        );
    }
    Ok(())
}

fn last(bench: &Bench) -> u64 {
    counted(&bench.serial("counter"))
        .last()
        .copied()
        .unwrap_or_default()
}

fn counts_on(bench: &Bench, by: u64) -> Result<()> {
    let from = last(bench);
    wait_for(
        &format!("the counter goes on from {from} by {by}"),
        SHORT,
        || {
            let now = last(bench);
            Ok(Seen::when(now >= from + by, format!("{now}")))
        },
    )
}

fn kill_launcher(bench: &Bench) -> Result<i32> {
    let pid = wait_for("there is a launcher", SHORT, || {
        bench
            .process("counter", "catamaran-launcher")
            .map(Seen::Yes)
    })?;
    kill_process(Pid::from_raw(pid).context("no pid")?, Signal::KILL)?;
    Ok(pid)
}

#[test]
fn the_counter_of_a_guest_neither_resets_nor_gaps_while_daemon_and_launcher_are_killed()
-> Result<()> {
    let kills: u32 = std::env::var("CATAMARAN_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6);
    run(|bench| {
        bench.apply(&[&with_user_data(
            machine("counter"),
            "#cloud-config\n# catamaran.counter=1\n",
        )])?;
        bench.wait_serial("counter", "counter 5\r", BOOT)?;
        let qemu = bench.process("counter", "qemu-system-x86_64")?;
        for point in 0..kills {
            // Another moment at each point: some steps of the counter after the last recovery, or in the middle of it.
            counts_on(bench, u64::from(point % 4))?;
            let launcher = match point % 3 {
                0 => {
                    bench.kill_daemon()?;
                    None
                }
                1 => Some(kill_launcher(bench)?),
                _ => {
                    let launcher = kill_launcher(bench)?;
                    bench.kill_daemon()?;
                    Some(launcher)
                }
            };
            if let Some(dead) = launcher
                && point % 6 < 3
            {
                // Half of the points go on before the launcher is back.
                wait_for("init starts a new launcher", SHORT, || {
                    let now = bench.processes("counter", "catamaran-launcher");
                    Ok(Seen::when(
                        now.len() == 1 && now[0] != dead,
                        format!("{now:?}, dead is {dead}"),
                    ))
                })?;
            }
            if bench.daemon_pid().is_err() {
                bench.start_daemon()?;
            }
            // The daemon has the machine in hand again: a screenshot goes through the launcher to QEMU.
            wait_for(
                &format!("the machine can be asked again after point {point}"),
                SHORT,
                || {
                    bench
                        .catamaran(["screenshot", "counter", "--file", "/dev/null"])
                        .map(Seen::Yes)
                },
            )?;
            check(&counted(&bench.serial("counter"))).with_context(|| format!("point {point}"))?;
            ensure!(
                bench.process("counter", "qemu-system-x86_64")? == qemu,
                "QEMU was started anew at point {point}"
            );
            ensure!(bench.get("vmi/counter")?["status"]["phase"] == "Running");
        }
        counts_on(bench, 5)?;
        let all = counted(&bench.serial("counter"));
        check(&all)?;
        ensure!(
            all.first() == Some(&1),
            "the beginning is missing: {:?}",
            all.first()
        );
        let replay = Console::open(bench, "counter", &["--replay", "--read-only"])?;
        replay.wait_for(&format!("counter {}", last(bench) + 3), SHORT)?;
        let replayed = counted(&replay.text());
        check(&replayed)
    })
}

#[test]
fn guest_and_container_do_not_notice_that_the_daemon_is_killed_and_started_again() -> Result<()> {
    run(|bench| {
        bench.apply(&[
            &machine("steady"),
            &pod("pulse", &["httpd", "-f", "-p", "80", "-h", "/www"]),
        ])?;
        let guest = bench.booted("steady")?;
        bench.wait_field("pod/pulse", "/status/phase", "Running", SHORT)?;
        let before = (
            bench.process("steady", "qemu-system-x86_64")?,
            bench.pod_processes("pulse"),
        );
        bench.kill_daemon()?;
        drop(guest);
        // Without a daemon the two still reach each other, by name.
        let page = bench.in_pod("pulse", "wget", &["-qO-", "http://steady/"])?;
        ensure!(page.starts_with("catamaran-guest"), "{page:?}");
        bench.start_daemon()?;
        bench.wait_field("vm/steady", "/status/printableStatus", "Running", SHORT)?;
        bench.wait_field("pod/pulse", "/status/phase", "Running", SHORT)?;
        let mut guest = Console::open(bench, "steady", &[])?;
        ensure!(guest.shell("wget -qO- http://pulse/")? == "catamaran-tiny");
        let after = (
            bench.process("steady", "qemu-system-x86_64")?,
            bench.pod_processes("pulse"),
        );
        ensure!(before == after, "{before:?} became {after:?}");
        Ok(())
    })
}

#[test]
fn a_manifest_changed_while_its_machine_starts_waits_for_the_next_start() -> Result<()> {
    run(|bench| {
        let mut vm = machine("queued");
        bench.apply(&[&vm])?;
        wait_for("the machine is being started", SHORT, || {
            let started = bench.processes("queued", "catamaran-launcher");
            Ok(Seen::when(!started.is_empty(), "no launcher"))
        })?;
        vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "160Mi".into();
        bench.apply(&[&vm])?;
        drop(bench.booted("queued")?);
        let running = bench.get("vmi/queued")?;
        ensure!(
            running["spec"]["domain"]["memory"]["guest"] == "128Mi",
            "{}",
            running["spec"]["domain"]["memory"]
        );
        wait_for(
            "the machine says that it must be started anew",
            SHORT,
            || {
                let status = bench.get("vm/queued")?["status"].clone();
                let asked = status["conditions"].as_array().is_some_and(|all| {
                    all.iter().any(|condition| {
                        condition["type"] == "RestartRequired" && condition["status"] == "True"
                    })
                });
                Ok(Seen::when(asked, status.to_string()))
            },
        )?;
        let qemu = bench.process("queued", "qemu-system-x86_64")?;
        bench.catamaran(["restart", "queued"])?;
        wait_for("the machine runs with what was changed", BOOT, || {
            let memory = bench.get("vmi/queued")?["spec"]["domain"]["memory"]["guest"].clone();
            let now = bench.processes("queued", "qemu-system-x86_64");
            Ok(Seen::when(
                memory == "160Mi" && now.len() == 1 && now[0] != qemu,
                format!("{memory} {now:?}"),
            ))
        })
    })
}

#[test]
fn a_machine_whose_run_ended_is_not_started_again_by_a_daemon_that_finds_no_record_of_it()
-> Result<()> {
    run(|bench| {
        let mut vm = machine("ended");
        vm["spec"]["runStrategy"] = "Once".into();
        bench.apply(&[&vm])?;
        drop(bench.booted("ended")?);
        bench.kill_daemon()?;
        for pid in bench.processes("ended", "catamaran-init") {
            kill_process(Pid::from_raw(pid).context("no pid")?, Signal::KILL)?;
        }
        wait_for("the machine is gone", SHORT, || {
            let left = bench.processes("ended", "qemu-system-x86_64");
            Ok(Seen::when(left.is_empty(), format!("{left:?}")))
        })?;
        // As a daemon leaves it that dies when the record is cleared and the end is not yet on the disk.
        for file in ["run.json", "plan.json"] {
            std::fs::remove_file(bench.state().join("vms/default_ended").join(file))?;
        }
        bench.start_daemon()?;
        bench.wait_field("vmi/ended", "/status/phase", "Failed", SHORT)?;
        ensure!(bench.processes("ended", "qemu-system-x86_64").is_empty());
        let reason = bench.get("vmi/ended")?["status"]["reason"].clone();
        ensure!(
            reason == "The guest ended while no daemon was there to see it",
            "{reason}"
        );
        Ok(())
    })
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_guests_alone() -> Result<()> {
    run(|bench| {
        bench.apply(&[&machine("calm")])?;
        wait_for("QEMU runs", SHORT, || {
            bench.process("calm", "qemu-system-x86_64").map(Seen::Yes)
        })?;
        let qemu = bench.process("calm", "qemu-system-x86_64")?;
        let pid = Pid::from_raw(bench.daemon_pid()?).context("no pid")?;
        kill_process(pid, Signal::TERM)?;
        wait_for("the daemon ends", Duration::from_secs(10), || {
            let log = bench.daemon_log();
            Ok(Seen::when(
                log.contains("guests and containers go on") && !bench.answers(),
                "it runs",
            ))
        })?;
        bench.kill_daemon()?;
        ensure!(bench.process("calm", "qemu-system-x86_64")? == qemu);
        bench.start_daemon()?;
        bench.wait_field("vm/calm", "/status/printableStatus", "Running", BOOT)?;
        ensure!(bench.process("calm", "qemu-system-x86_64")? == qemu);
        Ok(())
    })
}
