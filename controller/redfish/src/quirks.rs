//! What is peculiar to vendors and models, as data: `quirks.yaml`, and what a site adds to it.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};

static BUILTIN: LazyLock<Arc<QuirkTable>> = LazyLock::new(|| {
    let table = QuirkTable::parse(include_str!("quirks.yaml"));
    Arc::new(table.expect("the built-in table is tested"))
});

/// When a property goes along with a boot target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Include {
    /// Whenever a boot target is sent.
    Always,
    /// When it is not yet what it shall be.
    Changed,
    /// Never.
    Never,
}

/// How one BMC wants to be treated.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// The BMC has sessions worth trying.
    pub sessions: bool,
    /// Connections may stay open between requests.
    pub keep_alive: bool,
    /// Whether `BootSourceOverrideEnabled` goes along with a target; some reject it unchanged, others ignore a target without it.
    pub boot_enabled: Include,
    /// Whether `BootSourceOverrideMode` goes along.
    pub boot_mode: Include,
    /// What a virtual CD is called as a boot target, best first; the first that is allowed is taken.
    pub boot_cd: Vec<String>,
    /// Tries of a boot order that is refused during the power-on self-test, beyond those of the usual rules.
    pub post_tries: u32,
    /// Eject before inserting, whatever the slot says it holds.
    pub eject_always: bool,
    /// Tries of an insertion that fails with 500 because the slot is not free yet.
    pub insert_tries: u32,
    /// User name and password that an insertion needs although the image's server needs none.
    pub media_credentials: Option<String>,
    /// Tries of a power action that is refused with 409 because of the one before.
    pub conflict_tries: u32,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            sessions: true,
            keep_alive: false,
            boot_enabled: Include::Changed,
            boot_mode: Include::Changed,
            boot_cd: vec!["Cd".to_owned()],
            post_tries: 2,
            eject_always: false,
            insert_tries: 1,
            media_credentials: None,
            conflict_tries: 1,
        }
    }
}

/// Rules: which quirks who has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuirkTable {
    rules: Vec<Rule>,
}

/// Text that is no table of quirks.
#[derive(Debug, thiserror::Error)]
pub enum QuirkTableError {
    /// No YAML, or not of the form of a table.
    #[error("table of quirks: {0}")]
    Form(#[from] serde_yaml_ng::Error),
    /// A rule sets what does not exist, or to what it can't be.
    #[error("table of quirks: rule {rule} (vendor {vendor}): {detail}")]
    Rule {
        /// Its number, from 1.
        rule: usize,
        /// Its vendors.
        vendor: String,
        /// What is wrong.
        detail: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    vendor: Vec<String>,
    #[serde(default = "anything")]
    model: String,
    set: Map<String, Value>,
}

fn anything() -> String {
    "*".to_owned()
}

impl QuirkTable {
    /// The table that comes with this crate.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        Arc::clone(&BUILTIN)
    }

    /// A table in the form of `quirks.yaml`.
    ///
    /// # Errors
    /// What is wrong, with the number of the rule.
    pub fn parse(yaml: &str) -> Result<Self, QuirkTableError> {
        let rules: Vec<Rule> = serde_yaml_ng::from_str(yaml)?;
        for (at, rule) in rules.iter().enumerate() {
            resolve([rule]).map_err(|error| QuirkTableError::Rule {
                rule: at + 1,
                vendor: rule.vendor.join(", "),
                detail: error.to_string(),
            })?;
        }
        Ok(Self { rules })
    }

    /// This table with the rules of another after its own, so that they win.
    #[must_use]
    pub fn followed_by(&self, other: &Self) -> Self {
        Self {
            rules: self.rules.iter().chain(&other.rules).cloned().collect(),
        }
    }

    /// How a BMC wants to be treated; `vendors` and `models` are all the names it goes by.
    #[must_use]
    pub fn of(&self, vendors: &[&str], models: &[&str]) -> Quirks {
        let fits = |rule: &&Rule| {
            let vendor = rule.vendor.iter().any(|name| {
                let name = name.to_lowercase();
                vendors
                    .iter()
                    .any(|vendor| vendor.to_lowercase().starts_with(&name))
            });
            vendor && (rule.model == "*" || models.iter().any(|model| matches(&rule.model, model)))
        };
        resolve(self.rules.iter().filter(fits))
            .expect("each rule was tried when the table was read")
    }
}

fn resolve<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Result<Quirks, serde_json::Error> {
    let set = rules
        .into_iter()
        .flat_map(|rule| rule.set.clone())
        .collect();
    serde_json::from_value(Value::Object(set))
}

/// Whether a text fits a pattern with `*`, upper and lower case being the same.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_table_is_sound_and_later_rules_win() {
        let table = QuirkTable::builtin();
        assert_eq!(table.of(&["Contoso"], &["3500"]), Quirks::default());
        let x10 = table.of(&["Supermicro"], &["SYS-X10DRT"]);
        assert_eq!(
            (x10.boot_mode, x10.boot_enabled),
            (Include::Never, Include::Always)
        );
        assert_eq!(
            table.of(&["Supermicro"], &["X12"]).boot_mode,
            Include::Changed
        );
        let idrac10 = table.of(&["Dell Inc."], &["PowerEdge R770", "iDRAC10"]);
        assert_eq!((idrac10.conflict_tries, idrac10.insert_tries), (6, 3));
    }

    #[test]
    fn sites_add_rules_and_are_told_what_is_wrong_with_them() {
        let own = QuirkTable::parse("- vendor: [Contoso]\n  set: {sessions: false}").unwrap();
        let table = QuirkTable::builtin().followed_by(&own);
        assert!(!table.of(&["contoso"], &[]).sessions);
        let error = QuirkTable::parse("- vendor: [Contoso]\n  set: {sesions: false}").unwrap_err();
        assert!(
            error.to_string().contains("rule 1 (vendor Contoso)"),
            "{error}"
        );
        assert!(error.to_string().contains("sesions"), "{error}");
    }

    #[test]
    fn patterns_match_with_stars() {
        for (pattern, text, fits) in [
            ("*", "anything", true),
            ("X10*", "x10drt", true),
            ("*X10*", "SYS-X10DRT", true),
            ("*X10*", "X11", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("exact", "exactly", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
