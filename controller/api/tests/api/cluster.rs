//! A fake API server: a map from path to object, and a list of what was written.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Objects by path, and the writes in their order.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    writes: Arc<Mutex<Vec<Write>>>,
}

/// A write that is not the API part's own housekeeping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Cluster {
    /// A client that talks to it.
    pub(crate) fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let (code, answer) = cluster.answer(&parts.method, parts.uri.path(), body);
                let answer = Full::new(bytes::Bytes::from(answer.to_string()));
                let response = Response::builder()
                    .status(code)
                    .header("content-type", "application/json")
                    .body(answer)
                    .unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    /// Takes the writes so far.
    pub(crate) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.writes.lock().unwrap())
    }

    fn answer(&self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        if path.ends_with("/subjectaccessreviews") {
            return (StatusCode::CREATED, self.review(body));
        }
        let mut objects = self.objects.lock().unwrap();
        let gone = || {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": format!("{path} not found")});
            (StatusCode::NOT_FOUND, status)
        };
        match *method {
            Method::GET if path.ends_with("/certificatesigningrequests") => (
                StatusCode::OK,
                json!({"metadata": {"resourceVersion": "1"}, "items": []}),
            ),
            Method::GET => objects
                .get(path)
                .map_or_else(gone, |o| (StatusCode::OK, o.clone())),
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let mut stored = body.clone();
                stored["metadata"]["resourceVersion"] = json!("1");
                objects.insert(format!("{path}/{name}"), stored.clone());
                (StatusCode::CREATED, stored)
            }
            _ => {
                self.writes.lock().unwrap().push(Write {
                    method: method.to_string(),
                    path: path.to_owned(),
                    body,
                });
                let object = path.trim_end_matches("/status");
                objects
                    .get(object)
                    .map_or_else(gone, |o| (StatusCode::OK, o.clone()))
            }
        }
    }

    /// `alice` may everything, `bob` may only look.
    fn review(&self, mut review: Value) -> Value {
        let attributes = &review["spec"]["resourceAttributes"];
        let may = match review["spec"]["user"].as_str() {
            Some("alice") => true,
            Some("bob") => attributes["subresource"] == "guestosinfo",
            _ => false,
        };
        review["status"] = json!({"allowed": may});
        review
    }
}
