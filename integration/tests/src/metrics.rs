//! Names of metrics: those that alert rules and dashboards ask for, and those of a scrape.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::programs::root;

/// What a histogram makes of its name.
const SUFFIXES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Names that the alert rules and the dashboards ask for, those of histograms without what is added to them.
///
/// # Errors
/// When a file can't be read.
pub fn asked() -> Result<BTreeSet<String>> {
    let deploy = root().join("controller/deploy");
    let rules = fs::read_to_string(deploy.join("chart/alerts/rules.yaml"))?;
    let expressions = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut names: BTreeSet<String> = expressions.flat_map(names).collect();
    for entry in fs::read_dir(deploy.join("dashboards"))? {
        names.extend(of_dashboard(&entry?.path())?);
    }
    Ok(names)
}

/// Names in the queries of a dashboard.
fn of_dashboard(path: &PathBuf) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let board: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let panels = list(&board["panels"]);
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let queries = targets.map(|target| target["expr"].clone());
    let variables = list(&board["templating"]["list"]);
    let queries = queries.chain(variables.iter().map(|variable| variable["query"].clone()));
    Ok(queries
        .filter_map(|query| query.as_str().map(str::to_owned))
        .flat_map(|query| names(&query))
        .collect())
}

/// Names of metrics in a query, or in a page of a scrape.
#[must_use]
pub fn names(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("kubevirt_") || word.starts_with("catamaran_"))
        .map(|word| {
            let base = SUFFIXES.iter().find_map(|suffix| word.strip_suffix(suffix));
            // Not only histograms end so.
            match base {
                Some(base) if base.ends_with("_seconds") => base.to_owned(),
                _ => word.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_histogram_counts_as_one() {
        let query =
            "sum(rate(catamaran_x_seconds_bucket{a=\"b\"}[5m])) / kubevirt_vmi_phase_count > 1";
        assert_eq!(
            names(query),
            ["catamaran_x_seconds", "kubevirt_vmi_phase_count"]
        );
    }
}
