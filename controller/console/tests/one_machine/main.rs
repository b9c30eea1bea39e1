//! The console before one machine that is made up: logins, tickets and streams.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod made_up;
mod oidc;
mod streams;
