//! What Ironic says of a node, as far as it matters here.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A server of Ironic's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) uuid: String,
    pub(super) name: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) driver: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) driver_info: Map<String, Value>,
    /// Absent is Ironic's word for available.
    pub(super) provision_state: Option<String>,
    pub(super) power_state: Option<String>,
    pub(super) instance_uuid: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) maintenance: bool,
    pub(super) maintenance_reason: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) retired: bool,
    pub(super) retired_reason: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) protected: bool,
    pub(super) protected_reason: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) properties: Map<String, Value>,
    pub(super) description: Option<String>,
    pub(super) automated_clean: Option<bool>,
    pub(super) boot_mode: Option<String>,
    pub(super) secure_boot: Option<bool>,
}

/// A network interface of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Port {
    pub(super) uuid: String,
    pub(super) node_uuid: Option<String>,
    pub(super) address: String,
    pub(super) pxe_enabled: Option<bool>,
}

fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What a state means for an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nobody uses it.
    Free,
    /// An operating system that Ironic has put there runs on it.
    Taken,
    /// Ironic is doing something with it.
    Moving,
}

impl Node {
    /// How people call it.
    pub(super) fn title(&self) -> String {
        match self.name.as_deref() {
            Some(name) if !name.is_empty() => format!("{name} ({})", self.uuid),
            _ => self.uuid.clone(),
        }
    }

    pub(super) fn state(&self) -> &str {
        self.provision_state.as_deref().unwrap_or("available")
    }

    pub(super) fn usage(&self) -> Use {
        match self.state() {
            "active" | "rescue" | "service failed" | "rescue failed" | "unrescue failed" => {
                Use::Taken
            }
            // Adopted are servers that something runs on, with or without an instance.
            "adopt failed" => Use::Taken,
            "enroll" | "manageable" | "available" | "inspect failed" | "clean failed"
            | "deploy failed" | "error"
                if self.instance_uuid.is_none() =>
            {
                Use::Free
            }
            // What of its disks is whose nobody knows: they are left as they are.
            "deploy failed" | "error" | "clean failed" => Use::Taken,
            "enroll" | "manageable" | "available" | "inspect failed" => Use::Taken,
            _ => Use::Moving,
        }
    }

    /// An entry of `driver_info` as text.
    pub(super) fn driver_text(&self, key: &str) -> Option<&str> {
        let text = self.driver_info.get(key)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }

    /// A capability, as `a:b,c:d` or as an object.
    pub(super) fn capability(&self, key: &str) -> Option<String> {
        match self.properties.get("capabilities")? {
            Value::String(text) => text.split(',').find_map(|pair| {
                let (name, value) = pair.trim().split_once(':')?;
                (name.trim() == key).then(|| value.trim().to_owned())
            }),
            Value::Object(all) => match all.get(key)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
            _ => None,
        }
    }
}

/// A truth as Ironic's users write it.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
            "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn capabilities_are_read_as_text_and_as_object() {
        for capabilities in [
            json!("cpu_vt:true, boot_mode:uefi"),
            json!({"boot_mode": "uefi"}),
        ] {
            let node = node(json!({"properties": {"capabilities": capabilities}}));
            assert_eq!(node.capability("boot_mode").as_deref(), Some("uefi"));
            assert_eq!(node.capability("secure_boot"), None);
        }
    }

    #[test]
    fn what_somebody_may_use_is_in_use() {
        for (state, instance, usage) in [
            (json!("active"), json!(null), Use::Taken),
            (json!("available"), json!(null), Use::Free),
            (json!(null), json!(null), Use::Free),
            (json!("available"), json!("i"), Use::Taken),
            (json!("error"), json!("i"), Use::Taken),
            (json!("deploy failed"), json!(null), Use::Free),
            (json!("wait call-back"), json!("i"), Use::Moving),
            (json!("cleaning"), json!(null), Use::Moving),
            (json!("a state of tomorrow"), json!(null), Use::Moving),
        ] {
            let node = node(json!({"provision_state": state, "instance_uuid": instance}));
            assert_eq!(node.usage(), usage, "{state} {instance}");
        }
    }

    #[test]
    fn nulls_are_nothing() {
        let node =
            node(json!({"uuid": "u", "driver_info": null, "properties": null, "retired": null}));
        assert_eq!(node.title(), "u");
        assert!(!node.retired);
    }
}
