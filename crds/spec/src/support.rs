//! What is carried out, what is accepted without effect, what is refused: one table, one function.
//!
//! The table is `support/fields.tsv`, one line for each field. `fields` walks a manifest and finds every field that is not carried out, by
//! its path; fields that the table does not know are refused too, so nothing is silently ignored. `play`, `plan` and the admission webhook
//! come through here, and [`page()`] prints the same table for people.

mod page;
mod table;

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use serde_json::Value;

use crate::field::{Fault, Faults, FieldPath, Warning};
pub(crate) use table::{INSTANCETYPE, PREFERENCE};

pub use page::page;
pub use table::{Row, State, rows};

/// Where a machine is to run; some fields have an effect in one place only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// One machine without Kubernetes.
    Play,
    /// A Kubernetes cluster.
    Cluster,
}

/// Fields of a `VirtualMachine` that are not carried out.
pub(crate) fn of_vm(vm: &VirtualMachine, context: Context, faults: &mut Faults) -> Vec<Warning> {
    let spec = serde_json::to_value(&vm.spec).expect("a wire type has string keys only");
    fields("vm", &spec, context, faults)
}

/// Fields of a `VirtualMachineInstance` that are not carried out.
pub(crate) fn of_vmi(
    vmi: &VirtualMachineInstance,
    context: Context,
    faults: &mut Faults,
) -> Vec<Warning> {
    let spec = serde_json::to_value(&vmi.spec).expect("a wire type has string keys only");
    fields("vmi", &spec, context, faults)
}

/// Every field of a spec that is not carried out: faults for those refused or unknown, warnings for those without effect.
///
/// `kind` is `vm`, `vmi`, [`INSTANCETYPE`] or [`PREFERENCE`]; the paths begin with `spec`.
pub(crate) fn fields(
    kind: &str,
    spec: &Value,
    context: Context,
    faults: &mut Faults,
) -> Vec<Warning> {
    let mut walk = Walk {
        context,
        faults,
        warnings: Vec::new(),
    };
    let pattern = if kind == "vmi" { table::INSTANCE } else { kind };
    walk.node(spec, &FieldPath::new("spec"), pattern);
    walk.warnings
}

/// Annotations of an instance that are known and have no effect in that context. `at` is where its metadata are.
pub(crate) fn annotations<'a>(
    keys: impl Iterator<Item = &'a str>,
    at: &FieldPath,
    context: Context,
) -> Vec<Warning> {
    let at = at.child("annotations");
    let rows = keys.filter_map(|key| Some((key, table::annotation(key)?)));
    rows.filter(|(_, row)| row.state(context) == State::Accepted)
        .map(|(key, row)| Warning {
            path: at.key(key),
            reason: row.reason.to_owned(),
        })
        .collect()
}

/// Whether an annotation of that name means something for an instance.
pub(crate) fn is_annotation(key: &str) -> bool {
    table::annotation(key).is_some()
}

struct Walk<'a> {
    context: Context,
    faults: &'a mut Faults,
    warnings: Vec<Warning>,
}

impl Walk<'_> {
    /// Looks at the children of a node whose own row, if any, has been applied.
    fn node(&mut self, value: &Value, path: &FieldPath, pattern: &str) {
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    let pattern = table::child(pattern, name);
                    self.field(name, child, &path.child(name), &pattern);
                }
            }
            Value::Array(items) => {
                let pattern = format!("{pattern}[]");
                for (at, item) in items.iter().enumerate() {
                    self.node(item, &path.index(at), &pattern);
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, name: &str, value: &Value, path: &FieldPath, pattern: &str) {
        let Some(row) = table::find(pattern) else {
            if table::is_prefix(pattern) {
                self.node(value, path, pattern);
            } else {
                self.faults.push(path, Fault::Unknown(name.to_owned()));
            }
            return;
        };
        // A switch that says "no" and a null ask for nothing.
        let asks = !matches!(value, Value::Null | Value::Bool(false));
        match row.state(self.context) {
            State::Supported => {}
            State::Accepted if asks => self.warnings.push(Warning {
                path: path.clone(),
                reason: row.reason.to_owned(),
            }),
            State::Refused if asks => {
                self.faults.push(
                    path,
                    Fault::Forbidden(format!("not supported: {}", row.reason)),
                );
                return;
            }
            State::Accepted | State::Refused => {}
        }
        if !row.whole {
            self.node(value, path, pattern);
        }
    }
}
