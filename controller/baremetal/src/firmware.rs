//! Settings of a host's firmware: what its `HostFirmwareSettings` says of them, and what is to be changed. Pure.
//!
//! Names, conditions and reasons are the peer's. Ours alone is the condition [`APPLYING`]: the settings were ordered and the host was started
//! since, so that a controller which begins anew waits instead of cutting the power once more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use catamaran_api::metal3::{
    FirmwareSchemaSpec, HostFirmwareSettings, HostFirmwareSettingsStatus, SchemaReference,
    SettingSchema,
};
use catamaran_redfish::{Attribute, Bios};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::conditions::set;
use crate::facts::Seconds;

/// Condition: the spec says something else than the firmware has.
pub(crate) const CHANGE_DETECTED: &str = "ChangeDetected";
/// Condition: all that the spec says can be.
const VALID: &str = "Valid";
/// Condition: what the spec says was ordered, and the host is starting with it.
const APPLYING: &str = "Applying";
const SUCCESS: &str = "Success";
const INVALID: &str = "ConfigurationError";
/// How long a start may take until the BMC shows the new settings.
const PATIENCE: Seconds = 1500;

/// What is to be done about the firmware's settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Firmware {
    /// Nothing: they are as they should be, or what is asked for can't be.
    Settled,
    /// They have just become what they should be.
    Applied,
    /// They are to be changed.
    Changed(SettingsChange),
    /// The host is starting with new ones, and its BMC can't be read meanwhile; in words.
    Starting(String),
    /// Something is asked for, and the BMC does not say what there is; in words.
    Unreadable(String),
}

/// Settings that are to be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsChange {
    /// What they are to be.
    pub settings: BTreeMap<String, Value>,
    /// Of the `HostFirmwareSettings` that asks for them.
    pub generation: Option<i64>,
    /// When the host was started with them, if it was.
    pub ordered: Option<Seconds>,
}

impl SettingsChange {
    /// They were ordered, and the host had the time to take them.
    pub(crate) fn is_overdue(&self, now: Seconds) -> bool {
        self.ordered.is_some_and(|since| is_overdue(since, now))
    }

    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.settings.keys().map(String::as_str).collect();
        names.join(", ")
    }
}

fn is_overdue(since: Seconds, now: Seconds) -> bool {
    now - since > PATIENCE
}

/// When the host was started with what the spec says, if it was and no later spec says something else.
fn since(object: &HostFirmwareSettings) -> Option<Seconds> {
    let mut all = object.status.iter().flat_map(|status| &status.conditions);
    let found = all.find(|one| one.type_ == APPLYING && one.status == "True");
    found
        .filter(|one| one.observed_generation == object.metadata.generation)
        .map(|one| one.last_transition_time.0.as_second())
}

/// What is to be done about settings that can't be read, in a host that is being prepared.
pub(crate) fn unread(object: &HostFirmwareSettings, why: String, now: Seconds) -> Firmware {
    match since(object) {
        _ if object.spec.settings.is_empty() => Firmware::Settled,
        Some(since) if !is_overdue(since, now) => Firmware::Starting(why),
        _ => Firmware::Unreadable(why),
    }
}

/// What a BMC shows of its firmware's settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) bios: Bios,
    /// Empty where the BMC has no registry.
    pub(crate) schema: Vec<Attribute>,
}

impl Found {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.schema.iter().find(|one| one.name == name)
    }

    /// Passwords are not shown, not even as their hashes.
    fn is_secret(&self, name: &str) -> bool {
        name.contains("Password")
            || self
                .attribute(name)
                .is_some_and(|one| one.kind == "Password")
    }

    /// What the status shows.
    fn settings(&self) -> BTreeMap<String, String> {
        let shown = self.bios.attributes.iter();
        let shown = shown.filter(|(name, _)| !self.is_secret(name));
        shown
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    }

    /// The settings as the `FirmwareSchema` describes them.
    pub(crate) fn schema_spec(
        &self,
        vendor: Option<&str>,
        model: Option<&str>,
    ) -> FirmwareSchemaSpec {
        let shown = self.schema.iter().filter(|one| !self.is_secret(&one.name));
        FirmwareSchemaSpec {
            hardware_model: model.map(str::to_owned),
            hardware_vendor: vendor.map(str::to_owned),
            schema: shown.map(|one| (one.name.clone(), setting(one))).collect(),
        }
    }

    /// The name of the `FirmwareSchema`: the same for servers with the same settings. As the peer makes it.
    pub(crate) fn schema_name(&self) -> String {
        let mut words = Vec::new();
        for one in &self.schema {
            words.push(one.name.clone());
            words.push(one.kind.clone());
            words.extend(one.allowable.iter().cloned());
            let bounds = [
                one.lower_bound,
                one.upper_bound,
                one.min_length,
                one.max_length,
            ];
            words.extend(bounds.iter().flatten().map(i64::to_string));
            words.push(one.read_only.to_string());
        }
        words.sort();
        let digest = Sha256::digest(format!("[{}]", words.join(" ")));
        let mut name = "schema-".to_owned();
        for byte in &digest[..4] {
            // Writing to a text can't fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// A value as the firmware wants it: the spec's are texts and whole numbers.
    fn typed(&self, name: &str, wanted: &IntOrString) -> Value {
        let wanted = words(wanted);
        let kind = self.attribute(name).map(|one| one.kind.as_str());
        let now = self.bios.attributes.get(name);
        let is = |kind_of: &str, of: fn(&Value) -> bool| match kind {
            Some(kind) if !kind.is_empty() => kind == kind_of,
            _ => now.is_some_and(of),
        };
        if is("Integer", Value::is_number)
            && let Ok(number) = wanted.parse::<i64>()
        {
            return json!(number);
        }
        if is("Boolean", Value::is_boolean)
            && let Ok(truth) = wanted.parse::<bool>()
        {
            return json!(truth);
        }
        Value::String(wanted)
    }

    /// What is wrong with the settings that are asked for: the field, the value and what is allowed.
    fn problems(&self, wanted: &BTreeMap<String, IntOrString>) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in wanted {
            let field = format!("spec.settings.{name}");
            if self.is_secret(name) {
                // Its value is nobody's business.
                problems.push(format!("{field}: passwords are not set by this object"));
            } else if self.bios.attributes.is_empty() {
                problems.push(format!("{field}: the BMC offers no firmware settings"));
            } else if !self.bios.attributes.contains_key(name) {
                problems.push(format!(
                    "{field}: the firmware has no such setting; allowed are those in status.settings"
                ));
            } else if let Some(attribute) = self.attribute(name) {
                if let Some(allowed) = attribute.objection(&self.typed(name, value)) {
                    problems.push(format!(
                        "{field}: '{}' is not allowed; allowed: {}",
                        words(value),
                        allowed.join(", ")
                    ));
                }
            } else if !self.schema.is_empty() {
                problems.push(format!(
                    "{field}: the firmware does not say what it may be; allowed are those of the FirmwareSchema"
                ));
            }
        }
        problems
    }
}

/// The status, what is wrong with the spec, and what is to be done. `failed`: the host's last step did; what was ordered
/// too long ago is then ordered anew.
pub(crate) fn next(
    object: &HostFirmwareSettings,
    found: &Found,
    schema: Option<SchemaReference>,
    failed: bool,
    now: &Time,
) -> (HostFirmwareSettingsStatus, Vec<String>, Firmware) {
    let wanted = &object.spec.settings;
    let old = object.status.clone().unwrap_or_default();
    let mut new = HostFirmwareSettingsStatus {
        settings: found.settings(),
        schema,
        ..old.clone()
    };
    let differs = |(name, value): (&String, &IntOrString)| {
        new.settings.get(name).map(String::as_str) != Some(&words(value))
    };
    let changed: BTreeSet<&String> = wanted
        .iter()
        .filter(|(name, value)| differs((name, value)))
        .map(|(name, _)| name)
        .collect();
    let problems = if changed.is_empty() {
        Vec::new()
    } else {
        found.problems(wanted)
    };
    let valid = problems.is_empty();
    let generation = object.metadata.generation;
    let mut put = |type_: &str, holds: bool, reason: &str, message: &str| {
        set(
            &mut new.conditions,
            generation,
            type_,
            Some(holds),
            reason,
            message,
            now,
        );
    };
    put(CHANGE_DETECTED, !changed.is_empty(), SUCCESS, "");
    let reason = if valid { SUCCESS } else { INVALID };
    put(VALID, valid, reason, &problems.join("; "));
    let firmware = if changed.is_empty() {
        let applying = |one: &Condition| one.type_ == APPLYING && one.status == "True";
        if old.conditions.iter().any(applying) {
            put(APPLYING, false, SUCCESS, "");
            Firmware::Applied
        } else {
            Firmware::Settled
        }
    } else if valid {
        let given_up = |since: &Seconds| failed && is_overdue(*since, now.0.as_second());
        Firmware::Changed(SettingsChange {
            settings: changed
                .into_iter()
                .map(|name| (name.clone(), found.typed(name, &wanted[name])))
                .collect(),
            generation,
            ordered: since(object).filter(|since| !given_up(since)),
        })
    } else {
        Firmware::Settled
    };
    if new != old {
        new.last_updated = Some(now.clone());
    }
    (new, problems, firmware)
}

/// The status after the settings of a generation were ordered and the host was started.
pub(crate) fn ordered(
    old: &HostFirmwareSettingsStatus,
    generation: Option<i64>,
    now: &Time,
) -> HostFirmwareSettingsStatus {
    let mut new = old.clone();
    // The time is that of the order, also of a second one.
    new.conditions.retain(|one| one.type_ != APPLYING);
    new.conditions.push(Condition {
        last_transition_time: now.clone(),
        message: String::new(),
        observed_generation: generation,
        reason: "Ordered".to_owned(),
        status: "True".to_owned(),
        type_: APPLYING.to_owned(),
    });
    new
}

fn setting(attribute: &Attribute) -> SettingSchema {
    let Attribute {
        name: _,
        kind,
        allowable,
        lower_bound,
        upper_bound,
        min_length,
        max_length,
        read_only,
        unique,
        reset_required: _,
    } = attribute.clone();
    SettingSchema {
        allowable_values: allowable,
        attribute_type: Some(kind).filter(|kind| KINDS.contains(&kind.as_str())),
        lower_bound,
        max_length,
        min_length,
        read_only: Some(read_only),
        unique: Some(unique),
        upper_bound,
    }
}

/// The kinds that the definition of `FirmwareSchema` allows.
const KINDS: [&str; 5] = ["Enumeration", "String", "Integer", "Boolean", "Password"];

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn words(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests;
