//! `AdmissionReview`, as far as it is used here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::core::Status;
use kube::core::response::{StatusCause, StatusDetails, StatusSummary};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::body;

/// What the API server sends.
#[derive(Debug, Deserialize)]
pub(super) struct Review {
    pub(super) request: Option<Request>,
}

/// What is to be decided.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    pub(super) uid: String,
    pub(super) kind: Kind,
    pub(super) operation: String,
    pub(super) user_info: UserInfo,
    pub(super) name: String,
    pub(super) namespace: String,
    /// Null for a deletion.
    pub(super) object: Value,
    /// Null for a creation.
    pub(super) old_object: Value,
    pub(super) dry_run: bool,
}

/// Kind of the object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kind {
    pub(super) kind: String,
}

/// Who asks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserInfo {
    pub(super) username: String,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Stored as it is, with words for the user.
    Allowed(Vec<String>),
    /// Stored with these changes (RFC 6902).
    Changed(Vec<Value>),
    /// Not stored.
    Denied(Box<Status>),
}

impl Verdict {
    /// Stored as it is.
    pub(super) fn allowed() -> Self {
        Self::Allowed(Vec::new())
    }

    /// Not stored, because of these fields.
    pub(super) fn invalid(message: String, causes: Vec<StatusCause>) -> Self {
        Self::Denied(Box::new(Status {
            status: Some(StatusSummary::Failure),
            code: 422,
            message,
            metadata: None,
            reason: "Invalid".to_owned(),
            details: Some(StatusDetails {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes,
                retry_after_seconds: 0,
            }),
        }))
    }

    /// Nobody knows, since the API server could not be asked.
    pub(super) fn failed(message: String) -> Self {
        Self::Denied(Box::new(Status {
            status: Some(StatusSummary::Failure),
            code: 500,
            message,
            metadata: None,
            reason: "InternalError".to_owned(),
            details: None,
        }))
    }

    /// Not now: the API server tells the client to try again.
    pub(super) fn too_many_requests(message: String) -> Self {
        Self::Denied(Box::new(Status {
            status: Some(StatusSummary::Failure),
            code: 429,
            message,
            metadata: None,
            reason: "TooManyRequests".to_owned(),
            details: None,
        }))
    }

    /// The whole `AdmissionReview`. A refusal names its object: kubectl says then which one of a file is invalid.
    pub(super) fn answer(self, request: &Request) -> Value {
        let mut response = json!({"uid": request.uid, "allowed": true});
        match self {
            Self::Allowed(warnings) => {
                if !warnings.is_empty() {
                    response["warnings"] = json!(warnings);
                }
            }
            Self::Changed(operations) => {
                if !operations.is_empty() {
                    response["patchType"] = json!("JSONPatch");
                    response["patch"] = json!(STANDARD.encode(json!(operations).to_string()));
                }
            }
            Self::Denied(mut status) => {
                if let Some(details) = &mut status.details {
                    details.kind.clone_from(&request.kind.kind);
                    details.name.clone_from(&request.name);
                }
                response["allowed"] = json!(false);
                response["status"] = body(&status);
            }
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::{Value, json};

    use super::{Kind, Request, Verdict};

    fn request() -> Request {
        Request {
            uid: "u".to_owned(),
            kind: Kind {
                kind: "VirtualMachine".to_owned(),
            },
            name: "web".to_owned(),
            ..Request::default()
        }
    }

    #[test]
    fn a_change_is_a_patch_in_base64() {
        let change = json!({"op": "add", "path": "/status", "value": {}});
        let answer = Verdict::Changed(vec![change.clone()]).answer(&request());
        assert_eq!(answer["response"]["uid"], "u");
        let patch = answer["response"]["patch"].as_str().unwrap();
        let patch = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&patch).unwrap(),
            json!([change])
        );
    }

    #[test]
    fn a_refusal_names_its_object() {
        let answer = Verdict::invalid("words".to_owned(), Vec::new()).answer(&request());
        let details = &answer["response"]["status"]["details"];
        assert_eq!(
            (&details["kind"], &details["name"]),
            (&json!("VirtualMachine"), &json!("web"))
        );
    }

    #[test]
    fn nothing_to_change_is_no_patch() {
        let answer = Verdict::Changed(Vec::new()).answer(&request());
        assert_eq!(answer["response"], json!({"uid": "u", "allowed": true}));
    }
}
