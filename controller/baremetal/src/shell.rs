//! The shell: reads, lets decide, carries out, writes.

mod beside;
mod carry_out;
mod credentials;
mod data;
mod firmware;
mod preprovisioning;

use std::sync::Arc;

use catamaran_api::metal3::{BareMetalHost, BareMetalHostStatus};
use catamaran_client::chain;
use catamaran_redfish::{Bmc, Error as BmcError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use self::beside::Beside;
pub use self::beside::BesideCache;
pub use self::data::DataCache;
pub use self::firmware::FirmwareCache;
use crate::annotations::{self, DETACHED, FINALIZER, PAUSED, STATUS};
use crate::back_off;
use crate::bmcs::Bmcs;
use crate::data::Data;
use crate::decide::{Gate, decide, gate};
use crate::deploy::{Deploy, Job, Progress};
use crate::endpoint::{endpoint, secret_name};
use crate::facts::{Contact, Facts, Login, Seconds, Seen, Trouble};
use crate::firmware::Firmware;
use crate::metrics::HostMetrics;
use crate::outcome::{Action, ErrorType, Failure, Outcome};
use crate::state::State;
use crate::status;
use crate::store::{HostName, Note, Store, StoreError};

/// When to look at a host again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// When something changes.
    Changed,
    /// After so many seconds, or when something changes.
    After(Seconds),
}

/// The owners of an object with one more; `None` where it is one already.
fn owners_with(owner: Option<OwnerReference>, object: &ObjectMeta) -> Option<Vec<OwnerReference>> {
    let owner = owner?;
    let mut owners = object.owner_references.clone().unwrap_or_default();
    if owners.iter().any(|one| one.uid == owner.uid) {
        return None;
    }
    owners.push(owner);
    Some(owners)
}

/// Whether somebody wants nothing to be done about a host.
fn left_alone(host: &BareMetalHost) -> bool {
    let asked = |name| annotations::get(host, name).is_some();
    asked(PAUSED) || asked(DETACHED)
}

/// Everything that hosts are worked on with.
#[derive(Debug)]
pub struct Shell<S, D> {
    /// The cluster.
    pub store: S,
    /// The connections to BMCs.
    pub bmcs: Arc<Bmcs>,
    /// What works on hosts by a program of theirs.
    pub deploy: D,
    /// What is counted.
    pub metrics: HostMetrics,
    /// What the BMCs have said of their firmware's settings; begins empty.
    pub firmware: FirmwareCache,
    /// Which CDs did not work; begins empty.
    pub data: DataCache,
    /// What went wrong with the objects beside hosts; begins empty.
    pub beside: BesideCache,
}

impl<S: Store, D: Deploy> Shell<S, D> {
    /// Does the next thing for one host.
    ///
    /// # Errors
    /// When the cluster can't be read or written. What goes wrong with the host itself is in its status.
    pub async fn reconcile(&self, name: &HostName) -> Result<Again, StoreError> {
        let Some(host) = self.store.host(name) else {
            self.forget(name).await;
            return Ok(Again::Changed);
        };
        self.metrics.reconciled.inc();
        let now = self.store.now();
        let (login, bmc) = self.log_in(name, &host).await?;
        let ask = match gate(&host, &login, now) {
            Gate::Paused => return Ok(Again::Changed),
            Gate::Later(again) => return Ok(Again::After(again)),
            Gate::Detached(again) => {
                self.bmcs.close(name).await;
                self.detached(&host).await?;
                self.let_data_go(name).await?;
                return Ok(Again::After(again));
            }
            Gate::Go { ask } => ask,
        };
        let deleting = host.metadata.deletion_timestamp.is_some();
        if deleting && !annotations::has_finalizer(&host) {
            return Ok(Again::Changed);
        }
        if let Some(again) = self.begin(&host, deleting).await? {
            return Ok(again);
        }
        let contact = match (&bmc, ask) {
            (Some(Ok(bmc)), true) => look(bmc).await,
            (Some(Err(error)), true) => Contact::Failed(Trouble::of(error)),
            _ => Contact::NotAsked,
        };
        let state = State::of(&host);
        // What is beside a host holds it up only where the host waits for it.
        let mut beside = Beside::of(name);
        let told = self.preprovisioning(&host, now).await;
        beside.or("PreprovisioningImage", false, (), told)?;
        let job = Job::of(&host);
        let firmware = match (&bmc, &contact) {
            (Some(Ok(bmc)), Contact::Answers(_)) => self.firmware(&host, bmc, now).await,
            _ => Ok(Firmware::Settled),
        };
        let waits = state == State::Preparing;
        let firmware = beside.or("HostFirmwareSettings", waits, Firmware::Settled, firmware)?;
        let data = self.data(&host, now).await;
        let data = beside.or("DataImage", state.holds_cd(), Data::Settled, data)?;
        let facts = Facts {
            now,
            login,
            contact,
            job,
            refusal: job.and_then(|job| self.deploy.refusal(&host, job)),
            progress: match job {
                Some(job) if state != State::Available => self.deploy.progress(&host, job).await,
                _ => Progress::None,
            },
            firmware,
            data,
        };
        let step = decide(&host, &facts);
        let bmc = bmc.and_then(Result::ok);
        let uid = host.metadata.uid.clone().unwrap_or_default();
        let again = self
            .finish(host, &facts, bmc.as_ref(), step.actions, step.outcome)
            .await?;
        Ok(beside.again(&self.beside, &uid, now, again))
    }

    /// What is known of a host that is let go.
    async fn forget(&self, name: &HostName) {
        self.bmcs.close(name).await;
        self.firmware.0.forget(name);
        self.data.0.forget(name);
        self.beside.0.forget(name);
    }

    /// Carries the step out and writes what it came to.
    async fn finish(
        &self,
        mut host: BareMetalHost,
        facts: &Facts,
        bmc: Option<&Bmc>,
        actions: Vec<Action>,
        mut outcome: Outcome,
    ) -> Result<Again, StoreError> {
        let state = State::of(&host);
        // As it was when the BMC was asked: what is done now may write it anew.
        let was_on = host.status.as_ref().is_some_and(|old| old.powered_on);
        let mut done = carry_out::Done::new(&facts.contact);
        let release = actions.contains(&Action::Release);
        let mut left = actions.len();
        for action in actions {
            left -= 1;
            match self.carry_out(&mut host, bmc, &action, &mut done).await? {
                // Off in the middle of a reboot is told, so that nobody takes the reboot for done.
                Ok(()) if matches!(action, Action::PowerOff(_)) && left > 0 => {
                    if let Some(old) = host.status.clone().filter(|old| old.powered_on) {
                        let off = BareMetalHostStatus {
                            powered_on: false,
                            ..old
                        };
                        host = self.store.write_status(&host, &off).await?;
                    }
                }
                Ok(()) => {}
                Err(message) => {
                    outcome = match action {
                        // It is an error of the CD, and the host waits for it.
                        Action::AttachData(_) | Action::DetachData if state.in_use() => {
                            Outcome::Wait {
                                reason: "DataImage",
                                message,
                                again: self.data_pause(&host),
                            }
                        }
                        _ => Outcome::Failed(Failure {
                            error_type: action.error_type(state),
                            message,
                        }),
                    };
                    break;
                }
            }
        }
        if release {
            return Ok(Again::Changed);
        }
        let result = status::Result {
            outcome: &outcome,
            power: done.power.as_ref(),
            hardware: done.hardware.as_ref(),
            disk: done.disk.as_deref(),
        };
        let old = host.status.clone().unwrap_or_default();
        let new = status::next(&host, facts, &result);
        self.report(&host, facts, (was_on, &old), &new, &outcome)
            .await;
        let count = new.error_count;
        if new != old {
            let written = self.store.write_status(&host, &new).await?;
            if facts.job.is_some() && matches!(outcome, Outcome::Transition { .. }) {
                // Not before: what is forgotten would be done again.
                self.deploy.end(&host);
            }
            host = written;
        }
        Ok(match outcome {
            Outcome::Transition { .. } => Again::After(0),
            Outcome::Wait { again, .. } => Again::After(again),
            Outcome::Done { again } => again.map_or(Again::Changed, Again::After),
            Outcome::Failed(_) => {
                let uid = host.metadata.uid.as_deref().unwrap_or_default();
                Again::After(back_off::pause(count, uid))
            }
        })
    }

    /// The finalizer and, for a host that comes from elsewhere, its status; something when one was written.
    async fn begin(
        &self,
        host: &BareMetalHost,
        deleting: bool,
    ) -> Result<Option<Again>, StoreError> {
        if !deleting && !annotations::has_finalizer(host) {
            let mut all = host.metadata.finalizers.clone().unwrap_or_default();
            all.push(FINALIZER.to_owned());
            self.store
                .write(host, json!({"metadata": {"finalizers": all}}))
                .await?;
            return Ok(Some(Again::After(0)));
        }
        let moved = annotations::get(host, STATUS).filter(|_| State::of(host) == State::New);
        let Some(moved) = moved else { return Ok(None) };
        match serde_json::from_str::<BareMetalHostStatus>(moved) {
            Ok(moved) => {
                let host = self.store.write_status(host, &moved).await?;
                let drop = json!({"metadata": {"annotations": {STATUS: null}}});
                self.store.write(&host, drop).await?;
                Ok(Some(Again::After(0)))
            }
            Err(error) => {
                let message =
                    format!("the annotation {STATUS} is no status and is ignored: {error}");
                self.tell(host, true, "StatusAnnotation", message).await;
                Ok(None)
            }
        }
    }

    async fn detached(&self, host: &BareMetalHost) -> Result<(), StoreError> {
        let old = host.status.clone().unwrap_or_default();
        if old.operational_status != "detached" {
            let new = BareMetalHostStatus {
                operational_status: "detached".to_owned(),
                ..old
            };
            self.store.write_status(host, &new).await?;
            self.tell(
                host,
                false,
                "Detached",
                "Host is not managed while the annotation is there",
            )
            .await;
        }
        Ok(())
    }

    /// How to log in, and the connection.
    pub(crate) async fn log_in(
        &self,
        name: &HostName,
        host: &BareMetalHost,
    ) -> Result<(Login, Option<Result<Bmc, BmcError>>), StoreError> {
        let secret = match secret_name(host) {
            Some(secret) if !secret.is_empty() => {
                let found = match self.store.secret(&name.namespace, secret).await {
                    // It went with its namespace, or what lets us read it did: a deletion does not wait for it.
                    Err(error) if host.metadata.deletion_timestamp.is_some() => {
                        let why = format!(
                            "spec.bmc.credentialsName: the Secret '{secret}' can't be read: {}",
                            chain(&error)
                        );
                        return Ok((Login::Unusable(why), None));
                    }
                    found => found?,
                };
                match found {
                    // Of a host that is left alone nothing is written.
                    Some(found) if left_alone(host) => Some(found),
                    Some(found) => Some(self.claim(name, host, found).await?),
                    None => None,
                }
            }
            _ => None,
        };
        match endpoint(host, secret.as_ref(), self.bmcs.limits()) {
            Ok((endpoint, version)) => {
                let bmc = self.bmcs.get(name, endpoint).await;
                Ok((Login::Ready(version), Some(bmc)))
            }
            Err(login) => {
                if matches!(login, Login::Unusable(_)) {
                    self.metrics.missing.inc();
                }
                Ok((login, None))
            }
        }
    }

    async fn report(
        &self,
        host: &BareMetalHost,
        facts: &Facts,
        (was_on, old): (bool, &BareMetalHostStatus),
        new: &BareMetalHostStatus,
        outcome: &Outcome,
    ) {
        let state = State::of(host);
        if let Outcome::Failed(failure) = outcome {
            let kind = failure.error_type;
            self.metrics
                .errors
                .with_label_values(&[kind.as_str()])
                .inc();
            if let Contact::Failed(trouble) = &facts.contact
                && trouble.is_access()
            {
                self.metrics.invalid.inc();
            }
            if new.error_message != old.error_message {
                self.tell(host, true, kind.event(), failure.message.clone())
                    .await;
            }
        }
        if new.good_credentials != old.good_credentials && new.good_credentials.is_some() {
            self.tell(host, false, "BMCAccessValidated", "Verified access to BMC")
                .await;
        }
        // Our own changes of power are told where they are made.
        if let Contact::Answers(seen) = &facts.contact
            && state != State::Registering
            && old.good_credentials.is_some()
            && old.error_type.is_none()
        {
            let on = match seen.power {
                catamaran_redfish::PowerState::On => true,
                catamaran_redfish::PowerState::Off => false,
                _ => was_on,
            };
            if on != was_on {
                let message = format!(
                    "Host was turned {} by something else",
                    if on { "on" } else { "off" }
                );
                self.tell(host, true, "PowerChanged", message).await;
            }
        }
        if status::overdue(host, facts.now).is_some()
            && !matches!(outcome, Outcome::Transition { .. })
        {
            self.metrics
                .overdue
                .with_label_values(&[state.as_str()])
                .inc();
            let told = old.conditions.iter().any(|one| one.reason == "Overdue");
            if !told {
                let message = format!(
                    "Host has been {} for longer than that may take",
                    state.as_str()
                );
                self.tell(host, true, "Overdue", message).await;
            }
        }
        if let Outcome::Transition { to } = outcome {
            self.changed(host, facts, old, *to).await;
        }
    }

    async fn changed(
        &self,
        host: &BareMetalHost,
        facts: &Facts,
        old: &BareMetalHostStatus,
        to: State,
    ) {
        let from = State::of(host);
        tracing::info!(host = %HostName::of(host), from = from.as_str(), to = to.as_str(), "state changed");
        let labels = [from.as_str(), to.as_str()];
        self.metrics.changes.with_label_values(&labels).inc();
        let operation = match from {
            State::Registering => Some("register"),
            State::Inspecting => Some("inspect"),
            State::Provisioning => Some("provision"),
            State::Deprovisioning => Some("deprovision"),
            _ => None,
        };
        let since = old.provisioning.state_since.as_ref();
        if let (Some(operation), Some(since)) = (operation, since) {
            let took = u32::try_from(facts.now - since.0.as_second()).unwrap_or(0);
            self.metrics
                .durations
                .with_label_values(&[operation])
                .observe(f64::from(took));
        }
        let gave_up = matches!(facts.contact, Contact::NotAsked | Contact::Failed(_));
        match (from, to) {
            (
                State::Provisioned | State::Provisioning | State::Deprovisioning,
                State::PoweringOff | State::Deleting,
            ) if gave_up => {
                self.metrics.not_deprovisioned.inc();
                let message = format!(
                    "Host is deleted although its use was not ended: {}",
                    old.error_message
                );
                self.tell(host, true, "DeprovisioningGivenUp", message)
                    .await;
            }
            (State::PoweringOff, State::Deleting) if gave_up => {
                self.metrics.not_powered_off.inc();
                let message = format!(
                    "Host is deleted although it may still be on: {}",
                    old.error_message
                );
                self.tell(host, true, "PowerOffGivenUp", message).await;
            }
            _ => {}
        }
        let told = match (from, to) {
            (_, State::Registering) => Some(("Registered", "Registering new host")),
            (_, State::Inspecting) => Some(("InspectionStarted", "Hardware inspection started")),
            (State::Inspecting, State::Preparing) => {
                Some(("InspectionComplete", "Hardware inspection completed"))
            }
            (State::Registering, State::Preparing) => {
                Some(("InspectionSkipped", "Hardware inspection is disabled"))
            }
            (_, State::Provisioning) => Some(("ProvisioningStarted", "Image provisioning started")),
            (State::Provisioning, State::Provisioned) => {
                Some(("ProvisioningComplete", "Image provisioning completed"))
            }
            (_, State::Deprovisioning) => {
                Some(("DeprovisioningStarted", "Image deprovisioning started"))
            }
            (State::Deprovisioning, _) => {
                Some(("DeprovisioningComplete", "Image deprovisioning completed"))
            }
            _ => None,
        };
        if let Some((reason, message)) = told {
            self.tell(host, false, reason, message).await;
        }
    }

    pub(crate) async fn tell(
        &self,
        host: &BareMetalHost,
        warning: bool,
        reason: &str,
        message: impl Into<String> + Send,
    ) {
        let note = Note {
            warning,
            reason: reason.to_owned(),
            message: message.into(),
        };
        self.store.tell(host, note).await;
    }
}

impl Action {
    /// The kind of error that its failure is.
    fn error_type(&self, state: State) -> ErrorType {
        match self {
            Self::PowerOn | Self::PowerOff(_)
                if !matches!(state, State::Provisioning | State::Deprovisioning) =>
            {
                ErrorType::PowerManagement
            }
            Self::AdoptInventory => ErrorType::Inspection,
            _ => state.error_type(),
        }
    }
}

/// What the BMC shows: one request, once the system is known.
async fn look(bmc: &Bmc) -> Contact {
    let seen = async {
        let system = bmc.system().await?;
        let identity = bmc.identity().await?;
        Ok::<_, BmcError>(Seen {
            power: system.power,
            health: system.health,
            uuid: identity.uuid,
        })
    };
    match seen.await {
        Ok(seen) => Contact::Answers(seen),
        Err(error) => Contact::Failed(Trouble::of(&error)),
    }
}
