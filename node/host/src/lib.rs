//! What the programs of a node share in how they use their machine: files that are whole or not there, and processes that are taken for no
//! other. The daemon, its crates, the sandbox and the launcher call it; it knows none of them.

pub mod file;
pub mod process;
