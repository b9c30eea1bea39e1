//! Hosts from the manifest to the end, against mocks of BMCs and a fake of the cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod agent;
mod beside;
mod boot_once;
mod data;
mod decisions;
mod deploying;
mod fake;
mod fencing;
mod firmware;
mod life;
mod machine;
mod matrix;
mod reading;
mod servers;
