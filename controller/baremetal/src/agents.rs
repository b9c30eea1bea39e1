//! The deploy agents as what does jobs on hosts: they boot an ISO of the deploy server, and are asked by it.
//!
//! ```text
//!   begin ──▶ enrolled: ISO, token ──(BMC boots it)──▶ session ──▶ asked ──▶ outcome ──▶ Done | Failed, and asked anew the next time
//!                 │ no session in time, or enrolled by a process that is gone     │ not heard for long
//!                 └───────────────────────────▶ None: begin anew ◀───────────────┘
//! ```
//!
//! A host is known to the deploy server by its UID. What it was enrolled for is the job and when the state was entered, so that what is left
//! of an earlier state is never taken for this one's.

mod image;
mod seed;

use std::time::Duration;

use catamaran_api::metal3::{BareMetalHost, HardwareDetails};
use catamaran_client::chain;
use catamaran_deploy_server::{DeployError, DeployServer, Status, Told, Wanted, config_drive};
use catamaran_deploy_wire::{
    Action, Answer, NetworkData, Progress as Report, Reason, WipeScope, WriteImage,
};
use k8s_openapi::api::core::v1::Secret;
use tokio::task::spawn_blocking;

use crate::deploy::{Cleaning, Deploy, Job, Progress};
use crate::preprovisioning;
use crate::store::{HostName, Store};

/// How long agents are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the host's start to its agent's first call. Servers test themselves for minutes.
    pub boot: Duration,
    /// Between two calls.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(1200),
            silence: Duration::from_secs(300),
        }
    }
}

/// Does jobs by deploy agents.
#[derive(Clone)]
pub struct Agents<S> {
    server: Result<DeployServer, String>,
    store: S,
    patience: Patience,
}

impl<S: Store> Agents<S> {
    /// By this server.
    #[must_use]
    pub fn new(server: DeployServer, store: S, patience: Patience) -> Self {
        Self {
            server: Ok(server),
            store,
            patience,
        }
    }

    /// There is no server; `why` says what would help.
    #[must_use]
    pub fn absent(why: &str, store: S) -> Self {
        Self {
            server: Err(why.to_owned()),
            store,
            patience: Patience::default(),
        }
    }

    /// What is known of the host in this state; none where the job was not begun.
    fn known(&self, server: &DeployServer, host: &BareMetalHost, job: Job) -> Option<Status> {
        let id = id(host);
        if let Err(error) = server.resume(&id) {
            tracing::warn!(host = %HostName::of(host), error = chain(&error), "the host is enrolled anew");
        }
        server
            .status(&id)
            .filter(|status| status.purpose == purpose(host, job))
    }

    /// Asks for what the job is.
    async fn ask(
        &self,
        server: &DeployServer,
        host: &BareMetalHost,
        job: Job,
    ) -> Result<(), String> {
        let wanted = match job {
            Job::Inspect => {
                // What was told to another process is told again.
                let withdrawn = server.withdraw(&id(host));
                withdrawn.map_err(|error| chain(&error))?;
                Wanted::Action(Action::Inspect)
            }
            Job::Clean => Wanted::Action(Action::Wipe { disks: wipe(host)? }),
            Job::Write => self.write(host).await?,
        };
        let asked = server.ask(&id(host), wanted);
        asked.map(drop).map_err(|error| chain(&error))
    }

    async fn write(&self, host: &BareMetalHost) -> Result<Wanted, String> {
        let spec = &host.spec;
        let wanted = spec.image.as_ref().ok_or("spec.image is gone")?;
        let write = Box::new(WriteImage {
            image: image::image(wanted)?,
            hints: image::hints(spec.root_device_hints.as_ref())?,
            config_drive: None,
            overwrite: Cleaning::of(host) == Cleaning::All,
        });
        let Some(files) = seed::files(host, &self.store).await? else {
            return Ok(Wanted::Action(Action::Write(write)));
        };
        let drive = spawn_blocking(move || config_drive(&files)).await;
        let drive = drive.map_err(|error| format!("the config drive can't be made: {error}"))?;
        let drive = drive.map_err(|error| chain(&error))?;
        Ok(Wanted::WriteWithConfigDrive(write, drive))
    }

    async fn network(&self, host: &BareMetalHost) -> Result<Option<NetworkData>, String> {
        let asked = self.store.preprovisioning_image(&HostName::of(host));
        let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        // The host's own word counts, as with the peer.
        let (field, name) = match (&host.spec, asked) {
            (spec, _) if given(&spec.preprovisioning_network_data_name).is_some() => (
                "spec.preprovisioningNetworkDataName",
                given(&spec.preprovisioning_network_data_name),
            ),
            (_, Some(asked)) => (
                "PreprovisioningImage: spec.networkDataName",
                given(&asked.spec.network_data_name),
            ),
            _ => return Ok(None),
        };
        let Some(name) = &name else { return Ok(None) };
        let secret = secret(&self.store, host, field, name).await?;
        let text = seed::entry(&secret, field, "networkData")?;
        let data = serde_yaml_ng::from_slice(&text);
        data.map(Some).map_err(|error| {
            format!(
                "{field}: 'networkData' of the Secret '{name}' is no network_data.json: {error}"
            )
        })
    }
}

impl<S: Store> Deploy for Agents<S> {
    fn absence(&self) -> Option<String> {
        let why = self.server.as_ref().err()?;
        Some(format!("there is no deploy server: {why}"))
    }

    fn refusal(&self, host: &BareMetalHost, job: Job) -> Option<String> {
        let spec = &host.spec;
        let field = match job {
            Job::Inspect => "spec.inspectionMode: 'agent'".to_owned(),
            Job::Clean => "spec.automatedCleaningMode: cleaning".to_owned(),
            Job::Write => {
                let format = spec
                    .image
                    .as_ref()
                    .and_then(|image| image.format.as_deref());
                format!("spec.image.format: '{}'", format.unwrap_or_default())
            }
        };
        let instead = match job {
            Job::Inspect => "fast, disabled",
            Job::Clean => "disabled",
            Job::Write => "live-iso",
        };
        if let Err(why) = &self.server {
            return Some(format!(
                "{field} needs the deploy server, and {why}; without it: {instead}"
            ));
        }
        let asked = self.store.preprovisioning_image(&HostName::of(host));
        if let Some(refusal) = asked.as_ref().and_then(preprovisioning::refusal) {
            return Some(refusal);
        }
        let checked = match job {
            Job::Inspect => Ok(()),
            Job::Clean => wipe(host).map(drop),
            Job::Write => {
                let image = spec.image.as_ref().map(image::image).transpose();
                let hints = image::hints(spec.root_device_hints.as_ref());
                image.map(drop).and(hints.map(drop))
            }
        };
        checked.err()
    }

    async fn progress(&self, host: &BareMetalHost, job: Job) -> Progress {
        let server = match &self.server {
            Ok(server) => server,
            Err(why) => return Progress::Failed(why.clone()),
        };
        let Some(status) = self.known(server, host, job) else {
            return Progress::None;
        };
        if settled(&status, job) {
            return Progress::Done;
        }
        if !status.session {
            // One that an earlier process enrolled boots from an ISO that has gone with it.
            let Some(enrolled) = status.enrolled else {
                return Progress::None;
            };
            if enrolled.elapsed() < self.patience.boot {
                return Progress::Booting("the host boots the deploy agent".to_owned());
            }
            self.end(host);
            return Progress::Failed(format!(
                "the deploy agent has not called within {} s of the host's start{}: see the host's console, and whether it reaches the deploy server",
                self.patience.boot.as_secs(),
                denied(&status)
            ));
        }
        let silent = status.seen.map(|seen| seen.elapsed()).unwrap_or_default();
        if silent > self.patience.silence {
            self.end(host);
            return Progress::Failed(format!(
                "the deploy agent was not heard for {} s{}; the host is booted from a new ISO",
                silent.as_secs(),
                denied(&status)
            ));
        }
        if status.command.is_none() {
            return match self.ask(server, host, job).await {
                Ok(()) => Progress::Working("the deploy agent was asked".to_owned()),
                Err(why) => Progress::Failed(why),
            };
        }
        let Some(Told::Failed(failure)) = &status.outcome else {
            return Progress::Working(words(status.progress.as_ref()));
        };
        match server.withdraw(&id(host)) {
            Ok(()) => Progress::Failed(advice(failure.reason, &failure.message)),
            Err(error) => Progress::Failed(chain(&error)),
        }
    }

    async fn begin(&self, host: &BareMetalHost, job: Job) -> Result<String, String> {
        let server = self.server.as_ref().map_err(Clone::clone)?;
        let network = self.network(host).await?;
        let enrolled = server.enrol(&id(host), &purpose(host, job), network);
        enrolled
            .map(|enrolled| enrolled.iso_url)
            .map_err(|error: DeployError| chain(&error))
    }

    fn inventory(&self, host: &BareMetalHost) -> Option<HardwareDetails> {
        let status = self.server.as_ref().ok()?.status(&id(host))?;
        // The agent's inventory is made in the shape of the wire type.
        let details = serde_json::to_value(status.inventory?).map(serde_json::from_value);
        match details {
            Ok(Ok(details)) => Some(details),
            Ok(Err(error)) | Err(error) => {
                tracing::error!(host = %HostName::of(host), %error, "the deploy agent's inventory has another shape");
                None
            }
        }
    }

    fn disk(&self, host: &BareMetalHost) -> Option<String> {
        let status = self.server.as_ref().ok()?.status(&id(host))?;
        match status.outcome? {
            Told::Done(Answer::Written { disk, .. }) => Some(disk),
            _ => None,
        }
    }

    fn end(&self, host: &BareMetalHost) {
        if let Ok(server) = &self.server
            && let Err(error) = server.forget(&id(host))
        {
            tracing::warn!(host = %HostName::of(host), error = chain(&error), "the deploy server's record of the host stays");
        }
    }
}

/// By which the deploy server knows a host.
fn id(host: &BareMetalHost) -> String {
    host.metadata.uid.clone().unwrap_or_default()
}

/// The job, and since when the host is in the state that needs it.
fn purpose(host: &BareMetalHost, job: Job) -> String {
    let since = host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.state_since.as_ref())
        .map(|since| since.0.as_second());
    format!("{job:?}@{}", since.unwrap_or_default())
}

/// Whether the job is done, be the agent still there or not. An outcome is this command's only when that was asked for by this process.
fn settled(status: &Status, job: Job) -> bool {
    match (&status.command, &status.outcome) {
        _ if job == Job::Inspect => status.inventory.is_some(),
        (Some(_), Some(Told::Done(_))) => true,
        // The disk was taken out: there is nothing left to clean.
        (Some(_), Some(Told::Failed(failure))) => {
            job == Job::Clean && failure.reason == Reason::NoDisk
        }
        _ => false,
    }
}

/// What is wiped after a use. The hints are those that the image was written by.
fn wipe(host: &BareMetalHost) -> Result<WipeScope, String> {
    if Cleaning::of(host) == Cleaning::All {
        return Ok(WipeScope::All);
    }
    let status = host.status.as_ref();
    let hints = status.and_then(|status| status.provisioning.root_device_hints.as_ref());
    Ok(WipeScope::Root(Box::new(image::hints(hints)?)))
}

/// A Secret beside the host.
async fn secret<S: Store>(
    store: &S,
    host: &BareMetalHost,
    field: &str,
    name: &str,
) -> Result<Secret, String> {
    let namespace = host.metadata.namespace.clone().unwrap_or_default();
    match store.secret(&namespace, name).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(format!(
            "{field}: there is no Secret '{name}' in the host's namespace"
        )),
        Err(error) => Err(format!(
            "{field}: the Secret '{name}' can't be read: {}",
            error.0
        )),
    }
}

/// Who else was not let in, as the cause of a silence.
fn denied(status: &Status) -> String {
    status
        .denied
        .map(|(_, denied)| format!("; one was refused: {denied}"))
        .unwrap_or_default()
}

/// A report for people. Rounded, since each change of it is written to the cluster.
fn words(report: Option<&Report>) -> String {
    let Some(report) = report else {
        return "the deploy agent begins".to_owned();
    };
    let mut words = report.step.to_string();
    if let Some(percent) = (report.done * 100).checked_div(report.total) {
        words.push_str(&format!(": {} %", percent / 5 * 5));
    }
    if !report.message.is_empty() {
        words.push_str(&format!(" ({})", report.message));
    }
    words
}

/// A failure's words, and what the host's object has to say to go on.
fn advice(reason: Reason, message: &str) -> String {
    match reason {
        Reason::DiskHasData => {
            format!("{message}; spec.automatedCleaningMode: 'metadata' allows it")
        }
        _ => message.to_owned(),
    }
}
