//! The controller: what will make Catamaran a part of Kubernetes. It is not there yet; this crate holds its place and its purpose.
//!
//! What will live here, each part in its own module with the steps fetch, validate, build, apply and status:
//!
//! - **`vm`, `vmi`**: `VirtualMachine` to `VirtualMachineInstance` to Pod. The decisions are `catamaran-lifecycle`'s, the same that the node
//!   daemon's `play` uses; the controller is a second shell around that crate.
//! - **`restart`**: a machine whose node is proved dead is started elsewhere, and never before that proof.
//! - **`baremetal`**: `BareMetalHost` resources (`metal3.io/v1alpha1`), inspected and provisioned over Redfish; the same power control
//!   fences failed nodes.
//! - **`api`**: the aggregated API `subresources.kubevirt.io/v1` (console, VNC, port-forward, start, stop) and admission, with the field
//!   checks of `catamaran-spec`.
//!
//! Architecture invariant: the controller never talks to libvirt and never touches a host; the node daemon is the only thing that talks to
//! both sides.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!(
        "catamaran-controller: running on Kubernetes is not there yet; `catamaran play` runs the same manifests on one machine"
    );
    ExitCode::FAILURE
}
