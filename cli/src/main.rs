//! `kubectl catamaran`: the kubectl plugin. It is not there yet; this crate holds its place and its purpose.
//!
//! It will offer the verbs of `catamaran` (console, vnc, start, stop, dmesg and so on) against a cluster's API, as the user and with no
//! rights of its own. What it shares with the node's command line (tables, output formats, the terminal of a console) is in
//! `catamaran-client` already.
//!
//! Architecture invariant: client only; no server crate is among its dependencies.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!(
        "kubectl-catamaran: clusters are not supported yet; on the machine itself use `catamaran` (see `catamaran --help`)"
    );
    ExitCode::FAILURE
}
