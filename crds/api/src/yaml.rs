//! JSON to block-style YAML, for the generated definitions only. Keys stay in the order given.

use std::fmt::Write;

use serde_json::Value;

/// The value as a YAML document.
pub(crate) fn render(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0, false);
    out
}

fn block(out: &mut String, value: &Value, indent: usize, in_list: bool) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (key, child)) in map.iter().enumerate() {
                if at > 0 || !in_list {
                    pad(out, indent);
                }
                out.push_str(&text(key));
                out.push(':');
                nested(out, child, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                pad(out, indent);
                out.push('-');
                if scalar(item) {
                    let _ = writeln!(out, " {}", inline(item));
                } else {
                    out.push(' ');
                    block(out, item, indent + 2, true);
                }
            }
        }
        other => {
            let _ = writeln!(out, "{}", inline(other));
        }
    }
}

fn nested(out: &mut String, child: &Value, indent: usize) {
    if scalar(child) {
        let _ = writeln!(out, " {}", inline(child));
    } else {
        out.push('\n');
        // Lists stand at the level of their key.
        block(
            out,
            child,
            if child.is_array() { indent } else { indent + 2 },
            false,
        );
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(s) => text(s),
        other => other.to_string(),
    }
}

/// Plain where YAML reads it as the same string, else as JSON, which YAML reads too.
fn text(s: &str) -> String {
    let plain = s.starts_with(|c: char| c.is_ascii_alphabetic())
        && s.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&s.to_ascii_lowercase().as_str());
    if plain {
        s.to_owned()
    } else {
        Value::from(s).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::render;

    #[test]
    fn nested_lists_and_maps_are_indented_as_kubectl_does() {
        let value = json!({ "a": [{ "b": 1, "c": [] }, "x"], "d": { "e": "true", "f": {} } });
        assert_eq!(
            render(&value),
            "a:\n- b: 1\n  c: []\n- x\nd:\n  e: \"true\"\n  f: {}\n"
        );
    }
}
