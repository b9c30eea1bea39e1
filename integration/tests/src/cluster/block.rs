//! Block devices for claims.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use crate::command;

/// Nodes that `integration/cluster` can have.
const MOST_NODES: u8 = 9;

/// A block device of this machine, which all nodes see; it goes with the value.
#[derive(Debug)]
pub struct BlockDevice {
    file: tempfile::NamedTempFile,
    path: String,
}

impl BlockDevice {
    /// One of 64 MiB.
    ///
    /// # Errors
    /// When no loop device can be had.
    pub fn make() -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        file.as_file().set_len(64 << 20)?;
        let words = [PathBuf::from("--find"), "--show".into(), file.path().into()];
        let said = command::stdout(&mut command::program("losetup", words))?;
        Ok(Self {
            file,
            path: said.trim().to_owned(),
        })
    }

    /// `/dev/loop0`, …
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is on it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn content(&self) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.file.path())?)
    }

    /// Volume and claim as for a file system ([`super::Cluster::shared_claim`]), made those of this device.
    pub fn claimed(&self, objects: &mut [Value; 2]) {
        let [volume, claim] = objects;
        let spec = &mut volume["spec"];
        spec["hostPath"] = Value::Null;
        spec["local"] = json!({"path": self.path});
        // All nodes have it, and an earlier test may have left more of them than this one has asked for.
        let names: Vec<_> = (1..=MOST_NODES).map(|n| format!("node{n}")).collect();
        spec["nodeAffinity"]["required"]["nodeSelectorTerms"] = json!([{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": names},
        ]}]);
        for spec in [spec, &mut claim["spec"]] {
            spec["volumeMode"] = "Block".into();
        }
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        let _ = command::stdout(&mut command::program("losetup", ["--detach", &self.path]));
    }
}
