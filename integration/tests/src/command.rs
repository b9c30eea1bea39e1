//! Running programs with a deadline.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Longest run of a program that a test waits for.
const LONGEST: Duration = Duration::from_secs(180);

/// Runs a program to its end and gives what it said, however it ended.
///
/// # Errors
/// When it can't be started or does not end in time; it is killed then.
pub fn output(command: &mut Command) -> Result<Output> {
    let name = format!("{command:?}");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    let pid = rustix::process::Pid::from_child(&child);
    let ended = thread::spawn(move || child.wait_with_output());
    let end = Instant::now() + LONGEST;
    while !ended.is_finished() {
        if Instant::now() > end {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            bail!("{name} did not end within {} s", LONGEST.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
    match ended.join() {
        Ok(output) => output.context(name),
        Err(_) => bail!("{name}: the thread that waited for it failed"),
    }
}

/// Runs a program that must succeed and gives its standard output.
///
/// # Errors
/// When it fails; the error holds what it said.
pub fn stdout(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output = output(command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{name}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

/// Runs a program that must fail and gives its standard error.
///
/// # Errors
/// When it succeeds.
pub fn refused(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        bail!(
            "{command:?} was not refused: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A program of the system with its words.
pub fn program<S: AsRef<OsStr>>(name: &str, words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    command.args(words);
    command
}
