//! Metrics: the names that alert rules and dashboards ask for, and what a scrape says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
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

/// What a scrape says, in Prometheus' text format.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape(Vec<Sample>);

/// One line of it.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Reads a page.
    ///
    /// # Errors
    /// When a line is not understood.
    pub fn parse(page: &str) -> Result<Self> {
        let lines = page.lines().map(str::trim);
        let samples = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let read = samples.map(|line| sample(line).with_context(|| format!("sample {line:?}")));
        Ok(Self(read.collect::<Result<_>>()?))
    }

    /// The value of the one sample of that name with these labels among its own.
    ///
    /// # Errors
    /// When there is none, or there are several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let of_name: Vec<&Sample> = self.0.iter().filter(|sample| sample.name == name).collect();
        let has = |sample: &Sample, (label, value): &(&str, &str)| {
            sample.labels.get(*label).is_some_and(|own| own == value)
        };
        let mut found = of_name
            .iter()
            .filter(|sample| labels.iter().all(|label| has(sample, label)));
        match (found.next(), found.next()) {
            (Some(sample), None) => Ok(sample.value),
            (None, _) => bail!("no {name} with {labels:?} among {of_name:?}"),
            _ => bail!("several {name} with {labels:?}: {of_name:?}"),
        }
    }
}

/// `NAME{LABEL="VALUE",…} VALUE`; label values without quotes, commas and braces.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let pairs = labels.strip_suffix('}')?.split(',');
    let labels = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (label, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((label.to_owned(), value.to_owned()))
    });
    Some(Sample {
        name: name.to_owned(),
        labels: labels.collect::<Option<_>>()?,
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Scrape, names};

    #[test]
    fn a_scrape_is_read_by_name_and_labels() {
        let page = "# HELP a Words.\na 1\nb{c=\"d\",e=\"f\"} 2.5\nb{c=\"x\",e=\"\"} 3\n";
        let scrape = Scrape::parse(page).unwrap();
        assert_eq!(scrape.value("a", &[]).unwrap(), 1.0);
        assert_eq!(scrape.value("b", &[("c", "d")]).unwrap(), 2.5);
        assert!(scrape.value("b", &[]).is_err());
        assert!(scrape.value("b", &[("c", "y")]).is_err());
        assert!(Scrape::parse("b{c} 1").is_err());
    }

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
