//! The program: its tasks and how they end.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use catamaran_baremetal::Bmcs;
use catamaran_console::{Grafana, Kubernetes, Oidc, OidcConfig};
use catamaran_controller_api::ApiConfig;
use catamaran_redfish::Limits;
use clap::Parser as _;
use kube::Config;
use kube::client::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command};
use crate::controllers;
use crate::error::chain;
use crate::health;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::{preflight, uninstall};

/// Time to give the lease back before the end.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// Runs the controller; errors go to standard error.
#[must_use]
pub fn run() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&args.log)?)
        .with_writer(std::io::stderr)
        .init();
    // One provider for every client and server of the process; a second call would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(Box::pin(work(args)))
}

async fn work(args: &Args) -> anyhow::Result<()> {
    let config = Config::infer().await.context("no API server is known")?;
    let console = Kubernetes::at(&config);
    let client = Client::try_from(config).context("the API server cannot be spoken to")?;
    let console = console.sharing(client.clone());
    match &args.command {
        None => Box::pin(serve(args, client, console)).await,
        Some(Command::Preflight) => preflight::run(&client, &args.namespace).await,
        Some(Command::Uninstall {
            delete_vms,
            timeout,
        }) => {
            Box::pin(uninstall::run(
                &client,
                &args.namespace,
                *delete_vms,
                *timeout,
            ))
            .await
        }
    }
}

/// The provider of the web console, if one is configured.
fn oidc(args: &Args) -> anyhow::Result<Option<Arc<Oidc>>> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let Some(issuer) = some(&args.oidc_issuer) else {
        return Ok(None);
    };
    let provider = Oidc::new(OidcConfig {
        issuer,
        client_id: args.oidc_client_id.clone(),
        client_secret: some(&args.oidc_client_secret.0),
        authorities: some(&args.oidc_authorities),
    })?;
    Ok(Some(Arc::new(provider)))
}

/// What the web console links to, if that is configured.
fn grafana(args: &Args) -> anyhow::Result<Option<Grafana>> {
    match args.grafana.as_str() {
        "" => Ok(None),
        address => match address.parse() {
            Ok(grafana) => Ok(Some(grafana)),
            Err(wrong) => anyhow::bail!("--grafana {address}: {wrong}"),
        },
    }
}

async fn serve(args: &Args, client: Client, console: Kubernetes) -> anyhow::Result<()> {
    let image = args.node_image.as_deref();
    let image = image.context("--node-image is missing: the image of the launcher pods")?;
    let metrics = Metrics::new()?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(health::serve(args.health, metrics.clone()));
    tasks.spawn(until_asked_to_stop(stop.clone()));
    let version = client.apiserver_version().await;
    let version = version.context("the API server does not answer")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        kubernetes = version.git_version,
        "started"
    );
    metrics.ready();
    let (leads, leader) = watch::channel(false);
    let bmcs = Arc::new(Bmcs::new(Limits::default()));
    let api = ApiConfig {
        client: client.clone(),
        console,
        oidc: oidc(args)?,
        grafana: grafana(args)?,
        namespace: args.namespace.clone(),
        listen: args.listen,
        node_port: args.node_port,
        bmcs: bmcs.clone(),
        leader,
        shutdown: stop.clone(),
    };
    tasks.spawn(async move { Ok(catamaran_controller_api::serve(api).await?) });
    let leader = Leader::new(client.clone(), &args.namespace, &args.name);
    let work = Box::pin(controllers::run(
        client.clone(),
        args,
        image,
        &metrics,
        bmcs.clone(),
    ));
    let mut lead = pin!(async {
        // Who would fight with another installation leads nothing, and so publishes no certificates either.
        tokio::select! {
            () = preflight::alone(&client, &args.namespace) => {}
            () = stop.cancelled() => return,
        }
        leader.lead(work, leads, &stop).await;
    });
    let ended = tokio::select! {
        ended = tasks.join_next() => ended,
        // Who has lost the lease begins anew, with nothing remembered.
        () = &mut lead => {
            log_out(&bmcs).await;
            return Ok(());
        }
    };
    stop.cancel();
    if tokio::time::timeout(GIVE_BACK, lead).await.is_err() {
        tracing::warn!("the lease could not be given back in time");
    }
    log_out(&bmcs).await;
    ended.context("no task is left")??
}

/// BMCs have room for few sessions: ours are deleted.
async fn log_out(bmcs: &Bmcs) {
    if tokio::time::timeout(GIVE_BACK, bmcs.close_all())
        .await
        .is_err()
    {
        tracing::warn!("not all sessions with BMCs could be ended in time");
    }
}

async fn until_asked_to_stop(stop: CancellationToken) -> anyhow::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stop.cancel();
    Ok(())
}
