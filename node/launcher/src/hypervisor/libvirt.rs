//! The real one: libvirt's embedded driver.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use catamaran_host::process::Stat;
use catamaran_libvirt::{
    Account, AgentState, Connection, Domain, ErrorKind as LibvirtKind, EventKind, IoErrorAction,
    Lifecycle, SaveFormat, Settings, ShutdownMode, State,
};
use catamaran_plan::hotplug::Device;
use catamaran_wire::{
    BlockStats, ErrorKind, MemoryStats, NetStats, Statistics, Unplugged, VcpuStats,
};
use tokio::sync::mpsc;

use super::{DomainState, Event, Found, Hypervisor, HypervisorError, Press, Start};
use catamaran_sandbox::CAPABILITIES_SEED;

/// One machine under libvirt's embedded driver.
#[derive(Debug)]
pub struct Libvirt {
    connection: Connection,
    domain: Mutex<Option<Arc<Domain>>>,
}

impl Libvirt {
    /// Opens the driver on its folder; events go to `events`.
    ///
    /// # Errors
    /// When another launcher has the folder open, or the driver does not start.
    pub fn open(
        root: PathBuf,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, HypervisorError> {
        let account = if rustix::process::geteuid().is_root() {
            Account::Other {
                uid: catamaran_plan::paths::UID,
                gid: catamaran_plan::paths::GID,
            }
        } else {
            Account::Own
        };
        let seed = Path::new(CAPABILITIES_SEED);
        let settings = Settings {
            root,
            account,
            capabilities_seed: seed.is_dir().then(|| seed.to_owned()),
        };
        settings.write()?;
        let connection = Connection::open(&settings.root, move |event| {
            if let Some(event) = translate(event.kind) {
                // The driver task is gone only when the process is ending.
                let _ = events.send(event);
            }
        })?;
        Ok(Self {
            connection,
            domain: Mutex::new(None),
        })
    }

    /// Finds the emulator's capabilities, which fills the cache below the driver's folder, and returns libvirt's XML
    /// about them.
    ///
    /// # Errors
    /// When the emulator does not run or does not know the machine.
    pub fn capabilities(
        &self,
        emulator: &str,
        arch: &str,
        machine: &str,
        domain_type: &str,
    ) -> Result<String, HypervisorError> {
        Ok(self
            .connection
            .domain_capabilities(emulator, arch, machine, domain_type)?)
    }

    /// Checks a description against libvirt's schema and rules.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self, xml: &str) -> Result<(), HypervisorError> {
        Ok(self.connection.validate(xml)?)
    }

    fn domain(&self) -> Result<Arc<Domain>, HypervisorError> {
        self.domain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(|| HypervisorError {
                kind: ErrorKind::Denied,
                message: "the machine has not been started".into(),
            })
    }

    fn keep(&self, domain: Domain) -> Result<Found, HypervisorError> {
        let state = translate_state(domain.state()?);
        let pid = domain.qemu_pid().ok();
        *self.domain.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(domain));
        catamaran_libvirt::trim_memory();
        Ok(Found { pid, state })
    }
}

impl Hypervisor for Libvirt {
    fn start(&self, start: Start<'_>) -> Result<Found, HypervisorError> {
        let domain = match start.from {
            Some(file) => {
                self.connection
                    .restore(file, Some(start.xml), start.paused)?;
                self.connection
                    .lookup(start.domain)?
                    .ok_or_else(|| HypervisorError {
                        kind: ErrorKind::Failed,
                        message: format!("{} was restored but is not there", start.domain),
                    })?
            }
            None => self.connection.create(start.xml, start.paused)?,
        };
        // Without a period the balloon only says its size. A machine without a balloon refuses, which is fine.
        let _ = domain.set_memory_statistics_period(10);
        self.keep(domain)
    }

    fn adopt(&self, domain: &str) -> Result<Option<Found>, HypervisorError> {
        self.connection
            .lookup(domain)?
            .map(|domain| self.keep(domain))
            .transpose()
    }

    fn state(&self) -> Result<DomainState, HypervisorError> {
        Ok(translate_state(self.domain()?.state()?))
    }

    fn press(&self, button: Press) -> Result<(), HypervisorError> {
        let domain = self.domain()?;
        let result = match button {
            Press::Power => domain.shutdown(ShutdownMode::PowerButton),
            Press::Reset => domain.reset(),
            Press::Reboot => domain.reboot(ShutdownMode::PowerButton),
            Press::AgentReboot => domain.reboot(ShutdownMode::Agent),
            Press::Pause => domain.suspend(),
            Press::Resume => domain.resume(),
            Press::Destroy => domain.destroy(),
        };
        Ok(result?)
    }

    fn save(&self, file: &Path) -> Result<(), HypervisorError> {
        Ok(self.domain()?.save(file, SaveFormat::Sparse, false)?)
    }

    fn screenshot(&self) -> Result<Vec<u8>, HypervisorError> {
        let picture = self.domain()?.screenshot()?;
        catamaran_libvirt::trim_memory();
        Ok(picture)
    }

    fn agent(&self, command: &str, timeout_seconds: u16) -> Result<String, HypervisorError> {
        Ok(self.domain()?.agent(command, timeout_seconds)?)
    }

    fn statistics(&self) -> Result<Statistics, HypervisorError> {
        let domain = self.domain()?;
        let statistics = domain.statistics()?;
        let qemu = Stat::of(domain.qemu_pid()?).ok_or_else(|| HypervisorError {
            kind: ErrorKind::Denied,
            message: "QEMU has ended".into(),
        })?;
        Ok(translate_statistics(&statistics, &qemu))
    }

    fn plug(&self, device: &Device) -> Result<(), HypervisorError> {
        let domain = self.domain()?;
        if has_device(&domain.xml()?, &device.alias) {
            return Ok(());
        }
        domain.attach(&device.xml)?;
        catamaran_libvirt::trim_memory();
        Ok(())
    }

    fn unplug(&self, alias: &str, ask: bool) -> Result<Unplugged, HypervisorError> {
        let domain = self.domain()?;
        // A device stands in the description until QEMU has said that it is deleted.
        if !has_device(&domain.xml()?, alias) {
            return Ok(Unplugged::Gone);
        }
        let asked = if ask { domain.detach(alias) } else { Ok(()) };
        unplugged(asked, has_device(&domain.xml()?, alias))
    }
}

impl From<catamaran_libvirt::Error> for HypervisorError {
    fn from(error: catamaran_libvirt::Error) -> Self {
        let kind = match error.kind {
            LibvirtKind::NoDomain | LibvirtKind::WrongState => ErrorKind::Denied,
            LibvirtKind::Unsupported => ErrorKind::Unsupported,
            LibvirtKind::Agent => ErrorKind::Unavailable,
            LibvirtKind::Timeout => ErrorKind::Timeout,
            LibvirtKind::BadXml | LibvirtKind::Io | LibvirtKind::Other => ErrorKind::Failed,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

/// What QEMU says of a device that the guest was asked for before: it may still let it go.
const ASKED_BEFORE: &str = "already in the process of unplug";

/// What came of asking for a device, which may still be there.
fn unplugged(
    asked: Result<(), catamaran_libvirt::Error>,
    there: bool,
) -> Result<Unplugged, HypervisorError> {
    match asked {
        // It may have gone while it was asked for.
        _ if !there => Ok(Unplugged::Gone),
        Err(error) if !error.message.contains(ASKED_BEFORE) => Err(error.into()),
        _ => Ok(Unplugged::Leaving),
    }
}

fn has_device(xml: &str, alias: &str) -> bool {
    xml.contains(&format!("<alias name='{alias}'/>"))
}

fn translate(event: EventKind) -> Option<Event> {
    Some(match event {
        EventKind::Lifecycle(Lifecycle::Suspended { io_error }) => Event::Suspended { io_error },
        EventKind::Lifecycle(Lifecycle::Resumed) => Event::Resumed,
        EventKind::Lifecycle(Lifecycle::ShuttingDown { by_guest: true }) => Event::ShuttingDown,
        EventKind::Lifecycle(Lifecycle::Stopped { orderly, reason }) => Event::Stopped {
            orderly,
            reason: reason.to_owned(),
        },
        EventKind::Lifecycle(Lifecycle::Crashed) => Event::Panicked,
        EventKind::Reboot => Event::Rebooted,
        EventKind::IoError {
            source,
            alias,
            action: IoErrorAction::Paused,
            reason,
        } => Event::DiskFailed {
            file: source,
            alias,
            no_space: reason == "enospc",
        },
        EventKind::Agent(state) => Event::Agent {
            connected: state == AgentState::Connected,
        },
        EventKind::Lifecycle(
            Lifecycle::Started { .. } | Lifecycle::PmSuspended | Lifecycle::ShuttingDown { .. },
        )
        | EventKind::IoError { .. }
        | EventKind::Watchdog
        | EventKind::Balloon { .. }
        | EventKind::DeviceRemoved { .. } => return None,
    })
}

fn translate_state(state: State) -> DomainState {
    match state {
        State::Running | State::PmSuspended | State::Unknown => DomainState::Running,
        State::Paused { io_error, .. } => DomainState::Paused { io_error },
        State::ShuttingDown => DomainState::ShuttingDown,
        State::Off => DomainState::Off,
        State::Crashed => DomainState::Crashed,
    }
}

fn translate_statistics(s: &catamaran_libvirt::Statistics, qemu: &Stat) -> Statistics {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let bytes = |kib: u64| (kib > 0).then(|| kib.saturating_mul(1024));
    let m = &s.memory;
    Statistics {
        cpu_seconds: (qemu.user_time + qemu.system_time).as_secs_f64(),
        cpu_user_seconds: qemu.user_time.as_secs_f64(),
        cpu_system_seconds: qemu.system_time.as_secs_f64(),
        vcpus: (0_u32..)
            .zip(&s.vcpus)
            .map(|(id, vcpu)| VcpuStats {
                id,
                seconds: seconds(vcpu.time_ns),
                wait_seconds: seconds(vcpu.wait_ns),
                delay_seconds: seconds(vcpu.delay_ns),
            })
            .collect(),
        memory: MemoryStats {
            actual: bytes(m.current_kib),
            available: bytes(m.available_kib),
            unused: bytes(m.unused_kib),
            usable: bytes(m.usable_kib),
            resident: bytes(m.rss_kib),
            cached: bytes(m.disk_caches_kib),
            swap_in: bytes(m.available_kib).map(|_| m.swap_in_kib * 1024),
            swap_out: bytes(m.available_kib).map(|_| m.swap_out_kib * 1024),
            major_faults: bytes(m.available_kib).map(|_| m.major_faults),
            minor_faults: bytes(m.available_kib).map(|_| m.minor_faults),
            domain: bytes(m.maximum_kib),
        },
        networks: s
            .interfaces
            .iter()
            .map(|n| NetStats {
                device: n.name.clone(),
                // Named by the driver task, which knows the plan.
                name: String::new(),
                receive: [
                    n.receive_bytes,
                    n.receive_packets,
                    n.receive_errors,
                    n.receive_drops,
                ],
                transmit: [
                    n.transmit_bytes,
                    n.transmit_packets,
                    n.transmit_errors,
                    n.transmit_drops,
                ],
            })
            .collect(),
        disks: s
            .disks
            .iter()
            .map(|d| BlockStats {
                name: String::new(),
                target: d.target.clone(),
                read: [d.read_requests, d.read_bytes, d.read_time_ns],
                write: [d.write_requests, d.write_bytes, d.write_time_ns],
                flush: [d.flush_requests, d.flush_time_ns],
                allocated: d.allocation_bytes,
                capacity: d.capacity_bytes,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Result<(), catamaran_libvirt::Error> {
        Err(catamaran_libvirt::Error {
            what: "unplug a device",
            kind: LibvirtKind::Other,
            message: message.to_owned(),
        })
    }

    #[test]
    fn a_device_that_was_asked_for_before_is_leaving() {
        let before = || {
            refused(
                "internal error: unable to execute QEMU command 'device_del': Device ua-d is already in the process of unplug",
            )
        };
        let missing = || refused("device not found: no device with alias ua-d");
        for (asked, there, expected) in [
            (Ok(()), true, Some(Unplugged::Leaving)),
            (Ok(()), false, Some(Unplugged::Gone)),
            (before(), true, Some(Unplugged::Leaving)),
            (before(), false, Some(Unplugged::Gone)),
            (missing(), false, Some(Unplugged::Gone)),
            (refused("the monitor is gone"), true, None),
        ] {
            let words = format!("{asked:?} {there}");
            assert_eq!(unplugged(asked, there).ok(), expected, "{words}");
        }
    }
}
