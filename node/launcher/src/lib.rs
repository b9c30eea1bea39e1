//! The process that owns one virtual machine, and its init.
