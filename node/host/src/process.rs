//! Processes by number and start time, which together are given to no other one until the machine boots anew.

use std::fs;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its name, 15 bytes at most.
    pub name: String,
    /// State letter, `Z` = ended but not reaped.
    pub state: char,
    /// Processor time that it took itself, guest code included.
    pub user_time: Duration,
    /// Processor time that the kernel took for it.
    pub system_time: Duration,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// So many clock ticks of `/proc`: 100 make a second on every architecture (`USER_HZ`).
#[must_use]
pub fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(10))
}

impl Stat {
    /// Of that process; `None` when there is none.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// It has ended, even if nobody has reaped it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// The name stands in brackets and may itself hold brackets and blanks: the last bracket ends it.
    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // The state is field 3, the times of the processor 14 and 15, and the start time 22 (proc(5)).
        let user_time = ticks(fields.nth(10)?.parse().ok()?);
        let system_time = ticks(fields.next()?.parse().ok()?);
        let start_time = fields.nth(6)?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            state,
            user_time,
            system_time,
            start_time,
        })
    }
}

/// A process of that number exists and is no zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.is_dead())
}

/// The name that the kernel gave to this boot of the machine.
///
/// # Errors
/// Without `/proc`.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// A process that may outlive us, as a record names it: a later one with its number is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    // The other names are those of the DNS server's records before they were one with the others.
    #[serde(alias = "started")]
    start_time: u64,
    #[serde(alias = "boot")]
    boot_id: String,
}

impl Process {
    /// The process that has this number now; `None` when there is none, or it is a zombie.
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        let Some(stat) = Stat::of(pid).filter(|stat| !stat.is_dead()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            pid,
            start_time: stat.start_time,
            boot_id: boot_id()?,
        }))
    }

    /// It still runs. An unreadable `/proc` counts as "no": nothing is done to a process that is not known.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && Stat::of(self.pid)
                .is_some_and(|stat| stat.start_time == self.start_time && !stat.is_dead())
    }

    /// Clock ticks from the machine's boot to its start.
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 34 5 0 0 20 0 1 0 777 1000 10";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.start_time),
            ("a) b (c)", 'S', 777)
        );
        assert_eq!((stat.user_time, stat.system_time), (ticks(34), ticks(5)));
    }

    #[test]
    fn this_process_is_alive() {
        assert!(is_alive(i32::try_from(std::process::id()).unwrap()));
        assert!(!is_alive(i32::MAX));
    }

    #[test]
    fn a_process_is_known_again_from_its_record_until_it_ends() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let record = serde_json::to_string(&Process::of(pid).unwrap().unwrap()).unwrap();
        let process: Process = serde_json::from_str(&record).unwrap();
        assert!(process.is_alive());
        let mut other = process.clone();
        other.start_time += 1;
        assert!(!other.is_alive(), "started at another time");
        let mut earlier = process.clone();
        earlier.boot_id = "another boot".into();
        assert!(!earlier.is_alive());
        let older = record
            .replace("start_time", "started")
            .replace("boot_id", "boot");
        assert_eq!(serde_json::from_str::<Process>(&older).unwrap(), process);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert_eq!(Process::of(pid).unwrap(), None);
    }
}
