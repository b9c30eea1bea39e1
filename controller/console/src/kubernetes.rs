//! The backend of a cluster: the API server, asked with the user's own token.
//!
//! Architecture invariant: this file is given the address of the API server and the authority of its certificate, and nothing that
//! identifies the controller. Each session has a client of its own that carries the session's token. What [`shared`] knows is the one
//! exception.

mod asking;
mod shared;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Method, Uri};
use bytes::Bytes;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::backend::{Access, Backend, Duplex, Failure, Name, Place, User};
use crate::words::{HostQuestion, Keyboard, Look, Question, Verb};

use shared::Shared;

use asking::{JSON, MERGE_PATCH, ask, whole};

/// After this a watch is begun anew, which asks for the right again, seconds.
const WATCH_SECONDS: u32 = 300;
/// Launcher pods of one node that are read at once: far more than a node can have.
const PODS_OF_NODE: u32 = 2000;
const SUBRESOURCES: &str = "/apis/subresources.kubevirt.io/v1";

/// Where the API server is.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    url: Uri,
    roots: Option<Vec<Vec<u8>>>,
    roots_file: Option<PathBuf>,
    server_name: Option<String>,
    shared: Option<Arc<Shared>>,
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
            shared: None,
        }
    }

    /// Serves lists that many look at from watches of `client`, which may be the controller's, to whoever may list and watch the same.
    #[must_use]
    pub fn sharing(mut self, client: Client) -> Self {
        self.shared = Some(Arc::new(Shared::new(client)));
        self
    }

    /// What is shared of a place with the caller.
    async fn shared(
        &self,
        caller: &Client,
        place: &Place,
    ) -> Result<Option<&Arc<Shared>>, Failure> {
        let Some(shared) = self.shared.as_ref().filter(|_| place.kind.shared) else {
            return Ok(None);
        };
        // Who may not is refused by the API server, in its own words.
        let may = may(caller, looking("list", place)).await?
            && may(caller, looking("watch", place)).await?;
        Ok(may.then_some(shared))
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
        // A console may be silent for hours.
        config.read_timeout = None;
        config.write_timeout = None;
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
        let answer = ask(&client, Method::POST, path, JSON, review.into()).await;
        let answer = answer.map_err(|failure| match failure.status {
            // Its own word is "Unauthorized".
            401 => Failure::new(401, "the API server does not know this token"),
            _ => failure,
        })?;
        let answer: SelfSubjectReview = whole(answer).await?;
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

    fn resume(&self, token: &str) -> Result<Client, Failure> {
        self.client(token)
    }

    async fn may(&self, caller: &Client, access: Access<'_>) -> Result<bool, Failure> {
        may(caller, access).await
    }

    async fn list(&self, caller: &Client, place: &Place) -> Result<Body, Failure> {
        if let Some(shared) = self.shared(caller, place).await?
            && let Some(list) = shared.list(place).await
        {
            return Ok(list);
        }
        let path = path(place, &selector(place));
        let answer = ask(caller, Method::GET, &path, JSON, Bytes::new()).await?;
        Ok(Body::new(answer.into_body()))
    }

    async fn watch(&self, caller: &Client, place: &Place, version: u64) -> Result<Body, Failure> {
        if let Some(shared) = self.shared(caller, place).await? {
            let (of, place_again) = (caller.clone(), place.clone());
            let review = move || {
                let (caller, place) = (of.clone(), place_again.clone());
                async move {
                    if may(&caller, looking("watch", &place)).await? {
                        return Ok(());
                    }
                    let words = format!("you may not watch {} any more", place.kind.plural);
                    Err(Failure::new(403, words))
                }
            };
            let longest = Duration::from_secs(WATCH_SECONDS.into());
            if let Some(changes) = shared.watch(place, version, longest, review).await {
                return Ok(changes);
            }
        }
        let mut query = vec![format!(
            "watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        )];
        query.extend(selector(place));
        let path = path(place, &query);
        let answer = ask(caller, Method::GET, &path, JSON, Bytes::new()).await?;
        Ok(Body::new(answer.into_body()))
    }

    async fn get(&self, caller: &Client, place: &Place) -> Result<Value, Failure> {
        whole(ask(caller, Method::GET, &path(place, &[]), JSON, Bytes::new()).await?).await
    }

    async fn create(
        &self,
        caller: &Client,
        place: &Place,
        object: Bytes,
        dry_run: bool,
    ) -> Result<Value, Failure> {
        let path = path(place, &writing(dry_run));
        whole(ask(caller, Method::POST, &path, JSON, object).await?).await
    }

    async fn replace(
        &self,
        caller: &Client,
        place: &Place,
        object: Bytes,
        dry_run: bool,
    ) -> Result<Value, Failure> {
        let path = path(place, &writing(dry_run));
        whole(ask(caller, Method::PUT, &path, JSON, object).await?).await
    }

    async fn patch(&self, caller: &Client, place: &Place, patch: &Value) -> Result<Value, Failure> {
        let path = path(place, &writing(false));
        let body = patch.to_string().into();
        whole(ask(caller, Method::PATCH, &path, MERGE_PATCH, body).await?).await
    }

    async fn delete(&self, caller: &Client, place: &Place) -> Result<(), Failure> {
        let path = path(place, &[]);
        ask(caller, Method::DELETE, &path, JSON, Bytes::new()).await?;
        Ok(())
    }

    async fn act(
        &self,
        caller: &Client,
        namespace: &Name,
        name: &Name,
        verb: Verb,
        grace: Option<u32>,
    ) -> Result<(), Failure> {
        let path = subresource(namespace, verb.resource(), name, verb.word());
        let mut body = json!({});
        if let (Some(field), Some(seconds)) = (verb.grace_field(), grace) {
            body[field] = seconds.into();
        }
        ask(caller, Method::PUT, &path, JSON, body.to_string().into()).await?;
        Ok(())
    }

    async fn ask(
        &self,
        caller: &Client,
        namespace: &Name,
        name: &Name,
        question: Question,
    ) -> Result<Body, Failure> {
        let path = subresource(
            namespace,
            "virtualmachineinstances",
            name,
            question.subresource(),
        );
        let answer = ask(caller, Method::GET, &path, JSON, Bytes::new()).await?;
        Ok(Body::new(answer.into_body()))
    }

    async fn ask_host(
        &self,
        caller: &Client,
        namespace: &Name,
        name: &Name,
        question: HostQuestion,
    ) -> Result<Body, Failure> {
        let mut path = subresource(namespace, "baremetalhosts", name, question.subresource());
        if let HostQuestion::Events(skip) = question {
            path.push_str(&format!("?skip={skip}"));
        }
        let answer = ask(caller, Method::GET, &path, JSON, Bytes::new()).await?;
        Ok(Body::new(answer.into_body()))
    }

    async fn hand(
        &self,
        caller: &Client,
        namespace: &Name,
        name: &Name,
        viewer: &str,
        keyboard: Keyboard,
    ) -> Result<(), Failure> {
        let word = format!("viewers/{viewer}");
        let path = subresource(namespace, "virtualmachineinstances", name, &word);
        let body = json!({"keyboard": keyboard}).to_string().into();
        ask(caller, Method::PUT, &path, JSON, body).await?;
        Ok(())
    }

    async fn pods_of(&self, caller: &Client, node: &Name) -> Result<Vec<Value>, Failure> {
        let path = format!(
            "/api/v1/pods?labelSelector=kubevirt.io%3Dvirt-launcher&fieldSelector=spec.nodeName%3D{node}&limit={PODS_OF_NODE}"
        );
        let answer = ask(caller, Method::GET, &path, JSON, Bytes::new()).await?;
        let mut list: Value = whole(answer).await?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            _ => Ok(Vec::new()),
        }
    }

    async fn evict(&self, caller: &Client, namespace: &Name, pod: &Name) -> Result<(), Failure> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.as_str(), "namespace": namespace.as_str()},
        });
        let body = eviction.to_string().into();
        ask(caller, Method::POST, &path, JSON, body).await?;
        Ok(())
    }

    async fn stream(
        &self,
        caller: &Client,
        namespace: &Name,
        name: &Name,
        look: &Look,
    ) -> Result<Box<dyn Duplex>, Failure> {
        let word = look.stream.word();
        let path = subresource(namespace, "virtualmachineinstances", name, word);
        let path = format!(
            "{path}?replay={}&readonly={}&once={}",
            look.replay, look.read_only, look.once
        );
        asking::stream(caller, &path).await
    }
}

/// Asks whether a caller has a right.
async fn may(caller: &Client, access: Access<'_>) -> Result<bool, Failure> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "verb": access.verb, "group": access.group, "resource": access.resource,
            "subresource": access.subresource,
            "namespace": access.namespace.map(Name::as_str).unwrap_or_default(),
            "name": access.name.map(Name::as_str).unwrap_or_default(),
        }},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = review.to_string().into();
    let answer: Value = whole(ask(caller, Method::POST, path, JSON, body).await?).await?;
    let status = &answer["status"];
    Ok(status["allowed"] == true && status["denied"] != true)
}

/// The right to list or watch a place.
fn looking<'a>(verb: &'a str, place: &'a Place) -> Access<'a> {
    Access {
        verb,
        group: place.kind.group(),
        resource: place.kind.plural,
        subresource: "",
        namespace: place.namespace.as_ref(),
        name: None,
    }
}

fn subresource(namespace: &Name, resource: &str, name: &Name, word: &str) -> String {
    format!("{SUBRESOURCES}/namespaces/{namespace}/{resource}/{name}/{word}")
}

/// Path of a collection or an object.
fn path(place: &Place, query: &[String]) -> String {
    let mut path = place.kind.base.to_owned();
    if let (true, Some(namespace)) = (place.kind.namespaced, &place.namespace) {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}", place.kind.plural));
    if let Some(name) = &place.name {
        path.push_str(&format!("/{name}"));
    }
    if !query.is_empty() {
        path.push_str(&format!("?{}", query.join("&")));
    }
    path
}

fn selector(place: &Place) -> Vec<String> {
    match place.kind.selector {
        "" => Vec::new(),
        labels => vec![format!("labelSelector={}", labels.replace('=', "%3D"))],
    }
}

fn writing(dry_run: bool) -> Vec<String> {
    let mut query = vec!["fieldManager=catamaran-console&fieldValidation=Strict".to_owned()];
    if dry_run {
        query.push("dryRun=All".to_owned());
    }
    query
}

#[cfg(test)]
mod tests {
    use super::{path, selector, writing};
    use crate::backend::{Name, Place};
    use crate::kind::Kind;

    fn place(plural: &str, namespace: Option<&str>, name: Option<&str>) -> Place {
        Place {
            kind: Kind::parse(plural).unwrap(),
            namespace: namespace.and_then(Name::parse),
            name: name.and_then(Name::parse),
        }
    }

    #[test]
    fn paths_are_those_of_the_api_server() {
        let pods = place("pods", Some("prod"), None);
        assert_eq!(
            path(&pods, &selector(&pods)),
            "/api/v1/namespaces/prod/pods?labelSelector=kubevirt.io%3Dvirt-launcher"
        );
        let host = place("baremetalhosts", Some("metal"), Some("h1"));
        assert_eq!(
            path(&host, &writing(true)),
            "/apis/metal3.io/v1alpha1/namespaces/metal/baremetalhosts/h1?fieldManager=catamaran-console&fieldValidation=Strict&dryRun=All"
        );
        assert_eq!(
            path(&place("nodes", None, Some("n")), &[]),
            "/api/v1/nodes/n"
        );
    }
}
