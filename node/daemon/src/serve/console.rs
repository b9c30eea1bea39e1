//! `catamaran play --console`: the web console of this machine, over HTTP on loopback.
//!
//! There are no users here: whoever has the one-time token that is printed may do what root may do with the client verbs. A token is good
//! once; the next one is printed when it was used.

mod objects;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, Response, StatusCode};
use catamaran_console::{
    Access, Backend, Cause, Console, Duplex, Failure, Key as Random, Keyboard, Look, Memory, Name,
    Peer, Place, Question, Settings, Site, StreamKind, User, Verb,
};
use catamaran_wire::Stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::kubernetes::api::agent;
use crate::machine::verbs::{self, Options};
use crate::machine::{kernel_log, launcher};
use crate::serve::api::answer::{Refusal, picture};
use crate::serve::daemon::Daemon;
use crate::serve::manifest::{self, Problem};
use crate::serve::store::{Key, Kind};
use crate::viewers::Looking;

/// Listens; nobody else than this machine may reach the console.
///
/// # Errors
/// When the address is not one of loopback, or is taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        bail!(
            "--console {address}: must be an address of this machine's loopback, such as 127.0.0.1:8188: there is no TLS. Use ssh -L from elsewhere"
        );
    }
    TcpListener::bind(address)
        .await
        .with_context(|| format!("--console {address}"))
}

/// Serves until it is dropped.
pub async fn serve(daemon: Arc<Daemon>, listener: TcpListener) {
    let served = async {
        let address = listener.local_addr()?;
        let backend = Local::new(daemon, address)?;
        backend.print();
        let settings = Settings {
            mode: "play",
            login: &["one-time"],
            oidc: None,
            grafana: None,
            site: Site::Loopback(address.port()),
            namespace: "default".to_owned(),
            tasks: TaskTracker::new(),
        };
        let console = Arc::new(Console::new(backend, Memory::new()?, settings));
        accept(&console, &listener).await;
        anyhow::Ok(())
    };
    if let Err(error) = served.await {
        tracing::error!(error = %error, "the console is not served");
    }
}

async fn accept(console: &Arc<Console<Local, Memory>>, listener: &TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, from)) => {
                connections.spawn(connection(console.clone(), stream, Peer(from.ip())));
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(error = %error, "could not accept a browser");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(console: Arc<Console<Local, Memory>>, stream: TcpStream, from: Peer) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let console = console.clone();
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(from);
            let answer = if catamaran_console::owns(request.uri().path()) {
                Box::pin(console.answer(request)).await
            } else {
                elsewhere(request.uri().path())
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(error, "a browser's connection ended");
    }
}

fn elsewhere(path: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if path == "/" {
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        let target = HeaderValue::from_static("/console/");
        response.headers_mut().insert(LOCATION, target);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// What a viewer reads, and that he is one.
struct Held<R> {
    source: R,
    _looking: Looking,
}

impl<R: AsyncRead + Unpin> AsyncRead for Held<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.source).poll_read(context, buffer)
    }
}

/// The daemon of this machine as what stands behind the console.
pub struct Local {
    daemon: Arc<Daemon>,
    address: SocketAddr,
    token: Mutex<String>,
}

impl Local {
    fn new(daemon: Arc<Daemon>, address: SocketAddr) -> Result<Self> {
        let token = Mutex::new(token()?);
        Ok(Self {
            daemon,
            address,
            token,
        })
    }

    /// Tells the terminal how to log in. The token is behind a `#`: a browser sends that to nobody.
    fn print(&self) {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("Console: http://{}/console/#token={token}", self.address);
    }

    fn instance(namespace: &Name, name: &Name) -> Key {
        Key::new(
            Kind::VirtualMachineInstance,
            namespace.as_str(),
            name.as_str(),
        )
    }
}

fn token() -> Result<String> {
    Ok(hex::encode(Random::random()?.bytes()))
}

/// Compared by their digests, so that time tells nothing.
fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()) == Sha256::digest(b.as_bytes())
}

fn failure(refusal: Refusal) -> Failure {
    Failure::new(refusal.code.as_u16(), refusal.message)
}

/// Mistakes in a manifest, each on its field.
fn invalid(problems: &[Problem]) -> Failure {
    let causes = problems.iter().map(|problem| {
        let (field, message) = problem
            .problem
            .split_once(": ")
            .unwrap_or(("", &problem.problem));
        Cause {
            field: field.to_owned(),
            message: message.to_owned(),
        }
    });
    let words: Vec<_> = problems.iter().map(|p| p.problem.clone()).collect();
    Failure {
        status: 422,
        message: words.join("\n"),
        causes: causes.collect(),
    }
}

fn no_such(what: &str) -> Failure {
    Failure::new(
        404,
        format!("there are no {what} here: this is one machine"),
    )
}

impl Backend for Local {
    type Caller = ();

    async fn login(&self, given: &str) -> Result<((), User), Failure> {
        {
            let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
            if !same(&token, given) {
                return Err(Failure::new(
                    401,
                    "token: is not the one that was printed last",
                ));
            }
            *token = self::token().map_err(|error| Failure::new(500, error.to_string()))?;
        }
        self.print();
        let user = User {
            name: "root".to_owned(),
            groups: Vec::new(),
        };
        Ok(((), user))
    }

    fn resume(&self, _token: &str) -> Result<(), Failure> {
        // Its cookie was sealed by this process.
        Ok(())
    }

    async fn may(&self, (): &(), access: Access<'_>) -> Result<bool, Failure> {
        Ok(match (access.group, access.resource) {
            ("metal3.io", _) | ("", "nodes") => false,
            ("", "pods") => access.subresource.is_empty(),
            _ => true,
        })
    }

    async fn list(&self, (): &(), place: &Place) -> Result<Body, Failure> {
        Ok(Body::from(objects::list(&self.daemon, place).to_string()))
    }

    async fn watch(&self, (): &(), place: &Place, version: u64) -> Result<Body, Failure> {
        Ok(objects::watch(self.daemon.clone(), place.clone(), version))
    }

    async fn get(&self, (): &(), place: &Place) -> Result<Value, Failure> {
        objects::get(&self.daemon, place)
    }

    async fn create(
        &self,
        (): &(),
        place: &Place,
        object: Bytes,
        dry_run: bool,
    ) -> Result<Value, Failure> {
        let document = self.document(place, &object)?;
        if self.daemon.store.get(&document.key).is_some() {
            let words = format!("{} is there already", document.key);
            return Err(Failure::new(409, words));
        }
        self.apply(&document, dry_run)
    }

    async fn replace(
        &self,
        (): &(),
        place: &Place,
        object: Bytes,
        dry_run: bool,
    ) -> Result<Value, Failure> {
        objects::get(&self.daemon, place)?;
        let document = self.document(place, &object)?;
        self.apply(&document, dry_run)
    }

    async fn patch(&self, (): &(), place: &Place, _patch: &Value) -> Result<Value, Failure> {
        Err(no_such(place.kind.plural))
    }

    async fn delete(&self, (): &(), place: &Place) -> Result<(), Failure> {
        let key = objects::key(place).ok_or_else(|| no_such(place.kind.plural))?;
        self.daemon
            .delete(&key, false)
            .map_err(|error| failure(error.into()))
    }

    async fn act(
        &self,
        (): &(),
        namespace: &Name,
        name: &Name,
        verb: Verb,
        grace: Option<u32>,
    ) -> Result<(), Failure> {
        let options = match (verb.grace_field(), grace) {
            (Some(field), Some(seconds)) => json!({field: seconds}),
            _ => json!({}),
        };
        let options: Options = serde_json::from_value(options)
            .map_err(|error| Failure::new(400, error.to_string()))?;
        let word = match verb {
            Verb::SoftReboot => "soft-reboot",
            other => other.word(),
        };
        let done = verbs::run(
            &self.daemon,
            namespace.as_str(),
            name.as_str(),
            word,
            &options,
        );
        done.await.map(drop).map_err(failure)
    }

    async fn ask(
        &self,
        (): &(),
        namespace: &Name,
        name: &Name,
        question: Question,
    ) -> Result<Body, Failure> {
        let ask = |verb| verbs::ask(&self.daemon, namespace.as_str(), name.as_str(), verb);
        Ok(match question {
            Question::Screenshot => {
                let answer = ask(catamaran_wire::Verb::Screenshot).await;
                let answer = answer.map_err(failure)?;
                picture(&answer).map_err(failure)?.into_body()
            }
            Question::Dmesg => {
                let answer = ask(catamaran_wire::Verb::Dmesg { tail_bytes: None }).await;
                Body::from(kernel_log(&answer.map_err(failure)?))
            }
            Question::Viewers => {
                let key = Self::instance(namespace, name).to_string();
                Body::from(json!(self.daemon.viewers.of(&key)).to_string())
            }
            Question::Usage => {
                let key = Self::instance(namespace, name).to_string();
                Body::from(json!(self.daemon.usage.of(&key, Instant::now())).to_string())
            }
            Question::Users => {
                let said = ask(agent::command("guest-get-users")).await;
                Body::from(agent::users_of(&said.map_err(failure)?).to_string())
            }
            Question::Filesystems => {
                let said = ask(agent::command("guest-get-fsinfo")).await;
                Body::from(agent::filesystems_of(&said.map_err(failure)?).to_string())
            }
            Question::GuestOs => {
                let stored = self.daemon.store.get(&Self::instance(namespace, name));
                let object = stored.map(|stored| stored.object).unwrap_or_default();
                let os = object["status"]["guestOSInfo"].clone();
                if os.is_null() {
                    let words = "the guest agent is not connected";
                    return Err(Failure::new(409, words));
                }
                Body::from(json!({"os": os}).to_string())
            }
        })
    }

    async fn hand(
        &self,
        (): &(),
        namespace: &Name,
        name: &Name,
        viewer: &str,
        keyboard: Keyboard,
    ) -> Result<(), Failure> {
        let key = Self::instance(namespace, name).to_string();
        if self.daemon.viewers.say(&key, viewer, keyboard) {
            return Ok(());
        }
        let words = format!("viewer {viewer:?} does not look at {name}");
        Err(Failure::new(404, words))
    }

    async fn pods_of(&self, (): &(), _node: &Name) -> Result<Vec<Value>, Failure> {
        Err(no_such("nodes"))
    }

    async fn evict(&self, (): &(), _namespace: &Name, _pod: &Name) -> Result<(), Failure> {
        Err(no_such("nodes"))
    }

    async fn stream(
        &self,
        (): &(),
        namespace: &Name,
        name: &Name,
        look: &Look,
    ) -> Result<Box<dyn Duplex>, Failure> {
        let run = verbs::running(&self.daemon, namespace.as_str(), name.as_str());
        let run = run.map_err(failure)?;
        let stream = match look.stream {
            StreamKind::Console => Stream::Serial {
                replay: look.replay,
                read_only: look.read_only,
            },
            StreamKind::Vnc => Stream::Vnc {
                read_only: look.read_only,
            },
        };
        let key = Self::instance(namespace, name);
        let looking = self.daemon.looks(&key, Some(&look.once), &stream);
        let (guest, first) = launcher::attach(&run, stream)
            .await
            .map_err(|error| Failure::new(409, catamaran_client::chain(&error)))?;
        let (source, drain) = tokio::io::split(guest);
        let source = Held {
            source: std::io::Cursor::new(first).chain(source),
            _looking: looking,
        };
        Ok(Box::new(tokio::io::join(source, drain)))
    }
}

impl Local {
    /// The one object of a body, which must be the one of the path.
    fn document(&self, place: &Place, object: &[u8]) -> Result<manifest::Document, Failure> {
        let kind = Kind::parse(place.kind.plural).ok_or_else(|| no_such(place.kind.plural))?;
        let text =
            std::str::from_utf8(object).map_err(|_| Failure::new(400, "body: must be UTF-8"))?;
        let mut object: Value = serde_json::from_str(text)
            .map_err(|error| Failure::new(400, format!("body: {error}")))?;
        if let Some(namespace) = &place.namespace
            && object["metadata"]["namespace"].is_null()
            && object["metadata"].is_object()
        {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
        let texts = [("console".to_owned(), None, object.to_string())];
        let mut documents = manifest::parse(&texts).map_err(|problems| invalid(&problems))?;
        let document = documents.pop().filter(|document| {
            let (key, namespace) = (&document.key, place.namespace.as_ref());
            key.kind == kind
                && namespace.is_none_or(|namespace| key.namespace == namespace.as_str())
                && place
                    .name
                    .as_ref()
                    .is_none_or(|name| key.name == name.as_str())
        });
        document.filter(|_| documents.is_empty()).ok_or_else(|| {
            Failure::new(
                400,
                "body: must be one object of the kind, namespace and name of the path",
            )
        })
    }

    fn apply(&self, document: &manifest::Document, dry_run: bool) -> Result<Value, Failure> {
        if dry_run {
            return Ok(document.object.clone());
        }
        self.daemon
            .apply(std::slice::from_ref(document))
            .map_err(|error| failure(error.into()))?;
        let stored = self.daemon.store.get(&document.key);
        Ok(stored.map_or_else(|| document.object.clone(), |stored| stored.object))
    }
}

#[cfg(test)]
mod tests {
    use super::{bind, invalid, same};
    use crate::serve::manifest::Problem;

    #[tokio::test]
    async fn the_console_listens_on_loopback_only() {
        let refused = bind("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
        assert!(refused.to_string().contains("loopback"), "{refused}");
        assert!(bind("127.0.0.1:0".parse().unwrap()).await.is_ok());
    }

    #[test]
    fn each_mistake_lands_on_its_field() {
        let failure = invalid(&[Problem {
            place: "console, document 1".to_owned(),
            problem: "spec.template.spec.domain.cpu.cors: Unsupported value".to_owned(),
        }]);
        assert_eq!(failure.status, 422);
        assert_eq!(
            failure.causes[0].field,
            "spec.template.spec.domain.cpu.cors"
        );
        assert_eq!(failure.causes[0].message, "Unsupported value");
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("a", "a"));
        assert!(!same("a", "ab") && !same("", "a"));
    }
}
