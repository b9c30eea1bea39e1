//! How the processors of an instancetype are laid out.

use catamaran_api::VirtualMachinePreferenceSpec;
use serde_json::Value;

use crate::field::{Faults, FieldPath};

/// Sockets, cores of a socket, threads of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Topology {
    pub(super) sockets: u32,
    pub(super) cores: u32,
    pub(super) threads: u32,
}

#[derive(Clone, Copy)]
enum Layout {
    Sockets,
    Cores,
    Threads,
    Spread,
}

/// The peer's words, and those that it used before.
const LAYOUTS: [(&str, Layout); 10] = [
    ("sockets", Layout::Sockets),
    ("cores", Layout::Cores),
    ("threads", Layout::Threads),
    ("spread", Layout::Spread),
    ("any", Layout::Sockets),
    ("preferSockets", Layout::Sockets),
    ("preferCores", Layout::Cores),
    ("preferThreads", Layout::Threads),
    ("preferSpread", Layout::Spread),
    ("preferAny", Layout::Sockets),
];

#[derive(Clone, Copy)]
enum Across {
    SocketsCores,
    SocketsCoresThreads,
    CoresThreads,
}

const ACROSS: [(&str, Across); 3] = [
    ("SocketsCores", Across::SocketsCores),
    ("SocketsCoresThreads", Across::SocketsCoresThreads),
    ("CoresThreads", Across::CoresThreads),
];

/// Cores of a socket, or threads of a core, where nobody says.
const RATIO: u32 = 2;

/// Lays out that many processors. Faults: words that nobody knows, and numbers that cannot be divided.
pub(super) fn lay_out(
    vcpus: u32,
    preference: Option<&VirtualMachinePreferenceSpec>,
    faults: &mut Faults,
) -> Option<Topology> {
    let one = Topology {
        sockets: 1,
        cores: 1,
        threads: 1,
    };
    let path = FieldPath::new("spec.preference");
    let cpu = preference.and_then(|preference| preference.cpu.as_ref());
    let word = cpu.and_then(|cpu| cpu.preferred_cpu_topology.as_deref());
    let layout = match word {
        None => Layout::Sockets,
        word => faults.word(&path, word, &LAYOUTS)?,
    };
    Some(match layout {
        Layout::Sockets => Topology {
            sockets: vcpus,
            ..one
        },
        Layout::Cores => Topology {
            cores: vcpus,
            ..one
        },
        Layout::Threads => Topology {
            threads: vcpus,
            ..one
        },
        Layout::Spread => {
            let options = cpu.and_then(|cpu| cpu.spread_options.as_ref());
            let word = options.and_then(|options| options.across.as_deref());
            let across = match word {
                None => Across::SocketsCores,
                word => faults.word(&path, word, &ACROSS)?,
            };
            let ratio = options
                .and_then(|options| options.ratio)
                .or(preference.and_then(|preference| preference.prefer_spread_socket_to_core_ratio))
                .filter(|ratio| *ratio > 0)
                .unwrap_or(RATIO);
            return spread(vcpus, across, ratio, faults);
        }
    })
}

fn spread(vcpus: u32, across: Across, ratio: u32, faults: &mut Faults) -> Option<Topology> {
    let threads = match across {
        Across::SocketsCoresThreads => RATIO,
        _ => 1,
    };
    let unit = ratio
        .checked_mul(threads)
        .filter(|unit| vcpus.is_multiple_of(*unit));
    let Some(unit) = unit else {
        let words = format!(
            "the preference spreads the vCPUs of the instancetype in groups of {}, which does not divide them",
            u64::from(ratio) * u64::from(threads)
        );
        faults.invalid(&FieldPath::new("spec.preference"), vcpus, &words);
        return None;
    };
    Some(match across {
        Across::CoresThreads => Topology {
            sockets: 1,
            cores: vcpus / unit,
            threads: ratio,
        },
        _ => Topology {
            sockets: vcpus / unit,
            cores: ratio,
            threads,
        },
    })
}

/// Checks the words of a preference.
pub(super) fn check(cpu: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec.cpu");
    let topology = path.child("preferredCPUTopology");
    faults.word(&topology, cpu["preferredCPUTopology"].as_str(), &LAYOUTS);
    let across = path.child("spreadOptions").child("across");
    faults.word(&across, cpu["spreadOptions"]["across"].as_str(), &ACROSS);
}
