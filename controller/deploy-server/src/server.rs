//! The handle by which hosts are enrolled, asked and looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use catamaran_deploy_wire::{
    Action, ConfigDrive, NetworkData, Outcome, Parameters, VERSION, WriteImage, base, is_host,
};
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::error::{Denied, DeployError};
use crate::host::{Host, Status};
use crate::ledger::Ledger;
use crate::template::{Overlay, Template};
use crate::token;

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://ADDRESS:PORT` by which hosts and BMCs reach it.
    pub url: String,
    /// PEM certificates of the CA that signed its certificate; written into ISOs.
    pub ca: String,
    /// The built deploy ISO.
    pub template: Template,
}

/// A host whose ISO waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// For virtual media: has neither `?` nor `&`, and ends in `.iso`. Nobody guesses it, and it ends with the enrolment.
    pub iso_url: String,
    /// Bytes of it.
    pub iso_size: u64,
}

/// What is asked of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Anything but a config drive.
    Action(Action),
    /// Write an image, with this config drive behind it; [`WriteImage::config_drive`] is filled in.
    WriteWithConfigDrive(Box<WriteImage>, Bytes),
}

/// A file that is served under a name.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<String, Host>,
    /// Name of the ISO in its URL → host and what is laid over the template.
    isos: BTreeMap<String, (String, Overlay)>,
    images: BTreeMap<String, Published>,
}

/// Serves deploy agents. A handle: clones share one state.
#[derive(Clone)]
pub struct DeployServer {
    settings: Arc<Settings>,
    ledger: Arc<dyn Ledger>,
    state: Arc<Mutex<State>>,
    /// Counts changes, for who waits for one.
    changes: watch::Sender<u64>,
}

impl DeployServer {
    /// A server without hosts.
    #[must_use]
    pub fn new(settings: Settings, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            settings: Arc::new(settings),
            ledger,
            state: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Tells when anything about any host has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn template(&self) -> &Template {
        &self.settings.template
    }

    /// Makes an ISO for a host, with a new token: what it had before opens nothing any more, and its command is forgotten. `purpose` is
    /// kept with it, for whoever resumes it.
    ///
    /// # Errors
    /// The name or the network data can't be used, or the ledger fails.
    pub fn enrol(
        &self,
        host: &str,
        purpose: &str,
        network: Option<NetworkData>,
    ) -> Result<Enrolment, DeployError> {
        if !is_host(host) {
            return Err(DeployError::Host(host.to_owned()));
        }
        let token = token::random();
        let issued_at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let overlay = self.settings.template.overlay(&Parameters {
            version: VERSION,
            controller: self.settings.url.clone(),
            host: host.to_owned(),
            token: token.clone(),
            ca: self.settings.ca.clone(),
            issued_at,
            network,
        })?;
        let last = self
            .ledger
            .load(host)?
            .map_or(0, |record| record.last_command);
        let fresh = Host::new(token::digest(&token), last, purpose, Instant::now());
        self.ledger.store(host, &fresh.record)?;
        let name = format!("{}.iso", token::random());
        let mut state = self.state();
        state.isos.retain(|_, (owner, _)| owner != host);
        state.isos.insert(name.clone(), (host.to_owned(), overlay));
        state.hosts.insert(host.to_owned(), fresh);
        drop(state);
        self.changed();
        Ok(Enrolment {
            iso_url: format!("{}/deploy/v1/isos/{name}", self.settings.url),
            iso_size: self.settings.template.size(),
        })
    }

    /// Takes up a host that an earlier process enrolled, whose agent may still run. Says whether there is one; its ISO is gone.
    ///
    /// # Errors
    /// The ledger fails.
    pub fn resume(&self, host: &str) -> Result<bool, DeployError> {
        if self.state().hosts.contains_key(host) {
            return Ok(true);
        }
        let Some(record) = self.ledger.load(host)? else {
            return Ok(false);
        };
        self.state()
            .hosts
            .insert(host.to_owned(), Host::resume(record, Instant::now()));
        self.changed();
        Ok(true)
    }

    /// Asks a host for something; returns the command's id, by which its outcome is known. Asked again for the same, it is the same command,
    /// unless that has failed.
    ///
    /// # Errors
    /// The host is not enrolled, the config drive is too large, or the ledger fails.
    pub fn ask(&self, host: &str, wanted: Wanted) -> Result<u64, DeployError> {
        let (action, drive) = match wanted {
            Wanted::Action(action) => (action, None),
            Wanted::WriteWithConfigDrive(mut write, drive) => {
                let size = drive.len() as u64;
                if size > ConfigDrive::MAX {
                    return Err(DeployError::ConfigDriveSize {
                        size,
                        max: ConfigDrive::MAX,
                    });
                }
                write.config_drive = Some(ConfigDrive {
                    size,
                    sha256: hex::encode(Sha256::digest(&drive)),
                });
                (Action::Write(write), Some(drive))
            }
        };
        let mut state = self.state();
        let known = state
            .hosts
            .get_mut(host)
            .ok_or_else(|| DeployError::Unknown(host.to_owned()))?;
        let id = known.ask(action, drive);
        let stored = self.ledger.store(host, &known.record);
        drop(state);
        self.changed();
        stored?;
        Ok(id)
    }

    /// How far each host is, in a form that changes when whoever drives it should look: its agent has come, told its inventory, or an
    /// outcome.
    #[must_use]
    pub fn milestones(&self) -> BTreeMap<String, [bool; 3]> {
        let state = self.state();
        let of = |status: &Status| {
            let (inventory, outcome) = (status.inventory.is_some(), status.outcome.is_some());
            [status.session, inventory, outcome]
        };
        let hosts = state.hosts.iter();
        hosts
            .map(|(host, known)| (host.clone(), of(&known.status)))
            .collect()
    }

    /// Forgets a host's command, and what came of it: the same one is another then.
    ///
    /// # Errors
    /// The ledger fails.
    pub fn withdraw(&self, host: &str) -> Result<(), DeployError> {
        let mut state = self.state();
        let Some(known) = state.hosts.get_mut(host) else {
            return Ok(());
        };
        known.withdraw();
        let stored = self.ledger.store(host, &known.record);
        drop(state);
        self.changed();
        Ok(stored?)
    }

    /// What is known of a host; none where it is not enrolled.
    #[must_use]
    pub fn status(&self, host: &str) -> Option<Status> {
        self.state().hosts.get(host).map(|host| host.status.clone())
    }

    /// Forgets a host, its ISO and its token.
    ///
    /// # Errors
    /// The ledger fails; all else is forgotten then, too.
    pub fn forget(&self, host: &str) -> Result<(), DeployError> {
        let mut state = self.state();
        state.hosts.remove(host);
        state.isos.retain(|_, (owner, _)| owner != host);
        drop(state);
        self.changed();
        Ok(self.ledger.forget(host)?)
    }

    /// Serves a file to agents and whoever knows its name; returns its URL.
    ///
    /// # Errors
    /// The name can't stand in a URL, or there is no such file.
    pub fn publish(&self, name: &str, path: &Path) -> Result<String, DeployError> {
        if !is_host(name) {
            return Err(DeployError::ImageName(name.to_owned()));
        }
        let metadata = std::fs::metadata(path).map_err(|source| DeployError::File {
            path: path.display().to_string(),
            source,
        })?;
        let changed = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_nanos());
        let published = Published {
            path: path.to_owned(),
            version: format!("{:x}-{changed:x}", metadata.len()),
        };
        self.state().images.insert(name.to_owned(), published);
        Ok(format!("{}/deploy/v1/images/{name}", self.settings.url))
    }

    /// Where it is reached.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.settings.url
    }

    /// The URL of a host's requests, for logs and tests.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("{}{}", self.settings.url, base(host))
    }

    pub(crate) fn published(&self, name: &str) -> Option<Published> {
        self.state().images.get(name).cloned()
    }

    pub(crate) fn iso(&self, name: &str) -> Option<Overlay> {
        self.state()
            .isos
            .get(name)
            .map(|(_, overlay)| overlay.clone())
    }

    /// Opens a session.
    pub(crate) fn hello(
        &self,
        host: &str,
        hello: &catamaran_deploy_wire::Hello,
    ) -> Result<Result<(), Denied>, DeployError> {
        // An agent may be faster than who resumes its host.
        self.resume(host)?;
        let mut state = self.state();
        let Some(known) = state.hosts.get_mut(host) else {
            return Ok(Err(Denied::Unknown));
        };
        let result = match known.hello(hello, Instant::now()) {
            Ok(true) => self.ledger.store(host, &known.record).map(|()| Ok(())),
            Ok(false) => Ok(Ok(())),
            Err(denied) => Ok(Err(denied)),
        };
        drop(state);
        self.changed();
        Ok(result?)
    }

    /// Does something with a host for whom an agent with its session's key speaks.
    pub(crate) fn enter<T>(
        &self,
        host: &str,
        key: &str,
        work: impl FnOnce(&mut Host) -> T,
    ) -> Result<T, Denied> {
        self.resume(host).map_err(|_| Denied::Session)?;
        let mut state = self.state();
        let known = state.hosts.get_mut(host).ok_or(Denied::Session)?;
        known.enter(key, Instant::now())?;
        Ok(work(known))
    }

    /// Takes the outcome of a command, and keeps it. Says whether the command stood.
    pub(crate) fn outcome(
        &self,
        host: &str,
        key: &str,
        outcome: Outcome,
    ) -> Result<Result<bool, Denied>, DeployError> {
        self.resume(host)?;
        let mut state = self.state();
        let Some(known) = state.hosts.get_mut(host) else {
            return Ok(Err(Denied::Session));
        };
        if let Err(denied) = known.enter(key, Instant::now()) {
            return Ok(Err(denied));
        }
        let stood = known.outcome(outcome);
        let stored = self.ledger.store(host, &known.record);
        drop(state);
        self.changed();
        stored?;
        Ok(Ok(stood))
    }

    pub(crate) fn kept(&self) -> BoxFuture<'static, ()> {
        self.ledger.kept()
    }

    /// After `enter` has changed what others wait for.
    pub(crate) fn told(&self) {
        self.changed();
    }
}
