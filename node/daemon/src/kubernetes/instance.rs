//! A `VirtualMachineInstance` as the API server has it, reduced to what its node needs.

use catamaran_api::{VirtualMachineInstance, VirtualMachineInstanceStatus};
use catamaran_lifecycle::{HARDWARE_ANNOTATION, Phase, VmiView, cold, machine_uid};
use catamaran_plan::{Hardware, Identity};
use kube::api::DynamicObject;
use serde_json::Value;
use uuid::Uuid;

use crate::serve::store::{Key, Kind, digest};

/// The object of one run.
#[derive(Debug)]
pub struct Instance {
    /// Namespace and name.
    pub key: Key,
    /// UID of the run.
    pub uid: Uuid,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// The object.
    pub object: VirtualMachineInstance,
    /// UID of its pod on this node, once the controller has handed it over.
    pub pod: Option<String>,
}

/// An object that this version can't read.
#[derive(Debug, thiserror::Error)]
#[error("the instance is not readable: {0}")]
pub struct Unreadable(String);

impl Instance {
    /// Reads the object; `node` is this node's name.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn read(object: DynamicObject, node: &str) -> Result<Self, Unreadable> {
        let unreadable = |error: &dyn std::fmt::Display| Unreadable(error.to_string());
        let mut object = object;
        object.metadata.managed_fields = None;
        let object = serde_json::to_value(object).map_err(|error| unreadable(&error))?;
        let object: VirtualMachineInstance =
            serde_json::from_value(object).map_err(|error| unreadable(&error))?;
        let metadata = &object.metadata;
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let pods = object.status.as_ref().map(|status| &status.active_pods);
        let pod = pods
            .into_iter()
            .flatten()
            .find(|(uid, at)| at.as_str() == node && is_uid(uid))
            .map(|(uid, _)| uid.clone());
        Ok(Self {
            key: Key::new(
                Kind::VirtualMachineInstance,
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
            ),
            uid: uid.parse().map_err(|error| unreadable(&error))?,
            version: metadata.resource_version.clone().unwrap_or_default(),
            pod,
            object,
        })
    }

    /// Phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::parse(self.status().phase.as_deref())
    }

    /// What decisions need.
    #[must_use]
    pub fn view(&self) -> VmiView {
        VmiView::of(&self.object)
    }

    /// Its status, empty when there is none yet.
    #[must_use]
    pub fn status(&self) -> VirtualMachineInstanceStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// Digest of its spec, without what no hardware depends on: whether this run begins paused, and volumes that come and go.
    #[must_use]
    pub fn spec_digest(&self) -> String {
        let mut spec = cold(&self.object.spec);
        spec.start_strategy = None;
        digest(&serde_json::to_value(spec).unwrap_or(Value::Null))
    }

    /// Hardware of an earlier run, wherever that was.
    #[must_use]
    pub fn hardware(&self) -> Option<Hardware> {
        let annotations = self.object.metadata.annotations.as_ref()?;
        serde_json::from_str(annotations.get(HARDWARE_ANNOTATION)?).ok()
    }

    /// Who the guest is: a function of the machine's uid, so that each run shows the same hardware.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let machine = machine_uid(&self.object).and_then(|uid| uid.parse().ok());
        Identity::of_uid(machine.unwrap_or(self.uid))
    }

    /// Whether this is at least as new as the other. Versions are numbers that grow; where they are not, the later one counts.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let number = |version: &str| version.parse::<u128>().ok();
        match (number(&self.version), number(&other.version)) {
            (Some(own), Some(theirs)) => own >= theirs,
            _ => true,
        }
    }
}

/// It becomes a part of a path.
pub(super) fn is_uid(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn instance(phase: &str, extra: Value) -> Instance {
        let mut object = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {
                "name": "web", "namespace": "shop", "resourceVersion": "7",
                "uid": "11111111-1111-1111-1111-111111111111",
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "22222222-2222-2222-2222-222222222222"}],
            },
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": phase, "activePods": {"0a-1": "n1", "0b-2": "n2"}},
        });
        merge(&mut object, extra);
        Instance::read(serde_json::from_value(object).unwrap(), "n1").unwrap()
    }

    fn merge(base: &mut Value, patch: Value) {
        match (base, patch) {
            (Value::Object(base), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
            (base, patch) => *base = patch,
        }
    }

    #[test]
    fn the_pod_of_this_node_is_found() {
        assert_eq!(
            instance("Scheduled", json!({})).pod.as_deref(),
            Some("0a-1")
        );
        let strange = json!({"status": {"activePods": {"0a-1": "n3", "../x": "n1"}}});
        assert_eq!(instance("Scheduled", strange).pod, None);
    }

    #[test]
    fn the_guest_is_known_by_its_machine() {
        let run = instance("Running", json!({}));
        let next = json!({"metadata": {"uid": "33333333-3333-3333-3333-333333333333"}});
        assert_eq!(run.identity(), instance("Running", next).identity());
    }

    #[test]
    fn hardware_of_an_earlier_run_comes_with_the_object() {
        assert_eq!(instance("Scheduled", json!({})).hardware(), None);
        let hardware = r#"{"spec_digest":"d","machine":"pc-q35-8.2","cpu_model":"Skylake-Client","addresses":{}}"#;
        let known = json!({"metadata": {"annotations": {"catamaran.dev/hardware": hardware}}});
        let found = instance("Scheduled", known).hardware().unwrap();
        assert_eq!(found.machine, "pc-q35-8.2");
    }

    #[test]
    fn a_paused_start_is_no_other_hardware() {
        let plain = instance("Scheduled", json!({}));
        let paused = instance("Scheduled", json!({"spec": {"startStrategy": "Paused"}}));
        assert_eq!(plain.spec_digest(), paused.spec_digest());
    }

    #[test]
    fn an_older_object_does_not_supersede() {
        let old = instance("Running", json!({"metadata": {"resourceVersion": "9"}}));
        let new = instance("Running", json!({"metadata": {"resourceVersion": "10"}}));
        assert!(new.supersedes(&old) && !old.supersedes(&new));
    }
}
