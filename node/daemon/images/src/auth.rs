//! Credentials for registries: image pull secrets given as bytes, and the files that Docker, Podman and Skopeo use.
//!
//! Credential helpers (`credsStore`, `credHelpers`) are programs; the daemon is root and does not run them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// Larger authentication files are not read.
const MAX_FILE: u64 = 1 << 20;

/// Credentials of one request, in the order in which they are tried.
#[derive(Clone, Default)]
pub struct PullAuth {
    secrets: Vec<(String, DockerConfig)>,
    fingerprint: Option<Digest>,
}

impl PullAuth {
    /// No secrets; the files of the host are still used.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an image pull secret: the value of its `.dockerconfigjson` or legacy `.dockercfg` key. `name` is used in messages.
    ///
    /// # Errors
    /// The bytes are not JSON of that shape; the message names the secret and no content.
    pub fn with_secret(mut self, name: &str, bytes: &[u8]) -> Result<Self, String> {
        let config = DockerConfig::parse(bytes).ok_or_else(|| {
            format!("image pull secret {name} does not hold a Docker configuration")
        })?;
        let mut hasher = Sha256::new();
        if let Some(before) = &self.fingerprint {
            hasher.update(before.hex());
        }
        hasher.update(bytes);
        self.fingerprint = Some(Digest::from_hasher(hasher));
        self.secrets
            .push((format!("image pull secret {name}"), config));
        Ok(self)
    }

    /// Same secrets, same text: requests of different callers are joined only then.
    pub(crate) fn fingerprint(&self) -> String {
        self.fingerprint
            .as_ref()
            .map(Digest::to_string)
            .unwrap_or_default()
    }
}

impl fmt::Debug for PullAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.secrets.iter().map(|(name, _)| name).collect();
        f.debug_struct("PullAuth")
            .field("secrets", &names)
            .finish_non_exhaustive()
    }
}

/// Authentication files of the host, read anew at each pull.
#[derive(Debug, Clone, Default)]
pub struct AuthFiles {
    paths: Vec<PathBuf>,
}

impl AuthFiles {
    /// No files.
    pub fn none() -> Self {
        Self::default()
    }

    /// These files; missing ones are skipped.
    pub fn at(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The usual places, from the process' environment: `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`,
    /// `~/.config/containers/auth.json`, `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`.
    pub fn from_environment() -> Self {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let home = variable("HOME");
        let paths = [
            variable("REGISTRY_AUTH_FILE"),
            variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            home.as_ref()
                .map(|home| home.join(".config/containers/auth.json")),
            variable("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
            home.map(|home| home.join(".docker/config.json")),
        ];
        Self {
            paths: paths.into_iter().flatten().collect(),
        }
    }

    /// The files, first wins.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The places in words, for messages.
    pub(crate) fn places(&self) -> String {
        let shown: Vec<_> = self.paths.iter().map(|p| p.display().to_string()).collect();
        if shown.is_empty() {
            "no authentication files".to_owned()
        } else {
            shown.join(", ")
        }
    }
}

/// One way to log in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// Where it comes from, in words.
    pub(crate) origin: String,
    pub(crate) secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Password { user: String, password: String },
    Token(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// All credentials for an image, best first.
pub(crate) fn credentials(
    registry: &str,
    repository: &str,
    auth: &PullAuth,
    files: &AuthFiles,
) -> Vec<Credential> {
    let mut found: Vec<Credential> = Vec::new();
    let mut add = |origin: &str, config: &DockerConfig| {
        if let Some(secret) = config.find(registry, repository)
            && !found.iter().any(|c| c.secret == secret)
        {
            found.push(Credential {
                origin: origin.to_owned(),
                secret,
            });
        }
    };
    for (origin, config) in &auth.secrets {
        add(origin, config);
    }
    for path in &files.paths {
        if let Some(config) = read_file(path) {
            add(&path.display().to_string(), &config);
        }
    }
    found
}

fn read_file(path: &Path) -> Option<DockerConfig> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "authentication file cannot be read");
            }
            return None;
        }
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE).read_to_end(&mut bytes);
    let config = read.ok().and_then(|_| DockerConfig::parse(&bytes));
    if config.is_none() {
        tracing::warn!(path = %path.display(), "authentication file is not a Docker configuration; it is ignored");
    }
    config
}

#[derive(Clone, Default)]
struct DockerConfig {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    registrytoken: String,
}

impl Entry {
    fn secret(&self) -> Option<Secret> {
        if !self.registrytoken.is_empty() {
            return Some(Secret::Token(self.registrytoken.clone()));
        }
        if !self.auth.is_empty() {
            let text = self.auth.trim();
            let bytes = STANDARD
                .decode(text)
                .or_else(|_| STANDARD_NO_PAD.decode(text))
                .ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (user, password) = text.trim_end_matches('\0').split_once(':')?;
            return Some(Secret::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            });
        }
        (!self.username.is_empty()).then(|| Secret::Password {
            user: self.username.clone(),
            password: self.password.clone(),
        })
    }
}

impl DockerConfig {
    fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Modern {
            auths: Option<BTreeMap<String, Entry>>,
        }
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(bytes).ok()?;
        let modern = ["auths", "credsStore", "credHelpers", "HttpHeaders"]
            .iter()
            .any(|key| object.contains_key(*key));
        let entries = if modern || object.is_empty() {
            serde_json::from_slice::<Modern>(bytes)
                .ok()?
                .auths
                .unwrap_or_default()
        } else {
            serde_json::from_slice(bytes).ok()?
        };
        Some(Self { entries })
    }

    /// The entry whose key is the longest prefix of `registry/repository`.
    fn find(&self, registry: &str, repository: &str) -> Option<Secret> {
        let mut best: Option<(usize, Secret)> = None;
        for (key, entry) in &self.entries {
            if let Some(length) = matches(key, registry, repository)
                && best.as_ref().is_none_or(|(longest, _)| length > *longest)
                && let Some(secret) = entry.secret()
            {
                best = Some((length, secret));
            }
        }
        best.map(|(_, secret)| secret)
    }
}

/// Length of the matched path when `key` (`host[:port][/path]`, `https://host/v1/`, `*.host`) covers the repository.
fn matches(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = if path == "v1" || path == "v2" {
        ""
    } else {
        path
    };
    if !same_host(host, registry) {
        return None;
    }
    let covered = path.is_empty()
        || repository == path
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'));
    covered.then_some(path.len())
}

fn same_host(pattern: &str, registry: &str) -> bool {
    const DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    if DOCKER.contains(&pattern) && DOCKER.contains(&registry) {
        return true;
    }
    let (pattern, registry) = (pattern.to_ascii_lowercase(), registry.to_ascii_lowercase());
    if !pattern.contains('*') {
        return pattern == registry;
    }
    // As in kubelet: a star stands for one whole label or a part of one, never for a dot.
    let (pattern, registry): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), registry.split('.').collect());
    pattern.len() == registry.len()
        && pattern
            .iter()
            .zip(&registry)
            .all(|(pattern, label)| match pattern.split_once('*') {
                None => pattern == label,
                Some((before, after)) => {
                    label.len() >= before.len() + after.len()
                        && label.starts_with(before)
                        && label.ends_with(after)
                        && !after.contains('*')
                }
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(config: &str, registry: &str, repository: &str) -> Option<String> {
        match DockerConfig::parse(config.as_bytes())
            .unwrap()
            .find(registry, repository)?
        {
            Secret::Password { user, .. } => Some(user),
            Secret::Token(token) => Some(token),
        }
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let config = r#"{"auths":{"r.example":{"username":"host"},"r.example/team":{"username":"team"},"r.example/team/app":{"auth":"YXBwOnB3"}}}"#;
        assert_eq!(user(config, "r.example", "other").as_deref(), Some("host"));
        assert_eq!(user(config, "r.example", "team/x").as_deref(), Some("team"));
        assert_eq!(
            user(config, "r.example", "team/app").as_deref(),
            Some("app")
        );
        assert_eq!(
            user(config, "r.example", "teammate").as_deref(),
            Some("host")
        );
        assert_eq!(user(config, "r.example:5000", "team"), None);
    }

    #[test]
    fn urls_stars_and_the_legacy_file_are_understood() {
        assert_eq!(
            user(
                r#"{"auths":{"https://index.docker.io/v1/":{"username":"u"}}}"#,
                "index.docker.io",
                "library/x"
            )
            .as_deref(),
            Some("u")
        );
        assert_eq!(
            user(
                r#"{"auths":{"*.r.example":{"username":"u"}}}"#,
                "a.r.example",
                "x"
            )
            .as_deref(),
            Some("u")
        );
        assert_eq!(
            user(
                r#"{"auths":{"*.r.example":{"username":"u"}}}"#,
                "a.b.r.example",
                "x"
            ),
            None
        );
        assert_eq!(
            user(r#"{"r.example":{"auth":"dTpw"}}"#, "r.example", "x").as_deref(),
            Some("u")
        );
        assert_eq!(user(r#"{"credsStore":"x"}"#, "r.example", "x"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let auth = PullAuth::none()
            .with_secret(
                "pull",
                br#"{"auths":{"r.example":{"username":"u","password":"canary-1"}}}"#,
            )
            .unwrap();
        let found = credentials("r.example", "x", &auth, &AuthFiles::none());
        assert_eq!(found.len(), 1);
        assert!(!format!("{auth:?}{found:?}").contains("canary"));
        let error = PullAuth::none()
            .with_secret("pull", b"canary-2")
            .unwrap_err();
        assert!(error.contains("pull") && !error.contains("canary"));
    }

    #[test]
    fn different_secrets_have_different_fingerprints() {
        let with = |text: &str| {
            PullAuth::none()
                .with_secret("s", text.as_bytes())
                .unwrap()
                .fingerprint()
        };
        assert_ne!(with(r#"{"auths":{}}"#), PullAuth::none().fingerprint());
        assert_ne!(with(r#"{"auths":{}}"#), with(r#"{"auths":{} }"#));
    }
}
