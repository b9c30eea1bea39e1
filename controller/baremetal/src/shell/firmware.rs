//! The firmware's settings: read from the BMC, told in the host's `HostFirmwareSettings`, ordered.

use std::sync::Arc;

use catamaran_api::metal3::{BareMetalHost, FirmwareSchema, HostFirmwareSettings, SchemaReference};
use catamaran_redfish::{Bmc, Error as BmcError, Kind};
use kube_core::Resource as _;
use serde_json::json;

use super::{Shell, owners_with};
use crate::deploy::Deploy;
use crate::facts::Seconds;
use crate::firmware::{self, CHANGE_DETECTED, Firmware, Found, SettingsChange};
use crate::outcome::ErrorType;
use crate::per_host::PerHost;
use crate::state::State;
use crate::status;
use crate::store::{HostName, Note, Store, StoreError};

/// How long what was read is good, where nothing is to be changed.
const GOOD: Seconds = 300;
/// The same where something is.
const GOOD_CHANGING: Seconds = 60;
/// Pause after the BMC could not be read.
const PAUSE: Seconds = 60;

/// What the BMCs have said of their firmware's settings, so that they are not asked at each look.
#[derive(Debug, Default)]
pub struct FirmwareCache(pub(super) PerHost<Known>);

#[derive(Debug, Clone)]
pub(super) struct Known {
    /// When it was read, or tried to.
    at: Seconds,
    /// Of which host.
    uid: Option<String>,
    found: Result<Arc<Found>, String>,
}

impl<S: Store, D: Deploy> Shell<S, D> {
    /// What is to be done about the firmware's settings. Tells what there is.
    pub(super) async fn firmware(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
        now: Seconds,
    ) -> Result<Firmware, StoreError> {
        let state = State::of(host);
        let looked_at = state == State::Preparing || state == State::Available || state.in_use();
        if !looked_at || host.metadata.deletion_timestamp.is_some() {
            return Ok(Firmware::Settled);
        }
        let object = self.settings_object(host).await?;
        let (known, fresh) = self.known(host, bmc, &object, now).await;
        let found = match known.found {
            Ok(found) => found,
            Err(why) if state == State::Preparing => {
                return Ok(firmware::unread(&object, why, now));
            }
            Err(_) => return Ok(Firmware::Settled),
        };
        let old = object.status.clone().unwrap_or_default();
        let schema = if found.bios.attributes.is_empty() {
            None
        } else if fresh || old.schema.is_none() {
            Some(self.settings_schema(host, &object, &found).await?)
        } else {
            old.schema.clone()
        };
        let failed = host.status.as_ref().is_some_and(|status| {
            status.error_type.as_deref() == Some(ErrorType::Preparation.as_str())
        });
        let time = status::time(now);
        let (new, problems, firmware) = firmware::next(&object, &found, schema, failed, &time);
        if object.status.is_none() || new != old {
            let told = |object: &HostFirmwareSettings| {
                let all = object.status.iter().flat_map(|status| &status.conditions);
                let valid = all.into_iter().find(|one| one.type_ == "Valid");
                valid.map(|one| (one.message.clone(), one.observed_generation))
            };
            let written = self.store.patch_status(&object, json!(new)).await?;
            if told(&written) != told(&object) {
                for problem in problems {
                    let note = Note {
                        warning: true,
                        reason: "ValidationFailed".to_owned(),
                        message: format!("Invalid BIOS setting: {problem}"),
                    };
                    self.store.tell_of(&object, note).await;
                }
            }
        }
        Ok(firmware)
    }

    /// The host's object; made where there is none.
    async fn settings_object(
        &self,
        host: &BareMetalHost,
    ) -> Result<HostFirmwareSettings, StoreError> {
        let name = HostName::of(host);
        let owner = host.controller_owner_ref(&());
        let there = self.store.firmware(&name);
        // One for a host of the same name that is gone goes, too, and is made anew.
        let there = there.filter(|there| there.metadata.deletion_timestamp.is_none());
        let Some(there) = there else {
            let mut new = HostFirmwareSettings::default();
            new.metadata.name = Some(name.name);
            new.metadata.namespace = Some(name.namespace);
            new.metadata.owner_references = owner.map(|owner| vec![owner]);
            return self.store.make(&new).await;
        };
        // One that somebody made before the host was there goes with it, too.
        let Some(owners) = owners_with(owner, &there.metadata) else {
            return Ok(there);
        };
        let patch = json!({"metadata": {"ownerReferences": owners}});
        self.store.patch(&there, patch).await
    }

    /// What the BMC shows, and whether that was read just now.
    async fn known(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
        object: &HostFirmwareSettings,
        now: Seconds,
    ) -> (Known, bool) {
        let name = HostName::of(host);
        let changing = object
            .status
            .iter()
            .flat_map(|status| &status.conditions)
            .any(|one| one.type_ == CHANGE_DETECTED && one.status == "True");
        let good = match &changing {
            // It waits for just that.
            true if State::of(host) == State::Preparing => 0,
            true => GOOD_CHANGING,
            false => GOOD,
        };
        let old = self.firmware.0.get(&name);
        let old = old.filter(|old| old.uid == host.metadata.uid);
        if let Some(old) = &old {
            let good = if old.found.is_err() { PAUSE } else { good };
            let held = State::of(host) == State::Preparing && old.found.is_err();
            if !held && now - old.at < good {
                return (old.clone(), false);
            }
        }
        let before = old.and_then(|old| old.found.ok());
        let found = read(bmc, before.as_deref()).await;
        if let Err(error) = &found {
            tracing::warn!(host = %name, %error, "the firmware's settings could not be read");
        }
        let known = Known {
            at: now,
            uid: host.metadata.uid.clone(),
            found: found.map(Arc::new).map_err(|error| error.to_string()),
        };
        self.firmware.0.insert(name, known.clone());
        (known, true)
    }

    /// The `FirmwareSchema`, which this host's settings are one owner of.
    async fn settings_schema(
        &self,
        host: &BareMetalHost,
        object: &HostFirmwareSettings,
        found: &Found,
    ) -> Result<SchemaReference, StoreError> {
        let namespace = host.metadata.namespace.clone().unwrap_or_default();
        let name = found.schema_name();
        let owner = object.owner_ref(&());
        let there = match self.store.schema(&namespace, &name).await? {
            Some(there) => there,
            None => {
                let hardware = host.status.as_ref();
                let hardware = hardware.and_then(|status| status.hardware.as_ref());
                let vendor = hardware.and_then(|one| one.system_vendor.as_ref());
                let spec = found.schema_spec(
                    vendor.and_then(|one| one.manufacturer.as_deref()),
                    vendor.and_then(|one| one.product_name.as_deref()),
                );
                let mut new = FirmwareSchema::new(&name, spec);
                new.metadata.namespace = Some(namespace.clone());
                new.metadata.owner_references = owner.clone().map(|owner| vec![owner]);
                self.store.make(&new).await?
            }
        };
        if let Some(owners) = owners_with(owner, &there.metadata) {
            let patch = json!({"metadata": {"ownerReferences": owners}});
            self.store.patch(&there, patch).await?;
        }
        Ok(SchemaReference { name, namespace })
    }

    /// Orders settings for the next start.
    pub(super) async fn order_firmware(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
        change: &SettingsChange,
    ) -> Result<(), BmcError> {
        let known = self.firmware.0.get(&HostName::of(host));
        let found = known.and_then(|known| known.found.ok());
        let schema = found.as_ref().map_or(&[][..], |found| &found.schema);
        bmc.set_bios(&change.settings, schema).await.map(drop)
    }

    /// Keeps that the host was started with the settings.
    pub(super) async fn note_firmware(
        &self,
        host: &BareMetalHost,
        change: &SettingsChange,
    ) -> Result<Result<(), String>, StoreError> {
        let Some(object) = self.store.firmware(&HostName::of(host)) else {
            return Ok(Err("the host's HostFirmwareSettings is gone".to_owned()));
        };
        let time = status::time(self.store.now());
        let old = object.status.clone().unwrap_or_default();
        let new = firmware::ordered(&old, change.generation, &time);
        self.store.patch_status(&object, json!(new)).await?;
        Ok(Ok(()))
    }
}

/// A BMC without settings has none; that is no error. The registry, which is large, is read once.
async fn read(bmc: &Bmc, before: Option<&Found>) -> Result<Found, BmcError> {
    let bios = match bmc.bios().await {
        Ok(bios) => bios,
        Err(error) if error.kind() == Kind::Unsupported => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    let schema = match before {
        Some(before) if before.bios.registry == bios.registry => before.schema.clone(),
        _ => bmc.bios_schema(&bios).await?,
    };
    Ok(Found { bios, schema })
}
