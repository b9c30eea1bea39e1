//! Putting the launcher together.

use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::driver::{Ask, Driver, Parts};
use crate::hypervisor::fake::FakeHypervisor;
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Control, Hypervisor};
use crate::machine::Machine;
use crate::places::Places;
use crate::publish::Publisher;
use crate::request_queue::Request;
use crate::server::Server;
use crate::{dhcp, serial, server};
use catamaran_sandbox::init::{CODE_ENDED, CODE_FAILED};
use catamaran_sandbox::records;

/// How a launcher is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where things are.
    pub places: Places,
    /// Pretend to have a hypervisor.
    pub fake: bool,
    /// A SIGTERM came while no launcher ran.
    pub stop: bool,
}

/// Owns the machine until it is over.
///
/// # Errors
/// When the hypervisor or the socket cannot be opened; init then starts another launcher.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(512 * 1024)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()?;
    let failed = runtime.block_on(supervise(options))?;
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    Ok(ExitCode::from(if failed {
        CODE_FAILED
    } else {
        CODE_ENDED
    }))
}

async fn supervise(options: Options) -> anyhow::Result<bool> {
    let Options { places, fake, stop } = options;
    let (event_sender, events) = mpsc::unbounded_channel();
    let hypervisor: Arc<dyn Hypervisor> = if fake {
        Arc::new(FakeHypervisor::new(event_sender))
    } else {
        Arc::new(Libvirt::open(
            places.resolve(catamaran_plan::paths::LIBVIRT_ROOT),
            event_sender,
        )?)
    };
    let control = Control::new(hypervisor)?;
    let (asks, ask_receiver) = mpsc::channel(16);
    let (viewers, viewer_receiver) = watch::channel(0);
    let (network, passed) = mpsc::channel(4);
    let (publisher, reports) = Publisher::new(&Machine::idle(records::now_ms()));
    let (serial, hub) = serial::hub(
        places.resolve(catamaran_plan::paths::SERIAL_SOCKET),
        places.resolve(catamaran_plan::paths::SERIAL_LOG),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(forward_sigterm(asks.clone(), stop)?);
    let driver = Driver::resume(Parts {
        places: places.clone(),
        control: control.clone(),
        publisher,
        asks: ask_receiver,
        events,
        viewers: viewer_receiver,
    })
    .await;
    // From here on a daemon may connect; it finds what was adopted.
    let listener = server::listen(&places)?;
    let server = Server {
        places: places.clone(),
        control,
        asks,
        reports,
        serial,
        network,
        viewers,
    };
    tasks.spawn(hub.run());
    tasks.spawn(dhcp::run(passed));
    tasks.spawn(server.run(listener));
    let failed = driver.run().await;
    // The last report and answers are on their way to whoever listens.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    tasks.abort_all();
    Ok(failed)
}

/// Makes SIGTERM a graceful stop, and the end of the launcher when the machine is gone.
fn forward_sigterm(
    asks: mpsc::Sender<Ask>,
    already: bool,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // init started us with its signals blocked, so that none is lost before this point.
    SigSet::all().thread_unblock()?;
    Ok(async move {
        let mut now = already;
        loop {
            if !now {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            }
            now = false;
            tracing::info!("asked to end; the machine is powered off");
            for request in [Request::Stop(None), Request::Finish] {
                let (answer, _) = oneshot::channel();
                if asks
                    .send(Ask {
                        request,
                        plan: None,
                        answer,
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    })
}
