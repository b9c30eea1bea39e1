//! Every subresource, one row each.

use super::Method;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// A `VirtualMachine`.
    Machine,
    /// A `VirtualMachineInstance`.
    Instance,
    /// A `BareMetalHost`: ours alone.
    Host,
    /// A manifest in the body.
    Manifest,
}

impl On {
    /// The resource of paths and rights.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Machine => "virtualmachines",
            Self::Instance => "virtualmachineinstances",
            Self::Host => "baremetalhosts",
            Self::Manifest => "expand-vm-spec",
        }
    }
}

/// What a row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Stop,
    Restart,
    ExpandSpec,
    ExpandManifest,
    PortForward,
    Console,
    Vnc,
    Screenshot,
    GuestOsInfo,
    UserList,
    FilesystemList,
    Dmesg,
    Usage,
    Viewers,
    Keyboard,
    Pause,
    Unpause,
    SoftReboot,
    Reset,
    Freeze,
    Unfreeze,
    AddVolume,
    RemoveVolume,
    Sensors,
    Events,
    /// Always 400, with this reason.
    Refused(&'static str),
}

/// A subresource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) on: On,
    pub(crate) method: Method,
    /// Path below the object; segments in braces are arguments.
    pub(crate) path: &'static str,
    pub(crate) action: Action,
    /// Schema of the body in OpenAPI, if it has one.
    pub(crate) body: Option<&'static str>,
}

impl Row {
    /// The subresource of rights: the path without arguments.
    pub(crate) fn subresource(&self) -> &'static str {
        self.path.split("/{").next().unwrap_or_default()
    }

    /// Name and arguments, if a path below the namespace is this row's.
    pub(super) fn matches(&self, rest: &[&str]) -> Option<(String, Vec<String>)> {
        if self.on == On::Manifest {
            return (rest == [self.on.plural()]).then(|| (String::new(), Vec::new()));
        }
        let [plural, name, below @ ..] = rest else {
            return None;
        };
        let pattern: Vec<&str> = self.path.split('/').collect();
        if *plural != self.on.plural() || name.is_empty() || pattern.len() != below.len() {
            return None;
        }
        let mut arguments = Vec::new();
        for (wanted, given) in pattern.iter().zip(below) {
            if wanted.starts_with('{') && !given.is_empty() {
                arguments.push((*given).to_owned());
            } else if wanted != given {
                return None;
            }
        }
        Some(((*name).to_owned(), arguments))
    }
}

const fn row(
    on: On,
    method: Method,
    path: &'static str,
    action: Action,
    body: Option<&'static str>,
) -> Row {
    Row {
        on,
        method,
        path,
        action,
        body,
    }
}

use Action::{
    AddVolume, Console, Dmesg, Events, ExpandManifest, ExpandSpec, FilesystemList, Freeze,
    GuestOsInfo, Keyboard, Pause, PortForward, Refused, RemoveVolume, Reset, Restart, Screenshot,
    Sensors, SoftReboot, Start, Stop, Unfreeze, Unpause, Usage, UserList, Viewers, Vnc,
};
use Method::{Get, Put};
use On::{Host, Instance, Machine, Manifest};

pub(super) const GUESTFS: &str =
    "guestfs is not supported: there is no image with libguestfs tools";
pub(super) const PROFILER: &str = "the cluster profiler is not supported";
const MIGRATE: &str =
    "live migration is not supported: `restart` starts the machine anew, on any node that takes it";
const EVACUATE: &str = "evacuation is not supported: an eviction shuts the machine down, and its run strategy decides whether it starts elsewhere";
const MEMORY_DUMP: &str =
    "memory dumps are not supported: `dmesg` reads the kernel log of a guest from its memory";
const BACKUP: &str = "backups and checkpoints are not supported";
const GRAPH: &str = "object graphs are not supported";
const USB: &str = "USB redirection is not supported: a machine has no redirectable USB slots";
const VSOCK: &str = "vsock is not supported: use portforward";
const SEV: &str = "confidential computing (SEV) is not supported";

/// All of them. Order: machines, instances, hosts, manifests; by path.
pub(crate) static ROWS: [Row; 46] = [
    row(
        Machine,
        Put,
        "addvolume",
        AddVolume,
        Some("AddVolumeOptions"),
    ),
    row(
        Machine,
        Put,
        "evacuate/cancel",
        Refused(EVACUATE),
        Some("EvacuateCancelOptions"),
    ),
    row(Machine, Get, "expand-spec", ExpandSpec, None),
    row(
        Machine,
        Put,
        "memorydump",
        Refused(MEMORY_DUMP),
        Some("VirtualMachineMemoryDumpRequest"),
    ),
    row(
        Machine,
        Put,
        "migrate",
        Refused(MIGRATE),
        Some("MigrateOptions"),
    ),
    row(Machine, Get, "objectgraph", Refused(GRAPH), None),
    row(Machine, Get, "portforward/{port}", PortForward, None),
    row(
        Machine,
        Get,
        "portforward/{port}/{protocol}",
        PortForward,
        None,
    ),
    row(Machine, Put, "removememorydump", Refused(MEMORY_DUMP), None),
    row(
        Machine,
        Put,
        "removevolume",
        RemoveVolume,
        Some("RemoveVolumeOptions"),
    ),
    row(Machine, Put, "restart", Restart, Some("RestartOptions")),
    row(Machine, Put, "start", Start, Some("StartOptions")),
    row(Machine, Put, "stop", Stop, Some("StopOptions")),
    row(
        Instance,
        Put,
        "addvolume",
        AddVolume,
        Some("AddVolumeOptions"),
    ),
    row(
        Instance,
        Put,
        "backup",
        Refused(BACKUP),
        Some("BackupOptions"),
    ),
    row(Instance, Get, "console", Console, None),
    row(Instance, Get, "dmesg", Dmesg, None),
    row(
        Instance,
        Put,
        "evacuate/cancel",
        Refused(EVACUATE),
        Some("EvacuateCancelOptions"),
    ),
    row(Instance, Get, "filesystemlist", FilesystemList, None),
    row(
        Instance,
        Put,
        "freeze",
        Freeze,
        Some("FreezeUnfreezeTimeout"),
    ),
    row(Instance, Get, "guestosinfo", GuestOsInfo, None),
    row(Instance, Get, "objectgraph", Refused(GRAPH), None),
    row(Instance, Put, "pause", Pause, Some("PauseOptions")),
    row(Instance, Get, "portforward/{port}", PortForward, None),
    row(
        Instance,
        Get,
        "portforward/{port}/{protocol}",
        PortForward,
        None,
    ),
    row(
        Instance,
        Put,
        "redefine-checkpoint",
        Refused(BACKUP),
        Some("BackupCheckpoint"),
    ),
    row(
        Instance,
        Put,
        "removevolume",
        RemoveVolume,
        Some("RemoveVolumeOptions"),
    ),
    row(Instance, Put, "reset", Reset, None),
    row(Instance, Get, "sev/fetchcertchain", Refused(SEV), None),
    row(
        Instance,
        Put,
        "sev/injectlaunchsecret",
        Refused(SEV),
        Some("SEVSecretOptions"),
    ),
    row(
        Instance,
        Get,
        "sev/querylaunchmeasurement",
        Refused(SEV),
        None,
    ),
    row(
        Instance,
        Put,
        "sev/setupsession",
        Refused(SEV),
        Some("SEVSessionOptions"),
    ),
    row(Instance, Put, "softreboot", SoftReboot, None),
    row(Instance, Put, "unfreeze", Unfreeze, None),
    row(Instance, Put, "unpause", Unpause, Some("UnpauseOptions")),
    row(Instance, Get, "usbredir", Refused(USB), None),
    row(Instance, Get, "usage", Usage, None),
    row(Instance, Get, "userlist", UserList, None),
    row(Instance, Get, "viewers", Viewers, None),
    row(Instance, Put, "viewers/{viewer}", Keyboard, None),
    row(Instance, Get, "vnc", Vnc, None),
    row(Instance, Get, "vnc/screenshot", Screenshot, None),
    row(Instance, Get, "vsock", Refused(VSOCK), None),
    row(Host, Get, "events", Events, None),
    row(Host, Get, "sensors", Sensors, None),
    row(Manifest, Put, "", ExpandManifest, Some("VirtualMachine")),
];
