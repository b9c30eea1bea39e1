//! `catamaran-launcher probe`: asks the guest agent by way of the launcher that runs beside it. The kubelet runs it in the launcher's container,
//! for probes that only the guest can answer.

use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use catamaran_plan::paths;
use catamaran_wire::{Connection, Hello, Incoming, PROTOCOL_MAX, PROTOCOL_MIN, Request, Verb};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::places::Places;

/// Pause between two questions whether a command has ended.
const POLL: Duration = Duration::from_millis(200);
/// Bytes of a command's output that are shown.
const OUTPUT_MAX: usize = 2000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether the agent answers.
    Ping,
    /// Whether a command in the guest ends with 0.
    Exec(Vec<String>),
}

/// Asks; `Ok` means that the guest is well. The kubelet's own timeout is the shorter one as a rule.
///
/// # Errors
/// What is wrong, for people.
pub fn run(places: &Places, question: &Question, timeout_seconds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let limit = Duration::from_secs(timeout_seconds.max(1).into());
    runtime.block_on(async {
        match tokio::time::timeout(limit, ask(places, question, timeout_seconds)).await {
            Ok(result) => result,
            Err(_) => bail!("no answer within {timeout_seconds} s"),
        }
    })
}

async fn ask(places: &Places, question: &Question, timeout_seconds: u32) -> anyhow::Result<()> {
    let mut agent = Agent::connect(places, timeout_seconds).await?;
    let Question::Exec(command) = question else {
        agent.ask(json!({"execute": "guest-ping"})).await?;
        return Ok(());
    };
    let Some((path, arguments)) = command.split_first() else {
        bail!("no command is named");
    };
    let started = agent
        .ask(json!({"execute": "guest-exec", "arguments": {"path": path, "arg": arguments, "capture-output": true}}))
        .await?;
    let pid = started["pid"].as_i64().context("the agent names no pid")?;
    loop {
        let status = agent
            .ask(json!({"execute": "guest-exec-status", "arguments": {"pid": pid}}))
            .await?;
        if status["exited"].as_bool() == Some(true) {
            return judge(&status);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn judge(status: &Value) -> anyhow::Result<()> {
    let output: String = ["out-data", "err-data"]
        .iter()
        .filter_map(|field| status[*field].as_str())
        .filter_map(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_MAX)]).into_owned())
        .collect();
    match (status["exitcode"].as_i64(), status["signal"].as_i64()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => bail!("the command ended with {code}: {}", output.trim()),
        (None, signal) => bail!(
            "the command was ended by signal {}",
            signal.unwrap_or_default()
        ),
    }
}

struct Agent {
    connection: Connection,
    timeout_seconds: u32,
    id: u64,
}

impl Agent {
    async fn connect(places: &Places, timeout_seconds: u32) -> anyhow::Result<Self> {
        let path = places.resolve(paths::LAUNCHER_SOCKET);
        let stream = UnixStream::connect(&path)
            .await
            .with_context(|| path.display().to_string())?;
        let mut connection = Connection::new(stream);
        connection
            .send(&Hello {
                min: PROTOCOL_MIN,
                max: PROTOCOL_MAX,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                features: Vec::new(),
            })
            .await?;
        connection.receive::<Hello>().await?;
        Ok(Self {
            connection,
            timeout_seconds,
            id: 0,
        })
    }

    async fn ask(&mut self, command: Value) -> anyhow::Result<Value> {
        self.id += 1;
        let verb = Verb::Agent {
            command,
            timeout_seconds: self.timeout_seconds,
        };
        self.connection.send(&Request { id: self.id, verb }).await?;
        loop {
            match self.connection.receive::<Incoming>().await? {
                (Incoming::Reply(reply), _) if reply.id == self.id => {
                    return match reply.error {
                        Some(error) => Err(error.into()),
                        None => Ok(reply.ok),
                    };
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_end_is_told_with_its_output() {
        assert!(judge(&json!({"exited": true, "exitcode": 0})).is_ok());
        let status = json!({"exited": true, "exitcode": 3, "err-data": "bm8K"});
        assert_eq!(
            judge(&status).unwrap_err().to_string(),
            "the command ended with 3: no"
        );
        let killed = json!({"exited": true, "signal": 9});
        assert!(judge(&killed).unwrap_err().to_string().contains("signal 9"));
    }
}
