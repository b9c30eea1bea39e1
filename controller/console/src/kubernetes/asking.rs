//! Requests to the API server, and the words of its refusals.

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use serde::de::DeserializeOwned;

use crate::backend::{Cause, Duplex, Failure};

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// Longest answer that is read whole, bytes: an object, a review, the pods of a node.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;

type Answer = Response<kube::client::Body>;

/// Asks; an answer that is no success is a failure.
pub(super) async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: Bytes,
) -> Result<Answer, Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        // What a guest's agent or screen says is not always JSON.
        .header(ACCEPT, "application/json, */*;q=0.5")
        .header(CONTENT_TYPE, content_type)
        .body(kube::client::Body::from(body.to_vec()))
        .map_err(|_| Failure::new(400, format!("{path:?} is no path")))?;
    let answer = send(client, request).await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(refusal(answer).await)
}

/// Opens a websocket as a stream of bytes.
pub(super) async fn stream(client: &Client, path: &str) -> Result<Box<dyn Duplex>, Failure> {
    let broken = |error: &dyn std::error::Error| {
        tracing::warn!(error = %error, "the console could not open a stream");
        Failure::new(502, "the API server did not switch to a stream")
    };
    let handshake = catamaran_client::websocket::Handshake::new();
    let request = handshake.request(path).map_err(|error| broken(&error))?;
    let answer = send(client, request.map(|()| kube::client::Body::empty())).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    let stream = handshake.switch(answer).await;
    Ok(Box::new(stream.map_err(|error| broken(&error))?))
}

async fn send(client: &Client, request: Request<kube::client::Body>) -> Result<Answer, Failure> {
    client.send(request).await.map_err(|error| {
        tracing::warn!(error = %error, "the console could not reach the API server");
        Failure::new(502, "the API server could not be reached")
    })
}

async fn refusal(answer: Answer) -> Failure {
    let status = answer.status().as_u16();
    let said: Option<Status> = whole(answer).await.ok();
    failure(status, said.unwrap_or_default())
}

/// What a refusal means.
fn failure(status: u16, said: Status) -> Failure {
    let causes = said.details.and_then(|details| details.causes);
    let mut causes: Vec<_> = causes
        .unwrap_or_default()
        .into_iter()
        .filter_map(|cause| {
            Some(Cause {
                field: cause.field?,
                message: cause.message.unwrap_or_default(),
            })
        })
        .collect();
    // The API server names no field here, and a form wants one.
    if causes.is_empty() && said.reason.as_deref() == Some("AlreadyExists") {
        causes.push(Cause {
            field: "metadata.name".to_owned(),
            message: "already exists".to_owned(),
        });
    }
    Failure {
        status,
        message: said
            .message
            .unwrap_or_else(|| format!("the API server answered with status {status}")),
        causes,
    }
}

/// An answer, read whole.
pub(super) async fn whole<T: DeserializeOwned>(answer: Answer) -> Result<T, Failure> {
    let unreadable = || Failure::new(502, "the API server's answer could not be read");
    let body = Limited::new(answer.into_body(), ANSWER_BYTES);
    let bytes = body.collect().await.map_err(|_| unreadable())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

    use super::failure;

    #[test]
    fn a_name_that_is_taken_is_wrong_in_the_field_of_the_name() {
        let said = |reason: &str| Status {
            reason: Some(reason.to_owned()),
            message: Some("virtualmachines.kubevirt.io \"web\" …".to_owned()),
            ..Status::default()
        };
        let taken = failure(409, said("AlreadyExists"));
        assert_eq!(taken.causes[0].field, "metadata.name");
        assert!(failure(409, said("Conflict")).causes.is_empty());
    }
}
