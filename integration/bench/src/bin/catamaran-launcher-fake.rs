//! A launcher with the fake hypervisor, for measuring the daemon with more machines than this machine can run.
//!
//! Put in the place of `catamaran-launcher`, since only that one file gets into a sandbox.

use std::process::ExitCode;

use catamaran_launcher::places::Places;
use catamaran_launcher::program::{self, Options};

fn main() -> ExitCode {
    // `capabilities` and such: nothing to say.
    if std::env::args()
        .nth(1)
        .is_some_and(|word| !word.starts_with('-'))
    {
        return ExitCode::FAILURE;
    }
    let stop = std::env::args().any(|word| word == "--stop");
    program::run(Options {
        places: Places::default(),
        fake: true,
        stop,
    })
    .unwrap_or(ExitCode::FAILURE)
}
