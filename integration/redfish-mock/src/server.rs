//! Listening, TLS, and being gone or hanging.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::bmc::Bmc;
use crate::request::answer;

/// Whether a BMC can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// It answers.
    Up,
    /// It takes connections and answers nothing.
    Hung,
    /// Nothing listens, and connections there were have ended.
    Gone,
}

/// Serves one BMC until it is dropped.
pub(crate) async fn serve(
    bmc: Arc<Bmc>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    let mut availability = bmc.availability.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let gone = *availability.borrow_and_update() == Availability::Gone;
        if gone {
            listener = None;
            connections.abort_all();
        } else if listener.is_none() {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(error) => {
                    // Somebody took the port meanwhile: it may come free again.
                    tracing::warn!(%address, %error, "the BMC can't come back yet");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            }
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(&bmc), stream, tls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%address, %error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            changed = availability.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(bmc: Arc<Bmc>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    awake(&bmc).await;
    // The kernel answers for a small server; nothing to do when this can't be set.
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(bmc, stream).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => requests(bmc, stream).await,
            Err(error) => tracing::debug!(%error, "no TLS"),
        },
    }
}

async fn requests(bmc: Arc<Bmc>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| {
        let bmc = Arc::clone(&bmc);
        async move {
            awake(&bmc).await;
            answer(bmc, request).await
        }
    });
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Waits while the BMC hangs.
async fn awake(bmc: &Bmc) {
    let mut availability = bmc.availability.subscribe();
    // The sender lives as long as the BMC.
    let _ = availability
        .wait_for(|now| *now != Availability::Hung)
        .await;
}
