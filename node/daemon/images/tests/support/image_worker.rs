//! The worker process as a program of its own, for the tests; the daemon has it as a hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    catamaran_images::worker_main()
}
