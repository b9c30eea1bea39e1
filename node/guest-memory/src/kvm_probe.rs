//! The KVM truth probe: is `/dev/kvm` worth anything on this machine?
//!
//! That the device opens says nothing: a KVM without hardware behind it (nested, software) may open, create machines and vCPUs, and
//! then run guest code thousands of times slower than emulation would. So the probe runs a guest: four loops of a few bytes in
//! ring 0, 15 ms each, and compares the plain one with the same loop on the host. The measuring (`vcpu`) takes no decision, the
//! judgement (`judge`) is a pure function of the measurements.
//!
//! Called by the daemon at start, and by `catamaran host`.

mod host_cpu;
mod kick;
mod vcpu;

use std::fmt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use host_cpu::HostCpu;

/// Where KVM's device is on every Linux machine.
pub const KVM_DEVICE: &str = "/dev/kvm";

/// A guest must reach this share of the host's speed in a plain loop, or its KVM is useless. Real KVM reaches about 1, a software
/// KVM 0.0002.
pub const LEAST_RATIO: f64 = 0.2;

/// A guest must be able to leave to its VMM this often per second.
pub const LEAST_EXITS_PER_S: f64 = 1_000.0;

/// After this long the probe gives up on a kernel that does not come back. The probe itself takes about 70 ms; a busy host may take longer.
const GIVE_UP: Duration = Duration::from_secs(2);

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum KvmVerdict {
    /// There is no such device (or it is not KVM's).
    Absent {
        /// Why, in words for a person.
        reason: String,
    },
    /// The device is there, and guests cannot or should not use it.
    Unusable {
        /// Why, in words for a person.
        reason: String,
        /// As far as the probe came.
        measurements: Measurements,
    },
    /// Guests run at the speed of the hardware.
    Usable {
        /// All values are there.
        measurements: Measurements,
    },
}

/// What the probe measured; a value is missing where the probe did not get that far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Measurements {
    /// Time to create a machine, in µs.
    pub create_vm_us: Option<f64>,
    /// Time to create its vCPU, in µs.
    pub create_vcpu_us: Option<f64>,
    /// The host's speed in the plain loop, in million instructions per second.
    pub native_mips: Option<f64>,
    /// The guest's speed in the same loop, in million instructions per second.
    pub guest_mips: Option<f64>,
    /// Exits of the guest to the VMM (port output) per second.
    pub exits_per_s: Option<f64>,
    /// Reloads of the guest's page table root per second (a privileged instruction).
    pub cr3_loads_per_s: Option<f64>,
    /// `cpuid` instructions per second (each is an exit to the host's kernel).
    pub cpuids_per_s: Option<f64>,
    /// The whole probe, in ms.
    pub total_ms: Option<f64>,
}

impl Measurements {
    /// The guest's share of the host's speed in the plain loop; 1 is native.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        match (self.guest_mips, self.native_mips) {
            (Some(guest), Some(native)) if native > 0.0 => Some(guest / native),
            _ => None,
        }
    }
}

impl KvmVerdict {
    /// Whether guests should run under KVM here.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self, KvmVerdict::Usable { .. })
    }

    /// Why not, if not.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            KvmVerdict::Absent { reason } | KvmVerdict::Unusable { reason, .. } => Some(reason),
            KvmVerdict::Usable { .. } => None,
        }
    }

    /// The measurements, unless the device is absent.
    #[must_use]
    pub fn measurements(&self) -> Option<&Measurements> {
        match self {
            KvmVerdict::Absent { .. } => None,
            KvmVerdict::Unusable { measurements, .. } | KvmVerdict::Usable { measurements } => {
                Some(measurements)
            }
        }
    }
}

impl fmt::Display for KvmVerdict {
    /// One line for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmVerdict::Absent { reason } => write!(f, "KVM is absent: {reason}"),
            KvmVerdict::Unusable { reason, .. } => write!(f, "KVM is unusable: {reason}"),
            KvmVerdict::Usable { measurements } => {
                let percent = measurements.ratio().unwrap_or_default() * 100.0;
                let exits = measurements.exits_per_s.unwrap_or_default();
                write!(
                    f,
                    "KVM is usable: guest code runs at {percent:.0} % of the processor's speed, {} exits/s",
                    grouped(exits)
                )
            }
        }
    }
}

impl fmt::Display for Measurements {
    /// One `name: value` line per value that is there, each with its unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("create machine", self.create_vm_us, "µs"),
            ("create vCPU", self.create_vcpu_us, "µs"),
            (
                "plain loop, host",
                self.native_mips,
                "million instructions/s",
            ),
            (
                "plain loop, guest",
                self.guest_mips,
                "million instructions/s",
            ),
            ("exits to the VMM", self.exits_per_s, "per s"),
            ("page table loads", self.cr3_loads_per_s, "per s"),
            ("cpuid", self.cpuids_per_s, "per s"),
            ("probe", self.total_ms, "ms"),
        ];
        for (name, value, unit) in lines {
            if let Some(value) = value {
                writeln!(f, "{name}: {} {unit}", grouped(value))?;
            }
        }
        Ok(())
    }
}

/// A number with its thousands apart; two decimals below 100.
fn grouped(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Judges measurements: `Ok` when guests should run under this KVM, else why not.
///
/// # Errors
/// The reason, in words for a person: a value that is missing, or one below [`LEAST_RATIO`] or [`LEAST_EXITS_PER_S`].
pub fn judge(measurements: &Measurements) -> Result<(), String> {
    let Some(ratio) = measurements.ratio().filter(|ratio| ratio.is_finite()) else {
        return Err("the guest's speed could not be measured".to_owned());
    };
    let (guest, native) = (
        measurements.guest_mips.unwrap_or_default(),
        measurements.native_mips.unwrap_or_default(),
    );
    if ratio < LEAST_RATIO {
        return Err(format!(
            "it makes machines, but guest code runs at {:.2} % of this processor's speed ({} of {} million instructions/s; at \
             least {:.0} % is needed): a KVM without hardware behind it, slower than emulation",
            ratio * 100.0,
            grouped(guest),
            grouped(native),
            LEAST_RATIO * 100.0,
        ));
    }
    match measurements.exits_per_s {
        Some(exits) if exits >= LEAST_EXITS_PER_S => Ok(()),
        Some(exits) => Err(format!(
            "guests leave to their devices only {} times per second; at least {} are needed",
            grouped(exits),
            grouped(LEAST_EXITS_PER_S),
        )),
        None => Err("the guest's exits could not be measured".to_owned()),
    }
}

/// Why the probe stopped before it could judge.
#[derive(Debug)]
enum Stop {
    Absent(String),
    Unusable(String),
}

/// Probes the KVM device at `device` (normally [`KVM_DEVICE`]) in about 70 ms.
///
/// Never hangs: a kernel that does not return from running the guest is left to a thread of its own after two seconds, and the
/// verdict says so. Installs no signal handler.
#[must_use]
pub fn probe(device: &Path) -> KvmVerdict {
    let (sender, receiver) = mpsc::channel();
    let path = device.to_owned();
    let worker = std::thread::Builder::new()
        .name("kvm-probe".to_owned())
        .spawn(move || {
            let mut measurements = Measurements::default();
            let outcome = vcpu::measure(&path, &mut measurements);
            // The receiver is gone when this thread took too long.
            let _ = sender.send((outcome, measurements));
        });
    let worker = match worker {
        Ok(worker) => worker,
        Err(error) => {
            return KvmVerdict::Unusable {
                reason: format!("no thread could be started for the probe: {error}"),
                measurements: Measurements::default(),
            };
        }
    };
    let received = receiver.recv_timeout(GIVE_UP);
    match received {
        Ok((outcome, measurements)) => {
            // It has sent its last word: this returns at once.
            let _ = worker.join();
            verdict(outcome, measurements)
        }
        Err(_) => KvmVerdict::Unusable {
            reason: format!(
                "the kernel did not come back from running a guest of a few bytes within {} ms",
                GIVE_UP.as_millis()
            ),
            measurements: Measurements::default(),
        },
    }
}

/// Turns what the measuring thread said into the verdict.
fn verdict(outcome: Result<(), Stop>, measurements: Measurements) -> KvmVerdict {
    match outcome {
        Err(Stop::Absent(reason)) => KvmVerdict::Absent { reason },
        Err(Stop::Unusable(reason)) => KvmVerdict::Unusable {
            reason,
            measurements,
        },
        Ok(()) => match judge(&measurements) {
            Ok(()) => KvmVerdict::Usable { measurements },
            Err(reason) => KvmVerdict::Unusable {
                reason,
                measurements,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(native: f64, guest: f64, exits: f64) -> Measurements {
        Measurements {
            native_mips: Some(native),
            guest_mips: Some(guest),
            exits_per_s: Some(exits),
            ..Measurements::default()
        }
    }

    #[test]
    fn kvm_on_hardware_is_usable() {
        assert_eq!(judge(&measured(7_000.0, 6_900.0, 400_000.0)), Ok(()));
    }

    #[test]
    fn nested_kvm_with_slow_exits_is_usable() {
        assert_eq!(judge(&measured(7_000.0, 6_500.0, 20_000.0)), Ok(()));
    }

    #[test]
    fn the_threshold_itself_is_usable() {
        assert_eq!(judge(&measured(1_000.0, 200.0, 1_000.0)), Ok(()));
        assert!(judge(&measured(1_000.0, 199.9, 1_000.0)).is_err());
        assert!(judge(&measured(1_000.0, 200.0, 999.9)).is_err());
    }

    #[test]
    fn a_software_kvm_is_unusable_and_the_reason_names_both_speeds() {
        let reason = judge(&measured(7_100.0, 1.5, 104_000.0)).unwrap_err();
        assert!(reason.contains("0.02 %"), "{reason}");
        assert!(reason.contains("1.50 of 7,100 million"), "{reason}");
    }

    #[test]
    fn values_which_are_missing_or_not_numbers_are_unusable() {
        assert!(judge(&Measurements::default()).is_err());
        assert!(judge(&measured(0.0, 1.0, 1e6)).is_err());
        assert!(judge(&measured(f64::NAN, 1.0, 1e6)).is_err());
        assert!(judge(&measured(1.0, f64::INFINITY, 1e6)).is_err());
        assert!(
            judge(&Measurements {
                exits_per_s: None,
                ..measured(1.0, 1.0, 1.0)
            })
            .is_err()
        );
    }

    #[test]
    fn a_missing_device_is_absent() {
        let verdict = probe(Path::new("/dev/this-device-does-not-exist"));
        assert!(
            matches!(&verdict, KvmVerdict::Absent { reason } if reason.contains("does not exist")),
            "{verdict}"
        );
    }

    #[test]
    fn a_device_which_is_not_kvm_is_absent() {
        let verdict = probe(Path::new("/dev/null"));
        assert!(
            matches!(&verdict, KvmVerdict::Absent { reason } if reason.contains("/dev/null")),
            "{verdict}"
        );
    }

    #[test]
    fn a_verdict_survives_json() {
        let verdict = KvmVerdict::Unusable {
            reason: "slow".to_owned(),
            measurements: measured(7_000.0, 1.0, 5.0),
        };
        let text = serde_json::to_string(&verdict).unwrap();
        assert!(text.contains(r#""verdict":"unusable""#), "{text}");
        assert_eq!(serde_json::from_str::<KvmVerdict>(&text).unwrap(), verdict);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(1.456), "1.46");
        assert_eq!(grouped(123.0), "123");
        assert_eq!(grouped(104_321.4), "104,321");
        assert_eq!(grouped(7_100_000.0), "7,100,000");
    }

    /// Whatever this machine has: the probe comes back in time, and its words name the reason.
    #[test]
    fn the_probe_of_this_machine_is_quick_and_has_words() {
        let started = std::time::Instant::now();
        let verdict = probe(Path::new(KVM_DEVICE));
        assert!(started.elapsed() < GIVE_UP * 2, "{:?}", started.elapsed());
        println!("{verdict}");
        if let Some(measurements) = verdict.measurements() {
            println!("{measurements}");
        }
        println!("{:#?}", HostCpu::read());
        assert!(verdict.to_string().starts_with("KVM is "), "{verdict}");
    }
}
