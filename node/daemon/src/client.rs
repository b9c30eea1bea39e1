//! The client verbs: everything that talks to a running daemon over its socket.

pub mod console;
pub mod http;
pub mod manifests;
pub mod names;
pub mod objects;
pub mod verbs;
