//! Stored objects, fetched for a request.

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use catamaran_instancetypes::Problem;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::answer::Refusal;

/// Kind of a machine in messages.
pub(crate) const MACHINE: &str = "virtualmachine";
/// Kind of an instance in messages.
pub(crate) const INSTANCE: &str = "virtualmachineinstance";

/// A machine.
pub(crate) async fn machine(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<VirtualMachine, Refusal> {
    let machines = Api::<VirtualMachine>::namespaced(client.clone(), namespace);
    machines
        .get_opt(name)
        .await?
        .ok_or_else(|| Refusal::not_found(MACHINE, name))
}

/// An instance, or that there is none.
pub(crate) async fn instance_opt(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<VirtualMachineInstance>, Refusal> {
    let instances = Api::<VirtualMachineInstance>::namespaced(client.clone(), namespace);
    Ok(instances.get_opt(name).await?)
}

/// An instance.
pub(crate) async fn instance(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<VirtualMachineInstance, Refusal> {
    instance_opt(client, namespace, name)
        .await?
        .ok_or_else(|| Refusal::not_found(INSTANCE, name))
}

/// A machine with instancetype and preference merged into its spec.
pub(crate) async fn expanded(
    client: &Client,
    namespace: &str,
    vm: &VirtualMachine,
) -> Result<VirtualMachine, Refusal> {
    let found = catamaran_instancetypes::expanded(client, namespace, vm).await;
    found.map_err(|problem| match problem {
        Problem::Fields(errors) => Refusal::invalid_machine(vm, &errors),
        Problem::Api { source, .. } => (*source).into(),
    })
}

/// A body in JSON or YAML; an empty one is the default.
pub(crate) fn read_body<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .or_else(|_| serde_yaml_ng::from_slice(body))
        .map_err(|error| {
            Refusal::bad_request(format!(
                "Can not unmarshal Request body to struct, error: {error}"
            ))
        })
}

/// Whether a body asks that nothing is changed.
pub(crate) fn is_dry_run(dry_run: &[String]) -> bool {
    dry_run.iter().any(|word| word == "All")
}

#[cfg(test)]
mod tests {
    use catamaran_api::StartOptions;

    use super::read_body;

    #[test]
    fn bodies_are_json_yaml_or_nothing() {
        for (body, paused) in [
            ("", None),
            ("\n", None),
            ("{}", None),
            (r#"{"paused": true}"#, Some(true)),
            ("paused: true\n", Some(true)),
        ] {
            let options: StartOptions = read_body(body.as_bytes()).unwrap();
            assert_eq!(options.paused, paused, "{body:?}");
        }
        assert_eq!(
            read_body::<StartOptions>(b"paused: 3").unwrap_err().0.code,
            400
        );
    }
}
