//! What the server answers from: a file, written whole, read again when it was replaced.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::files;

/// One VM or Pod with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses, of both families.
    pub addresses: Vec<IpAddr>,
}

/// Everything the server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The suffix, without dots at its ends.
    pub zone: String,
    /// Who is asked for other names, in this order.
    pub upstreams: Vec<SocketAddr>,
    /// Our subnets: names for their addresses are answered here.
    pub subnets: Vec<IpNet>,
    /// VMs and Pods.
    pub records: Vec<NameRecord>,
}

/// Name of the file in the folder.
const FILE: &str = "zone.json";

/// Folder of the DNS server's files.
pub(super) fn folder(config: &NetworkConfig) -> PathBuf {
    config.folder.join("dns")
}

/// Replaces what the server answers; it takes effect with the next question.
///
/// # Errors
/// The file could not be written.
pub fn publish(config: &NetworkConfig, records: Vec<NameRecord>) -> Result<(), Error> {
    let gateways = config.gateways();
    let zone = Zone {
        zone: config.zone.trim_matches('.').to_owned(),
        // A resolv.conf that names us would make a circle.
        upstreams: config
            .dns_upstreams
            .iter()
            .filter(|a| !gateways.contains(&a.ip()))
            .copied()
            .collect(),
        subnets: std::iter::once(IpNet::V4(config.subnet_v4))
            .chain(config.subnet_v6.map(IpNet::V6))
            .collect(),
        records,
    };
    let folder = folder(config);
    files::make_folder(&folder)?;
    files::write_record(&folder.join(FILE), &zone)?;
    // The server is another user. It has the folder open, so the folders above may be closed to it.
    readable(&folder, 0o755)?;
    readable(&folder.join(FILE), 0o644)
}

fn readable(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Error::file("set the mode of", path))
}

/// Upstreams of this host: the `nameserver` lines of `/etc/resolv.conf`.
#[must_use]
pub fn system_resolvers() -> Vec<SocketAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers
        .filter_map(|server| server.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

/// The open folder with the file, and what was last read from it.
#[derive(Debug)]
pub struct ZoneFolder {
    folder: OwnedFd,
    last: Mutex<(Signature, Arc<Zone>)>,
}

/// Tells one version of the file from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Signature {
    inode: u64,
    modified: (i64, u64),
    size: i64,
}

impl ZoneFolder {
    /// Takes an open folder.
    #[must_use]
    pub fn new(folder: OwnedFd) -> ZoneFolder {
        ZoneFolder {
            folder,
            last: Mutex::default(),
        }
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(path: &Path) -> Result<ZoneFolder, Error> {
        Ok(ZoneFolder::new(open_folder(path)?))
    }

    /// The zone as it is on disk now; the one before while it cannot be read.
    #[must_use]
    pub fn current(&self) -> Arc<Zone> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.read_if_changed(last.0) {
            *last = found;
        }
        Arc::clone(&last.1)
    }

    fn read_if_changed(&self, before: Signature) -> Option<(Signature, Arc<Zone>)> {
        let status = rustix::fs::statat(&self.folder, FILE, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let modified = (status.st_mtime, status.st_mtime_nsec);
        let signature = Signature {
            inode: status.st_ino,
            modified,
            size: status.st_size,
        };
        if signature == before {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.folder, FILE, flags, Mode::empty()).ok()?;
        match serde_json::from_reader(std::io::BufReader::new(fs::File::from(file))) {
            Ok(zone) => Some((signature, Arc::new(zone))),
            Err(error) => {
                tracing::warn!(%error, "the zone file does not parse; the one before stays");
                None
            }
        }
    }
}

/// Opens a folder for `*at` calls.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::file("open the folder", path)(errno.into()))
}
