//! Power: what the machine is, and what the BMC says of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long power changes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// From an order to power on, in ms.
    pub on_ms: u64,
    /// From an order to power off, in ms.
    pub off_ms: u64,
    /// From a shutdown order to power off, in ms; none: the system ignores it.
    pub soft_ms: Option<u64>,
    /// Say `PoweringOn` and `PoweringOff` in between.
    pub says_between: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            on_ms: 20,
            off_ms: 20,
            soft_ms: Some(40),
            says_between: true,
        }
    }
}

/// What a BMC says of power although it is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// It says what is.
    #[default]
    None,
    /// Orders are answered as done, and nothing happens.
    IgnoresOrders,
    /// Orders do nothing; after one, `Off` is said for this many milliseconds, then `On` again.
    OffForAWhile(u64),
    /// It says `Off` although the machine is on; only the draw tells.
    AlwaysOff,
    /// `PowerState` is null.
    Nothing,
    /// `PowerState` is a word that Redfish does not know.
    Nonsense,
}

impl Lie {
    /// One of each.
    pub const ALL: [Self; 5] = [
        Self::IgnoresOrders,
        Self::OffForAWhile(60),
        Self::AlwaysOff,
        Self::Nothing,
        Self::Nonsense,
    ];
}

/// What an order leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    On,
    Off,
    SoftOff,
    /// Off, then on.
    Cycle,
    /// On with the same boot as a cycle, without being off in between.
    Nmi,
}

impl Order {
    pub(crate) fn of(reset_type: &str) -> Option<Self> {
        Some(match reset_type {
            "On" | "ForceOn" => Self::On,
            "ForceOff" => Self::Off,
            "GracefulShutdown" | "PushPowerButton" => Self::SoftOff,
            "ForceRestart" | "GracefulRestart" | "PowerCycle" => Self::Cycle,
            "Nmi" => Self::Nmi,
            _ => return None,
        })
    }
}

/// One step of an order: to which power, after how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) on: bool,
    pub(crate) after: Duration,
}

/// The steps of an order.
pub(crate) fn steps(order: Order, on: bool, timing: &Timing) -> Vec<Step> {
    let step = |on, ms| Step {
        on,
        after: Duration::from_millis(ms),
    };
    match order {
        Order::On if !on => vec![step(true, timing.on_ms)],
        Order::Off if on => vec![step(false, timing.off_ms)],
        Order::SoftOff if on => timing
            .soft_ms
            .map(|ms| step(false, ms))
            .into_iter()
            .collect(),
        Order::Cycle if on => vec![step(false, timing.off_ms), step(true, timing.on_ms)],
        Order::Cycle => vec![step(true, timing.on_ms)],
        _ => Vec::new(),
    }
}
