//! The API server, as the user: one place for paths, bodies, refusals, warnings and websockets.

use bytes::Bytes;
use catamaran_client::table::printable;
use catamaran_client::websocket::Handshake;
use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_TYPE, WARNING};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode};
use kube::Config;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::args::Globals;
use crate::error::Error;
use crate::target::{self, Kind, Target};

/// What a user may or may not see of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen<T> {
    /// It is there.
    There(T),
    /// There is none.
    Missing,
    /// The user may not look.
    Hidden,
}

impl<T> Seen<T> {
    /// What is there.
    pub(crate) fn there(&self) -> Option<&T> {
        match self {
            Self::There(value) => Some(value),
            Self::Missing | Self::Hidden => None,
        }
    }
}

/// A cluster, and the namespace that is meant in it.
#[derive(Clone)]
pub(crate) struct Connection {
    client: kube::Client,
    server: String,
    namespace: String,
}

impl Connection {
    /// Reads the kubeconfig as kubectl does. Nothing is sent yet.
    pub(crate) async fn open(globals: &Globals) -> Result<Self, Error> {
        let mut config = config(globals).await?;
        if let Some(user) = &globals.as_user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups =
                Some(globals.as_groups.clone()).filter(|groups| !groups.is_empty());
        }
        // A console may be silent for hours.
        config.read_timeout = None;
        config.write_timeout = None;
        let namespace = globals.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let request = |source| Error::Request {
            server: server.clone(),
            source: Box::new(source),
        };
        Ok(Self {
            client: kube::Client::try_from(config).map_err(request)?,
            namespace,
            server,
        })
    }

    /// The namespace that is meant.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The namespace of a target.
    pub(crate) fn namespace_of<'a>(&'a self, target: &'a Target) -> &'a str {
        target.namespace.as_deref().unwrap_or(&self.namespace)
    }

    /// Path of a subresource of a target.
    pub(crate) fn path(&self, kind: Kind, target: &Target, word: &str) -> String {
        target::subresource(kind, self.namespace_of(target), &target.name, word)
    }

    /// A request with a JSON answer; no answer is null.
    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let bytes = self.bytes(method, path, body).await?;
        let nothing = bytes.is_empty();
        Ok(serde_json::from_slice(if nothing {
            b"null"
        } else {
            &bytes
        })?)
    }

    /// An object or list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.json(Method::GET, path, None).await
    }

    /// An object that may be missing or hidden.
    pub(crate) async fn look(&self, path: &str) -> Result<Seen<Value>, Error> {
        match self.get(path).await {
            Ok(value) => Ok(Seen::There(value)),
            Err(error) => match error.code() {
                Some(404) => Ok(Seen::Missing),
                Some(401 | 403) => Ok(Seen::Hidden),
                _ => Err(error),
            },
        }
    }

    /// A request whose answer is taken whole. A PATCH is a merge patch (RFC 7396).
    pub(crate) async fn bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Error> {
        let body = body.map(serde_json::to_vec).transpose()?;
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, content)
            .body(Body::from(body.unwrap_or_default()))?;
        let (head, bytes) = self.answer(request).await?;
        for warning in head.headers.get_all(WARNING) {
            if let Some(words) = warning.to_str().ok().and_then(warning_words) {
                eprintln!("Warning: {}", printable(&words));
            }
        }
        accept(&head, &bytes)?;
        Ok(bytes)
    }

    /// A websocket as a stream of bytes.
    pub(crate) async fn stream(
        &self,
        path: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, Error> {
        let handshake = Handshake::new();
        let request = handshake.request(path)?.map(|()| Body::empty());
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, bytes) = whole(response).await?;
            accept(&head, &bytes)?;
            return Err(Error::Stream(format!("it answered {}", head.status)));
        }
        let stream = handshake.switch(response).await;
        stream.map_err(|error| Error::Stream(error.to_string()))
    }

    /// As [`Self::stream`], owning what it needs.
    pub(crate) async fn stream_to(
        self,
        path: String,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, Error> {
        self.stream(&path).await
    }

    async fn answer(&self, request: Request<Body>) -> Result<(Parts, Bytes), Error> {
        whole(self.send(request).await?).await
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let sent = self.client.send(request).await;
        sent.map_err(|source| Error::Request {
            server: self.server.clone(),
            source: Box::new(source),
        })
    }
}

async fn config(globals: &Globals) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: globals.context.clone(),
        ..KubeConfigOptions::default()
    };
    let read = match &globals.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    match read {
        Ok(kubeconfig) => Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?),
        // Inside a pod there is none.
        Err(error @ (KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath))
            if globals.kubeconfig.is_none() && globals.context.is_none() =>
        {
            Config::incluster().map_err(|_| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn whole(response: Response<Body>) -> Result<(Parts, Bytes), Error> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await;
    let collected = collected.map_err(|source| Error::Body(Box::new(source)))?;
    Ok((head, collected.to_bytes()))
}

/// A refusal as an error.
fn accept(head: &Parts, bytes: &[u8]) -> Result<(), Error> {
    if head.status.is_success() {
        return Ok(());
    }
    let status: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let word = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let message = match word("message") {
        empty if empty.is_empty() => {
            let said = String::from_utf8_lossy(bytes);
            format!("{}: {}", head.status, printable(said.trim()))
        }
        message => message,
    };
    Err(Error::Refused {
        code: head.status.as_u16(),
        reason: word("reason"),
        message,
    })
}

/// The words of a header such as `299 - "words"`.
fn warning_words(header: &str) -> Option<String> {
    let (_, quoted) = header.split_once('"')?;
    let quoted = quoted.strip_suffix('"')?;
    Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_lose_their_wrapping() {
        let header =
            r#"299 - "spec.template.spec.evictionStrategy: \"LiveMigrate\" has no effect""#;
        assert_eq!(
            warning_words(header).as_deref(),
            Some(r#"spec.template.spec.evictionStrategy: "LiveMigrate" has no effect"#)
        );
        assert_eq!(warning_words("299"), None);
    }

    #[test]
    fn refusals_are_read_from_a_status_and_from_anything_else() {
        let head = |code: u16| {
            Response::builder()
                .status(code)
                .body(())
                .unwrap()
                .into_parts()
                .0
        };
        let status = br#"{"kind":"Status","reason":"NotFound","message":"no a","code":404}"#;
        let refused = accept(&head(404), status).unwrap_err();
        assert_eq!(refused.line(), "Error from server (NotFound): no a");
        let strange = accept(&head(502), b"bad gateway\n").unwrap_err();
        assert_eq!(
            strange.line(),
            "Error from server: 502 Bad Gateway: bad gateway"
        );
        assert!(accept(&head(202), b"").is_ok());
    }
}
