//! Whether anything of a launcher pod is left on this node.
//!
//! The proof that a guest is over whose pod was removed by force, or that was lost with this node's power. The kubelet removes a pod's volumes only
//! after all of its containers have ended; that none of its processes is left is looked at too.

use std::fs;
use std::io;
use std::path::Path;

/// Whether nothing is left of a pod: neither its folder nor a process. `pods`: the kubelet's folder of pods.
///
/// # Errors
/// The system's; also where the folder shows no pod at all, not even this daemon's: then it is not the one that the kubelet uses.
pub fn is_gone(pods: &Path, uid: &str) -> io::Result<bool> {
    if fs::read_dir(pods)?.next().is_none() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} shows no pod at all", pods.display()),
        ));
    }
    Ok(!pods.join(uid).try_exists()? && !has_process(Path::new("/proc"), uid)?)
}

/// Whether a process is in a control group of the pod, by whichever driver the kubelet names it.
fn has_process(proc: &Path, uid: &str) -> io::Result<bool> {
    let names = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
    for entry in fs::read_dir(proc)? {
        let groups = match fs::read_to_string(entry?.path().join("cgroup")) {
            Ok(groups) => groups,
            // No process, or one that has just ended.
            Err(_) => continue,
        };
        if names.iter().any(|name| groups.contains(name.as_str())) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0a-1";

    #[test]
    fn a_pod_is_there_as_long_as_its_folder_is() {
        let pods = tempfile::tempdir().unwrap();
        fs::create_dir_all(pods.path().join(UID)).unwrap();
        assert!(!is_gone(pods.path(), UID).unwrap());
        fs::rename(pods.path().join(UID), pods.path().join("other")).unwrap();
        assert!(is_gone(pods.path(), UID).unwrap());
    }

    #[test]
    fn a_folder_without_any_pod_proves_nothing() {
        let pods = tempfile::tempdir().unwrap();
        assert!(is_gone(pods.path(), UID).is_err());
        assert!(is_gone(&pods.path().join("none"), UID).is_err());
    }

    #[test]
    fn a_process_is_found_by_both_drivers_of_control_groups() {
        let proc = tempfile::tempdir().unwrap();
        let group = |text: &str| {
            fs::create_dir_all(proc.path().join("7")).unwrap();
            fs::write(proc.path().join("7/cgroup"), text).unwrap();
            has_process(proc.path(), UID).unwrap()
        };
        assert!(group("0::/kubepods/burstable/pod0a-1/c\n"));
        assert!(group("0::/kubepods.slice/kubepods-pod0a_1.slice/c\n"));
        assert!(!group("0::/kubepods/burstable/pod0a-2/c\n"));
    }
}
