//! The whole API part against a fake API server and a mock node daemon: certificates are made, callers are verified, verbs are carried
//! out, streams are joined.
#![allow(clippy::unwrap_used, clippy::panic)] // Everything here is a test, helpers too.

mod cluster;
mod daemon;
mod hosts;
mod requests;
mod streams;
mod world;
