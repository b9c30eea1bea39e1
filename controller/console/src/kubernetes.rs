//! The backend of a cluster: the API server, asked with the user's own token.
//!
//! Architecture invariant: this file is given the address of the API server and the authority of its certificate, and nothing that
//! identifies the controller. Each session has a client of its own that carries the session's token.

use std::path::PathBuf;

use axum::body::Body;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::backend::{Backend, Failure, Kind, Name, User, Verb};

/// Longest answer that is read whole, bytes: an error, a review.
const ANSWER_BYTES: usize = 256 * 1024;
/// After this a watch is begun anew, which asks for the right again, seconds.
const WATCH_SECONDS: u32 = 300;

/// Where the API server is.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    url: Uri,
    roots: Option<Vec<Vec<u8>>>,
    roots_file: Option<PathBuf>,
    server_name: Option<String>,
}

impl Kubernetes {
    /// From the configuration of any client of the same API server. Its identity is not taken over.
    #[must_use]
    pub fn at(config: &Config) -> Self {
        Self {
            url: config.cluster_url.clone(),
            roots: config.root_cert.clone(),
            roots_file: config.root_cert_file.clone(),
            server_name: config.tls_server_name.clone(),
        }
    }

    fn client(&self, token: &str) -> Result<Client, Failure> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Failure::new(400, "token: has characters that no token has"))?;
        bearer.set_sensitive(true);
        let mut config = Config::new(self.url.clone());
        config.root_cert.clone_from(&self.roots);
        config.root_cert_file.clone_from(&self.roots_file);
        config.tls_server_name.clone_from(&self.server_name);
        config.headers = vec![(AUTHORIZATION, bearer)];
        config.default_retry = false;
        Client::try_from(config).map_err(|error| {
            tracing::error!(error = %error, "no client for a session of the console");
            Failure::new(500, "the console cannot speak to the API server")
        })
    }
}

impl Backend for Kubernetes {
    type Caller = Client;

    async fn login(&self, token: &str) -> Result<(Client, User), Failure> {
        let client = self.client(token)?;
        let review = json!(SelfSubjectReview::default()).to_string();
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let answer: SelfSubjectReview =
            whole(ask(&client, Method::POST, path, review).await?).await?;
        let info = answer.status.and_then(|status| status.user_info);
        let info = info.unwrap_or_default();
        match info.username {
            Some(name) if !name.is_empty() && name != "system:anonymous" => {
                let groups = info.groups.unwrap_or_default();
                Ok((client, User { name, groups }))
            }
            _ => Err(Failure::new(401, "token: names nobody")),
        }
    }

    async fn list(
        &self,
        caller: &Client,
        kind: Kind,
        namespace: Option<&Name>,
    ) -> Result<Body, Failure> {
        let path = collection(kind, namespace);
        let answer = ask(caller, Method::GET, &path, String::new()).await?;
        Ok(Body::new(answer.into_body()))
    }

    async fn watch(
        &self,
        caller: &Client,
        kind: Kind,
        namespace: Option<&Name>,
        version: u64,
    ) -> Result<Body, Failure> {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}",
            collection(kind, namespace)
        );
        let answer = ask(caller, Method::GET, &path, String::new()).await?;
        Ok(Body::new(answer.into_body()))
    }

    async fn act(
        &self,
        caller: &Client,
        namespace: &Name,
        name: &Name,
        verb: Verb,
    ) -> Result<(), Failure> {
        let path = format!(
            "/apis/subresources.kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}/{}",
            verb.word()
        );
        ask(caller, Method::PUT, &path, "{}".to_owned()).await?;
        Ok(())
    }
}

fn collection(kind: Kind, namespace: Option<&Name>) -> String {
    let plural = kind.plural();
    match namespace {
        Some(namespace) => format!("/apis/kubevirt.io/v1/namespaces/{namespace}/{plural}"),
        None => format!("/apis/kubevirt.io/v1/{plural}"),
    }
}

type Answer = Response<kube::client::Body>;

async fn ask(client: &Client, method: Method, path: &str, body: String) -> Result<Answer, Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(kube::client::Body::from(body.into_bytes()))
        .map_err(|_| Failure::new(400, format!("{path:?} is no path")))?;
    let answer = client.send(request).await.map_err(|error| {
        tracing::warn!(error = %error, "the console could not reach the API server");
        Failure::new(502, "the API server could not be reached")
    })?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    let said: Option<Status> = whole(answer).await.ok();
    let message = said
        .and_then(|said| said.message)
        .unwrap_or_else(|| format!("the API server answered with status {status}"));
    Err(Failure::new(status, message))
}

async fn whole<T: DeserializeOwned>(answer: Answer) -> Result<T, Failure> {
    let unreadable = || Failure::new(502, "the API server's answer could not be read");
    let body = Limited::new(answer.into_body(), ANSWER_BYTES);
    let bytes = body.collect().await.map_err(|_| unreadable())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| unreadable())
}
