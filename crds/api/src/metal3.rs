//! Wire types of `metal3.io/v1alpha1`: servers that are managed through their BMCs.
//!
//! Names and types are Metal3's, so that its users' manifests and clients work unchanged; what the objects mean is the business of
//! `catamaran-baremetal`. Unlike machines these kinds have no admission of ours, so they keep no unknown fields: the API server itself names
//! them to whoever asks for strict validation, and drops them otherwise, as with the peer. Fields with a fixed set of words carry it in the
//! schema for the same reason.
//!
//! Ours alone: [`BmcDetails::certificate_fingerprint`], [`ProvisionStatus::state_since`], and what is read of a BMC, [`HostSensors`] and
//! [`HostEvents`].

pub mod annotations;
pub mod firmware;
pub mod hardware;
pub mod host;
pub mod image;
pub mod raid;
pub mod status;
pub mod watching;

pub use firmware::*;
pub use hardware::*;
pub use host::*;
pub use image::*;
pub use raid::*;
pub use status::*;
pub use watching::*;

/// API group of the kinds of bare metal.
pub const METAL3_GROUP: &str = "metal3.io";
