//! Probes of running containers: one task per container asks and keeps what it learns in a [`Health`].

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::Error;
use crate::cri::Cri;
use crate::observed::{Health, ProbeFailure};
use crate::pod::{Check, Container, Probe};

/// Bytes of an HTTP answer that are read for its status line.
const STATUS_LINE: usize = 1024;
/// Characters of a command's output in a message.
const MAX_OUTPUT: usize = 200;

/// What all probes of this process have learnt, by the container's id.
pub(crate) type Board = Arc<Mutex<HashMap<String, Health>>>;

/// Who is asked, and how.
#[derive(Clone)]
pub(crate) struct Patient {
    pub(crate) cri: Cri,
    pub(crate) id: String,
    pub(crate) pod_ip: Option<String>,
    pub(crate) container: Container,
    pub(crate) started_at: Timestamp,
    pub(crate) board: Board,
    pub(crate) changes: watch::Sender<u64>,
}

/// Probes of one container; dropping it ends them.
pub(crate) struct Prober {
    _tasks: JoinSet<()>,
}

impl Prober {
    /// Begins to probe a running container.
    pub(crate) fn begin(patient: Patient) -> Self {
        let container = &patient.container;
        let started = container.startup.is_none();
        patient.update(|health| {
            *health = Health {
                started,
                ready: started && container.readiness.is_none(),
                failed: None,
            }
        });
        let mut tasks = JoinSet::new();
        if container.startup.is_some()
            || container.readiness.is_some()
            || container.liveness.is_some()
        {
            tasks.spawn(async move { patient.run().await });
        }
        Self { _tasks: tasks }
    }
}

/// Successes or failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    successes: u32,
    failures: u32,
}

impl Tally {
    /// The verdict after one more result, once there were enough of a kind in a row.
    fn record(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        if success {
            *self = Self {
                successes: self.successes.saturating_add(1),
                failures: 0,
            };
            (self.successes >= probe.success_threshold).then_some(true)
        } else {
            *self = Self {
                successes: 0,
                failures: self.failures.saturating_add(1),
            };
            (self.failures >= probe.failure_threshold).then_some(false)
        }
    }
}

/// What one check says; `Err` when it could not be made and says nothing.
type Outcome = Result<Result<(), String>, String>;

impl Patient {
    fn update(&self, change: impl FnOnce(&mut Health)) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let health = board.entry(self.id.clone()).or_default();
        let before = health.clone();
        change(health);
        if *health != before {
            self.changes.send_modify(|generation| *generation += 1);
        }
    }

    async fn run(self) {
        let container = &self.container;
        if let Some(probe) = &container.startup {
            let passed = |_: &str| {
                self.update(|health| {
                    (health.started, health.ready) = (true, container.readiness.is_none());
                });
            };
            if !self.until_verdict("Startup", probe, passed).await {
                return;
            }
        }
        let readiness = async {
            if let Some(probe) = &container.readiness {
                self.watch_readiness(probe).await;
            }
        };
        let liveness = async {
            if let Some(probe) = &container.liveness {
                while self.until_verdict("Liveness", probe, |_| ()).await {
                    sleep(probe.period).await;
                }
            }
        };
        tokio::join!(readiness, liveness);
    }

    /// Probes until there is a verdict; a bad one ends the container. True when it was good.
    async fn until_verdict(
        &self,
        kind: &'static str,
        probe: &Probe,
        passed: impl Fn(&str),
    ) -> bool {
        self.initial_delay(probe).await;
        let mut tally = Tally::default();
        loop {
            let next = Instant::now() + probe.period;
            if let Ok(outcome) = self.check(probe).await {
                let verdict = tally.record(outcome.is_ok(), probe);
                match (verdict, outcome) {
                    (Some(true), _) => {
                        passed(kind);
                        return true;
                    }
                    (Some(false), Err(message)) => {
                        info!(
                            container = self.container.name,
                            id = self.id,
                            message,
                            "{kind} probe failed"
                        );
                        self.update(|health| {
                            health.failed = Some(ProbeFailure {
                                probe: kind,
                                message,
                                grace: probe.grace,
                            });
                        });
                        return false;
                    }
                    _ => {}
                }
            }
            sleep_until(next).await;
        }
    }

    async fn watch_readiness(&self, probe: &Probe) {
        self.initial_delay(probe).await;
        let mut tally = Tally::default();
        loop {
            let next = Instant::now() + probe.period;
            if let Ok(outcome) = self.check(probe).await {
                if let Err(message) = &outcome {
                    debug!(
                        container = self.container.name,
                        message, "readiness probe failed"
                    );
                }
                if let Some(ready) = tally.record(outcome.is_ok(), probe) {
                    self.update(|health| health.ready = ready);
                }
            }
            sleep_until(next).await;
        }
    }

    async fn initial_delay(&self, probe: &Probe) {
        let age: Duration = Timestamp::now()
            .duration_since(self.started_at)
            .try_into()
            .unwrap_or_default();
        sleep(probe.initial_delay.saturating_sub(age)).await;
    }

    async fn check(&self, probe: &Probe) -> Outcome {
        match &probe.check {
            Check::Exec { command } => self.exec(command, probe.timeout).await,
            Check::Tcp { host, port } => Ok(limited(
                probe.timeout,
                TcpStream::connect((self.host(host)?, *port)),
            )
            .await
            .map(|_| ())),
            Check::Http {
                host,
                port,
                path,
                headers,
            } => Ok(
                limited(probe.timeout, get(self.host(host)?, *port, path, headers))
                    .await
                    .and_then(|status| match status {
                        200..400 => Ok(()),
                        other => Err(format!("HTTP probe failed with statuscode: {other}")),
                    }),
            ),
        }
    }

    fn host<'a>(&'a self, host: &'a Option<String>) -> Result<&'a str, String> {
        let host = host
            .as_deref()
            .filter(|host| !host.is_empty())
            .or(self.pod_ip.as_deref());
        host.ok_or_else(|| "the Pod has no address".to_owned())
    }

    async fn exec(&self, command: &[String], limit: Duration) -> Outcome {
        match self.cri.exec_sync(&self.id, command, limit).await {
            Ok(answer) if answer.exit_code == 0 => Ok(Ok(())),
            Ok(answer) => {
                let output = [answer.stdout, answer.stderr].concat();
                let text: String = String::from_utf8_lossy(&output)
                    .trim()
                    .chars()
                    .take(MAX_OUTPUT)
                    .collect();
                Ok(Err(format!("exit code {}: {text}", answer.exit_code)))
            }
            Err(Error::Cri {
                code: tonic::Code::DeadlineExceeded | tonic::Code::Cancelled,
                ..
            }) => Ok(Err(format!(
                "command timed out after {} s",
                limit.as_secs()
            ))),
            // The command is not in the image, or could not be run: that will not change.
            Err(Error::Cri {
                code: tonic::Code::Unknown,
                message,
                ..
            }) if message.contains("exec") => Ok(Err(message)),
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn limited<T>(
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// The status of `GET path`. Only the status line is read: what a container answers is not to be trusted.
async fn get(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> io::Result<u16> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    for (name, value) in [
        ("Host", shown.as_str()),
        ("User-Agent", "catamaran-probe"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ] {
        if !headers
            .iter()
            .any(|(own, _)| own.eq_ignore_ascii_case(name))
        {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 256];
    while !answer.contains(&b'\n') && answer.len() < STATUS_LINE {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_whitespace().nth(1))
        .and_then(|word| word.parse().ok());
    status.ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
        let second = Duration::from_secs(1);
        Probe {
            check: Check::Tcp {
                host: None,
                port: 1,
            },
            initial_delay: Duration::ZERO,
            period: second,
            timeout: second,
            success_threshold,
            failure_threshold,
            grace: None,
        }
    }

    #[test]
    fn a_verdict_takes_so_many_results_in_a_row() {
        let probe = probe(2, 3);
        let mut tally = Tally::default();
        let verdicts: Vec<_> = [false, false, true, true, true, false, false, false]
            .map(|ok| tally.record(ok, &probe))
            .to_vec();
        assert_eq!(
            verdicts,
            [
                None,
                None,
                None,
                Some(true),
                Some(true),
                None,
                None,
                Some(false)
            ]
        );
    }
}
