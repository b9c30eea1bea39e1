//! `-o json|yaml|wide|name`, and words on standard output.

use std::io::{self, Write as _};
use std::str::FromStr;

use serde_json::Value;

use crate::guest_text::GuestText;
use crate::table::printable;

/// How objects are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// A table.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `kind/name`, one a line.
    Name,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(match word {
            "wide" => Self::Wide,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "name" => Self::Name,
            other => {
                return Err(format!(
                    "unknown output format {other:?}: allowed are json, yaml, wide and name"
                ));
            }
        })
    }
}

/// An object could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// As JSON.
    #[error("could not write JSON")]
    Json(#[from] serde_json::Error),
    /// As YAML.
    #[error("could not write YAML")]
    Yaml(#[from] serde_yaml_ng::Error),
}

impl Format {
    /// The value as JSON or YAML; `None` for the formats that are not of the whole value.
    ///
    /// # Errors
    /// When the value has no such form.
    pub fn print(self, value: &Value) -> Result<Option<String>, OutputError> {
        Ok(match self {
            Self::Json => Some(serde_json::to_string_pretty(value)? + "\n"),
            Self::Yaml => Some(serde_yaml_ng::to_string(value)?),
            Self::Table | Self::Wide | Self::Name => None,
        })
    }
}

/// Writes to standard output. That nobody reads it any more (`… | head`) is no failure.
///
/// # Errors
/// When it can't be written.
pub fn say(text: &str) -> io::Result<()> {
    say_bytes(text.as_bytes())
}

/// As [`say`], for bytes.
///
/// # Errors
/// When they can't be written.
pub fn say_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    unread(out.write_all(bytes).and_then(|()| out.flush()))
}

/// As [`say`], for what a guest said.
///
/// # Errors
/// When it can't be written.
pub fn say_guest(bytes: &[u8]) -> io::Result<()> {
    unread(GuestText::stdout().say(bytes))
}

fn unread(said: io::Result<()>) -> io::Result<()> {
    said.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// A value as a word that is safe to print; nothing for null.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// A word as one segment of a URL's path.
#[must_use]
pub fn segment(word: &str) -> String {
    word.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_segment_stays_one() {
        assert_eq!(segment("a.b-c_1"), "a.b-c_1");
        assert_eq!(segment("a/b?c"), "a%2Fb%3Fc");
    }
}
