//! Secrets and ConfigMaps as folders in a machine's file view. A plan names them; contents go from the store to files and never into a plan.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use catamaran_plan::paths::GID;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::serve::store::{Key, Kind, Store};

/// A Secret or ConfigMap could not be shown to a machine.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such object.
    #[error("{0} not found")]
    NotFound(Key),
    /// The object is not of its kind's shape.
    #[error("{key} is not readable: {why}")]
    Shape {
        /// Which.
        key: Key,
        /// Why.
        why: String,
    },
    /// Its folder could not be written.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Files of a Secret or ConfigMap: key to content. `stringData` wins over `data`, as on Kubernetes.
///
/// # Errors
/// When there is no such object or it has another shape.
pub fn files(store: &Store, key: &Key) -> Result<BTreeMap<String, Vec<u8>>, ConfigError> {
    let stored = store
        .get(key)
        .ok_or_else(|| ConfigError::NotFound(key.clone()))?;
    let shape = |error: serde_json::Error| ConfigError::Shape {
        key: key.clone(),
        why: error.to_string(),
    };
    let text = |map: Option<BTreeMap<String, String>>| {
        map.unwrap_or_default()
            .into_iter()
            .map(|(name, text)| (name, text.into_bytes()))
    };
    let bytes = |map: Option<BTreeMap<String, ByteString>>| {
        map.unwrap_or_default()
            .into_iter()
            .map(|(name, bytes)| (name, bytes.0))
    };
    Ok(match key.kind {
        Kind::Secret => {
            let secret: Secret = stored.typed().map_err(shape)?;
            bytes(secret.data).chain(text(secret.string_data)).collect()
        }
        _ => {
            let map: ConfigMap = stored.typed().map_err(shape)?;
            bytes(map.binary_data).chain(text(map.data)).collect()
        }
    })
}

/// Writes the files into a fresh folder that only root and the sandbox's group can read.
///
/// # Errors
/// When a key is no file name or the folder can't be written.
pub fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), ConfigError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ConfigError::Io { path, source }
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(folder)(error)),
        _ => {}
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .map_err(failed(folder))?;
    chown(folder, Some(0), Some(GID)).map_err(failed(folder))?;
    for (name, content) in files {
        let path = folder.join(name);
        if !is_file_name(name) {
            return Err(failed(&path)(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("key {name:?} is no file name"),
            )));
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o440)
            .open(&path)
            .map_err(failed(&path))?;
        file.write_all(content).map_err(failed(&path))?;
        chown(&path, Some(0), Some(GID)).map_err(failed(&path))?;
    }
    Ok(())
}

/// Kubernetes' rule for keys, which makes them file names.
#[must_use]
pub fn is_file_name(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !key.is_empty()
        && key.len() <= 253
        && key.bytes().all(allowed)
        && !key.starts_with("..")
        && key != "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lead_out_of_the_folder_are_refused() {
        for key in ["..", "../x", "a/b", "", ".", "..data"] {
            assert!(!is_file_name(key), "{key}");
        }
        assert!(is_file_name(".dockerconfigjson"));
    }
}
