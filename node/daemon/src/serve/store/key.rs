//! Names of objects: kind, namespace and name, and the uid that follows from them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds that can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `v1` PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// `v1` Pod.
    Pod,
    /// `kubevirt.io/v1` VirtualMachine.
    VirtualMachine,
    /// `kubevirt.io/v1` VirtualMachineInstance.
    VirtualMachineInstance,
}

impl Kind {
    /// All kinds, in the order in which they are applied.
    pub const ALL: [Self; 6] = [
        Self::ConfigMap,
        Self::Secret,
        Self::PersistentVolumeClaim,
        Self::Pod,
        Self::VirtualMachine,
        Self::VirtualMachineInstance,
    ];

    /// Kubernetes' word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Pod => "Pod",
            Self::VirtualMachine => "VirtualMachine",
            Self::VirtualMachineInstance => "VirtualMachineInstance",
        }
    }

    /// The short word that people type.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::ConfigMap => "cm",
            Self::Secret => "secret",
            Self::PersistentVolumeClaim => "pvc",
            Self::Pod => "pod",
            Self::VirtualMachine => "vm",
            Self::VirtualMachineInstance => "vmi",
        }
    }

    /// Whether it has processes, whose end somebody waits for when it is deleted. Other objects go at once.
    #[must_use]
    pub fn runs(self) -> bool {
        match self {
            Self::Pod | Self::VirtualMachine | Self::VirtualMachineInstance => true,
            Self::ConfigMap | Self::Secret | Self::PersistentVolumeClaim => false,
        }
    }

    /// What people type: kind, plural or short name, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "cm" | "configmap" | "configmaps" => Self::ConfigMap,
            "secret" | "secrets" => Self::Secret,
            "pvc" | "persistentvolumeclaim" | "persistentvolumeclaims" => {
                Self::PersistentVolumeClaim
            }
            "po" | "pod" | "pods" => Self::Pod,
            "vm" | "vms" | "virtualmachine" | "virtualmachines" => Self::VirtualMachine,
            "vmi" | "vmis" | "virtualmachineinstance" | "virtualmachineinstances" => {
                Self::VirtualMachineInstance
            }
            _ => return None,
        })
    }
}

/// Name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The same name with another kind.
    #[must_use]
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self {
            kind,
            ..self.clone()
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// uid of an object under `play`: a function of its name, so that a machine that is built again from its manifests keeps its identity.
#[must_use]
pub fn uid(key: &Key) -> uuid::Uuid {
    const NAMESPACE: uuid::Uuid = uuid::Uuid::from_u128(0x0f1d_7cf5_98cf_4c27_9a6c_6b6c_0c8a_51a2);
    uuid::Uuid::new_v5(
        &NAMESPACE,
        format!("{}/{}/{}", key.kind.as_str(), key.namespace, key.name).as_bytes(),
    )
}
