//! A plan as text for people: YAML, with the domain as a block of its own.

use crate::plan::Plan;

/// The plan as YAML. Holds no Secret: plans name them only.
///
/// # Errors
/// Never for a plan made by [`crate::plan()`]; the serialiser's word otherwise.
pub fn describe(plan: &Plan) -> Result<String, serde_yaml_ng::Error> {
    // By way of JSON, so that enums are plain maps instead of YAML tags.
    let value =
        serde_json::to_value(plan).map_err(<serde_yaml_ng::Error as serde::ser::Error>::custom)?;
    serde_yaml_ng::to_string(&value)
}
