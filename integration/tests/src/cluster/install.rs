//! The cluster, the images in its registry and the product in it: made when missing, brought up to date when the programs have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Cluster, SYSTEM, feed, step};
use crate::programs;

/// Name of the registry on the nodes.
const REGISTRY: &str = "registry.lab:5000";
/// Images of the product.
const PRODUCT: [&str; 2] = ["catamaran-node", "catamaran-controller"];
/// Longest that a roll-out may take: images are pulled, and the daemon probes its host.
const ROLL_OUT: Duration = Duration::from_secs(180);

/// Sees to everything that a test needs.
pub(super) fn ensure(cluster: &Cluster) -> Result<()> {
    step(cluster.command(["up", &cluster.nodes.to_string()]))?;
    let layout = product_images()?;
    for image in PRODUCT {
        push(cluster, &layout, image)?;
    }
    push(cluster, &programs::images(), "minimal")?;
    let manifest = manifest(&layout)?;
    // Server-side: the definitions of our objects are larger than what the annotation of a client-side apply takes.
    let apply = cluster.command([
        "kubectl",
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=tests",
        "-f",
        "-",
    ]);
    feed(apply, &manifest).context("install Catamaran")?;
    // No test relies on hardware that a machine may not have.
    let settings = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "catamaran", "namespace": SYSTEM},
        "spec": {"configuration": {"developerConfiguration": {"useEmulation": true}}},
    });
    feed(
        cluster.command(["kubectl", "apply", "-f", "-"]),
        &settings.to_string(),
    )?;
    let timeout = format!("--timeout={}s", ROLL_OUT.as_secs());
    for part in [
        "daemonset/catamaran-node",
        "deployment/catamaran-controller",
    ] {
        let rolled = cluster.kubectl(["--namespace", SYSTEM, "rollout", "status", part, &timeout]);
        rolled.with_context(|| cluster.report())?;
    }
    let served = cluster.kubectl([
        "wait",
        "--for=condition=Available",
        "apiservice/v1.subresources.kubevirt.io",
        "--timeout=60s",
    ]);
    served.with_context(|| cluster.report()).map(drop)
}

/// Builds the product's images of the programs under test; gives their layout.
fn product_images() -> Result<PathBuf> {
    let programs = programs::find_all(&["catamaran-controller"])?;
    let mut build = Command::new(programs::root().join("integration/images/build"));
    build.arg(&programs);
    step(build)?;
    Ok(programs
        .parent()
        .context("programs have no folder above")?
        .join("images/oci"))
}

fn push(cluster: &Cluster, layout: &Path, image: &str) -> Result<()> {
    let from = format!("{}:catamaran.local/{image}:dev", layout.display());
    step(cluster.command(["push", &from, &format!("{image}:dev")]))
}

/// What installs the product, with the images named by their digests: a pod is replaced when its image has changed, and only then.
fn manifest(layout: &Path) -> Result<String> {
    let path = programs::root().join("controller/deploy/install.yaml");
    let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for image in PRODUCT {
        text = text.replace(
            &format!("{REGISTRY}/{image}:dev"),
            &format!("{REGISTRY}/{image}@{}", digest(layout, image)?),
        );
    }
    Ok(text)
}

/// Digest of an image in a layout.
fn digest(layout: &Path, image: &str) -> Result<String> {
    let path = layout.join("index.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let index: Value = serde_json::from_str(&text)?;
    let name = format!("catamaran.local/{image}:dev");
    let manifests = index["manifests"].as_array();
    manifests
        .into_iter()
        .flatten()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == name)
        .and_then(|entry| entry["digest"].as_str())
        .map(str::to_owned)
        .with_context(|| format!("{}: no image {name}", path.display()))
}
