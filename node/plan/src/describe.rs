//! A plan as text for people: YAML, with the domain as a block of its own.

use serde_json::{Value, json};

use crate::plan::Plan;

/// Files of a seed that often hold passwords, be it in the manifest.
const PRIVATE: [&str; 2] = ["user-data", "openstack/latest/user_data"];

/// The plan as YAML. Secrets are named only, and of user data that stands in the manifest the length is shown.
///
/// # Errors
/// Never for a plan made by [`crate::plan()`]; the serialiser's word otherwise.
pub fn describe(plan: &Plan) -> Result<String, serde_yaml_ng::Error> {
    // By way of JSON, so that enums are plain maps instead of YAML tags.
    let mut value =
        serde_json::to_value(plan).map_err(<serde_yaml_ng::Error as serde::ser::Error>::custom)?;
    let steps = value.get_mut("prepare").and_then(Value::as_array_mut);
    let seeds = steps
        .into_iter()
        .flatten()
        .filter_map(|step| step.get_mut("seed"));
    let files = seeds
        .filter_map(|seed| seed.get_mut("files")?.as_array_mut())
        .flatten();
    for file in files {
        let private = file["path"]
            .as_str()
            .is_some_and(|path| PRIVATE.contains(&path));
        let length = file["content"]["inline"].as_str().map(str::len);
        if let (true, Some(length)) = (private, length) {
            file["content"]["inline"] = json!(format!("({length} bytes of the manifest)"));
        }
    }
    serde_yaml_ng::to_string(&value)
}
