//! The kubectl plugin: `kubectl catamaran VERB`, and `kubectl create virtualmachine`.
//!
//! ```text
//!  words ─ args ─▶ verb ─▶ Connection (kubeconfig; JSON, bytes, websockets) ─▶ API server ─▶ subresources.kubevirt.io
//!                   │
//!                   └ pure: create::manifest, list::rows, why::why, bundle::blot, host::view, host::import::plan
//! ```
//!
//! Every request is made as the user; what the user may not read is left out. Tables, terminals and local ports are those of
//! `catamaran-client`, which the node's command line uses too.
//!
//! Architecture invariant: client only; no server crate is among its dependencies.

mod args;
mod bundle;
mod completion;
mod connection;
mod console;
mod create;
mod error;
mod forward;
mod guest;
mod host;
mod list;
mod ssh;
mod target;
mod verbs;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Command, Invocation};
use connection::Connection;
use error::Error;

/// Runs the program with its words, its own name first.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (globals, command) = match Invocation::parse(words) {
        Ok(Invocation { globals, command }) => (globals, command),
        Err(error) => {
            let failed = error.use_stderr();
            // Nobody reads it: nothing to do about it.
            let _ = error.print();
            return ExitCode::from(u8::from(failed));
        }
    };
    // Another part of the program may have chosen one: then that serves too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(Box::pin(carry_out(&globals, command)));
    // A console's read of the terminal can't be broken off; it must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", error.line());
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(globals: &args::Globals, command: Command) -> Result<ExitCode, Error> {
    let open = || Connection::open(globals);
    match command {
        Command::Create(args) => create::run(globals, &args).await,
        Command::List(args) => list::run(&open().await?, &args).await,
        Command::Start(args) => verbs::start(&open().await?, &args).await,
        Command::Stop(args) => verbs::stop(&open().await?, &args).await,
        Command::Restart(args) => verbs::restart(&open().await?, &args).await,
        Command::Pause(args) => verbs::pause(&open().await?, &args, true).await,
        Command::Unpause(args) => verbs::pause(&open().await?, &args, false).await,
        Command::SoftReboot(args) => verbs::soft_reboot(&open().await?, &args).await,
        Command::Reset(args) => verbs::reset(&open().await?, &args).await,
        Command::Console(args) => console::console(&open().await?, &args).await,
        Command::Vnc(args) => console::vnc(&open().await?, &args).await,
        Command::Screenshot(args) => guest::screenshot(&open().await?, &args).await,
        Command::Dmesg(args) => guest::dmesg(&open().await?, &args).await,
        Command::Guest(args) => guest::info(&open().await?, &args).await,
        Command::Host(args) => Box::pin(host::run(globals, &args)).await,
        Command::PortForward(args) => forward::port_forward(&open().await?, &args).await,
        Command::Ssh(args) => return ssh::run(globals, &open().await?, &args).await,
        Command::Why(args) => why::run(&open().await?, &args).await,
        Command::Bundle(args) => bundle::run(&open().await?, &args).await,
        Command::Version(args) => guest::version(globals, args.client).await,
        Command::Completion(args) => completion::script(args.shell),
        Command::Man(args) => completion::man(&args.folder),
        Command::Complete(args) => completion::candidates(&args.words),
    }?;
    Ok(ExitCode::SUCCESS)
}
