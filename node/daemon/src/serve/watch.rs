//! Watched manifests: files and folders given to `play` are applied when their content changes, and what a removed file had applied is deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::manifests;
use crate::serve::daemon::Daemon;
use crate::serve::manifest;
use crate::serve::store::Kind;
use crate::serve::time;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Applies the files and looks again for ever. Files that are wrong are reported once for each content, and what they applied before stays.
pub async fn supervise(daemon: Arc<Daemon>, files: Vec<PathBuf>) {
    let mut seen: BTreeMap<PathBuf, String> = BTreeMap::new();
    loop {
        look(&daemon, &files, &mut seen);
        tokio::time::sleep(LOOK).await;
    }
}

fn look(daemon: &Daemon, files: &[PathBuf], seen: &mut BTreeMap<PathBuf, String>) {
    let now: BTreeMap<PathBuf, String> = paths(files)
        .into_iter()
        .filter_map(|path| manifests::read_one(&path).ok())
        .filter_map(|manifest| Some((manifest.path?, manifest.text)))
        .collect();
    for (path, text) in &now {
        if seen.get(path) != Some(text) {
            apply(daemon, path, text);
        }
    }
    // Only what the daemon has seen go is deleted; a folder that can't be read takes nothing with it.
    for gone in seen.keys().filter(|path| {
        !now.contains_key(*path) && !path.exists() && path.parent().is_some_and(Path::is_dir)
    }) {
        for kind in Kind::ALL {
            for (key, stored) in daemon.store.list(kind) {
                if stored.source.as_deref() == Some(gone) {
                    tracing::info!(object = %key, file = %gone.display(), "its file was removed");
                    if let Err(error) = daemon.delete(&key, false) {
                        daemon
                            .events
                            .warning(&key, "NotDeleted", catamaran_client::chain(&error));
                    }
                }
            }
        }
    }
    *seen = now;
}

fn paths(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for file in files {
        match manifests::in_folder(file) {
            Ok(more) => paths.extend(more),
            Err(_) => paths.push(file.clone()),
        }
    }
    paths
}

fn apply(daemon: &Daemon, path: &Path, text: &str) {
    let name = path.display().to_string();
    let parsed = manifest::parse(&[(name.clone(), Some(path.to_owned()), text.to_owned())]);
    let documents = match parsed {
        Ok(documents) => documents,
        Err(problems) => {
            for problem in problems {
                tracing::error!("{problem}");
            }
            return;
        }
    };
    for warning in documents.iter().flat_map(|document| &document.warnings) {
        tracing::warn!("{warning}");
    }
    if let Err(error) = daemon.apply(&documents) {
        tracing::error!(
            file = name,
            error = catamaran_client::chain(&error),
            "not applied"
        );
        return;
    }
    // Objects that this file had before and has no more.
    for kind in Kind::ALL {
        for (key, stored) in daemon.store.list(kind) {
            if stored.source.as_deref() == Some(path)
                && !documents.iter().any(|document| document.key == key)
            {
                let _ = daemon.store.mark_deleted(&key, &time::now());
            }
        }
    }
}
