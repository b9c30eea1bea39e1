//! `kubectl-catamaran`, and `kubectl-create-vm` and `kubectl-create-virtualmachine` where it is linked under these names.

use std::process::ExitCode;

fn main() -> ExitCode {
    catamaran_cli::run(std::env::args_os())
}
