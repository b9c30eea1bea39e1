//! Transcripts on disk. The launcher's tests read them too.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Side {
    Daemon,
    Launcher,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) from: Side,
    /// Descriptors that came along.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) fds: usize,
    pub(crate) frame: Value,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The folder of a release.
pub(crate) fn folder(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../wire/tests/transcripts")
        .join(release)
}

/// Every conversation of every release: release, name, lines.
pub(crate) fn all() -> Vec<(String, String, Vec<Line>)> {
    let mut found = Vec::new();
    let folders = fs::read_dir(folder("")).unwrap();
    for folder in folders.map(|entry| entry.unwrap().path()) {
        // The tests' sources lie beside the folders.
        for file in fs::read_dir(&folder).into_iter().flatten() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
            let release = folder.file_name().unwrap().to_string_lossy().into_owned();
            found.push((release, name(&path), lines.collect()));
        }
    }
    found.sort_by(|(a, b, _), (c, d, _)| (a, b).cmp(&(c, d)));
    found
}

/// The frame with a field in each of its objects that nobody knows yet, but not where the names are somebody's data.
pub(crate) fn with_unknown_fields(frame: &Value) -> Value {
    match frame {
        Value::Object(fields) => {
            let mut all: serde_json::Map<_, _> = fields
                .iter()
                .map(|(name, value)| match name.as_str() {
                    "addresses" | "base" | "command" | "files" | "folders" | "ok" | "os" => {
                        (name.clone(), value.clone())
                    }
                    _ => (name.clone(), with_unknown_fields(value)),
                })
                .collect();
            // An enum's variant with fields is an object with one name.
            if fields.len() > 1 {
                all.insert("fromTheFuture".into(), true.into());
            }
            Value::Object(all)
        }
        Value::Array(items) => items.iter().map(with_unknown_fields).collect(),
        other => other.clone(),
    }
}
