//! One BMC: its options, its state, and power orders, which take time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::machine::State;
use crate::personality::Personality;
use crate::power::{Lie, Order, Timing, steps};
use crate::server::Availability;

/// How a BMC is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in the mock.
    pub name: String,
    /// How it behaves.
    pub personality: Arc<Personality>,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: std::net::SocketAddr,
    /// The machine's UUID.
    pub uuid: uuid::Uuid,
    /// The machine's serial number.
    pub serial: String,
    /// MAC addresses of its network interfaces.
    pub macs: Vec<String>,
    /// Whether it is on at first.
    pub on: bool,
    /// How long power changes take.
    pub timing: Timing,
    /// How late every answer is, in ms.
    pub latency_ms: u64,
    /// How many requests are remembered.
    pub remember: usize,
    /// Program and arguments to run when the machine goes on or off, with `on` or `off` after them. The environment says `REDFISH_MOCK_NAME`,
    /// `REDFISH_MOCK_UUID`, `REDFISH_MOCK_BOOT` (`Hdd`, `Cd`, …) and `REDFISH_MOCK_IMAGE`. While it fails, the machine stays what it was.
    pub command: Vec<String>,
}

impl Options {
    /// Options of a BMC on a free port of the loopback, with user `admin` and password `password`, and a machine that is off. Number and name
    /// decide UUID, serial number and MAC addresses.
    #[must_use]
    pub fn new(name: &str, number: u32, personality: Arc<Personality>) -> Self {
        let [a, b, c] = [number >> 16, number >> 8, number].map(|part| part & 0xff);
        Self {
            name: name.to_owned(),
            personality,
            username: "admin".to_owned(),
            password: "password".to_owned(),
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            uuid: uuid::Uuid::new_v5(
                &uuid::Uuid::NAMESPACE_OID,
                format!("{name}/{number}").as_bytes(),
            ),
            serial: format!("MOCK{number:06}"),
            macs: vec![
                format!("02:bc:00:{a:02x}:{b:02x}:{c:02x}"),
                format!("02:bc:01:{a:02x}:{b:02x}:{c:02x}"),
            ],
            on: false,
            timing: Timing::default(),
            latency_ms: 0,
            remember: 10_000,
            command: Vec::new(),
        }
    }
}

/// One BMC.
#[derive(Debug)]
pub(crate) struct Bmc {
    pub(crate) options: Options,
    pub(crate) personality: Arc<Personality>,
    pub(crate) availability: watch::Sender<Availability>,
    state: Mutex<State>,
    /// Power orders under way.
    orders: Mutex<JoinSet<()>>,
}

impl Bmc {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        let personality = Arc::clone(&options.personality);
        Arc::new(Self {
            state: Mutex::new(State::new(&options, &personality)),
            personality,
            availability: watch::Sender::new(Availability::Up),
            orders: Mutex::default(),
            options,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a power order.
    pub(crate) fn order(self: &Arc<Self>, order: Order) {
        let (number, steps) = {
            let mut state = self.state();
            if matches!(
                state.lie,
                Lie::IgnoresOrders | Lie::OffForAWhile(_) | Lie::AlwaysOff
            ) {
                state.ignored = Some(tokio::time::Instant::now());
                return;
            }
            let steps = steps(order, state.on, &state.timing);
            let Some(last) = steps.last() else { return };
            state.order += 1;
            state.towards = Some(last.on);
            (state.order, steps)
        };
        let bmc = Arc::clone(self);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        while orders.try_join_next().is_some() {}
        orders.spawn(async move {
            for step in steps {
                tokio::time::sleep(step.after).await;
                if bmc.state().order != number || !bmc.run_command(step.on).await {
                    break;
                }
                bmc.state().set_power(step.on);
            }
            let mut state = bmc.state();
            if state.order == number {
                state.towards = None;
            }
        });
    }

    /// The machine changes without an order: somebody pressed its button.
    pub(crate) fn press(&self, on: bool) {
        let mut state = self.state();
        state.order += 1;
        state.towards = None;
        state.set_power(on);
    }

    async fn run_command(&self, on: bool) -> bool {
        let Some((program, arguments)) = self.options.command.split_first() else {
            return true;
        };
        let boot = self.state().next_boot();
        let result = Command::new(program)
            .args(arguments)
            .arg(if on { "on" } else { "off" })
            .env("REDFISH_MOCK_NAME", &self.options.name)
            .env("REDFISH_MOCK_UUID", self.options.uuid.to_string())
            .env("REDFISH_MOCK_BOOT", boot.device)
            .env("REDFISH_MOCK_IMAGE", boot.image.unwrap_or_default())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
        let error = match result {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("{program}: {status}")),
            Err(error) => Some(format!("{program}: {error}")),
        };
        if let Some(error) = &error {
            tracing::warn!(bmc = %self.options.name, on, error, "the power command failed; power stays as it was");
        }
        let done = error.is_none();
        self.state().command_error = error;
        done
    }
}
