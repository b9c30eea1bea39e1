//! HTTP over the daemon's unix socket.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

/// Word of the `Upgrade` header for raw streams.
pub const STREAM: &str = "catamaran-stream";

/// A request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no daemon answers on {path}; start one with `catamaran play`, or name its state folder with --state"
    )]
    NoDaemon {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection failed.
    #[error("the daemon's connection failed")]
    Http(#[from] hyper::Error),
    /// The request was not made.
    #[error("request is not understood")]
    Request(#[from] hyper::http::Error),
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        /// Status code.
        code: u16,
        /// Kubernetes' word, such as `NotFound`.
        reason: String,
        /// For people.
        message: String,
    },
    /// The answer was not understood.
    #[error("the daemon's answer is not understood")]
    Answer(#[from] serde_json::Error),
    /// A file of the user, or the terminal.
    #[error("{what}")]
    Io {
        /// What failed.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A port can't be passed on.
    #[error(transparent)]
    Forward(#[from] catamaran_client::ForwardError),
    /// What was typed can't be.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// A failed operation on a file or terminal.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The daemon behind a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon of that state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self {
            socket: crate::serve::layout::Layout::new(state.to_owned()).socket(),
        }
    }

    /// A request with a JSON body and a JSON answer.
    ///
    /// # Errors
    /// When there is no daemon or it says no.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let bytes = self.bytes(method, path, body).await?;
        Ok(serde_json::from_slice(if bytes.is_empty() {
            b"null"
        } else {
            &bytes
        })?)
    }

    /// A request whose answer is taken whole.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, ClientError> {
        let response = self.send(method, path, body, false).await?;
        Ok(accept(response)
            .await?
            .into_body()
            .collect()
            .await?
            .to_bytes())
    }

    /// A request whose answer comes piece by piece.
    ///
    /// # Errors
    /// When there is no daemon, it says no, or `each` fails.
    pub async fn stream(
        &self,
        path: &str,
        each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let response = self.send(Method::GET, path, None, false).await?;
        pieces(response, each).await
    }

    /// As [`Self::stream`], with a body.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn stream_post(
        &self,
        path: &str,
        body: &Value,
        each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let response = self.send(Method::POST, path, Some(body), false).await?;
        pieces(response, each).await
    }

    /// A raw stream to a guest or pod.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn upgrade(&self, path: &str) -> Result<TokioIo<Upgraded>, ClientError> {
        let response = self.send(Method::GET, path, None, true).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            accept(response).await?;
            return Err(ClientError::Usage(
                "the daemon answered without opening a stream".to_owned(),
            ));
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// As [`Self::upgrade`], owning what it needs.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn stream_to(self, path: String) -> Result<TokioIo<Upgraded>, ClientError> {
        self.upgrade(&path).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        upgrade: bool,
    ) -> Result<Response<hyper::body::Incoming>, ClientError> {
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ClientError::NoDaemon {
                    path: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "catamaran");
        if upgrade {
            request = request
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, STREAM);
        }
        let bytes = match body {
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(value)?)
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes))?;
        // The connection lives as long as the answer's body or the upgraded stream; a client has nothing to shut down in order.
        tokio::runtime::Handle::current().spawn(connection.with_upgrades());
        Ok(sender.send_request(request).await?)
    }
}

async fn pieces(
    response: Response<hyper::body::Incoming>,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ClientError> {
    let mut body = accept(response).await?.into_body();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            each(data).map_err(ClientError::io("output"))?;
        }
    }
    Ok(())
}

/// A refusal as an error.
async fn accept(
    response: Response<hyper::body::Incoming>,
) -> Result<Response<hyper::body::Incoming>, ClientError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let word = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let message = match word("message") {
        empty if empty.is_empty() => format!(
            "the daemon answered {code}: {}",
            String::from_utf8_lossy(&bytes)
        ),
        message => message,
    };
    Err(ClientError::Refused {
        code,
        reason: word("reason"),
        message,
    })
}
