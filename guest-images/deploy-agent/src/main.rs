//! See the library.

use std::process::ExitCode;

use catamaran_deploy_agent::{console, init, worker};

fn main() -> ExitCode {
    console::start();
    let result = if std::process::id() == 1 {
        init::run()
    } else {
        worker::run()
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
