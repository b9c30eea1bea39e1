//! The daemon's side: everything that `catamaran play` does.

pub mod api;
pub mod check;
pub mod code;
pub mod collect;
pub mod console;
pub mod daemon;
pub mod events;
pub mod host;
pub mod layout;
pub mod manifest;
pub mod metrics;
pub mod names;
pub mod play;
pub mod pods;
pub mod serial_log;
pub mod store;
pub mod summary;
pub mod time;
pub mod watch;
