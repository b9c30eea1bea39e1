//! Registry logins: from `imagePullSecrets` and from files in the form of docker's `config.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_cri::v1::AuthConfig;
use serde::Deserialize;
use tracing::debug;

use crate::objects::{Objects, entries};
use crate::pod::PodSpec;

#[derive(Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// Logins in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Logins {
    list: Vec<(String, Login)>,
}

impl Logins {
    pub(super) fn read(pod: &PodSpec, objects: &dyn Objects, files: &[PathBuf]) -> Self {
        let mut list = Vec::new();
        for secret in &pod.pull_secrets {
            let entries = entries(objects, &pod.key.namespace, true, secret).unwrap_or_default();
            let config = match (entries.get(".dockerconfigjson"), entries.get(".dockercfg")) {
                (Some(json), _) => serde_json::from_slice::<DockerConfig>(json),
                (None, Some(json)) => {
                    serde_json::from_slice(json).map(|auths| DockerConfig { auths })
                }
                (None, None) => {
                    debug!(secret, "no registry login in this Secret");
                    continue;
                }
            };
            list.extend(config.map(|config| config.auths).unwrap_or_default());
        }
        for file in files {
            let config = std::fs::read(file)
                .ok()
                .and_then(|json| serde_json::from_slice::<DockerConfig>(&json).ok());
            list.extend(config.unwrap_or_default().auths);
        }
        Self { list }
    }

    /// What to try for an image: each fitting login, or none at all.
    pub(super) fn find(&self, image: &str) -> Vec<Option<AuthConfig>> {
        let name = image.split('@').next().unwrap_or(image);
        let (registry, path) = match name.split_once('/') {
            Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => {
                (registry, path)
            }
            _ => ("docker.io", name),
        };
        let fits = |key: &str| {
            let key = key
                .trim_start_matches("https://")
                .trim_start_matches("http://")
                .trim_end_matches('/');
            let (host, rest) = key.split_once('/').unwrap_or((key, ""));
            let same = host == registry || (registry == "docker.io" && host == "index.docker.io");
            let prefix = rest
                .trim_start_matches("v1")
                .trim_start_matches("v2")
                .trim_matches('/');
            same && (prefix.is_empty()
                || path == prefix
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with(['/', ':'])))
        };
        let mut found: Vec<_> = self.list.iter().filter(|(key, _)| fits(key)).collect();
        // A login for a path before one for the whole registry.
        found.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        if found.is_empty() {
            return vec![None];
        }
        // The default registry's own host is another one; elsewhere a login must not follow a redirect.
        let server = if registry == "docker.io" {
            String::new()
        } else {
            format!("https://{registry}")
        };
        found
            .into_iter()
            .map(|(_, login)| Some(login.config(&server)))
            .collect()
    }
}

impl Login {
    fn config(&self, server: &str) -> AuthConfig {
        let decoded = STANDARD
            .decode(&self.auth)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = match pair {
            Some((username, password)) if self.username.is_empty() => (
                username.to_owned(),
                password.trim_end_matches('\0').to_owned(),
            ),
            _ => (self.username.clone(), self.password.clone()),
        };
        AuthConfig {
            username,
            password,
            auth: String::new(),
            server_address: server.to_owned(),
            identity_token: self.identitytoken.clone(),
            registry_token: self.registrytoken.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(keys: &[&str]) -> Logins {
        let login = |key: &str| Login {
            username: key.to_owned(),
            ..Login::default()
        };
        Logins {
            list: keys
                .iter()
                .map(|key| ((*key).to_owned(), login(key)))
                .collect(),
        }
    }

    #[test]
    fn the_login_of_the_longest_path_is_tried_first() {
        let logins = logins(&["reg.test:5000", "https://reg.test:5000/team", "other.test"]);
        let users = |image: &str| {
            logins
                .find(image)
                .into_iter()
                .map(|auth| auth.map(|auth| auth.username).unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            users("reg.test:5000/team/app:1"),
            ["https://reg.test:5000/team", "reg.test:5000"]
        );
        assert_eq!(users("reg.test:5000/teams/app:1"), ["reg.test:5000"]);
        assert_eq!(users("third.test/app"), [""]);
    }

    #[test]
    fn a_login_is_decoded_and_may_have_colons_in_its_password() {
        let login = Login {
            auth: STANDARD.encode("user:pa:ss"),
            ..Login::default()
        };
        let auth = login.config("https://reg.test");
        assert_eq!(
            (
                auth.username.as_str(),
                auth.password.as_str(),
                auth.server_address.as_str()
            ),
            ("user", "pa:ss", "https://reg.test")
        );
    }

    #[test]
    fn the_default_registry_is_known_by_its_old_name() {
        let logins = logins(&["https://index.docker.io/v1/"]);
        assert!(
            logins.find("busybox").remove(0).is_some()
                && logins.find("reg.test/busybox").remove(0).is_none()
        );
    }
}
