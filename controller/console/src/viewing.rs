//! From a ticket to a stream: who may look, who looks, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::backend::{Access, Backend, Failure, Name, Place};
use crate::kind::Kind;
use crate::requests::Console;
use crate::seal::{Purpose, random_word};
use crate::sessions::{Session, Use, now};
use crate::streams::{self, End};
use crate::tickets::{SECONDS, Ticket};
use crate::vault::Vault;
use crate::words::{Look, StreamKind};

/// Streams of one session.
pub(crate) const PER_SESSION: usize = 16;
/// Between two looks whether the right is there still.
const LOOK: Duration = Duration::from_secs(4);
/// For the answer to one look.
const ANSWER: Duration = Duration::from_secs(4);
/// How long a stream goes on while nobody answers whether it may.
const UNCERTAIN: Duration = Duration::from_secs(30);

/// What a ticket is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Wish {
    stream: StreamKind,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    replay: bool,
}

/// A moment as Kubernetes writes it.
pub(crate) fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|moment| moment.to_string())
        .unwrap_or_default()
}

fn instance(namespace: &Name, name: &Name) -> Result<Place, Failure> {
    let kind = Kind::parse("virtualmachineinstances");
    let kind = kind.ok_or_else(|| Failure::new(500, "instances are not known"))?;
    Ok(Place {
        kind,
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
    })
}

fn right<'a>(namespace: &'a Name, name: &'a Name, stream: StreamKind) -> Access<'a> {
    Access {
        verb: "get",
        group: "subresources.kubevirt.io",
        resource: "virtualmachineinstances",
        subresource: stream.word(),
        namespace: Some(namespace),
        name: Some(name),
    }
}

fn may_not(stream: StreamKind, namespace: &Name, name: &Name) -> String {
    let word = stream.word();
    format!("you may not open the {word} of {namespace}/{name}")
}

fn uid(instance: &Value) -> &str {
    instance["metadata"]["uid"].as_str().unwrap_or_default()
}

impl<B: Backend, V: Vault> Console<B, V> {
    /// A ticket for one stream. Whoever has no right to it learns nothing of the machine.
    pub(crate) async fn ticket(
        &self,
        session: &Session<B::Caller>,
        namespace: &Name,
        name: &Name,
        wish: &Wish,
        origin: &str,
    ) -> Result<Value, Failure> {
        let access = right(namespace, name, wish.stream);
        if !self.backend.may(&session.caller, access).await? {
            return Err(Failure::new(403, may_not(wish.stream, namespace, name)));
        }
        let place = instance(namespace, name)?;
        let instance = self.backend.get(&session.caller, &place).await?;
        let no_random = |_| Failure::new(500, "the console has no random numbers");
        let ticket = Ticket {
            session: session.id.clone(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            uid: uid(&instance).to_owned(),
            stream: wish.stream,
            read_only: wish.read_only,
            replay: wish.replay,
            origin: origin.to_owned(),
            once: random_word().map_err(no_random)?,
            ends: now() + SECONDS,
        };
        let key = self.sessions.key().await?;
        let sealed = key.seal(Purpose::Ticket, &ticket).map_err(no_random)?;
        // Among the machine's viewers the stream has the name of its one use.
        Ok(json!({"ticket": sealed, "seconds": SECONDS, "viewer": ticket.once}))
    }

    /// Answers a websocket's handshake; the rest goes on by itself.
    pub(crate) async fn open_stream(
        self: &Arc<Self>,
        mut request: Request,
    ) -> Result<Response<Body>, Failure> {
        let site = self.settings.site;
        let origin = site.our_page(request.headers()).map(ToOwned::to_owned);
        let origin =
            origin.ok_or_else(|| Failure::new(403, "Origin: is not that of the console"))?;
        let cookie = site.session(request.headers()).unwrap_or_default();
        let found = self.sessions.find(&self.backend, cookie, Use::DoesNotCount);
        let session = found.await?;
        let sealed = streams::ticket(request.headers()).map(ToOwned::to_owned);
        let (response, upgrade) = streams::switch(&mut request)?;
        let console = Arc::clone(self);
        self.settings.tasks.spawn(async move {
            let mut socket = match streams::switched(upgrade).await {
                Ok(socket) => socket,
                Err(error) => {
                    return tracing::debug!(error = %error, "a browser did not switch to a websocket");
                }
            };
            let sealed = sealed.unwrap_or_default();
            let admitted = console.admit(&session, &sealed, &origin).await;
            let end = match admitted {
                Ok(ticket) => Box::pin(console.view(&session, &ticket, &mut socket)).await,
                Err(end) => end,
            };
            streams::farewell(&mut socket, &end).await;
        });
        Ok(response)
    }

    /// Uses a ticket.
    async fn admit(
        &self,
        session: &Session<B::Caller>,
        sealed: &str,
        origin: &str,
    ) -> Result<Ticket, End> {
        let bad = || End::Ticket("the ticket is unknown, was used or is too old".to_owned());
        let key = self.sessions.key().await?;
        let ticket: Ticket = key.open(Purpose::Ticket, sealed).ok_or_else(bad)?;
        let now = now();
        if ticket.admits(&session.id, origin, now) && self.used.take(&ticket, now) {
            Ok(ticket)
        } else {
            Err(bad())
        }
    }

    async fn view<W>(
        &self,
        session: &Session<B::Caller>,
        ticket: &Ticket,
        socket: &mut tokio_tungstenite::WebSocketStream<W>,
    ) -> End
    where
        W: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        match self.try_view(session, ticket, socket).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn try_view<W>(
        &self,
        session: &Session<B::Caller>,
        ticket: &Ticket,
        socket: &mut tokio_tungstenite::WebSocketStream<W>,
    ) -> Result<End, End>
    where
        W: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        let name = |text: &str| {
            Name::parse(text).ok_or_else(|| End::Ticket("the ticket names no machine".to_owned()))
        };
        let (namespace, name) = (name(&ticket.namespace)?, name(&ticket.name)?);
        let place = instance(&namespace, &name)?;
        let instance = self.backend.get(&session.caller, &place).await?;
        if uid(&instance) != ticket.uid {
            let words = "the machine is not the one that the ticket was for";
            return Err(End::Ticket(words.to_owned()));
        }
        let phase = instance["status"]["phase"].as_str().unwrap_or("Pending");
        if phase != "Running" {
            let words = format!("{namespace}/{name} is {phase}, not Running");
            return Err(End::NotRunning(words));
        }
        let _held = self.open.enter(&session.id).map_err(End::Ticket)?;
        let look = Look {
            stream: ticket.stream,
            read_only: ticket.read_only,
            replay: ticket.replay,
            once: ticket.once.clone(),
        };
        let opened = self
            .backend
            .stream(&session.caller, &namespace, &name, &look);
        let guest = opened.await?;
        let begun = Instant::now();
        let stream = ticket.stream.word();
        let (user, uid) = (session.user.name.as_str(), ticket.uid.as_str());
        tracing::info!(
            user, vm.namespace = %namespace, vm.name = %name, vm.uid = uid, stream,
            read_only = ticket.read_only, session = session.id, "console session begins"
        );
        let typed = AtomicBool::new(false);
        let watched = self.watch(session, &namespace, &name, ticket.stream, &typed);
        let heard = |bytes: &[u8]| {
            if ticket.stream.is_input(bytes) {
                typed.store(true, Ordering::Relaxed);
            }
        };
        let end = streams::join(socket, guest, watched, heard).await;
        tracing::info!(
            user, vm.namespace = %namespace, vm.name = %name, vm.uid = uid, stream,
            read_only = ticket.read_only, session = session.id,
            seconds = begun.elapsed().as_secs(), why = end.reason(), "console session ends"
        );
        Ok(end)
    }

    /// Until the session ends or its user may not look any more.
    async fn watch(
        &self,
        session: &Session<B::Caller>,
        namespace: &Name,
        name: &Name,
        stream: StreamKind,
        typed: &AtomicBool,
    ) -> End {
        let right_ends = async {
            let mut sure = Instant::now();
            loop {
                sleep(LOOK).await;
                if typed.swap(false, Ordering::Relaxed) {
                    self.sessions.used(&session.id).await;
                }
                let access = right(namespace, name, stream);
                match timeout(ANSWER, self.backend.may(&session.caller, access)).await {
                    Ok(Ok(true)) => sure = Instant::now(),
                    Ok(Ok(false)) => return End::Right(may_not(stream, namespace, name)),
                    Ok(Err(Failure { status: 401, .. })) => {
                        let words = "the API server does not know the token any more";
                        return End::Right(words.to_owned());
                    }
                    Ok(Err(_)) | Err(_) if sure.elapsed() < UNCERTAIN => {}
                    Ok(Err(_)) | Err(_) => {
                        let words = "the API server does not say whether you may look";
                        return End::Right(words.to_owned());
                    }
                }
            }
        };
        tokio::select! {
            end = right_ends => end,
            () = self.sessions.end_of(session) => End::Session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn moments_are_written_as_kubernetes_writes_them() {
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
