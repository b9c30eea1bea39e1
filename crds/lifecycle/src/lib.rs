//! Pure life-cycle decisions of virtual machines.
//!
//! Whether a machine is to be started, stopped or left alone; what a verb may do; what people read in its status. The daemon under `play`
//! and the controller on Kubernetes are two shells around this crate: they gather views, call [`decide()`], carry out the [`Action`] and store
//! what the [`Decision`] says. The words are those of the peer (KubeVirt), so that its clients understand them.
//!
//! ```text
//!             create                      guest up                 guest ends
//!  (no VMI) ─────────▶ Pending…Scheduled ─────────▶ Running ───────────────▶ Succeeded | Failed
//!     ▲                                                                             │
//!     └──────────── delete, once the run is proved dead ◀───── decide() ◀───────────┘
//! ```
//!
//! Architecture invariant: synchronous, no clock, no randomness, no I/O: time and jitter are passed in.

mod back_off;
mod conditions;
mod decide;
mod hotplug;
mod instance;
mod live;
mod phase;
mod printable;
mod request;
mod status;
mod strategy;
mod time;
mod verbs;
mod view;

pub use back_off::{BackOff, STABLE_SECONDS};
pub use conditions::{
    ConditionStatus, RESTART_REQUIRED_MESSAGE, instance_ready, machine_conditions,
    restart_required, set_instance_condition, set_machine_condition,
};
pub use decide::{Action, Decision, Facts, decide};
pub use hotplug::{HOTPLUG_FAILED, VolumePhase, cold, hot_claim, hot_status};
pub use instance::{
    GENERATION_ANNOTATION, HARDWARE_ANNOTATION, TEMPLATE_ANNOTATION, instance, instance_generation,
    machine_uid, outdated, template_digest,
};
pub use live::{follow_template, of_start};
pub use phase::{DomainEnd, Phase};
pub use printable::{PrintableFacts, PrintableStatus, VolumeProblem, printable_status};
pub use request::StateChangeRequest;
pub use status::{StatusInput, machine_status};
pub use strategy::{RunStrategy, UnknownRunStrategy};
pub use time::{Seconds, from_time, to_time};
pub use verbs::{
    Change, Verdict, freeze, pause, reset, restart, soft_reboot, start, stop, unfreeze, unpause,
};
pub use view::{VmView, VmiView};
