//! The state of one BMC and the machine behind it.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::bmc::Options;
use crate::fault::Fault;
use crate::handle::Record;
use crate::personality::Personality;
use crate::power::{Lie, Timing};
use crate::sessions::Sessions;
use crate::tasks::Task;

/// One start of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// What it booted from: `Hdd` where nothing else was ordered.
    pub device: String,
    /// The image in the CD slot, if it booted from there.
    pub image: Option<String>,
}

/// An entry of the event log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    /// Counted from 1.
    pub(crate) id: u64,
    pub(crate) created: String,
    pub(crate) severity: String,
    pub(crate) message: String,
    pub(crate) about: String,
}

/// What the log of every machine begins with. The second was written while the clock was wrong.
const LOGGED: [(&str, &str, &str, &str); 4] = [
    (
        "2026-03-01T08:00:00Z",
        "OK",
        "The event log was cleared.",
        "Event Logging Disabled",
    ),
    (
        "1970-01-01T00:00:12Z",
        "OK",
        "The system board battery is low.",
        "Battery",
    ),
    (
        "2026-03-02T09:30:00Z",
        "Critical",
        "Power supply 2 has lost its input.",
        "Power Supply / Converter",
    ),
    (
        "2026-03-02T09:41:00Z",
        "Warning",
        "The inlet temperature is above its upper caution threshold.",
        "Temperature",
    ),
];

/// All that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) sessions: Sessions,
    /// Whether the machine really is on.
    pub(crate) on: bool,
    /// Where it is on its way to.
    pub(crate) towards: Option<bool>,
    /// Counts orders: a later one takes the place of an earlier.
    pub(crate) order: u64,
    pub(crate) timing: Timing,
    pub(crate) lie: Lie,
    /// When the last order came that was ignored.
    pub(crate) ignored: Option<Instant>,
    pub(crate) turned_off: Option<Instant>,
    pub(crate) turned_on: Option<Instant>,
    pub(crate) boot_target: String,
    pub(crate) boot_enabled: String,
    pub(crate) boot_mode: String,
    pub(crate) boots: Vec<Boot>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) bios: BTreeMap<String, Value>,
    pub(crate) bios_pending: BTreeMap<String, Value>,
    pub(crate) secure_boot: bool,
    pub(crate) secure_boot_pending: bool,
    pub(crate) health: String,
    /// Oldest first.
    pub(crate) log: Vec<Logged>,
    /// Temperature of the air that comes in, where it was set.
    pub(crate) inlet: Option<f64>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) tasks_made: u64,
    pub(crate) task_ms: u64,
    pub(crate) task_fails: Option<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) latency_ms: u64,
    pub(crate) requests: u64,
    pub(crate) records: VecDeque<Record>,
    pub(crate) in_flight: usize,
    pub(crate) most_in_flight: usize,
    /// Why the last run of the command failed.
    pub(crate) command_error: Option<String>,
}

/// A slot for virtual media.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) image: Option<String>,
    /// When it was ejected.
    pub(crate) ejected: Option<Instant>,
}

impl State {
    pub(crate) fn new(options: &Options, personality: &Personality) -> Self {
        Self {
            username: options.username.clone(),
            password: options.password.clone(),
            sessions: Sessions::default(),
            on: options.on,
            towards: None,
            order: 0,
            timing: options.timing,
            lie: Lie::None,
            ignored: None,
            turned_off: None,
            turned_on: None,
            boot_target: "None".to_owned(),
            boot_enabled: "Disabled".to_owned(),
            boot_mode: "UEFI".to_owned(),
            boots: Vec::new(),
            slots: personality
                .media
                .slots
                .iter()
                .map(|_| Slot::default())
                .collect(),
            bios: personality.bios.clone(),
            bios_pending: BTreeMap::new(),
            secure_boot: false,
            secure_boot_pending: false,
            health: "OK".to_owned(),
            log: (1..)
                .zip(LOGGED)
                .map(|(id, (created, severity, message, about))| Logged {
                    id,
                    created: created.to_owned(),
                    severity: severity.to_owned(),
                    message: message.to_owned(),
                    about: about.to_owned(),
                })
                .collect(),
            inlet: None,
            tasks: Vec::new(),
            tasks_made: 0,
            task_ms: 50,
            task_fails: None,
            faults: Vec::new(),
            latency_ms: options.latency_ms,
            requests: 0,
            records: VecDeque::new(),
            in_flight: 0,
            most_in_flight: 0,
            command_error: None,
        }
    }

    /// What the BMC says of power.
    pub(crate) fn said_power(&self) -> Option<&'static str> {
        let truth = match (self.on, self.towards) {
            (false, Some(true)) if self.timing.says_between => "PoweringOn",
            (true, Some(false)) if self.timing.says_between => "PoweringOff",
            (true, _) => "On",
            (false, _) => "Off",
        };
        match self.lie {
            Lie::None | Lie::IgnoresOrders => Some(truth),
            Lie::OffForAWhile(ms) => match self.ignored {
                Some(at) if at.elapsed().as_millis() < u128::from(ms) => Some("Off"),
                _ => Some(truth),
            },
            Lie::AlwaysOff => Some("Off"),
            Lie::Nothing => None,
            Lie::Nonsense => Some("Resting"),
        }
    }

    /// What the machine draws, in watts.
    pub(crate) fn watts(&self) -> f64 {
        if self.on { 210.0 } else { 14.0 }
    }

    /// The machine goes on or off: settings take effect, and a boot override is used up.
    pub(crate) fn set_power(&mut self, on: bool) {
        let was = std::mem::replace(&mut self.on, on);
        if was == on {
            return;
        }
        if !on {
            self.turned_off = Some(Instant::now());
            return;
        }
        self.turned_on = Some(Instant::now());
        let pending = std::mem::take(&mut self.bios_pending);
        self.bios.extend(pending);
        self.secure_boot = self.secure_boot_pending;
        for task in &mut self.tasks {
            task.ends.get_or_insert_with(Instant::now);
        }
        let boot = self.next_boot();
        self.boots.push(boot);
        if self.boot_enabled == "Once" {
            "Disabled".clone_into(&mut self.boot_enabled);
            "None".clone_into(&mut self.boot_target);
        }
    }

    /// What the machine boots from when it starts now.
    pub(crate) fn next_boot(&self) -> Boot {
        let ordered = match (self.boot_enabled.as_str(), self.boot_target.as_str()) {
            ("Disabled", _) | (_, "None") => "Hdd",
            (_, target) => target,
        };
        let image = self.slots.iter().find_map(|slot| slot.image.clone());
        match (ordered, image) {
            ("Cd" | "UsbCd", Some(image)) => Boot {
                device: ordered.to_owned(),
                image: Some(image),
            },
            // An empty drive boots nothing; the firmware goes on to the disk.
            ("Cd" | "UsbCd", None) => Boot {
                device: "Hdd".to_owned(),
                image: None,
            },
            (device, _) => Boot {
                device: device.to_owned(),
                image: None,
            },
        }
    }
}
