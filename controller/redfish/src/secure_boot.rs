//! Secure boot.

use serde_json::json;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::resource::Resource;

/// Secure boot of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecureBoot {
    /// It holds now.
    pub current: bool,
    /// It will hold from the next start on.
    pub enabled: bool,
}

impl Bmc {
    /// Whether the system boots what is signed only.
    ///
    /// # Errors
    /// [`Error::Missing`] when the BMC does not show it.
    pub async fn secure_boot(&self) -> Result<SecureBoot, Error> {
        let resource = self.bounded().secure_boot_resource().await?;
        Ok(SecureBoot {
            current: resource.text("/SecureBootCurrentBoot") == Some("Enabled"),
            enabled: resource.body["SecureBootEnable"] == json!(true),
        })
    }

    /// Orders secure boot on or off from the next start on. One that has no keys gets the factory's.
    ///
    /// # Errors
    /// [`Error::Missing`] when the BMC can't.
    pub async fn set_secure_boot(&self, on: bool) -> Result<(), Error> {
        let bmc = self.bounded();
        let resource = bmc.secure_boot_resource().await?;
        if resource.body["SecureBootEnable"] == json!(on) {
            return Ok(());
        }
        if on
            && resource.text("/SecureBootMode") == Some("SetupMode")
            && let Some(action) = resource.action("#SecureBoot.ResetKeys")
        {
            bmc.act(
                &action.target,
                json!({"ResetKeysType": "ResetAllKeysToDefault"}),
            )
            .await?;
        }
        bmc.patch_without_waiting(&resource, &json!({"SecureBootEnable": on}))
            .await
    }

    async fn secure_boot_resource(&self) -> Result<Resource, Error> {
        let system = self.system_resource().await?;
        match system.link("/SecureBoot") {
            Some(path) => self.read(path).await,
            None => Err(self.missing(&system.path, "secure boot")),
        }
    }
}
