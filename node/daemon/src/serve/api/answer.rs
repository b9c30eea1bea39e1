//! Answers: Kubernetes' `Status` for every refusal.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::serve::manifest::Problem;
use crate::serve::store::StoreError;

/// The picture in a launcher's answer to [`catamaran_wire::Verb::Screenshot`].
///
/// # Errors
/// When there is none in it.
pub fn picture(answer: &Value) -> Result<Response, Refusal> {
    let png = answer
        .as_str()
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .ok_or_else(|| Refusal::failed("the launcher sent no picture"))?;
    Ok(([(CONTENT_TYPE, "image/png")], png).into_response())
}

/// A refusal.
#[derive(Debug)]
pub struct Refusal {
    pub(crate) code: StatusCode,
    reason: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message: message.into(),
        }
    }

    /// Not possible in this state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::CONFLICT,
            reason: "Conflict",
            message: message.into(),
        }
    }

    /// Not understood, or a stream of a machine that does not run (as the peer answers).
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            reason: "BadRequest",
            message: message.into(),
        }
    }

    /// With that status.
    pub fn code(code: u16, message: impl Into<String>) -> Self {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::CONFLICT);
        let reason = match code {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::GONE => "Gone",
            _ => "Conflict",
        };
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    /// Tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "InternalError",
            message: message.into(),
        }
    }

    /// Manifests with mistakes: all of them.
    pub fn invalid(problems: &[Problem]) -> Self {
        let message = problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        Self {
            code: StatusCode::UNPROCESSABLE_ENTITY,
            reason: "Invalid",
            message,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound(_) => Self::not_found(error.to_string()),
            StoreError::Deleting(_) | StoreError::Watched { .. } | StoreError::InUse { .. } => {
                Self::conflict(error.to_string())
            }
            StoreError::Smaller { .. } => Self {
                code: StatusCode::UNPROCESSABLE_ENTITY,
                reason: "Invalid",
                message: error.to_string(),
            },
            _ => Self::failed(catamaran_client::chain(&error)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": self.reason, "message": self.message, "code": self.code.as_u16(),
        });
        (self.code, Json(status)).into_response()
    }
}

/// A path that nobody serves.
pub async fn no_route(uri: axum::http::Uri) -> Refusal {
    Refusal::not_found(format!(
        "no route {}; is the client newer than the daemon?",
        uri.path()
    ))
}
