//! Finalizers: what keeps an object until its run is proved dead.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// On a machine: its instance has to go first.
pub const MACHINE: &str = "kubevirt.io/virtualMachineControllerFinalize";
/// On an instance: its pod has to be proved gone.
pub const INSTANCE: &str = "foregroundDeleteVirtualMachine";
/// On a machine that is deleted without its instance (`--cascade=orphan`); the API server's own word.
pub const ORPHAN: &str = "orphan";

/// Whether the object has that finalizer.
#[must_use]
pub fn has(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata
        .finalizers
        .as_ref()
        .is_some_and(|all| all.iter().any(|one| one == finalizer))
}

/// The merge patch that adds it.
#[must_use]
pub fn add(metadata: &ObjectMeta, finalizer: &str) -> Value {
    let mut all = metadata.finalizers.clone().unwrap_or_default();
    all.push(finalizer.to_owned());
    json!({"metadata": {"finalizers": all}})
}

/// The merge patch that takes it away.
#[must_use]
pub fn remove(metadata: &ObjectMeta, finalizer: &str) -> Value {
    let mut all = metadata.finalizers.clone().unwrap_or_default();
    all.retain(|one| one != finalizer);
    json!({"metadata": {"finalizers": all}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_of_others_stay() {
        let metadata = ObjectMeta {
            finalizers: Some(vec!["theirs".to_owned(), MACHINE.to_owned()]),
            ..ObjectMeta::default()
        };
        assert!(has(&metadata, MACHINE));
        assert!(!has(&metadata, INSTANCE));
        assert_eq!(
            remove(&metadata, MACHINE),
            json!({"metadata": {"finalizers": ["theirs"]}})
        );
        assert_eq!(
            add(&metadata, INSTANCE)["metadata"]["finalizers"][2],
            INSTANCE
        );
    }
}
