//! Annotations and the finalizer of hosts: what people and other controllers ask for without changing the spec.

use std::collections::BTreeMap;

use catamaran_api::metal3::BareMetalHost;
use serde::Deserialize;

pub use catamaran_api::metal3::annotations::{
    BOOT_ONCE, DETACHED, HARDWARE, INSPECT, PAUSED, REBOOT,
};

/// Finalizer of hosts.
pub const FINALIZER: &str = "baremetalhost.metal3.io";
/// A status to begin with, where there is none: JSON.
pub const STATUS: &str = "baremetalhost.metal3.io/status";
/// The hold-off of [`crate::Shell::fence`].
pub const FENCE_HOLD: &str = "reboot.metal3.io/catamaran-fence";
/// When and how it was proved that the host is off: JSON.
pub const FENCED: &str = "catamaran.dev/fenced";
/// A person has seen that the host is off, and says who and how. Used once, and only where the BMC can't be reached.
pub const CONFIRMED_OFF: &str = "catamaran.dev/confirmed-off";
/// A host that is being deleted goes at once, whatever its BMC says.
pub const FORCE_DELETE: &str = "catamaran.dev/force-delete";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    mode: String,
    force: bool,
    delete_action: String,
}

impl Detail {
    /// Empty and unreadable values mean the defaults, as with the peer.
    fn of(value: &str) -> Self {
        serde_json::from_str(value).unwrap_or_default()
    }
}

/// What the reboot annotations ask for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reboot {
    /// One reboot.
    pub(crate) once: bool,
    /// Held off until somebody takes the annotation away.
    pub(crate) hold: bool,
    /// Power is cut; else the system is asked.
    pub(crate) hard: bool,
}

impl Reboot {
    /// `in_use`: the host is provisioned. One that is not is rebooted only by force.
    pub(crate) fn of(host: &BareMetalHost, in_use: bool) -> Self {
        let mut asked = Self::default();
        for (key, value) in all(host) {
            let once = key == REBOOT;
            if !once && !key.starts_with("reboot.metal3.io/") {
                continue;
            }
            let detail = Detail::of(value);
            if !in_use && !detail.force {
                continue;
            }
            asked.once |= once;
            asked.hold |= !once;
            asked.hard |= detail.mode == "hard";
        }
        asked
    }
}

/// How a host is detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detached {
    /// A deletion waits until it is attached again.
    Delay,
    /// A deletion goes through without the BMC.
    Delete,
}

impl Detached {
    /// None where the host is not detached. `allowed`: its state lets it be detached without force.
    pub(crate) fn of(host: &BareMetalHost, allowed: bool) -> Option<Self> {
        let detail = Detail::of(get(host, DETACHED)?);
        if !allowed && !detail.force {
            return None;
        }
        Some(match detail.delete_action.as_str() {
            "delay" => Self::Delay,
            _ => Self::Delete,
        })
    }
}

pub(crate) fn get<'a>(host: &'a BareMetalHost, name: &str) -> Option<&'a str> {
    host.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

fn all(host: &BareMetalHost) -> impl Iterator<Item = (&String, &String)> {
    host.metadata.annotations.iter().flat_map(BTreeMap::iter)
}

pub(crate) fn has_finalizer(host: &BareMetalHost) -> bool {
    let all = host.metadata.finalizers.as_ref();
    all.is_some_and(|all| all.iter().any(|one| one == FINALIZER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(annotations: &[(&str, &str)]) -> BareMetalHost {
        let mut host = BareMetalHost::default();
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        host.metadata.annotations = Some(annotations.collect());
        host
    }

    #[test]
    fn any_hard_reboot_makes_all_of_them_hard() {
        let host = host(&[
            (REBOOT, ""),
            ("reboot.metal3.io/a", r#"{"mode":"hard"}"#),
            ("reboot.metal3.io.example", ""),
        ]);
        let asked = Reboot::of(&host, true);
        assert_eq!(
            asked,
            Reboot {
                once: true,
                hold: true,
                hard: true
            }
        );
    }

    #[test]
    fn hosts_that_are_not_in_use_are_rebooted_by_force_only() {
        assert_eq!(Reboot::of(&host(&[(REBOOT, "")]), false), Reboot::default());
        assert!(Reboot::of(&host(&[(REBOOT, r#"{"force":true}"#)]), false).once);
    }

    #[test]
    fn hosts_are_detached_where_their_state_allows_it_or_by_force() {
        assert_eq!(Detached::of(&host(&[(DETACHED, "")]), false), None);
        assert_eq!(
            Detached::of(&host(&[(DETACHED, "")]), true),
            Some(Detached::Delete)
        );
        let delay = host(&[(DETACHED, r#"{"deleteAction":"delay","force":true}"#)]);
        assert_eq!(Detached::of(&delay, false), Some(Detached::Delay));
    }
}
