//! Tasks: what a BMC does after it has answered 202.
//!
//! The monitor is asked until it no longer says 202. BMCs differ: some show the task itself there with 200 and a state, some drop the
//! monitor when the task has ended (404), some give no monitor, only a task.

use std::time::Duration;

use serde_json::Value;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::wire::{Answer, Request};

/// What one look at a task shows.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Runs,
    Done,
    /// In which state it ended.
    Failed(String),
}

/// Reads a state out of an answer's status and body.
fn state(status: u16, body: &Value) -> State {
    let named = body["TaskState"].as_str();
    match named {
        Some("Completed") => match body["TaskStatus"].as_str() {
            Some("Critical") => State::Failed("Completed with status Critical".to_owned()),
            _ => State::Done,
        },
        Some(state @ ("Exception" | "Killed" | "Cancelled" | "Interrupted" | "Suspended")) => {
            State::Failed(state.to_owned())
        }
        Some(_) => State::Runs,
        None if status == 202 => State::Runs,
        None => State::Done,
    }
}

impl Bmc {
    /// Waits for the end of what `answer` began; returns at once where it is no 202.
    pub(crate) async fn finish(&self, path: &str, answer: Answer) -> Result<(), Error> {
        if answer.status != 202 {
            return Ok(());
        }
        let bmc = self.bounded();
        let task = answer.body["@odata.id"].as_str().map(str::to_owned);
        let monitor = answer
            .location
            .clone()
            .or_else(|| answer.body["TaskMonitor"].as_str().map(str::to_owned));
        let Some(monitor) = monitor.or_else(|| task.clone()) else {
            // Nothing to ask: what the order was for is read back by whoever gave it.
            return Ok(());
        };
        let mut wait = answer.retry_after;
        let mut last = answer.body["TaskState"]
            .as_str()
            .unwrap_or("New")
            .to_owned();
        loop {
            let pause = wait
                .unwrap_or(bmc.poll_pause())
                .clamp(bmc.poll_pause(), Duration::from_secs(30));
            if !bmc.pause(pause).await {
                let what = format!("task {monitor} of {path}");
                return Err(bmc.overdue(&what, Some(format!("its state is {last}"))));
            }
            let (answer, seen) = match bmc.ask(&Request::get(&monitor)).await {
                Ok(answer) => {
                    let seen = state(answer.status, &answer.body);
                    (answer, seen)
                }
                Err(error) if matches!(error.status(), Some(404 | 410)) => match &task {
                    // The monitor went with the end of the task; the task may still tell how it ended.
                    Some(task) if *task != monitor => match bmc.ask(&Request::get(task)).await {
                        Ok(answer) => {
                            let seen = state(200, &answer.body);
                            (answer, seen)
                        }
                        Err(error) if matches!(error.status(), Some(404 | 410)) => return Ok(()),
                        Err(error) => return Err(error),
                    },
                    _ => return Ok(()),
                },
                // The monitor's last answer is that of the order itself.
                Err(Error::Refused {
                    status, messages, ..
                }) => {
                    return Err(Error::Task {
                        bmc: bmc.name().to_owned(),
                        path: monitor,
                        state: format!("failed with status {status}"),
                        messages,
                    });
                }
                Err(error) => return Err(error),
            };
            wait = answer.retry_after;
            match seen {
                State::Done => return Ok(()),
                State::Failed(state) => {
                    return Err(Error::Task {
                        bmc: bmc.name().to_owned(),
                        path: monitor,
                        state,
                        messages: bmc.messages(&answer),
                    });
                }
                State::Runs => {
                    if let Some(state) = answer.body["TaskState"].as_str() {
                        state.clone_into(&mut last);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn state_counts_more_than_status() {
        assert_eq!(state(200, &json!({"TaskState": "Running"})), State::Runs);
        assert_eq!(state(202, &json!({"TaskState": "Completed"})), State::Done);
        assert_eq!(state(202, &Value::Null), State::Runs);
        assert_eq!(state(204, &Value::Null), State::Done);
        assert_eq!(
            state(200, &json!({"TaskState": "Exception"})),
            State::Failed("Exception".to_owned())
        );
        assert!(matches!(
            state(
                200,
                &json!({"TaskState": "Completed", "TaskStatus": "Critical"})
            ),
            State::Failed(_)
        ));
    }
}
