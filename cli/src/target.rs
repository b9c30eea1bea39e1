//! Which machine is meant: `[vm/|vmi/]NAME[/NAMESPACE]`, as the peer's clients write it.

use std::str::FromStr;

use catamaran_client::segment;

/// Kinds with subresources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `VirtualMachine`.
    Machine,
    /// `VirtualMachineInstance`.
    Instance,
}

impl Kind {
    /// Plural of paths.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Machine => "virtualmachines",
            Self::Instance => "virtualmachineinstances",
        }
    }
}

/// A machine, and maybe its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it was typed; a machine without a word.
    pub(crate) kind: Kind,
    /// Name.
    pub(crate) name: String,
    /// Namespace, if it was typed here.
    pub(crate) namespace: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let parts: Vec<&str> = word.split('/').collect();
        let (kind, name, namespace) = match parts[..] {
            [name] => ("vm", name, None),
            [kind, name] => (kind, name, None),
            [kind, name, namespace] => (kind, name, Some(namespace)),
            _ => ("", "", None),
        };
        if name.is_empty() || namespace == Some("") {
            return Err("must be [vm/|vmi/]NAME or vm/NAME/NAMESPACE".to_owned());
        }
        let kind = match kind {
            "vm" | "vms" | "virtualmachine" | "virtualmachines" => Kind::Machine,
            "vmi" | "vmis" | "virtualmachineinstance" | "virtualmachineinstances" => Kind::Instance,
            other => {
                return Err(format!(
                    "unknown kind {other:?}: allowed are vm and vmi (namespaces are named by -n, or as vm/NAME/NAMESPACE)"
                ));
            }
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }
}

/// Path of a kind of objects in a namespace, or (without one) everywhere. `group`: such as `kubevirt.io/v1`; `v1` is the core's.
pub(crate) fn objects(group: &str, namespace: Option<&str>, plural: &str) -> String {
    let root = if group.contains('/') { "apis" } else { "api" };
    match namespace {
        Some(namespace) => format!("/{root}/{group}/namespaces/{}/{plural}", segment(namespace)),
        None => format!("/{root}/{group}/{plural}"),
    }
}

/// Path of an object.
pub(crate) fn object(group: &str, namespace: &str, plural: &str, name: &str) -> String {
    let objects = objects(group, Some(namespace), plural);
    format!("{objects}/{}", segment(name))
}

/// Path of a subresource.
pub(crate) fn subresource(kind: Kind, namespace: &str, name: &str, word: &str) -> String {
    let object = object(
        "subresources.kubevirt.io/v1",
        namespace,
        kind.plural(),
        name,
    );
    format!("{object}/{word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_named_as_the_peers_clients_do() {
        let read = |word: &str| word.parse::<Target>();
        let target = |kind, namespace: Option<&str>| {
            Ok(Target {
                kind,
                name: "a".to_owned(),
                namespace: namespace.map(str::to_owned),
            })
        };
        assert_eq!(read("a"), target(Kind::Machine, None));
        assert_eq!(read("vmi/a"), target(Kind::Instance, None));
        assert_eq!(read("vm/a/shop"), target(Kind::Machine, Some("shop")));
        for wrong in ["", "vm/", "vm/a/", "vm/a/b/c"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(
            read("pod/a")
                .unwrap_err()
                .contains("allowed are vm and vmi")
        );
    }

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(objects("v1", None, "nodes"), "/api/v1/nodes");
        assert_eq!(
            subresource(Kind::Instance, "d", "a", "vnc/screenshot"),
            "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachineinstances/a/vnc/screenshot"
        );
    }
}
