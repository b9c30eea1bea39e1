//! Single actions, carried out.

use std::time::Duration;

use catamaran_api::metal3::{BareMetalHost, HardwareDetails};
use catamaran_redfish::{Bmc, BootDevice, Error as BmcError, Kind, PowerOff, PowerState};
use serde_json::{Value, json};

use super::Shell;
use crate::annotations::{self, BOOT_ONCE, FENCE_HOLD, FINALIZER, HARDWARE};
use crate::boot_once;
use crate::deploy::{Deploy, Job};
use crate::facts::Contact;
use crate::inventory;
use crate::outcome::{Action, Off};
use crate::store::{HostName, Store, StoreError};

/// How long a system that was asked to shut down may take; after that it is cut off.
const SOFT: Duration = Duration::from_secs(120);

/// What became known on the way.
pub(super) struct Done {
    pub(super) power: Option<PowerState>,
    pub(super) hardware: Option<HardwareDetails>,
    pub(super) disk: Option<String>,
    /// The BMC was told what to boot from at the start that is to follow.
    boots_once: bool,
}

impl Done {
    pub(super) fn new(contact: &Contact) -> Self {
        let power = match contact {
            Contact::Answers(seen) => Some(seen.power.clone()),
            Contact::NotAsked | Contact::Failed(_) => None,
        };
        Self {
            power,
            hardware: None,
            disk: None,
            boots_once: false,
        }
    }
}

impl<S: Store, D: Deploy> Shell<S, D> {
    /// One action. The inner error is the host's, in words; the outer one the cluster's.
    pub(super) async fn carry_out(
        &self,
        host: &mut BareMetalHost,
        bmc: Option<&Bmc>,
        action: &Action,
        done: &mut Done,
    ) -> Result<Result<(), String>, StoreError> {
        match action {
            Action::DropAnnotation(name) => {
                let patch = json!({"metadata": {"annotations": {name: null}}});
                *host = self.store.write(host, patch).await?;
                return Ok(Ok(()));
            }
            Action::RefuseBootOnce(why) => {
                self.tell(host, true, "BootOnceRefused", why.clone()).await;
                let patch = json!({"metadata": {"annotations": {BOOT_ONCE: null}}});
                *host = self.store.write(host, patch).await?;
                return Ok(Ok(()));
            }
            Action::AdoptInventory => return self.adopt_inventory(host, done).await,
            Action::Release => {
                self.forget(&HostName::of(host)).await;
                self.deploy.end(host);
                let mut all = host.metadata.finalizers.clone().unwrap_or_default();
                all.retain(|one| one != FINALIZER);
                self.store
                    .write(host, json!({"metadata": {"finalizers": all}}))
                    .await?;
                return Ok(Ok(()));
            }
            _ => {}
        }
        let Some(bmc) = bmc else {
            return Ok(Err("there is no connection to the BMC".to_owned()));
        };
        let mut action = action.clone();
        if matches!(action, Action::PowerOn | Action::BootOnce(_)) {
            // Fencing may have begun since this was decided.
            let newest = self.store.host(&HostName::of(host));
            let free = newest.filter(|host| annotations::get(host, FENCE_HOLD).is_none());
            let Some(newest) = free else {
                if done.boots_once {
                    self.take_back(host, bmc).await;
                }
                return Ok(Err("the host is being fenced and stays off".to_owned()));
            };
            if let Action::BootOnce(device) = &mut action {
                match boot_once::asked(&newest) {
                    Some(Ok(asked)) => *device = asked,
                    Some(Err(why)) => {
                        self.tell(host, true, "BootOnceRefused", why).await;
                        return Ok(Ok(()));
                    }
                    // It was taken back meanwhile.
                    None => return Ok(Ok(())),
                }
            }
        }
        match &action {
            Action::Inspect => self.inspect(host, bmc, done).await,
            Action::TakeInventory => self.take_inventory(host, done).await,
            Action::NoteDisk => {
                done.disk = self.deploy.disk(host);
                Ok(Ok(()))
            }
            Action::Deploy => Ok(self.deploy(host, bmc).await),
            Action::AttachData(url) => self.change_data(host, bmc, Some(url)).await,
            Action::DetachData => self.change_data(host, bmc, None).await,
            Action::EjectCd => match bmc.eject_cd().await {
                Ok(()) => self.note_ejected(host).await.map(Ok),
                Err(error) => Ok(Err(error.to_string())),
            },
            Action::NoteFirmware(change) => self.note_firmware(host, change).await,
            action => Ok(self
                .at_bmc(host, bmc, action, done)
                .await
                .map_err(|error| error.to_string())),
        }
    }

    /// Shows the host the CD of its deploy agent. Nobody is told its URL, which opens a session.
    async fn deploy(&self, host: &BareMetalHost, bmc: &Bmc) -> Result<(), String> {
        let Some(job) = Job::of(host) else {
            return Err("there is nothing to do for a deploy agent".to_owned());
        };
        let url = self.deploy.begin(host, job).await?;
        let shown = bmc.insert_cd(&url).await;
        shown
            .map(drop)
            .map_err(|error| error.to_string().replace(&url, "the deploy ISO"))
    }

    async fn at_bmc(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
        action: &Action,
        done: &mut Done,
    ) -> Result<(), BmcError> {
        match action {
            Action::PowerOn => {
                let change = bmc.power_on().await?;
                done.power = Some(change.now);
                if change.before != PowerState::On {
                    self.metrics.power.with_label_values(&["on"]).inc();
                    self.tell(host, false, "PowerOn", "Host turned on").await;
                }
                Ok(())
            }
            Action::PowerOff(off) => {
                let change = power_off(bmc, *off).await?;
                done.power = Some(change.now);
                if change.before != PowerState::Off {
                    self.metrics.power.with_label_values(&["off"]).inc();
                    self.tell(host, false, "PowerOff", "Host turned off").await;
                }
                Ok(())
            }
            Action::InsertCd(url) => bmc.insert_cd(url).await.map(drop),
            Action::BootCdOnce => bmc.boot_once(BootDevice::Cd, None).await.map(drop),
            Action::BootOnce(device) => {
                done.boots_once = self.boot_once(host, bmc, *device).await?;
                Ok(())
            }
            Action::ClearBoot => bmc.clear_boot().await,
            Action::SecureBoot(on) => bmc.set_secure_boot(*on).await,
            Action::OrderFirmware(change) => self.order_firmware(host, bmc, change).await,
            Action::Inspect
            | Action::TakeInventory
            | Action::AdoptInventory
            | Action::NoteDisk
            | Action::NoteFirmware(_)
            | Action::AttachData(_)
            | Action::DetachData
            | Action::EjectCd
            | Action::Deploy
            | Action::DropAnnotation(_)
            | Action::RefuseBootOnce(_)
            | Action::Release => Ok(()),
        }
    }

    /// Orders what a person wants to boot from. A BMC that can't, or does not want to, is no reason to stay off; one that is lost is.
    async fn boot_once(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
        device: BootDevice,
    ) -> Result<bool, BmcError> {
        let word = boot_once::word(device);
        let why = match order_once(bmc, device).await {
            Ok(()) => {
                let message = format!("Host boots once from: {word}");
                self.tell(host, false, "BootOnce", message).await;
                return Ok(true);
            }
            Err(error) => error,
        };
        let lost = matches!(
            why.kind(),
            Kind::Credentials | Kind::Trust | Kind::Unreachable | Kind::Busy
        );
        if lost || matches!(why, BmcError::Closed { .. }) {
            return Err(why);
        }
        let message = format!("The host can't boot once from {word}: {why}");
        self.tell(host, true, "BootOnceRefused", message).await;
        Ok(false)
    }

    /// The start that a boot device was ordered for does not come: no later one is to be from there.
    async fn take_back(&self, host: &BareMetalHost, bmc: &Bmc) {
        let message = match bmc.clear_boot().await {
            Ok(()) => "The host is being fenced and does not boot once from elsewhere".to_owned(),
            Err(error) => format!(
                "The host is being fenced, and may still boot from elsewhere at its next start: {error}"
            ),
        };
        self.tell(host, true, "BootOnceRefused", message).await;
    }

    async fn inspect(
        &self,
        host: &mut BareMetalHost,
        bmc: &Bmc,
        done: &mut Done,
    ) -> Result<Result<(), String>, StoreError> {
        let found = match bmc.inventory().await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for gap in &found.gaps {
            tracing::warn!(host = %HostName::of(host), gap, "a part of the hardware could not be read");
        }
        let mac = inventory::boot_mac(&found);
        self.keep(host, inventory::details(&found), mac, done)
            .await?;
        Ok(Ok(()))
    }

    async fn take_inventory(
        &self,
        host: &mut BareMetalHost,
        done: &mut Done,
    ) -> Result<Result<(), String>, StoreError> {
        let Some(details) = self.deploy.inventory(host) else {
            return Ok(Err("the deploy agent has told no inventory".to_owned()));
        };
        let mac = inventory::agents_mac(&details);
        self.keep(host, details, mac, done).await?;
        Ok(Ok(()))
    }

    async fn adopt_inventory(
        &self,
        host: &mut BareMetalHost,
        done: &mut Done,
    ) -> Result<Result<(), String>, StoreError> {
        let given = annotations::get(host, HARDWARE).unwrap_or_default();
        let details = match inventory::given(given) {
            Ok(details) => details,
            Err(error) => {
                return Ok(Err(format!(
                    "metadata.annotations[{HARDWARE}]: {error}; allowed is JSON as in status.hardware"
                )));
            }
        };
        let mac = inventory::agents_mac(&details);
        self.keep(host, details, mac, done).await?;
        Ok(Ok(()))
    }

    async fn keep(
        &self,
        host: &mut BareMetalHost,
        details: HardwareDetails,
        mac: Option<String>,
        done: &mut Done,
    ) -> Result<(), StoreError> {
        self.store.write_hardware(host, &details).await?;
        if let (None, Some(mac)) = (&host.spec.boot_mac_address, mac) {
            let mut patch = Value::Null;
            patch["spec"]["bootMACAddress"] = json!(mac);
            *host = self.store.write(host, patch).await?;
        }
        done.hardware = Some(details);
        Ok(())
    }
}

/// Orders a boot device for one start. What the BMC did not take as it should is taken back.
async fn order_once(bmc: &Bmc, device: BootDevice) -> Result<(), BmcError> {
    let (half, error) = match bmc.boot_once(device, None).await {
        Ok(order) if order.enabled.as_deref() == Some("Continuous") => {
            let error = BmcError::NotConfirmed {
                bmc: bmc.name().to_owned(),
                what: "boot override".to_owned(),
                wanted: "Once".to_owned(),
                found: "Continuous, which would be for each start".to_owned(),
                after: Duration::ZERO,
            };
            (true, error)
        }
        Ok(_) => return Ok(()),
        Err(error) => (matches!(error, BmcError::NotConfirmed { .. }), error),
    };
    if half && let Err(left) = bmc.clear_boot().await {
        tracing::warn!(%left, "a boot override was not taken back");
    }
    Err(error)
}

/// Turns off; a system that does not listen, or a BMC that can't ask it, is cut off.
async fn power_off(bmc: &Bmc, off: Off) -> Result<catamaran_redfish::PowerChange, BmcError> {
    if off == Off::Soft {
        match bmc.within(SOFT).power_off(PowerOff::Soft).await {
            Err(error @ (BmcError::NotConfirmed { .. } | BmcError::Overdue { .. })) => {
                tracing::info!(%error, "the system does not listen; its power is cut");
            }
            Err(error) if error.kind() == Kind::Unsupported => {}
            answer => return answer,
        }
    }
    bmc.power_off(PowerOff::Hard).await
}
