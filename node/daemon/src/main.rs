//! `catamaran`: the node daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    catamaran_node::run()
}
