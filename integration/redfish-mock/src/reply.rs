//! Answers, and errors in the words of Redfish.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Some(body),
        }
    }

    pub(crate) fn done() -> Self {
        Self {
            status: 204,
            headers: Vec::new(),
            body: None,
        }
    }

    /// An error with a message.
    pub(crate) fn error(status: u16, id: &str, text: &str) -> Self {
        let id = if id.is_empty() {
            "Base.1.8.GeneralError"
        } else {
            id
        };
        let text = if text.is_empty() {
            "The request failed."
        } else {
            text
        };
        let message = json!({"@odata.type": "#Message.v1_1_1.Message", "MessageId": id, "Message": text, "MessageArgs": [],
            "Severity": "Critical", "Resolution": "None."});
        let body = json!({"error": {"code": "Base.1.8.GeneralError", "message": "A general error has occurred. See ExtendedInfo.",
            "@Message.ExtendedInfo": [message]}});
        Self {
            status,
            headers: Vec::new(),
            body: Some(body),
        }
    }

    pub(crate) fn missing(path: &str) -> Self {
        let text = format!("The resource at the URI '{path}' was not found.");
        Self::error(404, "Base.1.8.ResourceMissingAtURI", &text)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let body = self.body.map(|body| body.to_string()).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        headers.insert("odata-version", HeaderValue::from_static("4.0"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
