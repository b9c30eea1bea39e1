//! Pods through the container runtime interface.
