//! The deploy agent: runs on a server that was booted from the deploy ISO, asks the controller what to do, and does it.
//!
//! ```text
//!   main: PID 1 ── init ──starts again──> worker
//!                   |                       |  network, then a session, then the inventory
//!        mounts, drivers, reaping           |
//!                                           v
//!                          ┌──> GET command ──> inspect | choose disk | write | wipe | power ──> POST outcome ──┐
//!                          └────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The worker keeps nothing but the key of its session (in `/run`): started anew at any moment, it asks for the command again and begins it
//! from the start. Whatever parses (hardware, network data, partition tables, qcow2) is pure and tested on recorded input; programs of
//! util-linux and busybox do what would need ioctls.

pub mod client;
pub mod config_drive;
pub mod console;
pub mod disk;
pub mod drivers;
pub mod image;
pub mod init;
pub mod inventory;
pub mod network;
pub mod program;
pub mod wipe;
pub mod worker;
pub mod write;

mod failed;
mod text;
mod tls;

pub use failed::Failed;
