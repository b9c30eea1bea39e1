//! Settings of the whole cluster.

use catamaran_api::KubeVirt;

/// Virtual processors for each processor that is requested.
const CPU_ALLOCATION_RATIO: u64 = 10;

/// What the pods of all machines have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Image of the launcher.
    pub image: String,
    /// Its pull policy.
    pub pull_policy: String,
    /// Its pull Secrets.
    pub pull_secrets: Vec<String>,
    /// Guests are emulated where KVM does not work.
    pub emulation: bool,
    /// Virtual processors for each processor that is requested.
    pub cpu_allocation_ratio: u64,
    /// Machines that do not say have their serial output in their pod's logs.
    pub serial_console_log: bool,
    /// Storage class of the claims with what firmware and TPMs remember; the cluster's default when none.
    pub state_storage_class: Option<String>,
}

impl Settings {
    /// Settings that nobody has changed.
    #[must_use]
    pub fn new(image: &str, pull_policy: &str) -> Self {
        Self {
            image: image.to_owned(),
            pull_policy: pull_policy.to_owned(),
            pull_secrets: Vec::new(),
            emulation: false,
            cpu_allocation_ratio: CPU_ALLOCATION_RATIO,
            serial_console_log: true,
            state_storage_class: None,
        }
    }

    /// Changed by what the installation's object says.
    #[must_use]
    pub fn with(&self, installation: Option<&KubeVirt>) -> Self {
        let mut settings = self.clone();
        let Some(spec) = installation.map(|installation| &installation.spec) else {
            return settings;
        };
        settings.pull_secrets = spec
            .image_pull_secrets
            .iter()
            .map(|secret| secret.name.clone())
            .collect();
        let configuration = spec.configuration.clone().unwrap_or_default();
        let pull_policy = configuration
            .image_pull_policy
            .or_else(|| spec.image_pull_policy.clone());
        if let Some(policy) = pull_policy.filter(|policy| !policy.is_empty()) {
            settings.pull_policy = policy;
        }
        settings.state_storage_class = configuration
            .vm_state_storage_class
            .filter(|class| !class.is_empty());
        let options = configuration.virtual_machine_options.unwrap_or_default();
        settings.serial_console_log = options.disable_serial_console_log.is_none();
        let developer = configuration.developer_configuration.unwrap_or_default();
        settings.emulation = developer.use_emulation.unwrap_or(false);
        if let Some(ratio) = developer
            .cpu_allocation_ratio
            .and_then(|ratio| u64::try_from(ratio).ok())
            .filter(|ratio| *ratio > 0)
        {
            settings.cpu_allocation_ratio = ratio;
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use serde_json::json;

    #[test]
    fn the_installation_changes_settings() {
        let defaults = Settings::new("node:1", "IfNotPresent");
        assert_eq!(defaults.with(None), defaults);
        let installation = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"},
            "spec": {"configuration": {"imagePullPolicy": "Always", "developerConfiguration": {"useEmulation": true, "cpuAllocationRatio": 4}, "vmStateStorageClass": "fast", "virtualMachineOptions": {"disableSerialConsoleLog": {}}}},
        }))
        .unwrap();
        let settings = defaults.with(Some(&installation));
        assert_eq!(settings.state_storage_class.as_deref(), Some("fast"));
        assert!(settings.emulation && !settings.serial_console_log);
        assert_eq!(
            (settings.cpu_allocation_ratio, settings.pull_policy.as_str()),
            (4, "Always")
        );
    }
}
