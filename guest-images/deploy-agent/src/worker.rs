//! The worker: network, session, inventory, then one command after the other. It never gives up: a controller that is away comes back.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use catamaran_deploy_wire::{
    Action, Answer, Command, Disk, Inventory, Outcome, Parameters, Reason, WipeScope, choose,
};
use rustix::system::{RebootCommand, reboot};

use crate::client::{ClientError, Controller};
use crate::init;
use crate::network::Network;
use crate::write::Write;
use crate::{Failed, disk, inventory, wipe};

const SESSION: &str = "/run/catamaran-deploy-session";
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The network is set up anew after so many failures in a row: a cable may be in another port now.
const NETWORK_AFTER: u32 = 8;

/// Runs until the host goes down.
///
/// # Errors
/// The parameters are wrong.
pub fn run() -> Result<()> {
    let parameters = init::parameters()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let controller = Controller::new(&parameters, session_key()?)?;
    tracing::info!(
        "host {}, controller {}",
        parameters.host,
        parameters.controller
    );
    let mut worker = Worker {
        parameters,
        controller,
        network: Network::default(),
        failures: 0,
    };
    worker.connect();
    runtime.block_on(worker.work());
    Ok(())
}

/// The key of the session: kept where a worker that is started anew finds it, and gone with the next boot.
fn session_key() -> Result<String> {
    if let Ok(key) = fs::read_to_string(SESSION)
        && key.len() == 64
    {
        return Ok(key);
    }
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    let key = hex::encode(bytes);
    fs::write(SESSION, &key).with_context(|| format!("writing {SESSION}"))?;
    Ok(key)
}

struct Worker {
    parameters: Parameters,
    controller: Controller,
    network: Network,
    /// In a row.
    failures: u32,
}

impl Worker {
    fn connect(&mut self) {
        for problem in self.network.start(self.parameters.network.as_ref()) {
            tracing::error!("network: {problem}");
        }
    }

    /// Sessions, one after the other.
    async fn work(&mut self) {
        loop {
            if let Err(error) = self.session().await {
                self.failed(&error).await;
            }
        }
    }

    /// Waits after a failure, longer each time.
    async fn failed(&mut self, error: &ClientError) {
        self.failures += 1;
        let pause = match error {
            ClientError::Token(_) => PAUSE_MAX,
            _ => PAUSE_MAX.min(PAUSE_MIN * 2u32.pow(self.failures.min(6) - 1)),
        };
        tracing::warn!("{error}; again in {} s", pause.as_secs());
        if self.failures.is_multiple_of(NETWORK_AFTER) && !matches!(error, ClientError::Token(_)) {
            tracing::warn!("the network is set up anew");
            self.connect();
        }
        tokio::time::sleep(pause).await;
    }

    async fn session(&mut self) -> Result<(), ClientError> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        self.controller
            .hello(&self.parameters.token, boot.trim())
            .await?;
        tracing::info!("the controller has answered");
        self.controller.inventory(&self.inventory()).await?;
        self.failures = 0;
        let mut after = 0;
        loop {
            let Some(command) = self.controller.command(after).await? else {
                continue;
            };
            tracing::info!("command {}: {}", command.id, command.action.name());
            let result = match self.execute(&command).await {
                Ok(answer) => {
                    tracing::info!("command {}: {answer:?}", command.id);
                    catamaran_deploy_wire::Result::Done(answer)
                }
                Err(failed) => {
                    tracing::error!("command {}: {failed}", command.id);
                    catamaran_deploy_wire::Result::Failed(failed.into())
                }
            };
            self.report(&Outcome {
                id: command.id,
                result,
            })
            .await?;
            go_down(&command.action);
            after = command.id;
        }
    }

    /// Tells an outcome until it has arrived: what took minutes should not be done again.
    async fn report(&mut self, outcome: &Outcome) -> Result<(), ClientError> {
        loop {
            match self.controller.outcome(outcome).await {
                Ok(()) => {
                    self.failures = 0;
                    return Ok(());
                }
                Err(error @ ClientError::Transport { .. }) => self.failed(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    fn inventory(&self) -> Inventory {
        let addresses: Vec<(String, IpAddr)> = nix::ifaddrs::getifaddrs()
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let address = entry.address?;
                let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                    (Some(v4), _) => IpAddr::V4(v4.ip()),
                    (_, Some(v6)) => IpAddr::V6(v6.ip()),
                    _ => return None,
                };
                Some((entry.interface_name, ip))
            })
            .collect();
        inventory::read(
            Path::new("/"),
            &addresses,
            towards(&self.parameters.controller),
        )
    }

    async fn execute(&self, command: &Command) -> Result<Answer, Failed> {
        let disks = inventory::disks(Path::new("/"));
        match &command.action {
            Action::Inspect => {
                let told = self.controller.inventory(&self.inventory()).await;
                told.map_err(|error| Failed::because(Reason::Inspection, "inventory", &error))?;
                Ok(Answer::Inspected)
            }
            Action::ChooseDisk { hints } => {
                let chosen = choose(&disks, hints)
                    .map_err(|error| Failed::new(Reason::NoDisk, error.to_string()))?;
                let contents = disk::contents(chosen.device())
                    .map_err(|error| Failed::because(Reason::Disk, chosen.device(), &error))?;
                Ok(Answer::Chosen {
                    disk: chosen.name.clone(),
                    device: chosen.device().to_owned(),
                    contents,
                })
            }
            Action::Write(wanted) => {
                let write = Write {
                    id: command.id,
                    wanted,
                    disks: &disks,
                    ca: &self.parameters.ca,
                    controller: &self.controller,
                };
                // Its state is larger than a stack frame should be.
                Box::pin(write.run()).await
            }
            Action::Wipe { disks: scope } => wipe_disks(&disks, scope),
            Action::PowerOff | Action::Reboot => Ok(Answer::GoingDown),
            Action::Unknown => Err(Failed::new(
                Reason::Unsupported,
                concat!(
                    "the deploy agent ",
                    env!("CARGO_PKG_VERSION"),
                    " does not know this action: build a newer deploy ISO"
                ),
            )),
        }
    }
}

/// Wipes every disk that it can; fails when one of them could not be.
fn wipe_disks(disks: &[Disk], scope: &WipeScope) -> Result<Answer, Failed> {
    let chosen: Vec<&Disk> = match scope {
        WipeScope::All => disks.iter().collect(),
        WipeScope::Root(hints) => {
            vec![
                choose(disks, hints)
                    .map_err(|error| Failed::new(Reason::NoDisk, error.to_string()))?,
            ]
        }
    };
    let mut problems = Vec::new();
    for disk in &chosen {
        if let Err(error) = wipe::metadata(disk.device()) {
            problems.push(Failed::because(Reason::Disk, disk.device(), &error).message);
        }
    }
    if !problems.is_empty() {
        return Err(Failed::new(Reason::Disk, problems.join("; ")));
    }
    Ok(Answer::Wiped {
        disks: chosen.iter().map(|disk| disk.name.clone()).collect(),
    })
}

/// The address of ours from which the controller is reached. Nothing is sent.
fn towards(controller: &str) -> Option<IpAddr> {
    let place = controller.strip_prefix("https://")?;
    let any = if place.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(place).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Ends the machine where the command says so. Everything is on the disks already; the outcome is told.
fn go_down(action: &Action) {
    let command = match action {
        Action::PowerOff => RebootCommand::PowerOff,
        Action::Reboot => RebootCommand::Restart,
        _ => return,
    };
    rustix::fs::sync();
    if let Err(error) = reboot(command) {
        tracing::error!("the host can't go down: {error}");
    }
}
