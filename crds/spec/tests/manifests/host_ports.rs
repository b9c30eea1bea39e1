//! Ports of the host that lead to a machine.

use super::*;

/// A machine whose template has the annotation.
fn with_host_ports(ports: &str, patch: &Value) -> Value {
    let mut manifest = vm(patch);
    manifest["spec"]["template"]["metadata"]["annotations"] =
        json!({ "catamaran.dev/host-ports": ports, "example.org/other": "x" });
    manifest
}

#[test]
fn host_ports_are_read_from_the_annotation_of_the_instance() {
    let manifest = with_host_ports("8080:80, [fd00::1]:53:53/udp", &json!({}));
    let (_, machine, warnings) = virtual_machine(&manifest, Context::Play).unwrap();
    let ports: Vec<String> = machine.host_ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["8080:80/tcp", "[fd00::1]:53:53/udp"]);
    assert_eq!(warnings, []);

    let template = &manifest["spec"]["template"];
    let mut instance = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": template["metadata"], "spec": template["spec"],
    });
    instance["metadata"]["name"] = "demo".into();
    let (_, machine, _) = virtual_machine_instance(&instance, Context::Play).unwrap();
    assert_eq!(machine.host_ports.len(), 2);
    instance["metadata"]["annotations"]["catamaran.dev/host-ports"] = "80".into();
    let errors = virtual_machine_instance(&instance, Context::Play).unwrap_err();
    let message = errors.to_string();
    assert!(
        message.starts_with(
            "metadata.annotations[catamaran.dev/host-ports]: Invalid value: \"80\": must be "
        ),
        "{message}"
    );
}

#[test]
fn host_ports_on_kubernetes_are_accepted_with_a_warning() {
    let manifest = with_host_ports("8080:80", &json!({}));
    let (_, _, warnings) = virtual_machine(&manifest, Context::Cluster).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "spec.template.metadata.annotations[catamaran.dev/host-ports]: a Service reaches a machine on Kubernetes, so its node opens no port for it"
        ]
    );
}

#[test]
fn host_ports_that_reach_no_guest_are_refused() {
    const AT: &str = "spec.template.metadata.annotations[catamaran.dev/host-ports]";
    let none = devices(&json!({ "autoattachPodInterface": false }));
    assert_eq!(
        messages(&with_host_ports("8080:80", &none)),
        [format!(
            "{AT}: Forbidden: host ports lead to an interface on the pod network, and the machine has none"
        )]
    );

    let mut few = devices(&json!({ "interfaces": [
        { "name": "net", "masquerade": {}, "ports": [{ "port": 80 }, { "port": 53, "protocol": "UDP" }] }
    ] }));
    few["networks"] = json!([{ "name": "net", "pod": {} }]);
    assert_eq!(
        messages(&with_host_ports("8080:80, 53:53/udp, 2222:22, 54:53", &few)),
        [
            format!(
                "{AT}: Invalid value: \"2222:22\": port 22 of the guest must be among the ports of interface net"
            ),
            format!(
                "{AT}: Invalid value: \"54:53\": port 53 of the guest must be among the ports of interface net"
            ),
        ]
    );
    // All ports reach a guest that has the address of its pod itself.
    let interface = &mut few["domain"]["devices"]["interfaces"][0];
    *interface = json!({ "name": "net", "bridge": {}, "ports": [{ "port": 80 }] });
    let read = virtual_machine(&with_host_ports("2222:22", &few), Context::Play);
    assert_eq!(read.unwrap().1.host_ports.len(), 1);
}

#[test]
fn host_ports_of_the_machine_instead_of_its_instance_are_told() {
    let mut manifest = vm(&json!({}));
    manifest["metadata"]["annotations"] = json!({ "catamaran.dev/host-ports": "8080:80" });
    assert_eq!(
        messages(&manifest),
        [
            "metadata.annotations[catamaran.dev/host-ports]: Forbidden: belongs into spec.template.metadata.annotations"
        ]
    );
}
