//! What `/proc` says of processes: memory, start time, command line, and who belongs to which sandbox.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use catamaran_host::process::{Stat, ticks};
use rustix::time::{ClockId, clock_gettime};

/// A process, by its id.
pub(crate) type Pid = i32;

/// Proportional set size of a process in bytes: shared pages count in parts.
pub(crate) fn pss(pid: Pid) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("memory of process {pid}"))?;
    Ok(kib_of(&text, "Pss:") << 10)
}

/// What of a process is in memory now, in bytes.
pub(crate) fn rss(pid: Pid) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most of a process that ever was in memory, in bytes.
pub(crate) fn most_rss(pid: Pid) -> Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: Pid, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("memory of process {pid}"))?;
    Ok(kib_of(&text, key) << 10)
}

/// Proportional set size of a QEMU in bytes, without its guest's RAM (the shared memfd mappings of at least `ram` bytes).
pub(crate) fn pss_without_ram(pid: Pid, ram: u64) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))
        .with_context(|| format!("memory of process {pid}"))?;
    Ok(without_ram(&text, ram))
}

fn without_ram(smaps: &str, ram: u64) -> u64 {
    let mut total = 0;
    let mut is_ram = false;
    for line in smaps.lines() {
        if let Some(range) = line.split(' ').next().and_then(|word| word.split_once('-')) {
            let number = |text| u64::from_str_radix(text, 16);
            if let (Ok(start), Ok(end)) = (number(range.0), number(range.1)) {
                is_ram = line.contains("/memfd:") && end.saturating_sub(start) >= ram;
                continue;
            }
        }
        if !is_ram && line.starts_with("Pss:") {
            total += kib_of(line, "Pss:") << 10;
        }
    }
    total
}

fn kib_of(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Seconds of processor that a process has used.
pub(crate) fn cpu_seconds(pid: Pid) -> Result<f64> {
    let stat = Stat::of(pid).with_context(|| format!("process {pid} is gone"))?;
    Ok((stat.user_time + stat.system_time).as_secs_f64())
}

/// When a process started: exact to a clock tick, rounded down.
pub(crate) fn started(pid: Pid) -> Result<SystemTime> {
    let stat = Stat::of(pid).with_context(|| format!("process {pid} is gone"))?;
    let since_boot = ticks(stat.start_time);
    let boot = clock_gettime(ClockId::Boottime);
    let uptime = Duration::new(u64::try_from(boot.tv_sec)?, u32::try_from(boot.tv_nsec)?);
    Ok(SystemTime::now() - uptime.saturating_sub(since_boot))
}

/// The words of a process's command line.
pub(crate) fn words(pid: Pid) -> Result<Vec<String>> {
    let bytes =
        fs::read(format!("/proc/{pid}/cmdline")).with_context(|| format!("process {pid}"))?;
    let mut words: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    words.pop();
    Ok(words)
}

/// The processes in the sandbox whose `/vm` is this folder, with their names (15 letters of them).
pub(crate) fn in_sandbox(run: &Path) -> Vec<(Pid, String)> {
    let Ok(folder) = fs::metadata(run) else {
        return Vec::new();
    };
    all()
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/root/vm"))
                .is_ok_and(|vm| (vm.dev(), vm.ino()) == (folder.dev(), folder.ino()))
        })
        .filter_map(|pid| Some((pid, name(pid)?)))
        .collect()
}

/// The process in a sandbox whose name starts like this.
pub(crate) fn one_in_sandbox(run: &Path, start: &str) -> Option<Pid> {
    in_sandbox(run)
        .into_iter()
        .find(|(_, name)| name.starts_with(start))
        .map(|(pid, _)| pid)
}

/// A process and everything that it started.
pub(crate) fn family(pid: Pid) -> Vec<Pid> {
    let mut found = vec![pid];
    let parents: Vec<(Pid, Pid)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(child, _)| *child),
        );
        at += 1;
    }
    found
}

/// A process's name, at most 15 letters.
pub(crate) fn name(pid: Pid) -> Option<String> {
    Some(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim_end()
            .to_owned(),
    )
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// All processes.
pub(crate) fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process's own view of a path, as seen from here.
pub(crate) fn in_root_of(pid: Pid, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_ram_is_left_out() {
        let smaps = "7f0000000000-7f0008000000 rw-s 00000000 00:01 5 /memfd:memory-backend-memfd (deleted)\nSize: 131072 kB\nPss: 90000 kB\n\
                     Pss_Dirty: 80000 kB\n\
                     7f0010000000-7f0010001000 rw-s 00000000 00:01 6 /memfd:small (deleted)\nPss: 4 kB\n\
                     55aa00000000-55aa00200000 rw-p 00000000 00:00 0 [heap]\nPss: 2000 kB\nPss_Dirty: 2000 kB\n";
        assert_eq!(without_ram(smaps, 128 << 20), 2004 << 10);
    }

    #[test]
    fn this_process_has_memory_a_start_and_words() {
        let me = Pid::try_from(std::process::id()).unwrap();
        assert!(pss(me).unwrap() > 100 << 10);
        assert!(pss_without_ram(me, 1 << 40).unwrap() > 100 << 10);
        assert!(started(me).unwrap() <= SystemTime::now());
        assert!(!words(me).unwrap().is_empty());
        assert_eq!(family(me)[0], me);
    }
}
