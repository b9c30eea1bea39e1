//! Chromium at the console of the installed controller.
//!
//! The browser is on a node's network, where the console's service answers at its own name, whichever of the controller's pods are behind it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{Cluster, MINIMAL, SYSTEM};
use crate::pages;

/// The service of the controller's API, and so of its console.
const SERVICE: &str = "catamaran-api";

/// Somebody who logs in: name, role, and whether the role is for all namespaces or the test's only.
pub type User<'a> = (&'a str, &'a str, bool);

impl Cluster {
    /// Makes users and runs the browser tests of a folder of `real` (see [`pages::run`]) with their tokens; gives what they have said.
    ///
    /// # Errors
    /// When one fails.
    pub fn pages(&self, folder: &str, users: &[User<'_>]) -> Result<String> {
        let everywhere = users.iter().filter(|(_, _, everywhere)| *everywhere);
        let binding =
            |(name, _, _): &User<'_>| format!("clusterrolebinding/{}-{name}", self.namespace());
        let _gone = self.gone_afterwards(everywhere.map(binding));
        let mut tokens = Map::new();
        for (name, role, everywhere) in users {
            let token = self.user(name, role, *everywhere)?;
            tokens.insert((*name).to_owned(), token.into());
        }
        let work = tempfile::tempdir()?;
        let service = format!("service/{SERVICE}");
        let field = "jsonpath={.spec.clusterIP}";
        let address = self.kubectl(["--namespace", SYSTEM, "get", &service, "-o", field])?;
        let name = format!("{SERVICE}.{SYSTEM}.svc");
        let script = self.command(["kubectl"]);
        let script = script.get_program().to_str().context("a path in UTF-8")?;
        let given = json!({
            "address": format!("https://{name}"),
            "browser": self.browser_on_node(1, work.path())?,
            "browserFlags": [format!("--host-resolver-rules=MAP {name} {address}"), "--no-proxy-server"],
            "kubectl": [script, "kubectl"],
            "namespace": self.namespace(),
            "image": MINIMAL,
            "tokens": Value::Object(tokens),
        });
        pages::run(folder, &given)
    }

    /// A program that is Chromium on the network of a node.
    fn browser_on_node(&self, node: u8, folder: &Path) -> Result<String> {
        let program = folder.join("chromium");
        let network = self.network_of(node);
        let script = format!(
            "#!/bin/sh\nexec nsenter --net='{}' -- '{}' \"$@\"\n",
            network.display(),
            pages::chromium()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(program.display().to_string())
    }
}
