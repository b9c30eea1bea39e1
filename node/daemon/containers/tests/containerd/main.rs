//! Pods on a real private containerd, each test with a state folder and a network namespace of its own.
//!
//! They need root and the Debian packages containerd, runc, containernetworking-plugins, iptables, iproute2 and
//! busybox-static; without root they are skipped.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, and what only they call"
)]

mod effects;
mod failures;
mod lifecycle;
mod pulls;
mod registry;
mod runtime;
mod world;
