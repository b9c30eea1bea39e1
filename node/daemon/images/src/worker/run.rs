//! The daemon's side: start the process, pass the descriptors, read its bounded answer, end it in time.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::{Answer, Confine, Failure, Message, Request, Task, WorkerConfig};
use crate::limits::Limits;

/// A worker may not say more than this.
const MAX_OUTPUT: u64 = 8 << 20;
/// Linux allows 128 KiB for one argument.
const MAX_REQUEST: usize = 120 << 10;

/// How a run ended without an answer.
#[derive(Debug)]
pub(crate) enum WorkerError {
    /// The worker said why.
    Failed(Failure),
    /// It was killed, crashed, could not be started, or said nonsense.
    Broken(String),
}

/// Runs `task` on `input`, writing to `output` where the task does so.
///
/// `root` is an empty folder. `progress` says whether there is still room to go on. Dropping the future kills the process.
pub(crate) async fn run(
    config: &WorkerConfig,
    limits: &Limits,
    root: &Path,
    task: Task,
    input: File,
    output: Option<File>,
    mut progress: impl FnMut(u64, u64) -> bool,
) -> Result<Answer, WorkerError> {
    let broken =
        |what: &str, error: &dyn std::fmt::Display| WorkerError::Broken(format!("{what}: {error}"));
    let request = Request {
        confine: Confine {
            uid: config.uid,
            gid: config.gid,
            root: root.to_owned(),
            memory: limits.worker_memory,
            cpu_seconds: limits.worker_time.as_secs().max(1),
            file_size: limits.disk_size.saturating_add(1),
        },
        task,
    };
    let request = serde_json::to_string(&request).map_err(|error| broken("request", &error))?;
    if request.len() > MAX_REQUEST {
        return Err(WorkerError::Failed(Failure::Limit(
            "its upper layers replace or delete too many files".to_owned(),
        )));
    }
    let mut child = Command::new(&config.program)
        .args(&config.arguments)
        .arg(request)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(output.map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            broken(
                &format!("cannot start {}", config.program.display()),
                &error,
            )
        })?;
    let Some(said) = child.stderr.take() else {
        return Err(WorkerError::Broken("it has no standard error".to_owned()));
    };
    let talk = async {
        let mut lines = BufReader::new(said.take(MAX_OUTPUT));
        let mut line = Vec::new();
        let mut last = None;
        let mut noise = String::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(broken("its answer cannot be read", &error)),
            }
            match serde_json::from_slice(&line) {
                Ok(Message::Progress { done, total }) => {
                    if !progress(done, total) {
                        return Err(WorkerError::Failed(Failure::NoSpace));
                    }
                }
                Ok(message) => last = Some(message),
                Err(_) if noise.len() < 400 => noise.push_str(&String::from_utf8_lossy(&line)),
                Err(_) => {}
            }
        }
        let status = child
            .wait()
            .await
            .map_err(|error| broken("cannot wait for it", &error))?;
        match last {
            Some(Message::Failed(failure)) => Err(WorkerError::Failed(failure)),
            Some(Message::Done(answer)) if status.success() => Ok(answer),
            _ => Err(WorkerError::Broken(ended(status, &noise))),
        }
    };
    let outcome = tokio::time::timeout(limits.worker_time, talk)
        .await
        .unwrap_or_else(|_| {
            Err(WorkerError::Failed(Failure::Limit(format!(
                "unpacking it took longer than {} s",
                limits.worker_time.as_secs()
            ))))
        });
    if outcome.is_err() {
        // Until it is gone it holds the space of what it wrote. It may have ended by itself, which is as good.
        let _ = child.kill().await;
    }
    outcome
}

fn ended(status: ExitStatus, noise: &str) -> String {
    let how = match status.signal() {
        Some(libc::SIGSYS) => "it was killed for a system call it may not make".to_owned(),
        Some(libc::SIGXCPU) => "it used more CPU time than allowed".to_owned(),
        Some(libc::SIGABRT) => {
            "it was aborted, which is what happens at its memory limit".to_owned()
        }
        Some(signal) => format!("it was killed by signal {signal}"),
        None => format!("it ended with {status} and without an answer"),
    };
    // What it printed may come from hostile input: shown escaped and cut.
    let shown: String = noise.trim().escape_default().take(300).collect();
    if shown.is_empty() {
        how
    } else {
        format!("{how}: {shown}")
    }
}
