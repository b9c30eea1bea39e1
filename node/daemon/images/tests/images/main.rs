//! The image store against real registries, layouts and archives, and against hostile ones. Nothing here needs the network outside this machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lints spare test functions, but not their helpers"
)]

mod build;
mod cache;
mod crash;
mod fake;
mod hostile;
mod layouts;
mod local;
mod registries;
mod setup;
mod space;
mod worker;
