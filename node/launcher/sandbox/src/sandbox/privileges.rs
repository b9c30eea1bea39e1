//! Giving everything away: limits, groups, user, capabilities.

use std::collections::BTreeMap;

use caps::CapSet;
use catamaran_plan::paths;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};

use super::{Limit, SandboxError, Step};

/// Sets the limits. A hard limit that may not be raised stays as it is.
///
/// # Errors
/// An unknown name, or a soft limit that cannot be set.
pub fn set_limits(limits: &BTreeMap<String, Limit>) -> Result<(), SandboxError> {
    for (name, limit) in limits {
        let resource = match name.as_str() {
            "nofile" => Resource::RLIMIT_NOFILE,
            "memlock" => Resource::RLIMIT_MEMLOCK,
            "nproc" => Resource::RLIMIT_NPROC,
            "core" => Resource::RLIMIT_CORE,
            _ => {
                let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
                return Err(SandboxError::Step {
                    step: format!("limit {name:?} is not one of nofile, memlock, nproc, core"),
                    source,
                });
            }
        };
        let soft = limit.soft.unwrap_or(RLIM_INFINITY);
        let hard = limit.hard.unwrap_or(RLIM_INFINITY);
        if setrlimit(resource, soft.min(hard), hard).is_err() {
            let (_, hard) = getrlimit(resource).step(|| format!("read the limit {name}"))?;
            setrlimit(resource, soft.min(hard), hard)
                .step(|| format!("set the limit {name} to {soft}"))?;
        }
    }
    Ok(())
}

/// Becomes uid 107 with no capability, none to be had, and no way to get privileges by executing a file.
///
/// # Errors
/// When the system refuses a step, or something is left afterwards.
pub fn drop_all() -> Result<(), SandboxError> {
    let failed = |set: &'static str| {
        move |error: caps::errors::CapsError| SandboxError::Step {
            step: format!("empty the {set} capability set"),
            source: std::io::Error::other(error.to_string()),
        }
    };
    // As long as SETPCAP is there.
    for capability in caps::all() {
        if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed("bounding"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    let (uid, gid) = (Uid::from_raw(paths::UID), Gid::from_raw(paths::GID));
    nix::unistd::setgroups(&[]).step(|| "leave all groups".into())?;
    nix::unistd::setresgid(gid, gid, gid).step(|| format!("become gid {gid}"))?;
    nix::unistd::setresuid(uid, uid, uid).step(|| format!("become uid {uid}"))?;
    for (set, name) in [
        (CapSet::Effective, "effective"),
        (CapSet::Permitted, "permitted"),
        (CapSet::Inheritable, "inheritable"),
    ] {
        caps::clear(None, set).map_err(failed(name))?;
    }
    rustix::thread::set_no_new_privs(true).step(|| "forbid new privileges".into())?;
    let left = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    if !left.is_empty()
        || nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok()
    {
        return Err(SandboxError::Step {
            step: "give all privileges away".into(),
            source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
        });
    }
    Ok(())
}
