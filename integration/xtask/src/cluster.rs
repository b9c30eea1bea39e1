//! The Kubernetes of the tests, and the product's images in its registry.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::step::{self, cargo, root};

/// Packages whose programs are in the images.
const PACKAGES: [&str; 3] = [
    "catamaran-node",
    "catamaran-launcher",
    "catamaran-controller",
];
/// Images of the product, by their names in the layout that `integration/images/build` writes.
pub(crate) const IMAGES: [&str; 2] = ["catamaran-node", "catamaran-controller"];

/// Runs `integration/cluster/cluster`.
///
/// # Errors
/// When it fails; it has said why.
pub(crate) fn run(words: &[OsString]) -> Result<()> {
    let program = root().join("integration/cluster/cluster");
    let status = Command::new(&program)
        .args(words)
        .status()
        .with_context(|| program.display().to_string())?;
    if !status.success() {
        bail!("cluster: {status}");
    }
    Ok(())
}

/// Whether the control plane runs.
pub(crate) fn is_up() -> bool {
    Command::new(root().join("integration/cluster/cluster"))
        .arg("status")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Builds the product's images, and pushes them to the cluster's registry.
///
/// # Errors
/// When a build fails, or the cluster is down.
pub(crate) fn images(release: bool, push: bool) -> Result<()> {
    let mut command = cargo(&["build", "--bins", "--locked"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    if release {
        command.arg("--release");
    }
    step::run("programs", &mut command)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let programs = target.join(if release { "release" } else { "debug" });
    step::run(
        "images",
        Command::new(root().join("integration/images/build")).arg(programs),
    )?;
    if !push {
        return Ok(());
    }
    let layout = target.join("images/oci");
    for image in IMAGES {
        let mut from = layout.clone().into_os_string();
        from.push(format!(":catamaran.local/{image}:dev"));
        run(&["push".into(), from, format!("{image}:dev").into()])?;
    }
    Ok(())
}
