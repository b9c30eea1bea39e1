//! The cluster, the images in its registry and the product in it: made when missing, brought up to date when the programs have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Cluster, SYSTEM, feed, step};
use crate::command;
use crate::programs;

/// Name of the registry on the nodes.
const REGISTRY: &str = "registry.lab:5000";
/// Image of the node daemon and the launchers.
const NODE: &str = "catamaran-node";
/// Image of the controller.
const CONTROLLER: &str = "catamaran-controller";
/// Longest that a roll-out may take: images are pulled, and the daemon probes its host.
const ROLL_OUT: Duration = Duration::from_secs(180);

/// Sees to everything that a test needs.
pub(super) fn ensure(cluster: &Cluster) -> Result<()> {
    step(cluster.command(["up", &cluster.nodes.to_string()]))?;
    push(cluster, &programs::images(), "minimal")?;
    cluster.install(&cluster.product()?)
}

/// The product's images in the cluster's registry, each named by its digest: a pod is replaced when its image has changed, and only then.
#[derive(Debug, Clone)]
pub struct Product {
    layout: PathBuf,
    /// The sources that its manifests are of.
    source: PathBuf,
    /// Reference of the controller's image.
    pub controller: String,
    /// Reference of the node image.
    pub node: String,
}

impl Product {
    /// A file of `controller/deploy` with these images in it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn manifest(&self, file: &str) -> Result<String> {
        let path = self.source.join("controller/deploy").join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = |image: &str| format!("{REGISTRY}/{image}:dev");
        Ok(text
            .replace(&name(NODE), &self.node)
            .replace(&name(CONTROLLER), &self.controller))
    }
}

impl Cluster {
    /// The images of the programs under test, built and pushed where that has not been done yet.
    ///
    /// # Errors
    /// When a build or a push fails.
    pub fn product(&self) -> Result<Product> {
        let programs = programs::find_all(&["catamaran-controller"])?;
        self.product_of(&programs::root(), &programs)
    }

    /// The images of the programs of other sources, such as those of an earlier commit, and the manifests there.
    ///
    /// # Errors
    /// As of [`Self::product`].
    pub fn product_of(&self, source: &Path, programs: &Path) -> Result<Product> {
        let layout = product_images(source, programs)?;
        let image = |image: &str| {
            push(self, &layout, image)?;
            let digest = digest(&layout, &format!("catamaran.local/{image}:dev"))?;
            anyhow::Ok(format!("{REGISTRY}/{image}@{digest}"))
        };
        Ok(Product {
            controller: image(CONTROLLER)?,
            node: image(NODE)?,
            layout: layout.clone(),
            source: source.to_owned(),
        })
    }

    /// The same programs as another version: images that differ in a label, and so in their digests.
    ///
    /// # Errors
    /// When an image can't be copied, changed or pushed.
    pub fn earlier(&self, product: &Product) -> Result<Product> {
        let work = tempfile::tempdir()?;
        let layout = work.path().display();
        let image = |image: &str| {
            let from = format!(
                "oci:{}:catamaran.local/{image}:dev",
                product.layout.display()
            );
            let to = format!("oci:{layout}:{image}");
            step(command::program("skopeo", ["copy", "-q", &from, &to]))?;
            let tag = format!("{layout}:{image}");
            let label = ["--config.label", "catamaran.dev/version=earlier"];
            step(command::program(
                "umoci",
                ["config", "--image", &tag, label[0], label[1]],
            ))?;
            step(self.command(["push", &tag, &format!("{image}:earlier")]))?;
            anyhow::Ok(format!(
                "{REGISTRY}/{image}@{}",
                digest(work.path(), image)?
            ))
        };
        Ok(Product {
            controller: image(CONTROLLER)?,
            node: image(NODE)?,
            layout: product.layout.clone(),
            source: product.source.clone(),
        })
    }

    /// Installs a product, or brings what is installed to it, and waits until all of it runs.
    ///
    /// # Errors
    /// When it is refused, or does not run in time.
    pub fn install(&self, product: &Product) -> Result<()> {
        self.apply_system(&product.manifest("install.yaml")?)
            .context("install Catamaran")?;
        self.settle()
    }

    /// Applies a manifest of the product as it is.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply_system(&self, manifest: &str) -> Result<String> {
        // Server-side: the definitions of our objects are larger than what the annotation of a client-side apply takes.
        let apply = self.command([
            "kubectl",
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=tests",
            "-f",
            "-",
        ]);
        feed(apply, manifest)
    }

    /// Starts the controllers anew with these settings of theirs (`NAME=VALUE`), until [`Self::install`] takes them back.
    ///
    /// # Errors
    /// When they do not run in time.
    pub fn set_controllers(&self, variables: &[&str]) -> Result<()> {
        let set = [
            "--namespace",
            SYSTEM,
            "set",
            "env",
            "deployment/catamaran-controller",
        ];
        self.kubectl(set.iter().chain(variables))?;
        self.settle()
    }

    /// Gives an installation the settings of the tests, and waits until all of it runs.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn settle(&self) -> Result<()> {
        // No test relies on hardware that a machine may not have.
        let settings = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "KubeVirt",
            "metadata": {"name": "catamaran", "namespace": SYSTEM},
            "spec": {"configuration": {"developerConfiguration": {"useEmulation": true}}},
        });
        feed(
            self.command(["kubectl", "apply", "-f", "-"]),
            &settings.to_string(),
        )?;
        let timeout = format!("--timeout={}s", ROLL_OUT.as_secs());
        for part in [
            "daemonset/catamaran-node",
            "deployment/catamaran-controller",
        ] {
            let rolled = self.kubectl(["--namespace", SYSTEM, "rollout", "status", part, &timeout]);
            rolled.with_context(|| self.report())?;
        }
        let served = self.kubectl([
            "wait",
            "--for=condition=Available",
            "apiservice/v1.subresources.kubevirt.io",
            "--timeout=60s",
        ]);
        served.with_context(|| self.report()).map(drop)
    }
}

/// Builds the product's images of some programs by the recipe of their sources; gives their layout.
fn product_images(source: &Path, programs: &Path) -> Result<PathBuf> {
    let target = programs.parent().context("programs have no folder above")?;
    let mut build = Command::new(source.join("integration/images/build"));
    build.arg(programs).env("CARGO_TARGET_DIR", target);
    // The deploy ISO is none of the programs, and packages are named by their digests: both are the same for all.
    let guests = programs::root().join("guest-images");
    for (variable, folder) in [
        ("CATAMARAN_GUEST_OUT", "out"),
        ("CATAMARAN_GUEST_CACHE", "cache"),
    ] {
        if std::env::var_os(variable).is_none() {
            build.env(variable, guests.join(folder));
        }
    }
    step(build)?;
    Ok(target.join("images/oci"))
}

fn push(cluster: &Cluster, layout: &Path, image: &str) -> Result<()> {
    let from = format!("{}:catamaran.local/{image}:dev", layout.display());
    step(cluster.command(["push", &from, &format!("{image}:dev")]))
}

/// Digest of an image in a layout, by its name there.
fn digest(layout: &Path, name: &str) -> Result<String> {
    let path = layout.join("index.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let index: Value = serde_json::from_str(&text)?;
    let manifests = index["manifests"].as_array();
    manifests
        .into_iter()
        .flatten()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == name)
        .and_then(|entry| entry["digest"].as_str())
        .map(str::to_owned)
        .with_context(|| format!("{}: no image {name}", path.display()))
}
