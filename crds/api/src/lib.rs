//! Wire types of kubevirt.io, instancetype.kubevirt.io and metal3.io, and the generated CustomResourceDefinitions.
//!
//! Names and types are the peer's (`kubevirt.io/v1`); behaviour lives elsewhere: what an object *means* in `catamaran-spec`, what is to be
//! done about it in `catamaran-lifecycle`. Enumerations stay strings here, so that a wrong word is reported with its path beside every other
//! mistake of the manifest, not by the JSON parser alone.
//!
//! Every object node of a spec keeps the fields it does not know in `unknown`, and the generated schemas carry
//! `x-kubernetes-preserve-unknown-fields`, so that nothing is lost before `catamaran-spec` can refuse it by name.
//!
//! Architecture invariant: this crate depends on serde, serde_json, schemars, k8s-openapi, kube-core and kube-derive only.

#[macro_use]
mod wire;

pub mod access;
pub mod clock;
pub mod cpu;
pub mod crd;
pub mod devices;
pub mod disk;
pub mod domain;
pub mod features;
pub mod firmware;
pub mod instancetype;
pub mod kubevirt;
pub mod metal3;
pub mod network;
pub mod options;
pub mod others;
pub mod preference;
pub mod probe;
pub mod replica_set;
pub mod status;
pub mod vm;
pub mod vmi;
pub mod volume;

mod yaml;

pub use access::*;
pub use clock::*;
pub use cpu::*;
pub use devices::*;
pub use disk::*;
pub use domain::*;
pub use features::*;
pub use firmware::*;
pub use instancetype::*;
pub use kubevirt::*;
pub use network::*;
pub use options::*;
pub use preference::*;
pub use probe::*;
pub use replica_set::*;
pub use status::*;
pub use vm::*;
pub use vmi::*;
pub use volume::*;
pub use wire::{Quantity, Unknown};

/// API group of the virtual machine kinds.
pub const GROUP: &str = "kubevirt.io";
/// Served and stored version.
pub const VERSION: &str = "v1";
/// `apiVersion` of a manifest.
pub const API_VERSION: &str = "kubevirt.io/v1";
