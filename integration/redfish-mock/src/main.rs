//! `catamaran-redfish-mock`: BMCs that speak Redfish, without machines.
//!
//! ```console
//! $ catamaran-redfish-mock --count 3 --personality dell --port 8000 --admin 127.0.0.1:7999
//! {"name":"bmc0","url":"http://127.0.0.1:8000",…}
//! ```
//!
//! Once all listen it prints one line of JSON for each BMC, and serves until SIGINT or SIGTERM.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use catamaran_redfish_mock::{Certificate, Mock, Options, Personality, Timing, admin};
use clap::Parser;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves mocks of BMCs.
#[derive(Debug, Parser)]
#[command(name = "catamaran-redfish-mock", version)]
struct Arguments {
    /// How many BMCs
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: u32,
    /// How they behave: one after another, repeated
    #[arg(
        long,
        default_value = "standard",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    personality: Vec<String>,
    /// A file with a personality, instead
    #[arg(long, value_name = "FILE", conflicts_with = "personality")]
    personality_file: Option<PathBuf>,
    /// Address that all listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    address: IpAddr,
    /// Port of the first; the others follow. 0: free ones
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port: u16,
    /// Names are this and a number
    #[arg(long, default_value = "bmc", value_name = "NAME")]
    name: String,
    /// User name
    #[arg(long, default_value = "admin", value_name = "NAME")]
    username: String,
    /// Password
    #[arg(long, default_value = "password", value_name = "TEXT")]
    password: String,
    /// UUIDs of the machines, one after another (default: made up from name and number)
    #[arg(long, value_delimiter = ',', value_name = "UUID")]
    uuid: Vec<uuid::Uuid>,
    /// MAC addresses of the machines, one for each
    #[arg(long, value_delimiter = ',', value_name = "MAC")]
    mac: Vec<String>,
    /// Machines are on at first
    #[arg(long)]
    on: bool,
    /// Speak TLS with a self-signed certificate
    #[arg(long)]
    tls: bool,
    /// Speak TLS with this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// How long power changes take, in ms
    #[arg(long, default_value_t = 500, value_name = "MS")]
    power_ms: u64,
    /// How late answers are, in ms
    #[arg(long, default_value_t = 0, value_name = "MS")]
    latency_ms: u64,
    /// How many requests each remembers
    #[arg(long, default_value_t = 1000, value_name = "N")]
    remember: usize,
    /// Program to run at each power change, with `on` or `off`; see the environment REDFISH_MOCK_*
    #[arg(long, value_name = "PROGRAM")]
    command: Option<String>,
    /// Address of the interface for scripts; it asks for no credentials
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(std::io::stderr(), "catamaran-redfish-mock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    ensure!(arguments.count > 0, "--count must be at least 1");
    let personalities = match &arguments.personality_file {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            vec![Personality::parse(&text).with_context(|| file.display().to_string())?]
        }
        None => {
            let named = arguments
                .personality
                .iter()
                .map(|name| Personality::named(name));
            named.collect::<Result<_, _>>()?
        }
    };
    let certificate = certificate(&arguments)?;
    let mut mock = Mock::new();
    let mut printed = std::io::stdout();
    for number in 0..arguments.count {
        let index = usize::try_from(number)?;
        let personality = Arc::clone(&personalities[index % personalities.len()]);
        let mut options = Options::new(&format!("{}{number}", arguments.name), number, personality);
        let port = match arguments.port {
            0 => 0,
            first => {
                u16::try_from(u32::from(first) + number).context("there are not so many ports")?
            }
        };
        options.listen = (arguments.address, port).into();
        options.username.clone_from(&arguments.username);
        options.password.clone_from(&arguments.password);
        options.on = arguments.on;
        options.latency_ms = arguments.latency_ms;
        options.remember = arguments.remember;
        options.timing = Timing {
            on_ms: arguments.power_ms,
            off_ms: arguments.power_ms,
            soft_ms: Some(arguments.power_ms * 2),
            says_between: true,
        };
        options.command = arguments.command.iter().cloned().collect();
        if let Some(uuid) = arguments.uuid.get(index) {
            options.uuid = *uuid;
        }
        if let Some(mac) = arguments.mac.get(index) {
            options.macs = vec![mac.clone()];
        }
        let line = |handle: &catamaran_redfish_mock::Handle| json!({"name": handle.name(), "url": handle.url(), "system": handle.system()});
        let handle = mock.add(options, certificate.as_ref()).await?;
        writeln!(printed, "{}", line(&handle)).context("standard output")?;
    }
    printed.flush().context("standard output")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    match arguments.admin {
        None => stop.await,
        Some(address) => {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address}"))?;
            axum::serve(listener, admin::router(Arc::new(mock)))
                .with_graceful_shutdown(stop)
                .await?;
        }
    }
    Ok(())
}

fn certificate(arguments: &Arguments) -> Result<Option<Certificate>> {
    let read =
        |file: &PathBuf| std::fs::read_to_string(file).with_context(|| file.display().to_string());
    Ok(match (&arguments.certificate, &arguments.key) {
        (Some(chain), Some(key)) => Some(Certificate::from_pem(&read(chain)?, &read(key)?)?),
        _ if arguments.tls => {
            let names = ["localhost", "127.0.0.1", "::1"];
            let own = arguments.address.to_string();
            let all: Vec<&str> = names.into_iter().chain([own.as_str()]).collect();
            Some(Certificate::self_signed(&all)?)
        }
        _ => None,
    })
}
