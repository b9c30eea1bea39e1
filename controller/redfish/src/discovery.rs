//! Finding the system that is meant, and what BMC it is: asked once, then remembered.

use std::sync::{Arc, PoisonError};

use crate::bmc::Bmc;
use crate::boot::BootOverride;
use crate::error::Error;
use crate::power::PowerState;
use crate::quirks::Quirks;
use crate::resource::Resource;

/// Who made the system and its BMC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Vendor, as the BMC's service root says.
    pub vendor: Option<String>,
    /// The system's manufacturer.
    pub manufacturer: Option<String>,
    /// The system's model.
    pub model: Option<String>,
    /// The system's serial number.
    pub serial: Option<String>,
    /// The system's UUID. Some are empty or the same for many: compare before use.
    pub uuid: Option<String>,
    /// The BMC's model.
    pub bmc_model: Option<String>,
    /// The BMC's firmware version.
    pub bmc_firmware: Option<String>,
    /// The version of Redfish that the BMC says it speaks.
    pub redfish_version: Option<String>,
}

/// A system as its BMC shows it right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Path of its URL.
    pub path: String,
    /// Whether it is on.
    pub power: PowerState,
    /// What it boots from next.
    pub boot: BootOverride,
    /// `OK`, `Warning` or `Critical`; none where the BMC does not say.
    pub health: Option<String>,
    /// Version of its firmware.
    pub bios_version: Option<String>,
}

/// What is asked once.
#[derive(Debug)]
pub(crate) struct Discovered {
    pub(crate) system: String,
    pub(crate) identity: Identity,
    pub(crate) quirks: Quirks,
    /// What to ask for so that a collection comes with its members, where the BMC says that it can.
    pub(crate) expand: Option<&'static str>,
    /// Parts of a collection can be asked for.
    pub(crate) top_skip: bool,
}

impl Bmc {
    /// Who made the system and its BMC; asks the BMC the first time only.
    ///
    /// # Errors
    /// All that a request can meet; [`Error::NotAllowed`] with the systems there are when the address names none of them.
    pub async fn identity(&self) -> Result<Identity, Error> {
        Ok(self.bounded().discover().await?.identity.clone())
    }

    /// The system's state right now: one request once the system is known.
    ///
    /// # Errors
    /// All that a request can meet.
    pub async fn system(&self) -> Result<System, Error> {
        let system = self.system_resource().await?;
        let text = |pointer: &str| system.text(pointer).map(str::to_owned);
        Ok(System {
            power: PowerState::of(&system),
            boot: BootOverride::of(&system),
            health: text("/Status/HealthRollup").or_else(|| text("/Status/Health")),
            bios_version: text("/BiosVersion"),
            path: system.path.clone(),
        })
    }

    /// The system's resource, read anew.
    pub(crate) async fn system_resource(&self) -> Result<Resource, Error> {
        let bmc = self.bounded();
        let discovered = bmc.discover().await?;
        bmc.read(&discovered.system).await
    }

    /// How this BMC wants to be treated; the usual way until it is known.
    pub(crate) fn quirks(&self) -> Quirks {
        let discovered = self
            .shared
            .discovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        discovered
            .as_ref()
            .map(|known| known.quirks.clone())
            .unwrap_or_default()
    }

    /// The system's path, once it is known.
    pub(crate) fn known_system(&self) -> Option<String> {
        let discovered = self.shared.discovered.lock();
        let discovered = discovered.unwrap_or_else(PoisonError::into_inner);
        Some(discovered.as_ref()?.system.clone())
    }

    pub(crate) async fn discover(&self) -> Result<Arc<Discovered>, Error> {
        let known = || {
            self.shared
                .discovered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(discovered) = known().as_ref() {
            return Ok(Arc::clone(discovered));
        }
        let root = self.read("/redfish/v1/").await?;
        let system = self.find_system(&root).await?;
        // A BMC that does not tell of itself can still be used.
        let manager = match system.links("/Links/ManagedBy").first() {
            Some(manager) => self.read(manager).await.ok(),
            None => None,
        };
        let text =
            |resource: Option<&Resource>, pointer: &str| Some(resource?.text(pointer)?.to_owned());
        let identity = Identity {
            vendor: text(Some(&root), "/Vendor"),
            manufacturer: text(Some(&system), "/Manufacturer"),
            model: text(Some(&system), "/Model"),
            serial: text(Some(&system), "/SerialNumber"),
            uuid: text(Some(&system), "/UUID"),
            bmc_model: text(manager.as_ref(), "/Model"),
            bmc_firmware: text(manager.as_ref(), "/FirmwareVersion"),
            redfish_version: text(Some(&root), "/RedfishVersion"),
        };
        let oem = root.body["Oem"].as_object();
        let vendors: Vec<&str> = [&identity.vendor, &identity.manufacturer]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain(
                oem.into_iter()
                    .flat_map(|oem| oem.keys().map(String::as_str)),
            )
            .collect();
        let models: Vec<&str> = [&identity.model, &identity.bmc_model]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let quirks = self.shared.endpoint.quirks.of(&vendors, &models);
        tracing::info!(bmc = %self.name(), system = %system.path, ?identity, "BMC found");
        let features = &root.body["ProtocolFeaturesSupported"];
        let expands = |how: &str| features["ExpandQuery"][how] == true;
        let discovered = Arc::new(Discovered {
            system: system.path,
            identity,
            quirks,
            expand: match (expands("NoLinks"), expands("ExpandAll")) {
                (true, _) => Some(".($levels=1)"),
                (false, true) => Some("*($levels=1)"),
                (false, false) => None,
            },
            top_skip: features["TopSkipQuery"] == true,
        });
        *known() = Some(Arc::clone(&discovered));
        Ok(discovered)
    }

    /// The system that the address names, or the only one.
    async fn find_system(&self, root: &Resource) -> Result<Resource, Error> {
        let collection = root
            .link("/Systems")
            .ok_or_else(|| self.missing(&root.path, "systems"))?;
        let named = self.shared.endpoint.address.system.as_deref();
        if let Some(named) = named {
            match self.read(named).await {
                Ok(system) => return Ok(system),
                Err(error) if error.status() == Some(404) => {}
                Err(error) => return Err(error),
            }
        }
        let mut members = self.members(collection).await?;
        if let Some(named) = named {
            // The end of the path is enough: some write the id only.
            let id = named.rsplit('/').next().unwrap_or(named);
            members.retain(|member| member.trim_end_matches('/').rsplit('/').next() == Some(id));
        }
        match members.as_slice() {
            [only] => self.read(only).await,
            _ => Err(Error::NotAllowed {
                bmc: self.name().to_owned(),
                what: "system".to_owned(),
                value: named.unwrap_or("(none named)").to_owned(),
                allowed: self.members(collection).await?,
            }),
        }
    }
}
