//! Manifests as they were written: wrong types, missing and unknown fields are found before anything is lost in typed objects.

use std::sync::LazyLock;

use catamaran_api::{API_VERSION, VirtualMachine, VirtualMachineInstance, crd};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::field::{Fault, Faults, FieldErrors, FieldPath, Warning};
use crate::instancetype::Role;
use crate::machine::MachineSpec;
use crate::support::{self, Context};

/// Fields of `metadata`; a misspelt one would be lost without a word.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Reads a `VirtualMachine` and validates the machine that it describes.
///
/// # Errors
/// Every mistake at once: wrong types, missing, unknown and refused fields, wrong values.
pub fn virtual_machine(
    manifest: &Value,
    context: Context,
) -> Result<(VirtualMachine, MachineSpec, Vec<Warning>), FieldErrors> {
    let (vm, faults, warnings) =
        read::<VirtualMachine>(manifest, &MACHINE, "VirtualMachine", "vm", context)?;
    let validated = MachineSpec::from_vm(&vm, context);
    merge(vm, validated, faults, warnings)
}

/// Reads a `VirtualMachineInstance` and validates the machine that it describes.
///
/// # Errors
/// As for [`virtual_machine`].
pub fn virtual_machine_instance(
    manifest: &Value,
    context: Context,
) -> Result<(VirtualMachineInstance, MachineSpec, Vec<Warning>), FieldErrors> {
    let (vmi, faults, warnings) = read::<VirtualMachineInstance>(
        manifest,
        &INSTANCE,
        "VirtualMachineInstance",
        "vmi",
        context,
    )?;
    let validated = MachineSpec::from_vmi(&vmi, context);
    merge(vmi, validated, faults, warnings)
}

/// Compares an instancetype or preference with its schema; fields that are not carried out are warnings.
pub(crate) fn loose(manifest: &Value, role: Role, faults: &mut Faults) -> Vec<Warning> {
    let (schema, table) = match role {
        Role::Instancetype => (&*INSTANCETYPE, support::INSTANCETYPE),
        Role::Preference => (&*PREFERENCE, support::PREFERENCE),
    };
    types(manifest, schema, &FieldPath::new(""), faults);
    top_level(manifest, faults);
    let mut found = Faults::default();
    let mut warnings = support::fields(table, &manifest["spec"], Context::Cluster, &mut found);
    for error in found.0 {
        match error.fault {
            Fault::Forbidden(words) => warnings.push(Warning {
                path: error.path,
                reason: format!("{words}; a machine that names this object is refused"),
            }),
            fault => faults.push(&error.path, fault),
        }
    }
    warnings
}

/// Unknown fields beside the spec, and of the metadata.
fn top_level(manifest: &Value, faults: &mut Faults) {
    for name in manifest.as_object().into_iter().flat_map(|m| m.keys()) {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&name.as_str()) {
            faults.push(&FieldPath::new(name), Fault::Unknown(name.clone()));
        }
    }
    metadata(&manifest["metadata"], &FieldPath::new("metadata"), faults);
}

/// Schemas for [`types`]: made once, since making them costs more than reading a manifest, and without descriptions, which nobody reads here.
static MACHINE: LazyLock<Value> = LazyLock::new(|| schema("VirtualMachine"));
static INSTANCE: LazyLock<Value> = LazyLock::new(|| schema("VirtualMachineInstance"));
static INSTANCETYPE: LazyLock<Value> = LazyLock::new(|| schema("VirtualMachineInstancetype"));
static PREFERENCE: LazyLock<Value> = LazyLock::new(|| schema("VirtualMachinePreference"));

fn schema(kind: &str) -> Value {
    let mut schema = crd::schema(kind).unwrap_or_default();
    schema["properties"]["metadata"] = serde_json::json!({ "type": "object", "properties": {
        "name": { "type": "string" }, "namespace": { "type": "string" },
        "labels": { "type": "object", "additionalProperties": { "type": "string" } },
        "annotations": { "type": "object", "additionalProperties": { "type": "string" } },
    } });
    strip(&mut schema);
    schema
}

/// Takes the descriptions out of a schema and of all below.
fn strip(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("description");
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(strip);
    }
    for below in ["items", "additionalProperties"] {
        object.get_mut(below).into_iter().for_each(strip);
    }
}

fn merge<T>(
    object: T,
    validated: Result<(MachineSpec, Vec<Warning>), FieldErrors>,
    mut faults: Faults,
    warnings: Vec<Warning>,
) -> Result<(T, MachineSpec, Vec<Warning>), FieldErrors> {
    match validated {
        Ok((machine, _)) if faults.0.is_empty() => Ok((object, machine, warnings)),
        Ok(_) => Err(FieldErrors(faults.0)),
        Err(errors) => {
            for error in errors.0 {
                faults.push(&error.path, error.fault);
            }
            Err(FieldErrors(faults.0))
        }
    }
}

/// The typed object, with the faults of what a typed object cannot hold.
fn read<T: DeserializeOwned>(
    manifest: &Value,
    schema: &Value,
    kind: &str,
    table: &str,
    context: Context,
) -> Result<(T, Faults, Vec<Warning>), FieldErrors> {
    let mut faults = Faults::default();
    let root = FieldPath::new("");
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", kind)] {
        match manifest[field].as_str() {
            Some(given) if given == expected => {}
            Some(given) => faults.push(
                &FieldPath::new(field),
                Fault::Unsupported(given.to_owned(), vec![expected.to_owned()]),
            ),
            None => faults.required(&FieldPath::new(field), ""),
        }
    }
    types(manifest, schema, &root, &mut faults);
    let broken = !faults.0.is_empty();

    top_level(manifest, &mut faults);
    metadata(
        &manifest["spec"]["template"]["metadata"],
        &FieldPath::new("spec.template.metadata"),
        &mut faults,
    );
    let mut warnings = support::fields(table, &manifest["spec"], context, &mut faults);
    let (at, instance) = match table {
        "vm" => (
            "spec.template.metadata",
            &manifest["spec"]["template"]["metadata"],
        ),
        _ => ("metadata", &manifest["metadata"]),
    };
    let keys = instance["annotations"].as_object().into_iter().flatten();
    warnings.extend(support::annotations(
        keys.map(|(key, _)| key.as_str()),
        &FieldPath::new(at),
        context,
    ));

    if broken {
        return Err(FieldErrors(faults.0));
    }
    match serde_json::from_value::<T>(manifest.clone()) {
        Ok(object) => Ok((object, faults, warnings)),
        Err(error) => {
            // The schema has no opinion on what is below metadata beside names, labels and annotations.
            faults.invalid(&FieldPath::new("metadata"), "<object>", &error.to_string());
            Err(FieldErrors(faults.0))
        }
    }
}

fn metadata(value: &Value, path: &FieldPath, faults: &mut Faults) {
    for name in value.as_object().into_iter().flat_map(|m| m.keys()) {
        if !METADATA.contains(&name.as_str()) {
            faults.push(&path.child(name), Fault::Unknown(name.clone()));
        }
    }
}

/// Compares types with the generated schema; unknown fields are the support table's business.
fn types(value: &Value, schema: &Value, path: &FieldPath, faults: &mut Faults) {
    let expected = schema["type"].as_str();
    if schema["x-kubernetes-int-or-string"] == true {
        if !(value.is_number() || value.is_string()) {
            wrong_type(value, "integer or string", path, faults);
        }
        return;
    }
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let matches = match expected {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !matches {
        wrong_type(value, expected.unwrap_or_default(), path, faults);
        return;
    }
    match value {
        Value::Object(map) => {
            for name in schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                if !map.contains_key(name) {
                    faults.required(&path.child(name), "");
                }
            }
            for (name, child) in map {
                if let Some(schema) = schema["properties"].get(name) {
                    types(child, schema, &path.child(name), faults);
                } else if schema["additionalProperties"].is_object() {
                    types(
                        child,
                        &schema["additionalProperties"],
                        &path.key(name),
                        faults,
                    );
                }
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            for (at, item) in items.iter().enumerate() {
                types(item, &schema["items"], &path.index(at), faults);
            }
        }
        Value::Number(number) if expected == Some("integer") => range(number, schema, path, faults),
        _ => {}
    }
}

fn range(number: &serde_json::Number, schema: &Value, path: &FieldPath, faults: &mut Faults) {
    let unsigned = schema["minimum"].as_f64() == Some(0.0);
    let fits = match schema["format"].as_str() {
        Some("int32") => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        // Counts are 32 bits wide in the types.
        _ if unsigned => number.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
        _ => number.as_i64().is_some(),
    };
    if !fits {
        let detail = match (unsigned, schema["format"].as_str()) {
            (false, Some("int32")) => "must be between -2147483648 and 2147483647, inclusive",
            (true, _) => "must be between 0 and 4294967295, inclusive",
            _ => "must be a 64-bit integer",
        };
        faults.invalid(path, number, detail);
    }
}

fn wrong_type(value: &Value, expected: &str, path: &FieldPath, faults: &mut Faults) {
    let given = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    faults.invalid(path, given, &format!("must be of type {expected}"));
}
