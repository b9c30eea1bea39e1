//! Filling what is unset.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Sets a field that is unset.
pub(super) fn unset<T: Clone>(field: &mut Option<T>, preferred: Option<&T>) {
    if field.is_none() {
        *field = preferred.cloned();
    }
}

/// Sets those fields of an object that are unset, one by one; what stands below them is taken as it is.
pub(super) fn each<T>(field: &mut Option<T>, preferred: Option<&T>)
where
    T: Serialize + DeserializeOwned + Clone,
{
    let Some(there) = field.as_ref() else {
        *field = preferred.cloned();
        return;
    };
    let value =
        |object: &T| serde_json::to_value(object).expect("a wire type has string keys only");
    let (mut merged, Some(Value::Object(preferred))) = (value(there), preferred.map(value)) else {
        return;
    };
    for (name, preferred) in preferred {
        if merged[&name].is_null() {
            merged[&name] = preferred;
        }
    }
    *field = Some(serde_json::from_value(merged).expect("fields of two objects of a type are one"));
}
