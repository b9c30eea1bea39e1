//! Verbs that wait to be carried out (`status.stateChangeRequests`).

use std::collections::BTreeMap;

use catamaran_api::VirtualMachineStateChangeRequest;
use serde::{Deserialize, Serialize};

/// One request. Only the first of a list is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateChangeRequest {
    /// Make a new run.
    Start {
        /// The guest waits for `unpause`.
        paused: bool,
    },
    /// End this run.
    Stop {
        /// UID of the instance that is meant.
        uid: String,
    },
}

impl StateChangeRequest {
    /// As written in a status; `None` for an action that nobody knows or a Stop without UID.
    #[must_use]
    pub fn from_wire(wire: &VirtualMachineStateChangeRequest) -> Option<Self> {
        match wire.action.as_str() {
            "Start" => Some(Self::Start {
                paused: wire.data.get("paused").is_some_and(|p| p == "true"),
            }),
            "Stop" => Some(Self::Stop {
                uid: wire.uid.clone()?,
            }),
            _ => None,
        }
    }

    /// As to be written in a status.
    #[must_use]
    pub fn to_wire(&self) -> VirtualMachineStateChangeRequest {
        match self {
            Self::Start { paused } => {
                let data = if *paused {
                    BTreeMap::from([("paused".to_owned(), "true".to_owned())])
                } else {
                    BTreeMap::new()
                };
                VirtualMachineStateChangeRequest {
                    action: "Start".to_owned(),
                    data,
                    uid: None,
                }
            }
            Self::Stop { uid } => VirtualMachineStateChangeRequest {
                action: "Stop".to_owned(),
                data: BTreeMap::new(),
                uid: Some(uid.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StateChangeRequest;

    #[test]
    fn requests_survive_being_written() {
        for request in [
            StateChangeRequest::Start { paused: false },
            StateChangeRequest::Start { paused: true },
            StateChangeRequest::Stop {
                uid: "u".to_owned(),
            },
        ] {
            assert_eq!(
                StateChangeRequest::from_wire(&request.to_wire()),
                Some(request)
            );
        }
    }
}
