//! `/proc/sys/net` of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(name)
}

/// The value, or none where the kernel has no such setting (IPv6 switched off, for one).
pub(crate) fn get(name: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(path(name)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path(name))(error)),
    }
}

/// Sets a value, where it differs.
pub(crate) fn set(name: &str, value: &str) -> Result<(), Error> {
    if get(name)?.as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(path(name), value).map_err(Error::file("set", path(name)))
}

/// Sets a value where the kernel has the setting.
pub(crate) fn set_if_present(name: &str, value: &str) -> Result<(), Error> {
    match get(name)? {
        Some(_) => set(name, value),
        None => Ok(()),
    }
}

/// Names of the interfaces that have settings of `family` (`ipv4` or `ipv6`), without `all` and `default`.
pub(crate) fn interfaces(family: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path(family).join("conf")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name != "all" && name != "default")
        .collect()
}
