//! Answers: Kubernetes' `Status` for every refusal.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use catamaran_api::VirtualMachine;
pub(crate) use catamaran_client::chain;
use catamaran_spec::FieldErrors;
use kube::core::response::StatusDetails;
use kube::core::{Status, response::StatusSummary};
use serde_json::{Value, json};

/// Group in the names of kinds in messages.
const GROUP: &str = "kubevirt.io";

/// A refusal, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal(pub(crate) Box<Status>);

impl Refusal {
    pub(crate) fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            status: Some(StatusSummary::Failure),
            code,
            message: message.into(),
            metadata: None,
            reason: reason.to_owned(),
            details: None,
        }))
    }

    fn about(mut self, kind: &str, name: &str) -> Self {
        self.0.details = Some(StatusDetails {
            name: name.to_owned(),
            group: GROUP.to_owned(),
            kind: kind.to_owned(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        });
        self
    }

    /// Not understood, or a stream of a machine that does not run (as the peer answers).
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// A machine cannot be made of what it names.
    pub(crate) fn invalid_machine(vm: &VirtualMachine, errors: &FieldErrors) -> Self {
        let name = vm.metadata.name.as_deref().unwrap_or_default();
        let words: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        Self::bad_request(format!("virtualmachine {name:?}: {}", words.join(", ")))
    }

    /// Nobody vouches for the caller.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// The caller may not.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// There is no such object. `kind`: `virtualmachine`, `virtualmachineinstance`.
    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{kind}.{GROUP} {name:?} not found"),
        )
        .about(kind, name)
    }

    /// There is no such path.
    pub(crate) fn no_path(path: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("the server could not find the requested resource: {path}"),
        )
    }

    /// Not possible in this state.
    pub(crate) fn conflict(kind: &str, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {kind}.{GROUP} {name:?}: {why}"),
        )
        .about(kind, name)
    }

    /// With the code of a verdict.
    pub(crate) fn verdict(code: u16, kind: &str, name: &str, why: &str) -> Self {
        match code {
            400 => Self::bad_request(why),
            403 => Self::new(
                403,
                "Forbidden",
                format!("{kind}.{GROUP} {name:?} is forbidden: {why}"),
            )
            .about(kind, name),
            _ => Self::conflict(kind, name, why),
        }
    }

    /// Tried and failed.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {}", message.into()),
        )
    }
}

impl From<kube::Error> for Refusal {
    /// What the API server said to us is said to the caller, except what concerns our own rights.
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status)
                if (400..600).contains(&status.code) && ![401, 403].contains(&status.code) =>
            {
                Self(status)
            }
            other => Self::internal(chain(&other)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(body(&self.0))).into_response()
    }
}

/// A `Status` as an object.
pub(crate) fn body(status: &Status) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_else(|_| json!({}));
    value["kind"] = json!("Status");
    value["apiVersion"] = json!("v1");
    if value["metadata"].is_null() {
        value["metadata"] = json!({});
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Refusal, body};

    #[test]
    fn a_conflict_reads_as_the_peers() {
        let refusal = Refusal::conflict("virtualmachine", "testvm", "VM is already running");
        assert_eq!(
            body(&refusal.0),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
                "message": "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"testvm\": VM is already running",
                "details": {"name": "testvm", "group": "kubevirt.io", "kind": "virtualmachine"},
            })
        );
    }
}
