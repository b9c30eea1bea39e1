//! Alert rules and dashboards: Prometheus' own tool understands them, and they ask for metrics that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::command::stdout;
use catamaran_tests::metrics;
use catamaran_tests::programs::root;

const RULES: &str = "controller/deploy/chart/alerts/rules.yaml";

/// Debian's promtool; fetched on the first run.
fn promtool() -> Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), PathBuf::from)
        .join("promtool");
    stdout(Command::new(root().join("integration/setup/promtool")).arg(&folder))?;
    Ok(folder.join("promtool"))
}

#[test]
fn rules_are_understood_and_fire_when_they_should() -> Result<()> {
    let promtool = promtool()?;
    stdout(
        Command::new(&promtool)
            .args(["check", "rules", "--lint-fatal"])
            .arg(root().join(RULES)),
    )?;
    let tests = root().join("controller/deploy/alerts/test.yaml");
    stdout(Command::new(&promtool).args(["test", "rules"]).arg(tests)).map(drop)
}

/// The alerts' names.
fn alerts() -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join(RULES))?;
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn every_alert_is_tested_and_explained() -> Result<()> {
    let read = |path: &str| fs::read_to_string(root().join(path)).context(path.to_owned());
    let (tests, page) = (
        read("controller/deploy/alerts/test.yaml")?,
        read("docs/src/reference/alerts.md")?,
    );
    let alerts = alerts()?;
    ensure!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        let (quoted, plain) = (
            format!("alertname=\"{alert}\""),
            format!("alertname: {alert}\n"),
        );
        ensure!(
            tests.contains(&quoted) || tests.contains(&plain),
            "{alert} is not tested"
        );
        ensure!(
            page.contains(&format!("\n## {alert}\n")),
            "{alert} is not explained"
        );
    }
    Ok(())
}

/// Literals of the code that look like names of metrics; `{…}` stands for any word.
fn exported() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("controller"), root().join("node/daemon/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(literals(&path)?);
            }
        }
    }
    Ok(names)
}

fn literals(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let name = |literal: &&str| {
        let ours = literal.starts_with("kubevirt_") || literal.starts_with("catamaran_");
        ours && literal
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_{}".contains(c))
    };
    Ok(text.split('"').filter(name).map(str::to_owned).collect())
}

/// Whether a name is what a literal stands for.
fn matches(literal: &str, name: &str) -> bool {
    let Some((before, rest)) = literal.split_once('{') else {
        return literal == name;
    };
    let Some((_, after)) = rest.split_once('}') else {
        return false;
    };
    let Some(name) = name.strip_prefix(before) else {
        return false;
    };
    name.match_indices('_')
        .map(|(at, _)| at)
        .chain([name.len()])
        .any(|at| at > 0 && matches(after, &name[at..]))
}

#[test]
fn rules_and_dashboards_ask_for_metrics_that_the_code_exports() -> Result<()> {
    let exported = exported()?;
    let asked = metrics::asked()?;
    ensure!(asked.len() > 20, "{asked:?}");
    let absent: Vec<&String> = asked
        .iter()
        .filter(|name| !exported.iter().any(|literal| matches(literal, name)))
        .collect();
    ensure!(absent.is_empty(), "nobody exports {absent:?}");
    Ok(())
}
