//! `-o json|yaml|wide|name`.

use std::str::FromStr;

use serde_json::Value;

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
