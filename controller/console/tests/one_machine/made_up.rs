//! A backend with one machine, `prod/web`, whose guest the test plays.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use catamaran_console::{
    Access, Backend, Duplex, Failure, Keyboard, Look, Name, Place, Question, User, Verb,
};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// What the test changes.
pub(super) struct Machine {
    pub(super) uid: String,
    pub(super) phase: &'static str,
    /// The user may do everything, or nothing.
    pub(super) allowed: bool,
    /// The token is known.
    pub(super) known: bool,
    served: HashSet<String>,
}

type Opened = (Look, DuplexStream);

/// The backend.
#[derive(Clone)]
pub(super) struct MadeUp {
    machine: Arc<Mutex<Machine>>,
    opens: mpsc::UnboundedSender<Opened>,
    opened: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Opened>>>,
}

impl MadeUp {
    pub(super) fn new() -> Self {
        let (opens, opened) = mpsc::unbounded_channel();
        Self {
            machine: Arc::new(Mutex::new(Machine {
                uid: "u1".to_owned(),
                phase: "Running",
                allowed: true,
                known: true,
                served: HashSet::new(),
            })),
            opens,
            opened: Arc::new(tokio::sync::Mutex::new(opened)),
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Machine)) {
        change(&mut self.machine());
    }

    /// The next stream that is opened, and the guest's end of it.
    pub(super) async fn opened(&self) -> Opened {
        self.opened.lock().await.recv().await.unwrap()
    }
}

fn unused() -> Failure {
    Failure::new(501, "not in this test")
}

impl Backend for MadeUp {
    /// Name of the user, which is his token.
    type Caller = String;

    async fn login(&self, token: &str) -> Result<(String, User), Failure> {
        let user = User {
            name: token.to_owned(),
            groups: Vec::new(),
        };
        Ok((token.to_owned(), user))
    }

    fn resume(&self, token: &str) -> Result<String, Failure> {
        Ok(token.to_owned())
    }

    async fn may(&self, _: &String, _: Access<'_>) -> Result<bool, Failure> {
        let machine = self.machine();
        if machine.known {
            Ok(machine.allowed)
        } else {
            Err(Failure::new(401, "Unauthorized"))
        }
    }

    async fn list(&self, _: &String, _: &Place) -> Result<Body, Failure> {
        Err(unused())
    }

    async fn watch(&self, _: &String, _: &Place, _: u64) -> Result<Body, Failure> {
        Err(unused())
    }

    async fn get(&self, _: &String, place: &Place) -> Result<Value, Failure> {
        if place
            .name
            .as_ref()
            .is_none_or(|name| name.as_str() != "web")
        {
            return Err(Failure::new(404, "not found"));
        }
        let machine = self.machine();
        Ok(json!({"metadata": {"uid": machine.uid}, "status": {"phase": machine.phase}}))
    }

    async fn create(&self, _: &String, _: &Place, _: Bytes, _: bool) -> Result<Value, Failure> {
        Err(unused())
    }

    async fn replace(&self, _: &String, _: &Place, _: Bytes, _: bool) -> Result<Value, Failure> {
        Err(unused())
    }

    async fn patch(&self, _: &String, _: &Place, _: &Value) -> Result<Value, Failure> {
        Err(unused())
    }

    async fn delete(&self, _: &String, _: &Place) -> Result<(), Failure> {
        Err(unused())
    }

    async fn act(
        &self,
        _: &String,
        _: &Name,
        _: &Name,
        _: Verb,
        _: Option<u32>,
    ) -> Result<(), Failure> {
        Err(unused())
    }

    async fn ask(&self, _: &String, _: &Name, _: &Name, _: Question) -> Result<Body, Failure> {
        Err(unused())
    }

    async fn hand(
        &self,
        _: &String,
        _: &Name,
        _: &Name,
        _: &str,
        _: Keyboard,
    ) -> Result<(), Failure> {
        Err(unused())
    }

    async fn pods_of(&self, _: &String, _: &Name) -> Result<Vec<Value>, Failure> {
        Err(unused())
    }

    async fn evict(&self, _: &String, _: &Name, _: &Name) -> Result<(), Failure> {
        Err(unused())
    }

    async fn stream(
        &self,
        _: &String,
        _: &Name,
        _: &Name,
        look: &Look,
    ) -> Result<Box<dyn Duplex>, Failure> {
        if !self.machine().served.insert(look.once.clone()) {
            return Err(Failure::new(410, "this ticket was used before"));
        }
        let (near, far) = tokio::io::duplex(1024);
        self.opens.send((look.clone(), far)).unwrap();
        Ok(Box::new(near))
    }
}
