//! Tasks: orders that a BMC answers with 202.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: u64,
    /// When it ends; none: never by itself (it waits for a restart).
    pub(crate) ends: Option<Instant>,
    pub(crate) fails: Option<String>,
}

/// Where tasks stand.
pub(crate) const TASKS: &str = "/redfish/v1/TaskService/Tasks";
/// Where their monitors stand.
pub(crate) const MONITORS: &str = "/redfish/v1/TaskService/TaskMonitors";

impl Task {
    pub(crate) fn after(id: u64, time: Option<Duration>, fails: Option<String>) -> Self {
        Self {
            id,
            ends: time.map(|time| Instant::now() + time),
            fails,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| Instant::now() >= ends)
    }

    pub(crate) fn body(&self) -> Value {
        let state = match (self.is_over(), &self.fails) {
            (false, _) => "Running",
            (true, None) => "Completed",
            (true, Some(_)) => "Exception",
        };
        let messages: Vec<Value> = self
            .fails
            .iter()
            .filter(|_| self.is_over())
            .map(|text| json!({"MessageId": "Base.1.8.GeneralError", "Message": text}))
            .collect();
        json!({
            "@odata.id": format!("{TASKS}/{}", self.id),
            "@odata.type": "#Task.v1_4_3.Task",
            "Id": self.id.to_string(),
            "Name": "Task",
            "TaskState": state,
            "TaskStatus": if messages.is_empty() { "OK" } else { "Critical" },
            "TaskMonitor": format!("{MONITORS}/{}", self.id),
            "Messages": messages,
        })
    }
}
