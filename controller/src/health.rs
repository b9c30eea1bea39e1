//! Health endpoints: plain HTTP, for the kubelet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

/// Whether the controller is ready: it has reached the API server.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// From now on it is.
    pub fn yes(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves `/healthz` and `/readyz` for ever.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(address: SocketAddr, ready: Ready) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("could not listen on {address}"))?;
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(is_ready))
        .with_state(ready);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn is_ready(State(ready): State<Ready>) -> (StatusCode, &'static str) {
    if ready.0.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server has not answered yet",
        )
    }
}
