//! Answers about a host that are no objects: its sensors and its event log, read from its BMC when they are asked for. Ours alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// What a host's BMC measures: `baremetalhosts/NAME/sensors`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostSensors {
    /// When it was read.
    pub read_at: Time,
    /// The host's health with all its parts: `OK`, `Warning` or `Critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The sensors, by kind.
    pub sensors: Vec<HostSensor>,
    /// What could not be read, and why.
    #[serde(default)]
    pub gaps: Vec<String>,
}

/// One sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostSensor {
    /// The BMC's name for it.
    pub name: String,
    /// `temperature`, `fan`, `power`, `voltage`, `current` or `other`.
    #[serde(rename = "type")]
    pub type_: String,
    /// What it says; none where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<f64>,
    /// Unit of the reading and the bounds: `°C`, `RPM`, `%`, `W`, `V`, `A`, or the BMC's own word.
    pub unit: String,
    /// `OK`, `Warning` or `Critical`; none where nothing tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Where it becomes worth a look.
    #[serde(default)]
    pub caution: SensorBounds,
    /// Where something breaks.
    #[serde(default)]
    pub critical: SensorBounds,
}

/// From where on a reading is no longer usual.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SensorBounds {
    /// It should not be lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// It should not be higher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

/// A part of a host's event log: `baremetalhosts/NAME/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostEvents {
    /// When it was read.
    pub read_at: Time,
    /// The BMC's name for the log, such as `Sel`; none where it shows no log of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Entries of the whole log.
    pub total: usize,
    /// The entries that were asked for, newest first.
    pub entries: Vec<HostEvent>,
    /// Why there are no more of them, where there should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// One entry of an event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostEvent {
    /// The BMC's id of it.
    pub id: String,
    /// When, as the BMC writes it (ISO 8601); by its clock, which may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `OK`, `Warning` or `Critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// What happened, in the BMC's words.
    pub message: String,
    /// What it is about: a kind of sensor, or a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}
