//! `catamaran-init`: the stage that makes a machine's sandbox, and PID 1 in it;
//! in a pod also the container that shows the serial log, and in a pod of its own what holds a claim.

use std::process::ExitCode;

use catamaran_sandbox::{console_log, hold, init, pod, sandbox::stage};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["sandbox"] => told(stage::sandbox()),
        ["enter"] => stage::enter(),
        ["pod"] => told(pod::run().map(|never| match never {})),
        ["console-log"] => told(console_log::run()),
        ["hold"] => told(hold::run()),
        ["run"] => told(init::run(&init::Places::default(), None)),
        ["run", launcher] => told(init::run(&init::Places::default(), launcher.parse().ok())),
        ["task", ..] => told(init::task(&arguments[1..])),
        ["--version"] => told(
            std::io::Write::write_all(
                &mut std::io::stdout(),
                concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes(),
            )
            .map(|()| ExitCode::SUCCESS),
        ),
        _ => told::<&str>(Err(
            "usage: catamaran-init sandbox < SPEC | enter | pod | console-log | hold | run [LAUNCHER-PID] | task PROGRAM ARGUMENT…",
        )),
    }
}

fn told<E: std::fmt::Display>(result: Result<ExitCode, E>) -> ExitCode {
    use std::io::Write;
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "catamaran-init: {error}");
        ExitCode::FAILURE
    })
}
