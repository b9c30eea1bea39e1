//! Ironic's `root_device` as root device hints. Pure.

use catamaran_api::metal3::RootDeviceHints;
use serde_json::Value;

use super::node::truth;

/// Comparisons that hints don't know.
const OPERATORS: [&str; 12] = [
    "s!=", "s>=", "s<=", "s>", "s<", "<or>", "<all-in>", "!=", ">=", "<=", "==", "=",
];

/// The hints, and what of `root_device` they can't say.
pub(super) fn hints(root_device: &Value) -> (Option<RootDeviceHints>, Vec<String>) {
    let mut hints = RootDeviceHints::default();
    let mut lost = Vec::new();
    for (key, value) in root_device.as_object().into_iter().flatten() {
        if !take(&mut hints, key, value) {
            lost.push(format!("root_device.{key}: {value}"));
        }
    }
    let some = hints != RootDeviceHints::default();
    (some.then_some(hints), lost)
}

/// Whether the hint could be taken.
fn take(hints: &mut RootDeviceHints, key: &str, value: &Value) -> bool {
    if key == "rotational" {
        hints.rotational = truth(value);
        return hints.rotational.is_some();
    }
    if key == "size" {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let text = text.trim();
        // `=` means no less in Ironic.
        let least = text.strip_prefix(">=").or_else(|| {
            let equal = text.strip_prefix('=')?;
            (!equal.starts_with('=')).then_some(equal)
        });
        let exact = || {
            ["s==", "=="]
                .into_iter()
                .find_map(|operator| text.strip_prefix(operator))
        };
        let number = least.or_else(exact).unwrap_or(text);
        hints.min_size_gigabytes = number.trim().parse().ok();
        // An exact size becomes the least one, which a larger disk has too: that is told.
        return least.is_some() && hints.min_size_gigabytes.is_some();
    }
    let Some(text) = value.as_str() else {
        return false;
    };
    let text = text.trim();
    let (text, part) = match (text.strip_prefix("s=="), text.strip_prefix("<in>")) {
        (Some(exact), _) => (exact.trim(), false),
        (None, Some(part)) => (part.trim(), true),
        (None, None) => (text, false),
    };
    let operator = OPERATORS.iter().any(|begin| text.starts_with(begin));
    if operator || text.is_empty() {
        return false;
    }
    let field = match key {
        "model" => &mut hints.model,
        "vendor" => &mut hints.vendor,
        // These are compared as a whole.
        _ if part => return false,
        "serial" => &mut hints.serial_number,
        "wwn" => &mut hints.wwn,
        "wwn_with_extension" => &mut hints.wwn_with_extension,
        "wwn_vendor_extension" => &mut hints.wwn_vendor_extension,
        "hctl" => &mut hints.hctl,
        "name" | "by_path" => &mut hints.device_name,
        _ => return false,
    };
    if field.is_some() {
        return false;
    }
    *field = Some(text.to_owned());
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_understood_becomes_hints_and_the_rest_is_named() {
        let (found, lost) = hints(&json!({
            "size": ">= 100", "serial": "s== S1", "model": "<in> MZ7", "rotational": "False", "name": "/dev/sda",
            "wwn": "<or> 0x1 <or> 0x2", "colour": "red",
        }));
        let wanted = RootDeviceHints {
            min_size_gigabytes: Some(100),
            serial_number: Some("S1".to_owned()),
            model: Some("MZ7".to_owned()),
            rotational: Some(false),
            device_name: Some("/dev/sda".to_owned()),
            ..RootDeviceHints::default()
        };
        assert_eq!(found, Some(wanted));
        assert_eq!(
            lost,
            [
                "root_device.colour: \"red\"",
                "root_device.wwn: \"<or> 0x1 <or> 0x2\""
            ]
        );
        assert_eq!(hints(&json!(null)), (None, Vec::new()));
        let (found, lost) = hints(&json!({"size": 40}));
        assert_eq!(found.unwrap().min_size_gigabytes, Some(40));
        assert_eq!(lost, ["root_device.size: 40"], "it was an exact size");
        assert_eq!(hints(&json!({"size": "<= 40"})).0, None);
    }
}
