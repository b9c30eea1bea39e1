//! From a request to its answer: route, caller, right, action.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use serde_json::{Value, json};

use crate::answer::{Refusal, chain};
use crate::objects;
use crate::route::{Action, Method, Miss, On, Open, Route, Target, route};
use crate::server::State;
use crate::{access, admission, discovery, hosts, instances, machines, openapi, streams, volumes};

/// Longest body, bytes: what the API server takes.
const BODY_BYTES: usize = 3 * 1024 * 1024;

/// Answers a request. `proxy`: common name of the client certificate that TLS has verified.
pub(crate) async fn answer(state: &Arc<State>, proxy: Option<&str>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match Method::parse(method.as_str())
        .ok_or(Miss::Method("GET, PUT"))
        .and_then(|method| route(method, &path))
    {
        Ok(route) => Box::pin(take(state, proxy, &route, request))
            .await
            .unwrap_or_else(Refusal::into_response),
        Err(Miss::Path) => Refusal::no_path(&path).into_response(),
        Err(Miss::Method(allowed)) => {
            let words = format!("{method} is not answered at {path}: {allowed} is");
            let mut response = Refusal::new(405, "MethodNotAllowed", words).into_response();
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
    };
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

async fn take(
    state: &Arc<State>,
    proxy: Option<&str>,
    route: &Route,
    request: Request,
) -> Result<Response, Refusal> {
    match route {
        Route::Open(open) => {
            let accept = request.headers().get(ACCEPT);
            let accept = accept.and_then(|value| value.to_str().ok());
            answer_open(state, *open, accept.unwrap_or_default()).await
        }
        Route::Admission(webhook) => {
            let body = body(request).await?;
            Box::pin(admission::answer(state, *webhook, &body)).await
        }
        Route::Object(target) => {
            let user = state
                .request_header()
                .ok_or_else(|| Refusal::internal("certificates are not made yet"))?
                .user(proxy, request.headers())
                .map_err(Refusal::unauthorized)?;
            if let Some(question) = route.question() {
                access::review(&state.client, &user, &question).await?;
            }
            // What open pages ask again and again says nothing of what people do.
            if !matches!(
                target.row.action,
                Action::Usage | Action::Viewers | Action::Sensors | Action::Events
            ) {
                tracing::info!(
                    user = user.name,
                    vm.namespace = target.namespace,
                    vm.name = target.name,
                    verb = target.row.path,
                    "request"
                );
            }
            Box::pin(act(state, target, &user.name, request)).await
        }
    }
}

async fn answer_open(state: &State, open: Open, accept: &str) -> Result<Response, Refusal> {
    Ok(match open {
        Open::Alive | Open::Ready => "ok".into_response(),
        Open::Groups => {
            let (kind, document) = discovery::groups(accept);
            ([(CONTENT_TYPE, kind)], document.to_string()).into_response()
        }
        Open::Group => Json(discovery::group()).into_response(),
        Open::Resources(version) => Json(discovery::resources(version)).into_response(),
        Open::Version => Json(discovery::version()).into_response(),
        Open::Health => health(state).await?,
        Open::Refused(why) => return Err(Refusal::bad_request(why)),
        Open::SchemaV2 => Json(openapi::v2()).into_response(),
        Open::SchemaIndex => Json(openapi::index()).into_response(),
        Open::Schema(version) => Json(openapi::document(version)).into_response(),
    })
}

/// The way to the API server.
async fn health(state: &State) -> Result<Response, Refusal> {
    let version = state
        .client
        .apiserver_version()
        .await
        .map_err(|error| Refusal::internal(chain(&error)))?;
    let answer = json!({"apiserver": {"connectivity": "ok", "version": version}});
    Ok(Json(answer).into_response())
}

async fn body(request: Request) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), BODY_BYTES)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::new(
            413,
            "RequestEntityTooLarge",
            format!("limit is {BODY_BYTES} bytes"),
        )),
        Err(error) => Err(Refusal::bad_request(format!("body: {error}"))),
    }
}

/// Carries out what an authorised caller asks for.
async fn act(
    state: &Arc<State>,
    target: &Target,
    user: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let (client, namespace, name) = (
        &state.client,
        target.namespace.as_str(),
        target.name.as_str(),
    );
    match target.row.action {
        Action::Refused(why) => Err(Refusal::bad_request(why)),
        Action::Start => machines::start(client, namespace, name, &body(request).await?).await,
        Action::Stop => machines::stop(client, namespace, name, &body(request).await?).await,
        Action::Restart => machines::restart(client, namespace, name, &body(request).await?).await,
        Action::ExpandSpec => {
            let vm = objects::machine(client, namespace, name).await?;
            Box::pin(expand(client, namespace, vm)).await
        }
        Action::ExpandManifest => {
            let vm = manifest(namespace, &body(request).await?)?;
            Box::pin(expand(client, namespace, vm)).await
        }
        Action::PortForward => {
            let vmi = of_target(state, target).await?;
            streams::forward(state, &vmi, &target.arguments, request).await
        }
        action @ (Action::Console | Action::Vnc) => {
            let vmi = of_target(state, target).await?;
            streams::attach(state, &vmi, action, user, request).await
        }
        action @ (Action::Screenshot
        | Action::GuestOsInfo
        | Action::UserList
        | Action::FilesystemList
        | Action::Usage
        | Action::Viewers
        | Action::Dmesg) => {
            let vmi = of_target(state, target).await?;
            instances::question(&state.nodes, &vmi, action, request.uri().query()).await
        }
        action @ (Action::Sensors | Action::Events) => {
            let of = (namespace, name);
            let query = request.uri().query();
            hosts::question(client, &state.readings, &state.tasks, of, action, query).await
        }
        Action::Keyboard => {
            let vmi = of_target(state, target).await?;
            let body = body(request).await?;
            instances::keyboard(&state.nodes, &vmi, &target.arguments, &body).await
        }
        Action::AddVolume => {
            let order = volumes::Order::add(&body(request).await?)?;
            change_volumes(state, target, &order).await
        }
        Action::RemoveVolume => {
            let order = volumes::Order::remove(&body(request).await?)?;
            change_volumes(state, target, &order).await
        }
        action @ (Action::Pause
        | Action::Unpause
        | Action::SoftReboot
        | Action::Reset
        | Action::Freeze
        | Action::Unfreeze) => {
            let vmi = of_target(state, target).await?;
            instances::verb(&state.nodes, &vmi, action, &body(request).await?).await
        }
    }
}

async fn change_volumes(
    state: &State,
    target: &Target,
    order: &volumes::Order,
) -> Result<Response, Refusal> {
    let (client, namespace, name) = (
        &state.client,
        target.namespace.as_str(),
        target.name.as_str(),
    );
    match target.row.on {
        On::Instance => volumes::of_instance(client, namespace, name, order).await,
        On::Machine | On::Host | On::Manifest => {
            volumes::of_machine(client, namespace, name, order).await
        }
    }
}

/// The instance that is meant: of a machine, the one of its name.
async fn of_target(state: &State, target: &Target) -> Result<VirtualMachineInstance, Refusal> {
    let (client, namespace, name) = (
        &state.client,
        target.namespace.as_str(),
        target.name.as_str(),
    );
    if target.row.on == On::Machine {
        objects::machine(client, namespace, name).await?;
    }
    objects::instance(client, namespace, name).await
}

/// A manifest from a body, checked for what `expand-vm-spec` needs.
fn manifest(namespace: &str, body: &[u8]) -> Result<VirtualMachine, Refusal> {
    let manifest: Value = objects::read_body(body)?;
    let vm: VirtualMachine = serde_json::from_value(manifest).map_err(|error| {
        Refusal::bad_request(format!("Object is not a valid VirtualMachine: {error}"))
    })?;
    match vm.metadata.namespace.as_deref() {
        Some(other) if other != namespace => Err(Refusal::bad_request(format!(
            "VM namespace must be empty or {namespace}"
        ))),
        _ => Ok(vm),
    }
}

/// The machine with instancetype and preference merged into its spec.
async fn expand(client: &Client, namespace: &str, vm: VirtualMachine) -> Result<Response, Refusal> {
    let expanded = objects::expanded(client, namespace, &vm).await?;
    Ok(Json(expanded).into_response())
}

#[cfg(test)]
mod tests {
    use super::manifest;

    #[test]
    fn a_manifest_to_expand_is_a_machine_of_that_namespace() {
        let vm = |namespace: &str| {
            format!(
                "{{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {{name: a, namespace: {namespace}}}, spec: {{template: {{}}}}}}"
            )
        };
        assert!(manifest("d", vm("d").as_bytes()).is_ok());
        assert_eq!(manifest("d", vm("e").as_bytes()).unwrap_err().0.code, 400);
        assert_eq!(manifest("d", b"").unwrap_err().0.code, 400);
        assert_eq!(manifest("d", b"[1]").unwrap_err().0.code, 400);
    }
}
