//! Everything that can be wrong with an object by itself, before it is stored.

use catamaran_spec::{Context, FieldErrors, Warning};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::machine::config::is_file_name;
use crate::machine::volumes;
use crate::serve::store::{Key, Kind};

/// All problems with their field paths, or what is accepted without effect.
///
/// # Errors
/// Every problem.
pub fn object(key: &Key, object: &Value) -> Result<Vec<String>, Vec<String>> {
    match key.kind {
        Kind::VirtualMachine => catamaran_spec::read::virtual_machine(object, Context::Play)
            .map(|(_, _, warnings)| words(&warnings))
            .map_err(|errors| problems(&errors)),
        Kind::VirtualMachineInstance => {
            catamaran_spec::read::virtual_machine_instance(object, Context::Play)
                .map(|(_, _, warnings)| words(&warnings))
                .map_err(|errors| problems(&errors))
        }
        Kind::Pod => crate::serve::pods::check(object),
        Kind::ConfigMap => {
            let map: ConfigMap = shape(object)?;
            known(
                object,
                &["data", "binaryData", "immutable"],
                &["immutable"],
                &keys(&[map.data.map(keys_of), map.binary_data.map(keys_of)]),
            )
        }
        Kind::Secret => {
            let secret: Secret = shape(object)?;
            known(
                object,
                &["data", "stringData", "type", "immutable"],
                &["immutable"],
                &keys(&[secret.data.map(keys_of), secret.string_data.map(keys_of)]),
            )
        }
        Kind::PersistentVolumeClaim => claim(object),
    }
}

fn words(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

fn problems(errors: &FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

fn shape<T: DeserializeOwned>(object: &Value) -> Result<T, Vec<String>> {
    T::deserialize(object).map_err(|error| vec![error.to_string()])
}

fn keys_of<V>(map: std::collections::BTreeMap<String, V>) -> Vec<String> {
    map.into_keys().collect()
}

fn keys(lists: &[Option<Vec<String>>]) -> Vec<String> {
    lists.iter().flatten().flatten().cloned().collect()
}

/// Keys must be file names, and top-level fields known.
fn known(
    object: &Value,
    fields: &[&str],
    without_effect: &[&str],
    keys: &[String],
) -> Result<Vec<String>, Vec<String>> {
    let mut problems: Vec<String> = keys.iter().filter(|key| !is_file_name(key)).map(|key| format!("data[{key}]: Invalid value: {key:?}: must consist of letters, digits, '-', '_' or '.', and be no path")).collect();
    problems.extend(unknown(
        object,
        &[fields, &["apiVersion", "kind", "metadata", "status"]].concat(),
        "",
    ));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(without_effect
        .iter()
        .filter(|field| !object[**field].is_null())
        .map(|field| format!("{field}: has no effect here"))
        .collect())
}

fn unknown(object: &Value, known: &[&str], prefix: &str) -> Vec<String> {
    let fields = object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(field, _)| !known.contains(&field.as_str()));
    fields
        .map(|(field, _)| format!("{prefix}{field}: Unknown field: {field:?}"))
        .collect()
}

/// Claims are disk files here: a size is all they have.
fn claim(object: &Value) -> Result<Vec<String>, Vec<String>> {
    const WITHOUT_EFFECT: [&str; 3] = ["accessModes", "storageClassName", "volumeMode"];
    let claim: PersistentVolumeClaim = shape(object)?;
    let mut problems = unknown(
        object,
        &["apiVersion", "kind", "metadata", "spec", "status"],
        "",
    );
    let spec = &object["spec"];
    problems.extend(unknown(
        spec,
        &[WITHOUT_EFFECT.as_slice(), &["resources"]].concat(),
        "spec.",
    ));
    problems.extend(unknown(
        &spec["resources"],
        &["requests", "limits"],
        "spec.resources.",
    ));
    if volumes::requested(&claim).is_none_or(|bytes| bytes == 0) {
        problems.push(match &spec["resources"]["requests"]["storage"] {
            Value::Null => "spec.resources.requests.storage: Required value".to_owned(),
            other => format!("spec.resources.requests.storage: Invalid value: {other}: must be a positive quantity, such as 10Gi"),
        });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let reason = |field: &&&str| match **field {
        "volumeMode" => "claims are raw disk files here",
        "accessModes" => "one machine at a time may write to a claim here",
        _ => "claims are files below the state folder here",
    };
    Ok(WITHOUT_EFFECT
        .iter()
        .filter(|field| !spec[**field].is_null())
        .map(|field| format!("spec.{field}: has no effect: {}", reason(&field)))
        .collect())
}
