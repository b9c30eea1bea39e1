//! The container with the guest's serial output: `kubectl logs POD -c guest-console-log`.

use std::collections::BTreeMap;

use catamaran_api::VirtualMachineInstance;
use catamaran_plan::paths;
use catamaran_plan::pod::{CONSOLE_LOG_COMMAND, CONSOLE_LOG_CONTAINER, RUN_VOLUME};
use catamaran_spec::MachineSpec;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::settings::Settings;

/// Requests; it sleeps as long as the guest says nothing. Where the launcher's container has its limits as requests, these are the limits.
const REQUESTS: [(&str, &str); 2] = [("cpu", "5m"), ("memory", "10M")];
/// Limits, as the peer's.
const LIMITS: [(&str, &str); 2] = [("cpu", "15m"), ("memory", "60M")];

/// Whether a machine has it.
pub(super) fn wanted(
    vmi: &VirtualMachineInstance,
    machine: &MachineSpec,
    settings: &Settings,
) -> bool {
    let said = vmi.spec.domain.devices.log_serial_console;
    machine.devices.log_serial_console && said.unwrap_or(settings.serial_console_log)
}

/// The container: the launcher's image and rights, and nothing but its run folder, read-only.
pub(super) fn container(compute: &Container) -> Container {
    let quantities = |list: [(&str, &str); 2]| -> BTreeMap<String, Quantity> {
        let pair = |(name, amount): (&str, &str)| (name.to_owned(), Quantity(amount.to_owned()));
        list.into_iter().map(pair).collect()
    };
    let mut limits = quantities(LIMITS);
    let requests = if guaranteed(compute) {
        limits.clone()
    } else {
        // A limit of its processor time would make the start of the container, and so of the machine, take seconds.
        limits.remove("cpu");
        quantities(REQUESTS)
    };
    Container {
        name: CONSOLE_LOG_CONTAINER.to_owned(),
        image: compute.image.clone(),
        image_pull_policy: compute.image_pull_policy.clone(),
        command: Some(CONSOLE_LOG_COMMAND.map(str::to_owned).into()),
        resources: Some(ResourceRequirements {
            claims: None,
            limits: Some(limits),
            requests: Some(requests),
        }),
        security_context: compute.security_context.clone(),
        volume_mounts: Some(vec![VolumeMount {
            name: RUN_VOLUME.to_owned(),
            mount_path: paths::RUN.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// Whether the pod's class would be Guaranteed without this container.
fn guaranteed(compute: &Container) -> bool {
    let resources = compute.resources.clone().unwrap_or_default();
    let (limits, requests) = (
        resources.limits.unwrap_or_default(),
        resources.requests.unwrap_or_default(),
    );
    ["cpu", "memory"]
        .iter()
        .all(|name| limits.contains_key(*name) && limits.get(*name) == requests.get(*name))
}
