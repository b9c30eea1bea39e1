//! How a vendor's BMC behaves, as data: `personalities/*.yaml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

const BUILTIN: [(&str, &str); 6] = [
    ("standard", include_str!("personalities/standard.yaml")),
    ("dell", include_str!("personalities/dell.yaml")),
    ("hpe", include_str!("personalities/hpe.yaml")),
    ("supermicro", include_str!("personalities/supermicro.yaml")),
    ("lenovo", include_str!("personalities/lenovo.yaml")),
    ("openbmc", include_str!("personalities/openbmc.yaml")),
];

/// Why there is no such personality.
#[derive(Debug, thiserror::Error)]
pub enum PersonalityError {
    /// None of that name is built in.
    #[error("there is no personality '{0}'; there are {all}", all = Personality::names().join(", "))]
    Unknown(String),
    /// The text is none.
    #[error("personality: {0}")]
    Form(#[from] serde_yaml_ng::Error),
}

/// How a BMC behaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personality {
    /// `Vendor` of the service root.
    #[serde(default)]
    pub(crate) vendor: Option<String>,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) bios_version: String,
    pub(crate) bmc_model: String,
    pub(crate) bmc_firmware: String,
    /// Ids of system, manager and chassis.
    pub(crate) ids: Ids,
    #[serde(default)]
    pub(crate) etag: EtagStyle,
    #[serde(default)]
    pub(crate) sessions: SessionRules,
    #[serde(default)]
    pub(crate) reset: ResetRules,
    #[serde(default)]
    pub(crate) boot: BootRules,
    #[serde(default)]
    pub(crate) media: MediaRules,
    /// Which orders make a task (202): `insert`, `reset`, `bios`.
    #[serde(default)]
    pub(crate) tasks: Vec<String>,
    /// The task itself is shown as its monitor, with status 200.
    #[serde(default)]
    pub(crate) task_is_monitor: bool,
    /// Drives have no `Status` (HPE).
    #[serde(default)]
    pub(crate) drives_without_status: bool,
    /// Disks are in `SimpleStorage`; `Storage` fails.
    #[serde(default)]
    pub(crate) storage_fails: bool,
    /// The memory summary is empty; only the modules tell.
    #[serde(default)]
    pub(crate) memory_by_modules: bool,
    /// What a collection can be asked for with its members.
    #[serde(default)]
    pub(crate) expand: Expand,
    /// Parts of a collection can be asked for.
    #[serde(default)]
    pub(crate) top_skip: bool,
    #[serde(default)]
    pub(crate) sensors: SensorRules,
    #[serde(default)]
    pub(crate) log: LogRules,
    /// BIOS attributes: text, number or boolean.
    #[serde(default)]
    pub(crate) bios: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ids {
    pub(crate) system: String,
    pub(crate) manager: String,
    pub(crate) chassis: String,
}

/// What ETags look like, and which `If-Match` is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EtagStyle {
    None,
    #[default]
    Strong,
    Weak,
    /// Hands out weak ones and accepts the strong form only.
    WeakWantsStrong,
    /// Hands out ETags and accepts none.
    Broken,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SessionRules {
    /// Whether there is a session service; `refused`: logging in answers 405.
    pub(crate) service: SessionService,
    /// Sessions at once.
    pub(crate) limit: usize,
    /// Message when the table is full.
    pub(crate) full: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SessionService {
    Present,
    Absent,
    Refused,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self {
            service: SessionService::Present,
            limit: 8,
            full: "Base.1.8.SessionLimitExceeded".to_owned(),
        }
    }
}

/// Which `$expand` is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Expand {
    #[default]
    No,
    NoLinks,
    All,
}

/// How it is shown what is measured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SensorRules {
    /// `Thermal` and `Power` are there.
    pub(crate) older: bool,
    /// `Sensors` are there.
    pub(crate) single: bool,
}

impl Default for SensorRules {
    fn default() -> Self {
        Self {
            older: true,
            single: false,
        }
    }
}

/// How logs are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogRules {
    /// Logs stand below the system, not below the manager.
    pub(crate) at_system: bool,
    /// The one of events.
    pub(crate) id: String,
    /// Others; their entries can't be read.
    pub(crate) others: Vec<String>,
    pub(crate) newest_first: bool,
    /// Entries are links.
    pub(crate) links: bool,
    /// Entries of a page.
    pub(crate) page: usize,
    /// `$skip` and `$top` are passed over, whatever the root says.
    pub(crate) ignores_skip: bool,
}

impl Default for LogRules {
    fn default() -> Self {
        Self {
            at_system: true,
            id: "SEL".to_owned(),
            others: Vec::new(),
            newest_first: false,
            links: false,
            page: 50,
            ignores_skip: false,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ResetRules {
    pub(crate) values: Vec<String>,
    /// Allowed values are in an `ActionInfo`, not beside the action.
    pub(crate) action_info: bool,
    /// Answer to an order that changes nothing, such as ForceOff of a system that is off: status and message; none: 204.
    pub(crate) already: Option<(u16, String)>,
    /// How long after an Off an On is refused with 409, in ms.
    pub(crate) conflict_ms: u64,
}

impl Default for ResetRules {
    fn default() -> Self {
        let values = [
            "On",
            "ForceOff",
            "GracefulShutdown",
            "ForceRestart",
            "GracefulRestart",
            "PowerCycle",
            "Nmi",
        ];
        Self {
            values: values.map(str::to_owned).to_vec(),
            action_info: false,
            already: None,
            conflict_ms: 0,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BootRules {
    pub(crate) targets: Vec<String>,
    /// `BootSourceOverrideMode` is shown, and may be sent.
    pub(crate) mode: bool,
    /// A target without `BootSourceOverrideEnabled` is ignored.
    pub(crate) needs_enabled: bool,
    /// `BootSourceOverrideEnabled` that changes nothing is refused.
    pub(crate) refuses_same: bool,
    /// Target `None` is refused.
    pub(crate) refuses_none: bool,
    /// Orders go to the settings object.
    pub(crate) by_settings: bool,
    /// How long after power-on orders are refused because of the self-test, in ms.
    pub(crate) post_ms: u64,
}

impl Default for BootRules {
    fn default() -> Self {
        let targets = ["None", "Pxe", "Cd", "Hdd", "BiosSetup", "UefiHttp", "Usb"];
        Self {
            targets: targets.map(str::to_owned).to_vec(),
            mode: true,
            needs_enabled: false,
            refuses_same: false,
            refuses_none: false,
            by_settings: false,
            post_ms: 0,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MediaRules {
    /// Slots stand below the system, not below the manager.
    pub(crate) at_system: bool,
    pub(crate) slots: Vec<SlotRules>,
    /// `Inserted` and `WriteProtected` are refused.
    pub(crate) refuses_flags: bool,
    /// A parameter that must be there.
    pub(crate) needs: Option<String>,
    /// Ejecting needs a body.
    pub(crate) eject_needs_body: bool,
    /// How long a slot stays occupied after an ejection, in ms: inserting fails with 500 then.
    pub(crate) eject_ms: u64,
    /// Inserting into a slot that holds something is refused.
    pub(crate) refuses_occupied: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlotRules {
    pub(crate) id: String,
    pub(crate) types: Vec<String>,
    /// It is changed by PATCH: there are no actions.
    #[serde(default)]
    pub(crate) by_patch: bool,
    /// Inserting answers 405.
    #[serde(default)]
    pub(crate) dead: bool,
}

impl Default for MediaRules {
    fn default() -> Self {
        let slot = |id: &str, types: &[&str]| SlotRules {
            id: id.to_owned(),
            types: types.iter().map(|&kind| kind.to_owned()).collect(),
            by_patch: false,
            dead: false,
        };
        Self {
            at_system: true,
            slots: vec![
                slot("Floppy", &["Floppy", "USBStick"]),
                slot("Cd", &["CD", "DVD"]),
            ],
            refuses_flags: false,
            needs: None,
            eject_needs_body: false,
            eject_ms: 0,
            refuses_occupied: false,
        }
    }
}

impl Personality {
    /// A built-in one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn named(name: &str) -> Result<Arc<Self>, PersonalityError> {
        let found = BUILTIN.iter().find(|(known, _)| *known == name);
        let (_, text) = found.ok_or_else(|| PersonalityError::Unknown(name.to_owned()))?;
        Self::parse(text)
    }

    /// One in the form of the built-in ones.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(yaml: &str) -> Result<Arc<Self>, PersonalityError> {
        Ok(Arc::new(serde_yaml_ng::from_str(yaml)?))
    }

    /// Names of the built-in ones.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        BUILTIN.iter().map(|(name, _)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_built_in_personalities_can_be_read() {
        for name in Personality::names() {
            let personality = Personality::named(name).unwrap();
            assert!(!personality.ids.system.is_empty(), "{name}");
        }
        let error = Personality::named("acme").unwrap_err().to_string();
        assert!(error.contains("acme") && error.contains("dell"), "{error}");
    }
}
