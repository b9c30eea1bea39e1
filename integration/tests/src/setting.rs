//! What is out of the ordinary about the place of a test: words and environment of the daemon, programs that are not installed, a small disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Hides files below `/usr` from everything that it executes: an overlay of this mount namespace only.
const HIDE: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/usr,upperdir=$1/upper,workdir=$1/work" overlay /usr
shift
while [ "$1" != -- ]; do rm "$1"; shift; done
shift
exec "$@"
"#;

/// What a bench is to be like.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Further words for `catamaran play`.
    pub words: Vec<String>,
    /// Environment of the daemon.
    pub variables: Vec<(String, OsString)>,
    /// Files below `/usr` that are not there for the daemon.
    pub hidden: Vec<PathBuf>,
    /// Bytes of a file system of its own for the state folder.
    pub disk: Option<u64>,
}

impl Setting {
    /// Further words for `catamaran play`.
    #[must_use]
    pub fn words(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// A command in a mount namespace of its own in which files below `/usr` are not there. `scratch` is an empty folder.
#[must_use]
pub fn without(hidden: &[PathBuf], scratch: &Path, command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer
        .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
        .args([HIDE, "sh"])
        .arg(scratch)
        .args(hidden)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}
