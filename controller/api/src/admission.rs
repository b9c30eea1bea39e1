//! Webhooks of the API server: what may be stored, what is added to it, and whether a pod may be evicted.

mod evict;
mod merge;
mod mutate;
mod replug;
mod review;
mod validate;

use axum::Json;
use axum::response::{IntoResponse as _, Response};

use crate::answer::Refusal;
use crate::route::Webhook;
use crate::server::State;

use review::Review;

/// Answers a webhook.
pub(crate) async fn answer(
    state: &State,
    webhook: Webhook,
    body: &[u8],
) -> Result<Response, Refusal> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("not an AdmissionReview: {error}")))?;
    let request = review
        .request
        .ok_or_else(|| Refusal::bad_request("an AdmissionReview without request"))?;
    let verdict = match webhook {
        Webhook::Validate => {
            // A preference fills what a machine leaves open, which is no change.
            let changed = replug::changed(&request);
            match merge::merged(&state.client, request.clone()).await {
                Ok(merged) => validate::judge(&merged, changed, &state.namespace),
                Err(verdict) => verdict,
            }
        }
        Webhook::Mutate => mutate::complete(&request, k8s_openapi::jiff::Timestamp::now()),
        Webhook::Evict => evict::judge(&state.client, &request).await,
    };
    Ok(Json(verdict.answer(&request)).into_response())
}
