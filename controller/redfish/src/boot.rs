//! What a system boots from next time.

use serde_json::{Map, Value, json};

use crate::bmc::Bmc;
use crate::error::Error;
use crate::quirks::Include;
use crate::resource::Resource;

/// What to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDevice {
    /// The CD, also the virtual one.
    Cd,
    /// The disk.
    Disk,
    /// The network, by PXE.
    Pxe,
    /// The network, by HTTP.
    UefiHttp,
    /// The firmware's own settings.
    Setup,
}

/// How the firmware boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMode {
    /// As UEFI says.
    Uefi,
    /// As a PC's BIOS did.
    Legacy,
}

/// A boot override as the BMC shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootOverride {
    /// `None`, `Cd`, `Hdd`, …
    pub target: Option<String>,
    /// `Disabled`, `Once` or `Continuous`.
    pub enabled: Option<String>,
    /// `UEFI` or `Legacy`.
    pub mode: Option<String>,
}

impl BootOverride {
    pub(crate) fn of(system: &Resource) -> Self {
        let text = |name: &str| {
            system
                .text(&format!("/Boot/BootSourceOverride{name}"))
                .map(str::to_owned)
        };
        Self {
            target: text("Target"),
            enabled: text("Enabled"),
            mode: text("Mode"),
        }
    }
}

impl BootDevice {
    /// The names it goes by, best first.
    fn names(self, cd: &[String]) -> Vec<String> {
        let name = match self {
            Self::Cd => return cd.to_vec(),
            Self::Disk => "Hdd",
            Self::Pxe => "Pxe",
            Self::UefiHttp => "UefiHttp",
            Self::Setup => "BiosSetup",
        };
        vec![name.to_owned()]
    }
}

impl BootMode {
    fn name(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::Legacy => "Legacy",
        }
    }
}

impl Bmc {
    /// Makes the system boot once from a device, and reads that back. Give the mode only where it matters: with some BMCs it costs a job.
    ///
    /// What is answered may say `Continuous` where a BMC knows no `Once`: then [`Bmc::clear_boot`] when it is done.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] with what the BMC can boot from; [`Error::NotConfirmed`] when something else was read back.
    pub async fn boot_once(
        &self,
        device: BootDevice,
        mode: Option<BootMode>,
    ) -> Result<BootOverride, Error> {
        let bmc = self.bounded();
        let system = bmc.system_resource().await?;
        let quirks = bmc.quirks();
        let names = device.names(&quirks.boot_cd);
        let target = bmc.boot_target(&system, &names)?;
        let present = BootOverride::of(&system);

        let mut boot = Map::new();
        boot.insert("BootSourceOverrideTarget".to_owned(), json!(target));
        if quirks.boot_enabled == Include::Always || present.enabled.as_deref() != Some("Once") {
            boot.insert("BootSourceOverrideEnabled".to_owned(), json!("Once"));
        }
        // One that is not shown is not known.
        let known = present.mode.is_some() && quirks.boot_mode != Include::Never;
        let wanted_mode = mode.map(|mode| mode.name().to_owned());
        let sent_mode = match quirks.boot_mode {
            Include::Always => wanted_mode.or_else(|| present.mode.clone()),
            _ => wanted_mode.filter(|mode| present.mode.as_ref() != Some(mode)),
        };
        if let Some(mode) = sent_mode.filter(|_| known) {
            boot.insert("BootSourceOverrideMode".to_owned(), json!(mode));
        }
        let ordered = bmc.order_boot(&system, Value::Object(boot)).await?;
        bmc.confirm_boot(&ordered, &target).await
    }

    /// Ends a boot override, so that the system boots as its firmware is set.
    ///
    /// # Errors
    /// All that a request can meet.
    pub async fn clear_boot(&self) -> Result<(), Error> {
        let bmc = self.bounded();
        let system = bmc.system_resource().await?;
        let present = BootOverride::of(&system).enabled;
        if matches!(present.as_deref(), None | Some("Disabled")) {
            return Ok(());
        }
        // Without a target: some refuse `None`.
        let off = json!({"BootSourceOverrideEnabled": "Disabled"});
        bmc.order_boot(&system, off).await.map(drop)
    }

    fn boot_target(&self, system: &Resource, names: &[String]) -> Result<String, Error> {
        let allowed = system.allowable("/Boot", "BootSourceOverrideTarget");
        let first = names.first().cloned().unwrap_or_default();
        let Some(allowed) = allowed else {
            return Ok(first);
        };
        match names.iter().find(|name| allowed.contains(name)) {
            Some(name) => Ok(name.clone()),
            None => Err(Error::NotAllowed {
                bmc: self.name().to_owned(),
                what: "boot target".to_owned(),
                value: first,
                allowed,
            }),
        }
    }

    /// Gives a boot order; answers where it was given.
    async fn order_boot(&self, system: &Resource, boot: Value) -> Result<String, Error> {
        let body = json!({"Boot": boot});
        // Some want it at the system's settings instead; those show it there.
        let settings = match system.link("/@Redfish.Settings/SettingsObject") {
            Some(settings) => self
                .read(settings)
                .await
                .ok()
                .filter(|settings| settings.body["Boot"].is_object()),
            None => None,
        };
        let resource = settings.as_ref().unwrap_or(system);
        let tries = self.quirks().post_tries;
        for _ in 1..tries {
            match self.patch(resource, &body).await {
                Err(error) if error.names("UnableToModifyDuringSystemPOST") => {
                    if !self.pause(self.limits().retry_pause * 5).await {
                        return Err(error);
                    }
                }
                other => return other.map(|()| resource.path.clone()),
            }
        }
        self.patch(resource, &body).await?;
        Ok(resource.path.clone())
    }

    async fn confirm_boot(&self, ordered: &str, target: &str) -> Result<BootOverride, Error> {
        let begin = tokio::time::Instant::now();
        // Some need a moment, none needs long.
        let patience = self.limits().poll * 10;
        loop {
            let found = BootOverride::of(&self.read(ordered).await?);
            let settled = found.enabled.as_deref() != Some("Disabled");
            if found.target.as_deref() == Some(target) && settled {
                return Ok(found);
            }
            if begin.elapsed() >= patience || !self.pause(self.poll_pause()).await {
                return Err(Error::NotConfirmed {
                    bmc: self.name().to_owned(),
                    what: "boot override".to_owned(),
                    wanted: format!("{target} Once"),
                    found: format!(
                        "{} {}",
                        found.target.as_deref().unwrap_or("(no target)"),
                        found.enabled.as_deref().unwrap_or_default()
                    ),
                    after: begin.elapsed(),
                });
            }
        }
    }
}
