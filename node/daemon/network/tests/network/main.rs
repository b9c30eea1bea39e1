//! The network as root, with the kernel's own bridges, namespaces and nftables. Every test has a network namespace and a
//! mount namespace of its own, which end with it: the host sees nothing of them.

// clippy knows `#[test]` functions as tests, and not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attachment;
mod binding;
mod cni;
mod expose;
mod guard;
mod killed;
mod names;
mod sandbox;
