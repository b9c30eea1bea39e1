//! A registry in a few lines: serves one OCI layout over HTTP, to those who know the password.

use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// `user:password` in base64.
pub(crate) const LOGIN: &str = "dXNlcjpwYXNzd29yZA==";

/// Serves until it is dropped.
pub(crate) struct Registry {
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

impl Registry {
    pub(crate) async fn serve(layout: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let layout = layout.clone();
                connections.spawn(async move { answer(stream, layout).await.unwrap_or(()) });
            }
        });
        Self {
            port,
            _tasks: tasks,
        }
    }
}

async fn answer(stream: TcpStream, layout: PathBuf) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        // A client that begins with TLS is told that this is plain HTTP.
        if stream.fill_buf().await?.first() == Some(&0x16) {
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
        let mut request = String::new();
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        let mut allowed = false;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                break;
            }
            allowed |= line.trim() == format!("Authorization: Basic {LOGIN}");
        }
        let mut words = request.split(' ');
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
        let manifest = index["manifests"][0]["digest"].as_str().unwrap_or_default();
        let digest = match path.rsplit('/').next().unwrap_or_default() {
            "1" => manifest,
            other => other,
        };
        let body = std::fs::read(layout.join("blobs").join(digest.replace(':', "/"))).ok();
        let kind = if digest == manifest {
            "application/vnd.oci.image.manifest.v1+json"
        } else {
            "application/octet-stream"
        };
        let (status, body) = match body {
            _ if !allowed => (
                "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"",
                vec![],
            ),
            Some(body) => ("200 OK", body),
            None if path == "/v2/" => ("200 OK", vec![]),
            None => ("404 Not Found", vec![]),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            stream.write_all(&body).await?;
        }
    }
}
