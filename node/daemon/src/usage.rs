//! What the machines of this node used in the last quarter of an hour, kept in memory, so that curves need no Prometheus.
//!
//! One task asks every launcher every 10 s; what is kept are rates. A daemon that begins anew has forgotten them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_wire::Statistics;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::machine::launcher::Launcher;
use crate::serve::time;

/// Between two looks at a machine.
const INTERVAL: Duration = Duration::from_secs(10);
/// Looks that are kept: a quarter of an hour.
const KEPT: usize = 90;

/// What a machine used, the oldest first. A number that nobody knows is `null`: the guest does not tell, or the daemon did not look.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Seconds between two numbers.
    pub interval_seconds: u64,
    /// Time of the last ones, RFC 3339.
    pub end: String,
    /// Virtual processors: what `cpu` can be, but for QEMU's own work.
    pub processors: usize,
    /// Bytes that the guest has.
    pub memory_bytes: Option<u64>,
    /// Processors that QEMU and its guest kept busy.
    pub cpu: Vec<f32>,
    /// Bytes that the guest can't give back, as its balloon driver says.
    pub memory: Vec<f32>,
    /// Bytes of QEMU that are in the node's memory.
    pub resident: Vec<f32>,
    /// Bytes a second into the guest, all interfaces.
    pub network_receive: Vec<f32>,
    /// Bytes a second out of the guest, all interfaces.
    pub network_transmit: Vec<f32>,
    /// Bytes a second, all disks.
    pub disk_read: Vec<f32>,
    /// Bytes a second, all disks.
    pub disk_write: Vec<f32>,
}

/// One look: `cpu` and what follows it in [`Usage`]. Not a number = nobody knows, which JSON writes as `null`.
type Sample = [f32; 7];

/// What only grows while a machine runs.
#[derive(Debug, Clone, Copy)]
struct Counters {
    cpu_seconds: f64,
    receive: u64,
    transmit: u64,
    read: u64,
    write: u64,
}

impl From<&Statistics> for Counters {
    fn from(statistics: &Statistics) -> Self {
        let (networks, disks) = (&statistics.networks, &statistics.disks);
        Self {
            cpu_seconds: statistics.cpu_seconds,
            receive: networks.iter().map(|network| network.receive[0]).sum(),
            transmit: networks.iter().map(|network| network.transmit[0]).sum(),
            read: disks.iter().map(|disk| disk.read[1]).sum(),
            write: disks.iter().map(|disk| disk.write[1]).sum(),
        }
    }
}

impl Counters {
    /// What they grew by a second: processor time, received, sent, read, written. One that is smaller than before has begun anew.
    fn since(&self, before: &Self, passed: Duration) -> [f32; 5] {
        let seconds = passed.as_secs_f64();
        let bytes = |now: u64, before: u64| {
            now.checked_sub(before)
                .map_or(f32::NAN, |grown| (grown as f64 / seconds) as f32)
        };
        let cpu = self.cpu_seconds - before.cpu_seconds;
        [
            if cpu < 0.0 {
                f32::NAN
            } else {
                (cpu / seconds) as f32
            },
            bytes(self.receive, before.receive),
            bytes(self.transmit, before.transmit),
            bytes(self.read, before.read),
            bytes(self.write, before.write),
        ]
    }
}

/// Of one machine.
#[derive(Debug)]
struct Series {
    seen: Instant,
    /// Seconds of the Unix epoch.
    end: i64,
    processors: usize,
    memory_bytes: Option<u64>,
    counters: Counters,
    samples: VecDeque<Sample>,
}

/// The last quarter of an hour of all machines. A machine is named as in [`crate::viewers`].
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<BTreeMap<String, Series>>>);

impl History {
    fn series(&self) -> MutexGuard<'_, BTreeMap<String, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a machine used until now; nothing of one that was not looked at.
    #[must_use]
    pub fn of(&self, machine: &str, now: Instant) -> Usage {
        let series = self.series();
        let interval_seconds = INTERVAL.as_secs();
        let Some(found) = series.get(machine) else {
            return Usage {
                interval_seconds,
                ..Usage::default()
            };
        };
        let missed = missed(now.duration_since(found.seen));
        let first = (found.samples.len() + missed).saturating_sub(KEPT);
        let all = |which: usize| {
            let known = found.samples.iter().map(|sample| sample[which]);
            let unknown = std::iter::repeat_n(f32::NAN, missed);
            known.chain(unknown).skip(first).collect()
        };
        Usage {
            interval_seconds,
            end: time::format(
                found
                    .end
                    .saturating_add(missed as i64 * INTERVAL.as_secs() as i64),
            ),
            processors: found.processors,
            memory_bytes: found.memory_bytes,
            cpu: all(0),
            memory: all(1),
            resident: all(2),
            network_receive: all(3),
            network_transmit: all(4),
            disk_read: all(5),
            disk_write: all(6),
        }
    }

    fn record(&self, machine: &str, now: Instant, statistics: &Statistics) {
        let (counters, memory) = (Counters::from(statistics), &statistics.memory);
        let mut all = self.series();
        let before = all.remove(machine);
        let passed = before
            .as_ref()
            .map(|before| now.duration_since(before.seen));
        let [cpu, receive, transmit, read, write] = match (&before, passed) {
            (Some(before), Some(passed)) => counters.since(&before.counters, passed),
            _ => [f32::NAN; 5],
        };
        let mut samples = before.map(|before| before.samples).unwrap_or_default();
        samples.extend(std::iter::repeat_n([f32::NAN; 7], passed.map_or(0, missed)));
        let guest = memory.available.zip(memory.usable);
        let guest = guest.map(|(all, usable)| all.saturating_sub(usable));
        let [guest, resident] =
            [guest, memory.resident].map(|bytes| bytes.map_or(f32::NAN, |bytes| bytes as f32));
        samples.push_back([cpu, guest, resident, receive, transmit, read, write]);
        samples.drain(..samples.len().saturating_sub(KEPT));
        let series = Series {
            seen: now,
            end: time::seconds().cast_signed(),
            processors: statistics.vcpus.len(),
            memory_bytes: memory.actual.or(memory.domain),
            counters,
            samples,
        };
        all.insert(machine.to_owned(), series);
    }

    /// Nothing is left of machines that were not seen for as long as is kept.
    fn forget(&self, now: Instant) {
        self.series()
            .retain(|_, series| missed(now.duration_since(series.seen)) < KEPT);
    }
}

/// Looks that should have been between two with so much time between them; no more than are kept.
fn missed(passed: Duration) -> usize {
    let rounds = (passed + INTERVAL / 2).as_secs() / INTERVAL.as_secs();
    usize::try_from(rounds).map_or(KEPT, |rounds| rounds.saturating_sub(1).min(KEPT))
}

/// Looks at all machines for ever. A launcher that has not answered yet is not asked again.
pub async fn watch(history: History, machines: impl Fn() -> Vec<(String, Launcher)>) {
    let mut rounds = tokio::time::interval(INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut asked, mut waiting) = (JoinSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            _ = rounds.tick() => {
                history.forget(Instant::now());
                for (machine, launcher) in machines() {
                    if waiting.insert(machine.clone()) {
                        asked.spawn(async move { (machine, launcher.statistics().await) });
                    }
                }
            }
            Some(Ok((machine, answer))) = asked.join_next(), if !asked.is_empty() => {
                waiting.remove(&machine);
                match answer {
                    Ok(statistics) => history.record(&machine, Instant::now(), &statistics),
                    Err(error) => {
                        let error = catamaran_client::chain(&error);
                        tracing::debug!(machine, error, "no counters");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use catamaran_wire::{BlockStats, MemoryStats, NetStats, VcpuStats};
    use serde_json::json;

    use super::*;

    fn statistics(cpu_seconds: f64, received: u64, written: u64) -> Statistics {
        let network = NetStats {
            receive: [received / 2, 0, 0, 0],
            ..NetStats::default()
        };
        let disk = BlockStats {
            write: [1, written, 0],
            ..BlockStats::default()
        };
        Statistics {
            cpu_seconds,
            vcpus: vec![VcpuStats::default(); 2],
            memory: MemoryStats {
                actual: Some(1 << 30),
                resident: Some(3 << 20),
                ..MemoryStats::default()
            },
            networks: vec![network.clone(), network],
            disks: vec![disk],
            ..Statistics::default()
        }
    }

    #[test]
    fn counters_become_rates_and_what_nobody_knows_is_null() {
        let (history, begin) = (History::default(), Instant::now());
        history.record("a", begin, &statistics(1.0, 1000, 0));
        history.record("a", begin + INTERVAL, &statistics(6.0, 3000, 512));
        let usage = json!(history.of("a", begin + INTERVAL));
        assert_eq!(usage["cpu"], json!([null, 0.5]));
        assert_eq!(usage["networkReceive"], json!([null, 200.0]));
        assert_eq!(usage["networkTransmit"], json!([null, 0.0]));
        assert!((usage["diskWrite"][1].as_f64().unwrap() - 51.2).abs() < 1e-5);
        assert_eq!(usage["memory"], json!([null, null]));
        assert_eq!(usage["resident"], json!([3_145_728.0, 3_145_728.0]));
        assert_eq!(
            (&usage["processors"], &usage["memoryBytes"]),
            (&json!(2), &json!(1 << 30))
        );
        assert_eq!(json!(history.of("b", begin))["cpu"], json!([]));
    }

    #[test]
    fn a_machine_that_begins_anew_has_no_negative_rates() {
        let (history, begin) = (History::default(), Instant::now());
        history.record("a", begin, &statistics(9.0, 9000, 0));
        history.record("a", begin + INTERVAL, &statistics(1.0, 10, 0));
        let usage = json!(history.of("a", begin + INTERVAL));
        assert_eq!(usage["cpu"], json!([null, null]));
        assert_eq!(usage["networkReceive"], json!([null, null]));
        assert_eq!(usage["diskWrite"], json!([null, 0.0]));
    }

    #[test]
    fn looks_that_were_missed_are_gaps_and_old_ones_are_forgotten() {
        let (history, begin) = (History::default(), Instant::now());
        history.record("a", begin, &statistics(0.0, 0, 0));
        history.record("a", begin + INTERVAL * 4, &statistics(20.0, 0, 0));
        assert_eq!(
            json!(history.of("a", begin + INTERVAL))["cpu"],
            json!([null, null, null, null, 0.5])
        );
        for round in 5..200 {
            history.record("a", begin + INTERVAL * round, &statistics(1e3, 0, 0));
        }
        let last = begin + INTERVAL * 199;
        assert_eq!(history.of("a", last).cpu.len(), KEPT);
        let later = json!(history.of("a", last + INTERVAL * 81));
        let cpu = later["cpu"].as_array().unwrap();
        assert_eq!(
            (cpu.len(), cpu[9].is_null(), cpu[10].is_null()),
            (KEPT, false, true)
        );
        history.forget(last + INTERVAL * 80);
        assert_eq!(history.of("a", last).cpu.len(), KEPT);
        history.forget(last + INTERVAL * 92);
        assert_eq!(history.of("a", last).cpu.len(), 0);
    }
}
