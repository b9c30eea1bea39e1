//! The process that owns one virtual machine (`catamaran-launcher`), its init and its sandbox (`catamaran-init`).

pub mod init;
pub mod records;
pub mod sandbox;
