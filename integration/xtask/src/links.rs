//! Relative links of all Markdown files lead to a file that is there, and every page of the book stands in its summary.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step::root;

/// Where the book's pages are.
const BOOK: &str = "docs/src";

/// Checks every Markdown file that git knows or would add.
///
/// # Errors
/// All links that lead nowhere and all pages that are not in the book.
pub(crate) fn check() -> Result<()> {
    eprintln!("==> links of the documentation");
    let files = files()?;
    let mut problems = Vec::new();
    let mut linked = BTreeSet::new();
    for file in &files {
        let text =
            fs::read_to_string(root().join(file)).with_context(|| file.display().to_string())?;
        for target in targets(&text) {
            let path = normal(&file.parent().unwrap_or(Path::new("")).join(&target));
            if !root().join(&path).exists() {
                problems.push(format!("{}: {target} leads nowhere", file.display()));
            } else if *file == Path::new(BOOK).join("SUMMARY.md") {
                linked.insert(root().join(path).canonicalize()?);
            }
        }
    }
    for page in files
        .iter()
        .filter(|file| file.starts_with("docs") && !file.ends_with("SUMMARY.md"))
    {
        if !linked.contains(&root().join(page).canonicalize()?) {
            problems.push(format!("{}: is not in {BOOK}/SUMMARY.md", page.display()));
        }
    }
    if !problems.is_empty() {
        bail!("links of the documentation:\n{}", problems.join("\n"));
    }
    Ok(())
}

/// Markdown files, relative to the top folder. Links to folders of the book stand for the files behind them.
fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
            "*.md",
        ])
        .current_dir(root())
        .output()
        .context("git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout)?;
    Ok(names
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|file| root().join(file).exists())
        .collect())
}

/// Relative targets of inline links, without their fragments. Code is no link.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        // What stands between backticks: every second piece.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        for piece in prose.split("](").skip(1) {
            let target = piece.split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

/// Without `.` and `..`: a link of the file system on the way is not followed, as a browser follows none.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{normal, targets};

    #[test]
    fn relative_targets_are_found_without_fragments() {
        let text =
            "See [a](a.md#part), [b](../b.md \"title\") and [c](https://c.org/) or [d](#below).\n";
        assert_eq!(targets(text), ["a.md", "../b.md"]);
    }

    #[test]
    fn code_is_no_link() {
        assert!(targets("`[a](b.md)`\n```text\n[a](b.md)\n```\n").is_empty());
    }

    #[test]
    fn paths_are_followed_as_a_browser_does() {
        assert_eq!(
            normal(Path::new("docs/src/../decisions/./a.md")),
            PathBuf::from("docs/decisions/a.md")
        );
    }

    #[test]
    fn documentation_of_this_repository_has_no_dead_links() {
        super::check().unwrap();
    }
}
