//! Kinds of the peer that are not carried out. They are defined all the same, since clients that list every kind fail on a missing one; a
//! policy of the installation refuses to make objects of them, in a sentence.

use serde_json::{Value, json};

/// A kind that is not carried out.
#[derive(Debug, Clone, Copy)]
pub struct Other {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name of the list.
    pub plural: &'static str,
    /// Short names.
    pub short: &'static [&'static str],
    /// Served versions; the first one is stored.
    pub versions: &'static [&'static str],
    /// Objects live in namespaces.
    pub namespaced: bool,
}

const fn other(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    versions: &'static [&'static str],
) -> Other {
    Other {
        group,
        kind,
        plural,
        short,
        versions,
        namespaced: true,
    }
}

const fn cluster(mut other: Other) -> Other {
    other.namespaced = false;
    other
}

/// All of them.
pub const OTHERS: [Other; 12] = [
    other(
        "kubevirt.io",
        "VirtualMachineInstanceMigration",
        "virtualmachineinstancemigrations",
        &["vmim", "vmims"],
        &["v1", "v1alpha3"],
    ),
    other(
        "kubevirt.io",
        "VirtualMachineInstancePreset",
        "virtualmachineinstancepresets",
        &["vmipreset", "vmipresets"],
        &["v1alpha3", "v1"],
    ),
    other(
        "snapshot.kubevirt.io",
        "VirtualMachineSnapshot",
        "virtualmachinesnapshots",
        &["vmsnapshot", "vmsnapshots"],
        &["v1beta1", "v1alpha1"],
    ),
    other(
        "snapshot.kubevirt.io",
        "VirtualMachineSnapshotContent",
        "virtualmachinesnapshotcontents",
        &["vmsnapshotcontent", "vmsnapshotcontents"],
        &["v1beta1", "v1alpha1"],
    ),
    other(
        "snapshot.kubevirt.io",
        "VirtualMachineRestore",
        "virtualmachinerestores",
        &["vmrestore", "vmrestores"],
        &["v1beta1", "v1alpha1"],
    ),
    other(
        "clone.kubevirt.io",
        "VirtualMachineClone",
        "virtualmachineclones",
        &["vmclone", "vmclones"],
        &["v1beta1", "v1alpha1"],
    ),
    other(
        "export.kubevirt.io",
        "VirtualMachineExport",
        "virtualmachineexports",
        &["vmexport", "vmexports"],
        &["v1", "v1beta1"],
    ),
    other(
        "pool.kubevirt.io",
        "VirtualMachinePool",
        "virtualmachinepools",
        &["vmpool", "vmpools"],
        &["v1beta1", "v1alpha1"],
    ),
    cluster(other(
        "migrations.kubevirt.io",
        "MigrationPolicy",
        "migrationpolicies",
        &[],
        &["v1alpha1"],
    )),
    other(
        "backup.kubevirt.io",
        "VirtualMachineBackup",
        "virtualmachinebackups",
        &["vmbackup", "vmbackups"],
        &["v1alpha1"],
    ),
    other(
        "backup.kubevirt.io",
        "VirtualMachineBackupTracker",
        "virtualmachinebackuptrackers",
        &["vmbackuptracker", "vmbackuptrackers"],
        &["v1alpha1"],
    ),
    cluster(other(
        "plugin.kubevirt.io",
        "Plugin",
        "plugins",
        &[],
        &["v1alpha1"],
    )),
];

impl Other {
    /// Its CustomResourceDefinition: any object is well formed.
    #[must_use]
    pub fn definition(&self) -> Value {
        let version = |(at, name): (usize, &&str)| {
            json!({
                "name": name,
                "served": true,
                "storage": at == 0,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            })
        };
        let versions: Vec<Value> = self.versions.iter().enumerate().map(version).collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural, self.group)},
            "spec": {
                "group": self.group,
                "names": {
                    "categories": ["all"],
                    "kind": self.kind,
                    "plural": self.plural,
                    "shortNames": self.short,
                    "singular": self.kind.to_lowercase(),
                },
                "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
                "versions": versions,
            },
        })
    }
}
