//! What is listed, read and written.

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The plural name of the resource.
    pub plural: &'static str,
    /// Path of its API: `/api/v1`, `/apis/GROUP/VERSION`.
    pub base: &'static str,
    /// Objects have a namespace.
    pub namespaced: bool,
    /// Labels of the objects that concern us; empty for all.
    pub selector: &'static str,
    /// The pages list it all the time: one watch serves all browsers.
    pub shared: bool,
    /// What may be done to them here. The API server says what a user may do.
    pub deeds: &'static [Deed],
}

/// What is done to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// List, watch and read.
    Read,
    /// Make one.
    Create,
    /// Write one anew.
    Replace,
    /// Delete one.
    Delete,
}

const CORE: &str = "/api/v1";
const KUBEVIRT: &str = "/apis/kubevirt.io/v1";
const METAL3: &str = "/apis/metal3.io/v1alpha1";
const INSTANCETYPES: &str = "/apis/instancetype.kubevirt.io/v1beta1";
const ALL: &[Deed] = &[Deed::Read, Deed::Create, Deed::Replace, Deed::Delete];
const READ: &[Deed] = &[Deed::Read];

const fn kind(
    plural: &'static str,
    base: &'static str,
    namespaced: bool,
    deeds: &'static [Deed],
) -> Kind {
    Kind {
        plural,
        base,
        namespaced,
        selector: "",
        shared: false,
        deeds,
    }
}

const fn shared(kind: Kind) -> Kind {
    Kind {
        shared: true,
        ..kind
    }
}

/// Every kind.
pub(crate) static KINDS: [Kind; 15] = [
    shared(kind("virtualmachines", KUBEVIRT, true, ALL)),
    shared(kind(
        "virtualmachineinstances",
        KUBEVIRT,
        true,
        &[Deed::Read, Deed::Delete],
    )),
    Kind {
        selector: "kubevirt.io=virt-launcher",
        ..kind("pods", CORE, true, READ)
    },
    kind("events", CORE, true, READ),
    shared(kind("nodes", CORE, false, READ)),
    shared(kind("namespaces", CORE, false, READ)),
    kind("persistentvolumeclaims", CORE, true, READ),
    // Credentials go in and never come back.
    kind("secrets", CORE, true, &[Deed::Create]),
    shared(kind("baremetalhosts", METAL3, true, ALL)),
    kind("hardwaredata", METAL3, true, READ),
    // One is the CD of the server of its name.
    kind(
        "dataimages",
        METAL3,
        true,
        &[Deed::Read, Deed::Create, Deed::Delete],
    ),
    kind("virtualmachineinstancetypes", INSTANCETYPES, true, READ),
    kind(
        "virtualmachineclusterinstancetypes",
        INSTANCETYPES,
        false,
        READ,
    ),
    kind("virtualmachinepreferences", INSTANCETYPES, true, READ),
    kind(
        "virtualmachineclusterpreferences",
        INSTANCETYPES,
        false,
        READ,
    ),
];

impl Kind {
    /// By the plural name of the resource.
    #[must_use]
    pub fn parse(plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.plural == plural)
    }

    /// API group; empty for the core.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.base
            .strip_prefix("/apis/")
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default()
    }

    /// Whether that is done to its objects here.
    #[must_use]
    pub fn allows(&self, deed: Deed) -> bool {
        self.deeds.contains(&deed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Deed, KINDS, Kind};

    #[test]
    fn groups_are_those_of_the_paths() {
        let group = |plural| Kind::parse(plural).unwrap().group();
        assert_eq!(group("nodes"), "");
        assert_eq!(group("virtualmachines"), "kubevirt.io");
        assert_eq!(group("baremetalhosts"), "metal3.io");
    }

    #[test]
    fn secrets_can_be_made_and_never_read() {
        let secrets = Kind::parse("secrets").unwrap();
        assert_eq!(secrets.deeds, [Deed::Create]);
        assert!(
            KINDS
                .iter()
                .all(|kind| kind.plural == "secrets" || kind.allows(Deed::Read))
        );
    }
}
