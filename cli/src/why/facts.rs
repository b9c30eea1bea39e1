//! What is known about a machine and all that it depends on.

use catamaran_api::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceCondition,
    VirtualMachineInstanceStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod};

use crate::connection::Seen;

/// What the user may read; lists that are hidden are empty.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Name of the machine.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// When it was looked at.
    pub(crate) now: Timestamp,
    /// The machine; missing for an instance without one.
    pub(crate) vm: Seen<VirtualMachine>,
    /// Its run.
    pub(crate) vmi: Seen<VirtualMachineInstance>,
    /// Its pods.
    pub(crate) pods: Vec<Pod>,
    /// Claims of the namespace.
    pub(crate) claims: Vec<PersistentVolumeClaim>,
    /// Events of the namespace.
    pub(crate) events: Vec<Event>,
    /// Nodes.
    pub(crate) nodes: Vec<Node>,
}

impl Facts {
    /// There is no machine, or none that may be read.
    pub(super) fn are_none(&self) -> bool {
        self.vm.there().is_none() && self.vmi.there().is_none()
    }

    /// Status of the run.
    pub(super) fn status(&self) -> Option<&VirtualMachineInstanceStatus> {
        self.vmi.there()?.status.as_ref()
    }

    /// A condition of the run.
    pub(super) fn condition(&self, kind: &str) -> Option<&VirtualMachineInstanceCondition> {
        let mut conditions = self.status()?.conditions.iter();
        conditions.find(|condition| condition.type_ == kind)
    }

    /// (reason, message) of a condition of the run with that status.
    pub(super) fn said(&self, kind: &str, status: &str) -> Option<(&str, &str)> {
        let condition = self.condition(kind).filter(|c| c.status == status)?;
        let reason = condition.reason.as_deref().unwrap_or_default();
        Some((reason, condition.message.as_deref().unwrap_or(reason)))
    }

    /// The pod of the run: the newest.
    pub(super) fn pod(&self) -> Option<&Pod> {
        let made = |pod: &&Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        self.pods.iter().max_by_key(made)
    }

    /// The node of the run.
    pub(super) fn node_name(&self) -> Option<&str> {
        let of_pod = || self.pod()?.spec.as_ref()?.node_name.as_deref();
        let of_run = self.status().and_then(|status| status.node_name.as_deref());
        of_run.or_else(of_pod)
    }

    /// `node NAME`, or the words for one that is not known.
    pub(super) fn node_words(&self) -> String {
        match self.node_name() {
            Some(name) => format!("node {name}"),
            None => "its node".to_owned(),
        }
    }

    /// The newest Warning about an object with one of these reasons.
    pub(super) fn warning(&self, kind: &str, name: &str, reasons: &[&str]) -> Option<&str> {
        let about = |event: &&Event| {
            event.type_.as_deref() == Some("Warning")
                && event.involved_object.kind.as_deref() == Some(kind)
                && event.involved_object.name.as_deref() == Some(name)
                && event
                    .reason
                    .as_deref()
                    .is_some_and(|reason| reasons.contains(&reason))
        };
        let newest = self
            .events
            .iter()
            .filter(about)
            .max_by_key(|event| time(event))?;
        newest.message.as_deref()
    }
}

fn time(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let made = event.event_time.as_ref().map(|time| time.0);
    series.map(|time| time.0).or(last).or(made)
}
