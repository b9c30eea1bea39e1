//! What is read from `/proc` about a process.

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// Its name.
    pub name: String,
    /// State letter, `Z` = ended but not reaped.
    pub state: char,
    /// Clock ticks since boot.
    pub start_time: u64,
}

impl ProcessStat {
    /// It has ended, even if nobody has reaped it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
#[must_use]
pub fn process_stat(pid: i32) -> Option<ProcessStat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A process of that id exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    process_stat(pid).is_some_and(|stat| !stat.is_dead())
}

/// The name stands in brackets and may itself hold brackets and blanks: the last bracket ends it.
fn parse(text: &str) -> Option<ProcessStat> {
    let (head, tail) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3 and the start time field 22.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(ProcessStat {
        name: name.to_owned(),
        state,
        start_time,
    })
}

/// The pid of the QEMU that libvirt's files in `libvirt_root` name, if it is alive.
#[must_use]
pub fn live_qemu(libvirt_root: &std::path::Path) -> Option<i32> {
    let entries = std::fs::read_dir(libvirt_root.join("run/qemu")).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|e| e == "pid")
                && path.file_stem().is_some_and(|s| s != "driver")
        })
        // swtpm's file lies beside it as NAME-swtpm.pid
        .filter(|path| !path.to_string_lossy().ends_with("-swtpm.pid"))
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        .find(|pid| is_alive(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1000 10";
        let stat = parse(text).unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.start_time),
            ("a) b (c)", 'S', 777)
        );
    }

    #[test]
    fn this_process_is_alive() {
        assert!(is_alive(i32::try_from(std::process::id()).unwrap()));
        assert!(!is_alive(i32::MAX));
    }
}
