//! Which file of which layer is the disk: overlay rules (whiteouts, last layer wins) as pure decisions.
//!
//! [`Classifier`] looks at one tar entry at a time and is used by the worker; [`Merge`] combines the reports of all layers, topmost first, and
//! is used by the daemon. Nothing here touches a file system: an entry is only ever compared by its name, so links and `..` lead nowhere.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::reference::ImagePath;

/// Which file is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Folder in the image without leading slash, such as `disk`.
    pub(crate) folder: String,
    /// Name in that folder; the only regular file in it where none is given.
    pub(crate) name: Option<String>,
}

impl Wanted {
    /// The file at `path`, or the only one below `/disk/`.
    pub(crate) fn new(path: Option<&ImagePath>) -> Self {
        match path {
            Some(path) => Self {
                folder: path.folder(),
                name: Some(path.name().to_owned()),
            },
            None => Self {
                folder: "disk".to_owned(),
                name: None,
            },
        }
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.folder.is_empty() {
            format!("/{name}")
        } else {
            format!("/{}/{name}", self.folder)
        }
    }
}

/// What a layer says about the wanted folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerFindings {
    /// Wanted regular files, at most [`MAX_NAMES`].
    pub(crate) files: Vec<String>,
    /// Names that are deleted from the layers below.
    pub(crate) whiteouts: Vec<String>,
    /// The whole folder is deleted from the layers below.
    pub(crate) hides_rest: bool,
}

/// More files than this in `/disk/` are not listed.
pub(crate) const MAX_NAMES: usize = 16;

/// More deleted names than this are not remembered: the layer is refused.
pub(crate) const MAX_WHITEOUTS: usize = 1024;

/// Kind of a tar entry, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Folder,
    Symlink,
    Hardlink,
    Device,
    Fifo,
    Other,
}

impl EntryKind {
    fn words(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Folder => "a folder",
            Self::Symlink => "a symbolic link",
            Self::Hardlink => "a hard link",
            Self::Device => "a device",
            Self::Fifo => "a FIFO",
            Self::Other => "an entry of unknown type",
        }
    }
}

/// What an entry is to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Skip,
    /// A wanted file with this name.
    File(String),
}

/// Looks at the entries of one layer in turn.
#[derive(Debug)]
pub(crate) struct Classifier {
    wanted: Wanted,
    hidden: BTreeSet<String>,
    pub(crate) findings: LayerFindings,
}

impl Classifier {
    /// `hidden`: names that upper layers replace or delete.
    pub(crate) fn new(wanted: Wanted, hidden: BTreeSet<String>) -> Self {
        Self {
            wanted,
            hidden,
            findings: LayerFindings::default(),
        }
    }

    /// # Errors
    /// Why the layer is refused.
    pub(crate) fn entry(
        &mut self,
        path: &[u8],
        kind: EntryKind,
        special_mode: bool,
    ) -> Result<Verdict, String> {
        let shown = || String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
        if path.first() == Some(&b'/') {
            return Err(format!("layer entry {:?} has an absolute path", shown()));
        }
        let mut parts = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(format!("layer entry {:?} contains ..", shown())),
                part if part.contains(&0) => {
                    return Err(format!("layer entry {:?} contains a NUL byte", shown()));
                }
                part => parts.push(part),
            }
        }
        let folder = self.wanted.folder.clone();
        let folder: Vec<&[u8]> = folder
            .split('/')
            .filter(|p| !p.is_empty())
            .map(str::as_bytes)
            .collect();
        let Some((last, parents)) = parts.split_last() else {
            return Ok(Verdict::Skip);
        };
        if let Some(deleted) = last.strip_prefix(b".wh.") {
            self.whiteout(deleted, parents, &folder)?;
            return Ok(Verdict::Skip);
        }
        // The folder itself or one above it.
        if parts.len() <= folder.len() {
            if folder.starts_with(&parts) && kind != EntryKind::Folder {
                return Err(format!(
                    "/{} is {}, but a folder is needed to hold the wanted file",
                    shown(),
                    kind.words()
                ));
            }
            return Ok(Verdict::Skip);
        }
        if parents != folder {
            return Ok(Verdict::Skip);
        }
        let name = String::from_utf8_lossy(last).into_owned();
        if self
            .wanted
            .name
            .as_ref()
            .is_some_and(|wanted| wanted.as_bytes() != *last)
            || self.hidden.contains(&name)
        {
            return Ok(Verdict::Skip);
        }
        match kind {
            // Without a name only files count.
            EntryKind::Folder if self.wanted.name.is_none() => Ok(Verdict::Skip),
            EntryKind::File if special_mode => Err(format!(
                "{} has a setuid or setgid bit",
                self.wanted.path_of(&name)
            )),
            EntryKind::File => {
                if self.findings.files.contains(&name) {
                    return Err(format!(
                        "{} is in one layer twice",
                        self.wanted.path_of(&name)
                    ));
                }
                if self.findings.files.len() < MAX_NAMES {
                    self.findings.files.push(name.clone());
                }
                Ok(Verdict::File(name))
            }
            kind => Err(format!(
                "{} is {}; only a regular file can be used",
                self.wanted.path_of(&name),
                kind.words()
            )),
        }
    }

    fn whiteout(
        &mut self,
        deleted: &[u8],
        parents: &[&[u8]],
        folder: &[&[u8]],
    ) -> Result<(), String> {
        if deleted == b".wh..opq" {
            self.findings.hides_rest |= folder.starts_with(parents);
            return Ok(());
        }
        let mut target = parents.to_vec();
        target.push(deleted);
        if folder.starts_with(&target) {
            self.findings.hides_rest = true;
        } else if parents == folder {
            if self.findings.whiteouts.len() >= MAX_WHITEOUTS {
                return Err(format!(
                    "the layer deletes more than {MAX_WHITEOUTS} files of /{}",
                    self.wanted.folder
                ));
            }
            self.findings
                .whiteouts
                .push(String::from_utf8_lossy(deleted).into_owned());
        }
        Ok(())
    }
}

/// Combines the findings of all layers, topmost first.
#[derive(Debug)]
pub(crate) struct Merge {
    wanted: Wanted,
    /// What the next layer's files must not be.
    pub(crate) hidden: BTreeSet<String>,
    /// Layer (counted from the top) and name of the file.
    pub(crate) found: Option<(usize, String)>,
    others: Vec<String>,
    layer: usize,
    finished: bool,
}

impl Merge {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            hidden: BTreeSet::new(),
            found: None,
            others: Vec::new(),
            layer: 0,
            finished: false,
        }
    }

    /// No lower layer can change the answer.
    pub(crate) fn finished(&self) -> bool {
        self.finished || !self.others.is_empty()
    }

    pub(crate) fn add(&mut self, findings: LayerFindings) {
        for name in findings.files {
            if self.found.is_none() {
                self.found = Some((self.layer, name.clone()));
            } else {
                self.others.push(name.clone());
            }
            self.hidden.insert(name);
        }
        let deleted = |name: &String| findings.whiteouts.contains(name);
        self.finished |= findings.hides_rest
            || self
                .wanted
                .name
                .as_ref()
                .is_some_and(|name| self.found.is_some() || deleted(name));
        self.hidden.extend(findings.whiteouts);
        self.layer += 1;
    }

    /// The layer (counted from the top) and name of the one file.
    ///
    /// # Errors
    /// None or several, with what is allowed.
    pub(crate) fn result(self) -> Result<(usize, String), String> {
        match self.found {
            Some((_, first)) if !self.others.is_empty() => {
                let mut names = vec![first];
                names.extend(self.others);
                names.sort();
                names.dedup();
                names.truncate(MAX_NAMES);
                Err(format!(
                    "/{} holds several files ({}); name one of them with path",
                    self.wanted.folder,
                    names.join(", ")
                ))
            }
            Some(found) => Ok(found),
            None => Err(match &self.wanted.name {
                Some(name) => format!("there is no file {}", self.wanted.path_of(name)),
                None => format!(
                    "there is no file in /{}; put the disk there or name it with path",
                    self.wanted.folder
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(
        wanted: &Wanted,
        hidden: &BTreeSet<String>,
        entries: &[(&str, EntryKind)],
    ) -> Result<LayerFindings, String> {
        let mut classifier = Classifier::new(wanted.clone(), hidden.clone());
        for (path, kind) in entries {
            classifier.entry(path.as_bytes(), *kind, false)?;
        }
        Ok(classifier.findings)
    }

    /// Layers topmost first.
    fn resolve(
        path: Option<&str>,
        layers: &[&[(&str, EntryKind)]],
    ) -> Result<(usize, String), String> {
        let path = path.map(|p| p.parse().unwrap());
        let wanted = Wanted::new(path.as_ref());
        let mut merge = Merge::new(wanted.clone());
        for entries in layers {
            if merge.finished() {
                break;
            }
            let findings = layer(&wanted, &merge.hidden, entries)?;
            merge.add(findings);
        }
        merge.result()
    }

    use EntryKind::{Device, Fifo, File, Folder, Hardlink, Symlink};

    #[test]
    fn the_single_file_under_disk_is_the_disk() {
        assert_eq!(
            resolve(
                None,
                &[&[("disk", Folder), ("./disk/a.img", File), ("etc/x", File)]]
            ),
            Ok((0, "a.img".to_owned()))
        );
    }

    #[test]
    fn no_file_or_several_are_errors_that_name_them() {
        assert!(
            resolve(None, &[&[("etc/x", File)]])
                .unwrap_err()
                .contains("no file in /disk")
        );
        let several = resolve(None, &[&[("disk/a", File), ("disk/b", File)]]).unwrap_err();
        assert!(
            several.contains("a, b") && several.contains("path"),
            "{several}"
        );
        let over_layers = resolve(None, &[&[("disk/a", File)], &[("disk/b", File)]]).unwrap_err();
        assert!(over_layers.contains("a, b"), "{over_layers}");
        assert!(
            resolve(Some("/boot/vmlinuz"), &[&[]])
                .unwrap_err()
                .contains("/boot/vmlinuz")
        );
    }

    #[test]
    fn the_last_layer_wins() {
        assert_eq!(
            resolve(None, &[&[("disk/a", File)], &[("disk/a", File)]]),
            Ok((0, "a".to_owned()))
        );
        assert_eq!(
            resolve(
                Some("/x/a"),
                &[&[("y", File)], &[("x/a", File)], &[("x/a", File)]]
            ),
            Ok((1, "a".to_owned()))
        );
    }

    #[test]
    fn whiteouts_delete_from_lower_layers_only() {
        assert_eq!(
            resolve(
                None,
                &[
                    &[("disk/.wh.old", File), ("disk/new", File)],
                    &[("disk/old", File)]
                ]
            ),
            Ok((0, "new".to_owned()))
        );
        assert!(
            resolve(
                Some("/disk/old"),
                &[&[("disk/.wh.old", File)], &[("disk/old", File)]]
            )
            .is_err()
        );
        for marker in ["disk/.wh..wh..opq", ".wh.disk", ".wh..wh..opq"] {
            assert!(
                resolve(None, &[&[(marker, File)], &[("disk/old", File)]]).is_err(),
                "{marker}"
            );
            assert_eq!(
                resolve(
                    None,
                    &[&[("disk/new", File), (marker, File)], &[("disk/old", File)]]
                ),
                Ok((0, "new".to_owned())),
                "{marker}"
            );
        }
        assert_eq!(
            resolve(None, &[&[(".wh.diskette", File)], &[("disk/a", File)]]),
            Ok((1, "a".to_owned()))
        );
    }

    #[test]
    fn links_devices_and_fifos_are_not_disks() {
        for kind in [Symlink, Hardlink, Device, Fifo] {
            assert!(
                resolve(None, &[&[("disk/a", kind)]])
                    .unwrap_err()
                    .contains("only a regular file")
            );
            assert!(
                resolve(None, &[&[("disk", kind)]])
                    .unwrap_err()
                    .contains("folder is needed")
            );
        }
        // Elsewhere in the image they do not matter: they are never made.
        assert!(
            resolve(
                None,
                &[&[("dev/null", Device), ("etc/l", Symlink), ("disk/a", File)]]
            )
            .is_ok()
        );
    }

    #[test]
    fn names_that_leave_the_image_refuse_the_layer() {
        for bad in ["../disk/a", "disk/../../etc/shadow", "/disk/a", "disk/a\0b"] {
            assert!(
                resolve(None, &[&[(bad, File), ("disk/a", File)]]).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_file_named_twice_in_one_layer_is_refused() {
        assert!(
            resolve(None, &[&[("disk/a", File), ("./disk//a", File)]])
                .unwrap_err()
                .contains("twice")
        );
    }
}
