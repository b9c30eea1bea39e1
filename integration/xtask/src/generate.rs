//! Files that are written by the code: CustomResourceDefinitions, the manifest of an installation and reference pages.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::step::root;
use crate::{install, pods};

/// Writes the generated files, or says which are out of date.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for (path, content) in files()? {
        let path = root().join(path);
        if fs::read_to_string(&path).is_ok_and(|old| old == content) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
    }
    if !stale.is_empty() {
        bail!(
            "out of date: {}; run `cargo xtask generate`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// All generated files with their content.
fn files() -> Result<Vec<(PathBuf, String)>> {
    let mut files: Vec<_> = catamaran_api::crd::render()
        .into_iter()
        .map(|(name, yaml)| (PathBuf::from("crds/api/generated").join(name), yaml))
        .collect();
    files.push((
        "docs/src/reference/support.md".into(),
        catamaran_spec::support::page(),
    ));
    files.push(("docs/src/reference/pods.md".into(), pods::page()));
    files.extend(install::definitions());
    files.push(("controller/deploy/install.yaml".into(), install::page()?));
    files.extend(install::hooks()?);
    Ok(files)
}
