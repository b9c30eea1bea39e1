//! libvirt's event loop on a thread of its own, and its events as one typed stream.

use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};
use std::sync::{Arc, OnceLock};

use virt::connect::Connect;
use virt_sys as sys;

use crate::Error;

/// Something that happened to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The domain's name.
    pub domain: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A change of the domain's state.
    Lifecycle(Lifecycle),
    /// The guest rebooted itself; QEMU goes on.
    Reboot,
    /// The virtual watchdog fired.
    Watchdog,
    /// A disk request failed.
    IoError {
        /// The file or address of the disk.
        source: String,
        /// The disk's alias, e.g. `ua-rootdisk`.
        alias: String,
        /// What QEMU did about it.
        action: IoErrorAction,
        /// The reason as libvirt says it, e.g. `enospc`; may be empty.
        reason: String,
    },
    /// The guest's balloon has changed: kibibytes the guest has now.
    Balloon {
        /// KiB.
        current_kib: u64,
    },
    /// A device has left the guest.
    DeviceRemoved {
        /// Its alias.
        alias: String,
    },
    /// The guest agent came or went.
    Agent(AgentState),
}

/// The states a domain passes, with the reasons that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// QEMU has been started (booted, or restored from a file).
    Started {
        /// It came from a saved state.
        restored: bool,
    },
    /// Paused; `io_error` when QEMU did it because of a failing disk.
    Suspended {
        /// A failing disk was the reason.
        io_error: bool,
    },
    /// Running again.
    Resumed,
    /// The guest is on its way out: it has powered itself off (or QEMU got a signal).
    ShuttingDown {
        /// The guest asked for it; `false` when the host did.
        by_guest: bool,
    },
    /// QEMU is gone.
    Stopped {
        /// After an orderly power-off.
        orderly: bool,
        /// Why, in libvirt's words: `shutdown`, `destroyed`, `crashed`, `migrated`, `saved`, `failed`, `from-snapshot`.
        reason: &'static str,
    },
    /// The guest's kernel panicked (seen by the pvpanic device).
    Crashed,
    /// The guest sleeps (ACPI S3).
    PmSuspended,
}

/// Whether the guest agent's channel is open in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// Something in the guest has opened the channel.
    Connected,
    /// The channel is closed.
    Disconnected,
}

/// What QEMU did about a failed disk request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoErrorAction {
    /// Nothing.
    Ignored,
    /// It paused the guest.
    Paused,
    /// It told the guest.
    Reported,
}

pub(crate) type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Registers the event loop and runs it on its own small thread, once per process. Must come before the connection.
pub(crate) fn start_loop() -> Result<(), Error> {
    static LOOP: OnceLock<Result<(), Error>> = OnceLock::new();
    LOOP.get_or_init(|| {
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl()
            .map_err(|error| Error::from_virt("register the event loop", &error))?;
        std::thread::Builder::new()
            .name("libvirt-events".into())
            .stack_size(256 * 1024)
            .spawn(|| {
                loop {
                    if let Err(error) = virt::event::event_run_default_impl() {
                        tracing::error!(%error, "the libvirt event loop stumbled");
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                }
            })
            .map_err(|error| Error::other("start the event thread", error.to_string()))?;
        Ok(())
    })
    .clone()
}

/// Registers every event this crate knows with `sink`.
pub(crate) fn register(connection: &Connect, sink: &Sink) -> Result<(), Error> {
    type Generic = sys::virConnectDomainEventGenericCallback;
    type Lifecycle4 =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
    type Balloon1 =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_ulonglong, *mut c_void);
    type Watchdog1 =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
    type Removed1 =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
    type IoError4 = unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        *const c_char,
        *const c_char,
        c_int,
        *const c_char,
        *mut c_void,
    );
    // SAFETY: libvirt takes every callback as a pointer to a function of the generic shape and calls it with the
    // arguments that belong to the event's id, which are those of the function put beside the id here.
    let callbacks: [(c_int, Generic); 7] = unsafe {
        [
            (
                sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
                std::mem::transmute::<Lifecycle4, Generic>(on_lifecycle),
            ),
            (sys::VIR_DOMAIN_EVENT_ID_REBOOT as c_int, Some(on_reboot)),
            (
                sys::VIR_DOMAIN_EVENT_ID_WATCHDOG as c_int,
                std::mem::transmute::<Watchdog1, Generic>(on_watchdog),
            ),
            (
                sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON as c_int,
                std::mem::transmute::<IoError4, Generic>(on_io_error),
            ),
            (
                sys::VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE as c_int,
                std::mem::transmute::<Balloon1, Generic>(on_balloon),
            ),
            (
                sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED as c_int,
                std::mem::transmute::<Removed1, Generic>(on_removed),
            ),
            (
                sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE as c_int,
                std::mem::transmute::<Lifecycle4, Generic>(on_agent),
            ),
        ]
    };
    for (id, callback) in callbacks {
        let opaque = Box::into_raw(Box::new(Arc::clone(sink))).cast::<c_void>();
        // SAFETY: `connection` is open; `opaque` is a leaked box that libvirt hands back to `release` exactly once.
        let registered = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                std::ptr::null_mut(),
                id,
                callback,
                opaque,
                Some(release),
            )
        };
        if registered < 0 {
            // SAFETY: libvirt has not taken the box, since it refused the registration.
            drop(unsafe { Box::from_raw(opaque.cast::<Sink>()) });
            return Err(Error::last("register for events"));
        }
    }
    Ok(())
}

/// # Safety
/// `opaque` must come from [`register`] and not be used again.
unsafe extern "C" fn release(opaque: *mut c_void) {
    // SAFETY: per the contract above, the box is ours and alive.
    drop(unsafe { Box::from_raw(opaque.cast::<Sink>()) });
}

/// # Safety
/// `domain` must be a domain libvirt passes to a callback and `opaque` come from [`register`].
unsafe fn emit(domain: sys::virDomainPtr, opaque: *mut c_void, kind: EventKind) {
    // SAFETY: the pointer libvirt returns lives as long as the domain object, i.e. during this callback.
    let domain = unsafe { text(sys::virDomainGetName(domain)) };
    // SAFETY: the box lives until libvirt calls `release`.
    let sink = unsafe { &*opaque.cast::<Sink>() };
    sink(Event { domain, kind });
}

/// # Safety
/// `pointer` must be null or a C string that lives during this call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: per the contract above.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) {
    let Some(lifecycle) = lifecycle(event, detail) else {
        return;
    };
    // SAFETY: libvirt's own arguments are passed on.
    unsafe { emit(domain, opaque, EventKind::Lifecycle(lifecycle)) };
}

/// libvirt's numbers (`virDomainEventType` and its details) as a typed state.
fn lifecycle(event: c_int, detail: c_int) -> Option<Lifecycle> {
    Some(match event {
        2 => Lifecycle::Started {
            restored: detail == 2,
        },
        3 => Lifecycle::Suspended {
            io_error: detail == 2,
        },
        4 => Lifecycle::Resumed,
        5 => {
            let reason = match detail {
                0 => "shutdown",
                1 => "destroyed",
                2 => "crashed",
                3 => "migrated",
                4 => "saved",
                6 => "from-snapshot",
                _ => "failed",
            };
            Lifecycle::Stopped {
                orderly: detail == 0,
                reason,
            }
        }
        // Details: 0 finished (who asked is unknown), 1 the guest, 2 the host.
        6 => Lifecycle::ShuttingDown {
            by_guest: detail != 2,
        },
        7 => Lifecycle::PmSuspended,
        8 => Lifecycle::Crashed,
        _ => return None,
    })
}

unsafe extern "C" fn on_reboot(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt's own arguments are passed on.
    unsafe { emit(domain, opaque, EventKind::Reboot) };
}

unsafe extern "C" fn on_watchdog(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt's own arguments are passed on.
    unsafe { emit(domain, opaque, EventKind::Watchdog) };
}

unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    source: *const c_char,
    alias: *const c_char,
    action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let action = match action {
        1 => IoErrorAction::Paused,
        2 => IoErrorAction::Reported,
        _ => IoErrorAction::Ignored,
    };
    // SAFETY: the strings are libvirt's and live during the callback.
    let kind = unsafe {
        EventKind::IoError {
            source: text(source),
            alias: text(alias),
            action,
            reason: text(reason),
        }
    };
    // SAFETY: libvirt's own arguments are passed on.
    unsafe { emit(domain, opaque, kind) };
}

unsafe extern "C" fn on_balloon(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    current_kib: c_ulonglong,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt's own arguments are passed on.
    unsafe { emit(domain, opaque, EventKind::Balloon { current_kib }) };
}

unsafe extern "C" fn on_removed(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the string is libvirt's and lives during the callback; the rest is passed on.
    unsafe {
        let alias = text(alias);
        emit(domain, opaque, EventKind::DeviceRemoved { alias });
    };
}

unsafe extern "C" fn on_agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    let state = if state == 1 {
        AgentState::Connected
    } else {
        AgentState::Disconnected
    };
    // SAFETY: libvirt's own arguments are passed on.
    unsafe { emit(domain, opaque, EventKind::Agent(state)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_off_by_the_guest_is_an_orderly_stop() {
        assert_eq!(
            lifecycle(5, 0),
            Some(Lifecycle::Stopped {
                orderly: true,
                reason: "shutdown"
            })
        );
        assert_eq!(
            lifecycle(5, 2),
            Some(Lifecycle::Stopped {
                orderly: false,
                reason: "crashed"
            })
        );
        assert_eq!(
            lifecycle(6, 1),
            Some(Lifecycle::ShuttingDown { by_guest: true })
        );
    }

    #[test]
    fn unknown_events_are_left_out() {
        assert_eq!(lifecycle(0, 0), None);
        assert_eq!(lifecycle(99, 0), None);
    }
}
