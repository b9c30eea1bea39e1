//! The node daemon and its command line: `play` runs it, the other commands talk to it over its socket.

pub mod args;
pub mod client;
pub mod kubernetes;
pub mod machine;
mod offline;
pub mod serve;
pub mod usage;
pub mod viewers;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::client::http::Client;
use crate::client::{console, objects, verbs};

/// Runs the program; errors go to standard error.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let result = match &cli.command {
        // Before any runtime or thread: these children shed their privileges first.
        Command::ImageWorker { .. } => return catamaran_images::worker_main(),
        Command::DnsServer => catamaran_network::dns::child_main()
            .map_err(|error| anyhow::anyhow!(catamaran_client::chain(&error))),
        _ => runtime(&cli),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", catamaran_client::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn runtime(cli: &Cli) -> anyhow::Result<()> {
    let play = matches!(cli.command, Command::Play(_) | Command::Node(_));
    let filter =
        tracing_subscriber::EnvFilter::try_new(if play { cli.log.as_str() } else { "warn" })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let mut builder = if play {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder
        .worker_threads(2)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()?;
    let result = runtime.block_on(dispatch(cli));
    // A client may still wait for standard input in a thread; it is not waited for.
    runtime.shutdown_background();
    result
}

async fn dispatch(cli: &Cli) -> anyhow::Result<()> {
    let client = Client::new(&cli.state);
    let none = serde_json::json!({});
    match &cli.command {
        Command::Play(args) => return Box::pin(serve::play::run(&cli.state, args)).await,
        Command::Node(args) => return Box::pin(kubernetes::run(&cli.state, args)).await,
        Command::Plan(args) => return offline::plan(args),
        Command::Host(output) => verbs::host(&client, *output).await?,
        Command::Apply(args) => verbs::apply(&client, args).await?,
        Command::Ps(args) => objects::ps(&client, args).await?,
        Command::Get(args) => objects::get(&client, args).await?,
        Command::Describe(args) => objects::describe(&client, args).await?,
        Command::Start(args) => verbs::start(&client, args).await?,
        Command::Stop(args) => verbs::stop(&client, args).await?,
        Command::Restart(vm) => verbs::verb(&client, vm, "restart", none).await?,
        Command::Pause(vm) => verbs::verb(&client, vm, "pause", none).await?,
        Command::Unpause(vm) => verbs::verb(&client, vm, "unpause", none).await?,
        Command::Reset(vm) => verbs::verb(&client, vm, "reset", none).await?,
        Command::SoftReboot(vm) => verbs::verb(&client, vm, "soft-reboot", none).await?,
        Command::Console(args) => console::console(&client, args).await?,
        Command::Vnc(args) => console::vnc(&client, args).await?,
        Command::Screenshot(args) => verbs::screenshot(&client, args).await?,
        Command::PortForward(args) => verbs::port_forward(&client, args).await?,
        Command::Logs(args) => verbs::logs(&client, args).await?,
        Command::Dmesg(args) => verbs::dmesg(&client, args).await?,
        Command::Ip(args) => objects::ip(&client, args).await?,
        Command::Delete(args) => objects::delete(&client, args).await?,
        Command::Down(args) => verbs::down(&client, args).await?,
        Command::ImageWorker { .. } | Command::DnsServer => {}
    }
    Ok(())
}
