//! Tests of the whole system on real components.
//!
//! Every test runs in a [`Bench`]: an own network namespace, an own state folder, a daemon of its own. [`run`] makes it, hands it to the test,
//! takes everything down and compares what is on the machine with what was there before. Nothing here knows the daemon's code: it is started as a
//! program and asked through its command line. Tests on Kubernetes get a [`cluster::Cluster`] instead, from [`cluster::run`]; what needs no nodes gets an [`api_server::ApiServer`].

pub mod api_server;
pub mod bench;
pub mod cluster;
pub mod command;
pub mod display;
pub mod guest;
pub mod host;
pub mod ironic;
pub mod manifest;
pub mod metrics;
pub mod offer;
pub mod pages;
pub mod parcel;
pub mod programs;
pub mod setting;
pub mod snapshot;
pub mod steps;
pub mod wait;

pub use bench::{Bench, run, run_in};
pub use guest::Console;
pub use setting::Setting;
pub use snapshot::Snapshot;
pub use wait::{BOOT, SHORT, wait_for};
