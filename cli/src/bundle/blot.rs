//! Blotting out what nobody else should read. Pure.
//!
//! Objects: cloud-init data wherever it stands, also inside annotations and revisions that hold the object once more as text; values of
//! environment variables and annotations whose names speak of secrets. Texts: every value that was blotted out of an object, and private
//! keys.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// What stands there instead.
const BLOT: &str = "<blotted out>";
/// Fields whose text is the user's own.
const FIELDS: [&str; 4] = [
    "userData",
    "userDataBase64",
    "networkData",
    "networkDataBase64",
];
/// Parts of names that speak of secrets.
const NAMES: [&str; 6] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "apikey",
];
/// Shorter values are words that logs are full of.
const SHORTEST: usize = 8;

/// Remembers what it has blotted out, to find it again in texts.
#[derive(Debug, Default)]
pub(super) struct Blotter {
    values: BTreeSet<String>,
}

impl Blotter {
    /// Blots out secrets of an object, and drops the records of its writers.
    pub(super) fn object(&mut self, object: &mut Value) {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                self.named(annotations);
            }
        }
        self.value(object);
    }

    /// Blots out what was blotted out of objects before.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Longest first: a value may be part of another.
        let mut values: Vec<&String> = self.values.iter().collect();
        values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            text = text.replace(value.as_str(), BLOT);
        }
        private_keys(&text)
    }

    fn value(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => self.map(map),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            // An object once more, as `kubectl apply` keeps it.
            Value::String(text) if text.starts_with('{') => {
                if let Ok(mut inner @ Value::Object(_)) = serde_json::from_str::<Value>(text) {
                    self.object(&mut inner);
                    *text = inner.to_string();
                }
            }
            _ => {}
        }
    }

    fn map(&mut self, map: &mut Map<String, Value>) {
        // An environment variable.
        let named = map
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(is_secret);
        if named && let Some(value @ Value::String(_)) = map.get_mut("value") {
            self.blot(value);
        }
        for (key, value) in map.iter_mut() {
            if FIELDS.contains(&key.as_str()) && value.is_string() {
                self.blot(value);
            } else {
                self.value(value);
            }
        }
    }

    fn named(&mut self, map: &mut Map<String, Value>) {
        for (key, value) in map.iter_mut() {
            if is_secret(key) && value.is_string() {
                self.blot(value);
            }
        }
    }

    fn blot(&mut self, value: &mut Value) {
        if let Value::String(text) = value {
            let decoded = BASE64_STANDARD.decode(text.as_bytes()).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            for secret in [Some(text.clone()), decoded].into_iter().flatten() {
                self.remember(&secret);
            }
        }
        *value = BLOT.into();
    }

    /// The whole, and each line that holds more than a key and a short word: logs quote lines.
    fn remember(&mut self, secret: &str) {
        let after = |line: &str| {
            line.split_once(": ")
                .map(|(_, value)| value.trim().to_owned())
        };
        let lines = secret.lines().map(str::trim);
        let speaking = lines.filter(|line| is_secret(line)).filter_map(after);
        let all = speaking.chain([secret.trim().to_owned()]);
        let long = all.filter(|value| value.len() >= SHORTEST && value != BLOT);
        self.values.extend(long);
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    NAMES.iter().any(|part| name.contains(part))
}

/// Blots out private keys in PEM.
fn private_keys(text: &str) -> String {
    if !text.contains("PRIVATE KEY-----") {
        return text.to_owned();
    }
    let mut inside = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        let marks = line.contains("PRIVATE KEY-----");
        if marks && line.contains("-----BEGIN") {
            inside = true;
            kept.push_str(BLOT);
            kept.push('\n');
        }
        if !inside {
            kept.push_str(line);
        }
        if marks && line.contains("-----END") {
            inside = false;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER_DATA: &str = "#cloud-config\nhostname: demo\npassword: correct-horse\n";

    fn machine() -> Value {
        let volumes = json!([
            {"name": "a", "cloudInitNoCloud": {"userData": USER_DATA, "networkData": "version: 2"}},
            {"name": "b", "cloudInitConfigDrive": {"userDataBase64": BASE64_STANDARD.encode(USER_DATA)}},
            {"name": "c", "cloudInitNoCloud": {"secretRef": {"name": "seed"}}},
        ]);
        let spec = json!({"template": {"spec": {"volumes": volumes}}});
        let applied = json!({"kind": "VirtualMachine", "spec": spec}).to_string();
        json!({
            "kind": "VirtualMachine",
            "metadata": {
                "name": "demo", "managedFields": [{"manager": "kubectl"}],
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": applied,
                    "example.com/api-token": "0123456789abcdef",
                },
            },
            "spec": spec,
        })
    }

    #[test]
    fn cloud_init_is_blotted_out_wherever_it_stands() {
        let mut blotter = Blotter::default();
        let mut machine = machine();
        blotter.object(&mut machine);
        let text = machine.to_string();
        for secret in [
            "correct-horse",
            "version: 2",
            "0123456789abcdef",
            &BASE64_STANDARD.encode(USER_DATA),
        ] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        assert!(text.contains("seed"), "the name of a Secret is no secret");
        assert!(!text.contains("managedFields"));
    }

    #[test]
    fn logs_do_not_give_away_what_objects_keep() {
        let mut blotter = Blotter::default();
        blotter.object(&mut machine());
        let log = "info: user typed correct-horse\ninfo: token 0123456789abcdef\ninfo: demo runs\n";
        assert_eq!(
            blotter.text(log),
            "info: user typed <blotted out>\ninfo: token <blotted out>\ninfo: demo runs\n"
        );
    }

    #[test]
    fn environment_variables_that_speak_of_secrets_are_blotted_out() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"env": [
            {"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "LOG", "value": "info"}]}]}});
        Blotter::default().object(&mut pod);
        let env = &pod["spec"]["containers"][0]["env"];
        assert_eq!(env[0]["value"], BLOT);
        assert_eq!(env[1]["value"], "info");
    }

    #[test]
    fn private_keys_are_blotted_out_of_texts() {
        let text = "a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(Blotter::default().text(text), "a\n<blotted out>\nb\n");
    }
}
