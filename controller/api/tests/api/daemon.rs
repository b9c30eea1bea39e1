//! A mock node daemon: mutual TLS, the answers of the contract, an echo on the console.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::world::Pki;

/// What it was asked.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// Serves on that listener until the task is dropped.
pub(crate) async fn run(listener: TcpListener, pki: Pki, asked: Asked) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.certificate()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let (chain, key) = pki.server("n1.node.catamaran.dev");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut tasks = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, asked) = (acceptor.clone(), asked.clone());
        tasks.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request: Request<Incoming>| {
                let asked = asked.clone();
                async move { Ok::<_, Infallible>(answer(request, &asked)) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

fn answer(mut request: Request<Incoming>, asked: &Asked) -> Response<Full<Bytes>> {
    let line = format!("{} {}", request.method(), request.uri());
    asked.lock().unwrap().push(line);
    let path = request.uri().path().to_owned();
    let mut response = Response::new(Full::default());
    if path.ends_with("/console") {
        assert_eq!(request.headers()["upgrade"], "catamaran-stream");
        let upgrade = hyper::upgrade::on(&mut request);
        // Ends with the stream: a test process is short.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            stream.write_all(b"login: ").await.unwrap();
            let mut buffer = [0; 64];
            while let Ok(count) = stream.read(&mut buffer).await {
                if count == 0 || stream.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        });
        *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "Upgrade".parse().unwrap());
        headers.insert("upgrade", "catamaran-stream".parse().unwrap());
    } else if path.ends_with("/dmesg") {
        *response.body_mut() = Full::from("[    0.000000] Linux version 6.1\n");
        response
            .headers_mut()
            .insert("content-type", "text/plain".parse().unwrap());
    } else if path.ends_with("/reset") {
        *response.status_mut() = hyper::StatusCode::CONFLICT;
        *response.body_mut() = Full::from(
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":409,"reason":"Conflict","message":"the launcher is busy"}"#,
        );
    }
    response
}
