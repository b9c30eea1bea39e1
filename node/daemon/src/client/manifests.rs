//! Manifest files as the user names them: files, folders, `-`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::client::http::ClientError;

/// A manifest's text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Absolute path; `None` for standard input.
    pub path: Option<PathBuf>,
    /// For people.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Reads manifests: a folder stands for its `.yaml`, `.yml` and `.json` files in the order of their names.
///
/// # Errors
/// When a file can't be read or a folder holds no manifest.
pub fn read(files: &[PathBuf]) -> Result<Vec<Text>, ClientError> {
    let mut texts = Vec::new();
    for file in files {
        if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(ClientError::io("standard input"))?;
            texts.push(Text {
                path: None,
                name: "standard input".to_owned(),
                text,
            });
        } else if file.is_dir() {
            for path in in_folder(file).map_err(ClientError::io(file.display().to_string()))? {
                texts.push(read_one(&path)?);
            }
        } else {
            texts.push(read_one(file)?);
        }
    }
    Ok(texts)
}

/// The manifest files of a folder in the order of their names; editors' leftovers and hidden files are none.
///
/// # Errors
/// When the folder can't be read.
pub fn in_folder(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest = path.extension().is_some_and(|extension| {
            extension == "yaml" || extension == "yml" || extension == "json"
        });
        if manifest && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads one file.
///
/// # Errors
/// When it can't be read.
pub fn read_one(file: &Path) -> Result<Text, ClientError> {
    let name = file.display().to_string();
    let path = file.canonicalize().map_err(ClientError::io(name.clone()))?;
    let text = fs::read_to_string(&path).map_err(ClientError::io(name.clone()))?;
    Ok(Text {
        path: Some(path),
        name,
        text,
    })
}
