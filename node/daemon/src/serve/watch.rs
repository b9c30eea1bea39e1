//! Watched manifests: files and folders given to `play` are applied when their content changes, and what a removed file had applied is deleted.
//!
//! Each look compares what the files say with what was done, so that what failed is tried again: an object that is on its way out is applied when it
//! is gone, and a claim is deleted when its machine no longer runs. Nothing is deleted before two looks agree: editors remove a file to write it anew, or
//! empty it first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::manifests;
use crate::serve::daemon::Daemon;
use crate::serve::manifest::{self, Document};
use crate::serve::store::{Key, Kind, StoreError};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks that must agree before something is deleted.
const AGREED: u32 = 2;

/// Looks again until everything is to stop.
pub async fn supervise(daemon: Arc<Daemon>, mut watch: Watch) {
    loop {
        tokio::time::sleep(LOOK).await;
        // What was refused so far must not come up while all else goes down.
        if daemon.stopping().borrow().is_some() {
            return;
        }
        watch.look(&*daemon);
    }
}

/// Where manifests are applied to: the daemon, or a store alone in tests.
pub trait Target {
    /// Applies the objects of one file.
    ///
    /// # Errors
    /// When it is refused.
    fn apply(&self, documents: &[Document]) -> Result<(), StoreError>;

    /// Objects that came from watched files.
    fn homes(&self) -> Vec<Home>;

    /// Deletes an object that no file has any more.
    ///
    /// # Errors
    /// When it can't be deleted yet.
    fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// An object can't be deleted yet; told once for each reason.
    fn not_deleted(&self, key: &Key, why: &str);
}

/// An object and the file that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The object.
    pub key: Key,
    /// The file.
    pub file: PathBuf,
    /// Its deletion was asked for.
    pub leaving: bool,
}

impl Target for Daemon {
    fn apply(&self, documents: &[Document]) -> Result<(), StoreError> {
        for result in Self::apply(self, documents)? {
            tracing::info!(
                "{} {} {}",
                result["kind"].as_str().unwrap_or_default(),
                result["name"].as_str().unwrap_or_default(),
                result["outcome"].as_str().unwrap_or_default()
            );
        }
        Ok(())
    }

    fn homes(&self) -> Vec<Home> {
        let all = Kind::ALL
            .into_iter()
            .flat_map(|kind| self.store.list(kind))
            .filter_map(|(key, stored)| {
                Some(Home {
                    key,
                    leaving: stored.deleting(),
                    file: stored.source?,
                })
            });
        all.collect()
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.take_down(key, false)
    }

    fn not_deleted(&self, key: &Key, why: &str) {
        self.events.warning(key, "NotDeleted", why);
    }
}

/// The files and what was done about them.
#[derive(Debug, Default)]
pub struct Watch {
    files: Vec<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
    unreadable: BTreeMap<PathBuf, String>,
    undeleted: BTreeMap<Key, String>,
}

/// What is known of a file.
#[derive(Debug)]
struct Known {
    text: String,
    /// `None`: it is wrong, as was told; what it applied before stays.
    documents: Option<Vec<Document>>,
    applied: bool,
    /// The reason why it was not applied that was told last.
    told: Option<String>,
    /// Looks that found this text, or, behind them, no file.
    seen: u32,
    missing: bool,
}

impl Watch {
    /// Files and folders to look at.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }

    /// Applies what changed and deletes what is gone. Files that are wrong are told once for each content and hold up no others.
    pub fn look(&mut self, target: &impl Target) {
        let found = self.read();
        self.apply(&found, target);
        let found: BTreeSet<PathBuf> = found.into_iter().collect();
        for (path, known) in &mut self.known {
            if found.contains(path) {
                continue;
            }
            // A folder that can't be read takes nothing with it.
            if path.exists() || !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            known.seen = if known.missing { known.seen + 1 } else { 1 };
            known.missing = true;
            if known.seen >= AGREED {
                known.applied = false;
            }
        }
        self.delete(target);
    }

    /// Reads all files; gives their paths in the order in which they were named.
    fn read(&mut self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for file in paths(&self.files) {
            let text = match manifests::read_one(&file) {
                Ok(text) => text,
                Err(error) => {
                    let why = catamaran_client::chain(&error);
                    if file.exists() && self.unreadable.get(&file) != Some(&why) {
                        tracing::error!("{why}");
                        self.unreadable.insert(file, why);
                    }
                    continue;
                }
            };
            self.unreadable.remove(&file);
            let Some(path) = text.path.filter(|path| !found.contains(path)) else {
                continue;
            };
            match self.known.get_mut(&path) {
                Some(known) if known.text == text.text => {
                    known.seen = if known.missing { 1 } else { known.seen + 1 };
                    known.missing = false;
                }
                _ => {
                    self.known
                        .insert(path.clone(), Known::new(&path, text.text));
                }
            }
            found.push(path);
        }
        found
    }

    fn apply(&mut self, found: &[PathBuf], target: &impl Target) {
        let mut owners: BTreeMap<Key, &Path> = BTreeMap::new();
        for path in found {
            let Some(known) = self.known.get_mut(path) else {
                continue;
            };
            let Some(documents) = &known.documents else {
                continue;
            };
            let twice = documents
                .iter()
                .find_map(|document| Some((&document.key, owners.get(&document.key)?)));
            if let Some((key, other)) = twice {
                let why = format!("{key} stands in {} already", other.display());
                known.refuse(path, why);
                continue;
            }
            owners.extend(
                documents
                    .iter()
                    .map(|document| (document.key.clone(), &**path)),
            );
            if known.applied {
                continue;
            }
            match target.apply(documents) {
                Ok(()) => {
                    known.applied = true;
                    known.told = None;
                }
                Err(error) => known.refuse(path, catamaran_client::chain(&error)),
            }
        }
    }

    /// Deletes what no file has any more: what runs first, then what it ran on.
    fn delete(&mut self, target: &impl Target) {
        let mut homes = target.homes();
        let known = &self.known;
        self.undeleted
            .retain(|key, _| homes.iter().any(|home| home.key == *key));
        homes.retain(|home| {
            known
                .get(&home.file)
                .is_some_and(|known| known.lost(&home.key))
        });
        homes.sort_by_key(|home| Reverse(home.key.kind));
        let busy: BTreeSet<&Path> = homes
            .iter()
            .filter(|home| home.key.kind.runs())
            .map(|home| &*home.file)
            .collect();
        for home in &homes {
            let waits = if home.key.kind.runs() {
                home.leaving
            } else {
                busy.contains(&*home.file)
            };
            if waits {
                continue;
            }
            tracing::info!(object = %home.key, file = %home.file.display(), "no longer in its file");
            if let Err(error) = target.delete(&home.key) {
                let why = catamaran_client::chain(&error);
                if self.undeleted.get(&home.key) != Some(&why) {
                    target.not_deleted(&home.key, &why);
                    self.undeleted.insert(home.key.clone(), why);
                }
            }
        }
        self.known.retain(|path, known| {
            !known.missing || known.seen < AGREED || homes.iter().any(|home| home.file == *path)
        });
    }
}

impl Known {
    fn new(path: &Path, text: String) -> Self {
        let name = path.display().to_string();
        let documents = match manifest::parse(&[(name, Some(path.to_owned()), text.clone())]) {
            Ok(documents) => {
                for warning in documents.iter().flat_map(|document| &document.warnings) {
                    tracing::warn!("{warning}");
                }
                Some(documents)
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                None
            }
        };
        Self {
            text,
            documents,
            applied: false,
            told: None,
            seen: 1,
            missing: false,
        }
    }

    /// It can't be applied now; the next look tries again.
    fn refuse(&mut self, path: &Path, why: String) {
        self.applied = false;
        if self.told.as_ref() != Some(&why) {
            tracing::error!(file = %path.display(), error = why, "not applied");
            self.told = Some(why);
        }
    }

    /// Whether an object that came from the file is no longer in it, for good.
    fn lost(&self, key: &Key) -> bool {
        if self.seen < AGREED {
            return false;
        }
        let has = |documents: &Vec<Document>| documents.iter().any(|document| document.key == *key);
        self.missing || (self.applied && !self.documents.as_ref().is_some_and(has))
    }
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

#[cfg(test)]
mod tests;
