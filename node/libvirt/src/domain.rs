//! One virtual machine under the driver.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};

use virt::connect::Connect;
use virt::domain::Domain as VirtDomain;
use virt::stream::Stream;
use virt_sys as sys;

use crate::connection::c_string;
use crate::statistics::Statistics;
use crate::{Error, SaveFormat};

/// The state of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// QEMU runs the guest.
    Running,
    /// QEMU holds the guest still.
    Paused {
        /// QEMU did it because of a failing disk.
        io_error: bool,
        /// It is QEMU's first pause, before the guest's first instruction.
        starting: bool,
    },
    /// The guest is powering off.
    ShuttingDown,
    /// QEMU is gone.
    Off,
    /// The guest's kernel panicked and QEMU keeps it as it is.
    Crashed,
    /// The guest sleeps.
    PmSuspended,
    /// libvirt says something else.
    Unknown,
}

/// By which way the guest is asked to power off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// The ACPI power button.
    PowerButton,
    /// The guest agent.
    Agent,
}

/// Longest answer of a guest agent that is handed on, in bytes.
const AGENT_ANSWER_MAX: usize = 4 << 20;
/// Largest screenshot that is handed on, in bytes.
const SCREENSHOT_MAX: usize = 64 << 20;

/// A virtual machine under the embedded driver.
#[derive(Debug)]
pub struct Domain {
    domain: VirtDomain,
    connect: Connect,
    root: PathBuf,
}

impl Domain {
    pub(crate) fn new(domain: VirtDomain, connect: Connect, root: PathBuf) -> Self {
        Self {
            domain,
            connect,
            root,
        }
    }

    /// Its name.
    ///
    /// # Errors
    /// When the domain is gone.
    pub fn name(&self) -> Result<String, Error> {
        self.domain
            .get_name()
            .map_err(|error| Error::from_virt("read the domain's name", &error))
    }

    /// Its state now.
    ///
    /// # Errors
    /// When the domain is gone ([`crate::ErrorKind::NoDomain`]).
    pub fn state(&self) -> Result<State, Error> {
        let (state, reason) = self
            .domain
            .get_state()
            .map_err(|error| Error::from_virt("read the domain's state", &error))?;
        Ok(match state {
            // blocked counts as running
            1 | 2 => State::Running,
            // reasons: 5 I/O error, 11 starting up
            3 => State::Paused {
                io_error: reason == 5,
                starting: reason == 11,
            },
            4 => State::ShuttingDown,
            5 => State::Off,
            6 => State::Crashed,
            7 => State::PmSuspended,
            _ => State::Unknown,
        })
    }

    /// QEMU's process id, as libvirt recorded it in this pid namespace.
    ///
    /// # Errors
    /// When libvirt has written none.
    pub fn qemu_pid(&self) -> Result<i32, Error> {
        let file = self
            .root
            .join("run/qemu")
            .join(format!("{}.pid", self.name()?));
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Error::io("read QEMU's process id", &file, &error))?;
        text.trim().parse().map_err(|_| {
            Error::other(
                "read QEMU's process id",
                format!("{} says {text:?}", file.display()),
            )
        })
    }

    /// The description libvirt works with now.
    ///
    /// # Errors
    /// When the domain is gone.
    pub fn xml(&self) -> Result<String, Error> {
        self.domain
            .get_xml_desc(0)
            .map_err(|error| Error::from_virt("read the domain's XML", &error))
    }

    /// Asks the guest to power off.
    ///
    /// # Errors
    /// When it is not running, or (agent) when the agent does not answer.
    pub fn shutdown(&self, mode: ShutdownMode) -> Result<(), Error> {
        let flags = match mode {
            ShutdownMode::PowerButton => sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
            ShutdownMode::Agent => sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
        };
        self.domain
            .shutdown_flags(flags)
            .map(drop)
            .map_err(|error| Error::from_virt("ask the guest to power off", &error))
    }

    /// Asks the guest to reboot (by the ACPI power button and a reset, as QEMU does it).
    ///
    /// # Errors
    /// When it is not running.
    pub fn reboot(&self, mode: ShutdownMode) -> Result<(), Error> {
        let flags = match mode {
            ShutdownMode::PowerButton => sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN,
            ShutdownMode::Agent => sys::VIR_DOMAIN_REBOOT_GUEST_AGENT,
        };
        self.domain
            .reboot(flags)
            .map_err(|error| Error::from_virt("ask the guest to reboot", &error))
    }

    /// Ends QEMU: SIGTERM, then SIGKILL. Returns in 0.2 s if someone reaps QEMU at once, in 40 s if nobody does.
    ///
    /// # Errors
    /// When it is not running or cannot be killed.
    pub fn destroy(&self) -> Result<(), Error> {
        self.domain
            .destroy()
            .map_err(|error| Error::from_virt("end QEMU", &error))
    }

    /// Holds the guest still.
    ///
    /// # Errors
    /// When it is not running.
    pub fn suspend(&self) -> Result<(), Error> {
        self.domain
            .suspend()
            .map(drop)
            .map_err(|error| Error::from_virt("pause the guest", &error))
    }

    /// Lets the guest go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self) -> Result<(), Error> {
        self.domain
            .resume()
            .map(drop)
            .map_err(|error| Error::from_virt("resume the guest", &error))
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When it is not running.
    pub fn reset(&self) -> Result<(), Error> {
        self.domain
            .reset()
            .map(drop)
            .map_err(|error| Error::from_virt("reset the guest", &error))
    }

    /// Sends a non-maskable interrupt (makes a Linux guest with `unknown_nmi_panic` panic).
    ///
    /// # Errors
    /// When it is not running.
    pub fn inject_nmi(&self) -> Result<(), Error> {
        // SAFETY: the domain handle is valid; flags must be 0.
        let answer = unsafe { sys::virDomainInjectNMI(self.domain.as_ptr(), 0) };
        if answer < 0 {
            Err(Error::last("inject an NMI"))
        } else {
            Ok(())
        }
    }

    /// What the first screen shows, as a PNG (libvirt converts QEMU's picture).
    ///
    /// # Errors
    /// When the domain has no screen, or is not running.
    pub fn screenshot(&self) -> Result<Vec<u8>, Error> {
        let what = "take a screenshot";
        let stream =
            Stream::new(&self.connect, 0).map_err(|error| Error::from_virt(what, &error))?;
        self.domain
            .screenshot(&stream, 0, 0)
            .map_err(|error| Error::from_virt(what, &error))?;
        let mut picture = Vec::new();
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            match stream.recv(&mut buffer) {
                Ok(0) => break,
                Ok(count) => picture.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    let error = Error::from_virt(what, &error);
                    let _ = stream.abort();
                    return Err(error);
                }
            }
            if picture.len() > SCREENSHOT_MAX {
                let _ = stream.abort();
                return Err(Error::other(
                    what,
                    format!("the picture is larger than {SCREENSHOT_MAX} bytes"),
                ));
            }
        }
        stream
            .finish()
            .map_err(|error| Error::from_virt(what, &error))?;
        Ok(picture)
    }

    /// Sends one JSON command to the guest agent and returns its JSON answer, which is the guest's own making and must
    /// be read with suspicion.
    ///
    /// # Errors
    /// When the agent does not answer within `timeout_s` (at least 1 s), answers with an error, or answers with more
    /// than 4 MiB.
    pub fn agent(&self, command: &str, timeout_s: u16) -> Result<String, Error> {
        let what = "ask the guest agent";
        let command = c_string(what, command)?;
        // SAFETY: the handle is valid and the string lives during the call.
        let answer = unsafe {
            sys::virDomainQemuAgentCommand(
                self.domain.as_ptr(),
                command.as_ptr(),
                i32::from(timeout_s.max(1)),
                0,
            )
        };
        // SAFETY: the pointer is null or a string made for us by libvirt.
        unsafe { take_string(what, answer, AGENT_ANSWER_MAX) }
    }

    /// Sends one JSON command to QEMU's monitor and returns its JSON answer.
    ///
    /// # Errors
    /// When QEMU does not answer. An answer that is QEMU's error comes back as `Ok`, since it is JSON too.
    pub fn qmp(&self, command: &str) -> Result<String, Error> {
        let what = "ask QEMU's monitor";
        let command = c_string(what, command)?;
        let mut answer: *mut c_char = std::ptr::null_mut();
        // SAFETY: the handle is valid, the string lives during the call, and `answer` receives a new string.
        let code = unsafe {
            sys::virDomainQemuMonitorCommand(
                self.domain.as_ptr(),
                command.as_ptr(),
                &raw mut answer,
                0,
            )
        };
        if code < 0 {
            return Err(Error::last(what));
        }
        // SAFETY: libvirt has put a string made for us there.
        unsafe { take_string(what, answer, usize::MAX) }
    }

    /// Writes the guest's memory and devices to `file` and ends QEMU. With `paused` the saved guest is paused when
    /// restored, unless told otherwise then.
    ///
    /// # Errors
    /// When a device cannot be saved or the file cannot be written; the guest then goes on.
    pub fn save(&self, file: &Path, format: SaveFormat, paused: bool) -> Result<(), Error> {
        let what = "save the guest to a file";
        let path = file
            .to_str()
            .ok_or_else(|| Error::other(what, format!("{} is not UTF-8", file.display())))?;
        let version = self
            .connect
            .get_lib_version()
            .map_err(|error| Error::from_virt(what, &error))?;
        let mut parameters = Parameters::default();
        parameters.add(what, c"file", path)?;
        if version >= 11_002_000 {
            let format = match format {
                SaveFormat::Sparse => "sparse",
                SaveFormat::Zstd => "zstd",
            };
            parameters.add(what, c"image_format", format)?;
        }
        let flags = if paused {
            sys::VIR_DOMAIN_SAVE_PAUSED
        } else {
            sys::VIR_DOMAIN_SAVE_RUNNING
        };
        // SAFETY: the handle is valid and the list holds `count` parameters that live during the call.
        let answer = unsafe {
            sys::virDomainSaveParams(
                self.domain.as_ptr(),
                parameters.list,
                parameters.count,
                flags,
            )
        };
        if answer < 0 {
            Err(Error::last(what))
        } else {
            Ok(())
        }
    }

    /// Plugs a device into the running guest.
    ///
    /// # Errors
    /// When the XML is wrong, there is no free slot, or QEMU refuses.
    pub fn attach(&self, device_xml: &str) -> Result<(), Error> {
        self.plug("plug a device in", device_xml, |domain, xml, live| {
            // SAFETY: `plug` gives a valid handle and a string that lives during the call.
            unsafe { sys::virDomainAttachDeviceFlags(domain, xml, live) }
        })
    }

    /// Asks the guest to let the device of that alias go; [`crate::EventKind::DeviceRemoved`] tells when it has.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn detach(&self, alias: &str) -> Result<(), Error> {
        self.plug("unplug a device", alias, |domain, alias, live| {
            // SAFETY: `plug` gives a valid handle and a string that lives during the call.
            unsafe { sys::virDomainDetachDeviceAlias(domain, alias, live) }
        })
    }

    /// Calls one of libvirt's functions with a device, by its XML or its alias.
    fn plug(
        &self,
        what: &'static str,
        device: &str,
        call: impl FnOnce(sys::virDomainPtr, *const c_char, c_uint) -> c_int,
    ) -> Result<(), Error> {
        let device = c_string(what, device)?;
        let answer = call(
            self.domain.as_ptr(),
            device.as_ptr(),
            sys::VIR_DOMAIN_AFFECT_LIVE,
        );
        if answer < 0 {
            Err(Error::last(what))
        } else {
            Ok(())
        }
    }

    /// Sets how often the guest's balloon driver reports memory use; without it only the size is known.
    ///
    /// # Errors
    /// When there is no balloon.
    pub fn set_memory_statistics_period(&self, seconds: u16) -> Result<(), Error> {
        // SAFETY: the handle is valid.
        let answer = unsafe {
            sys::virDomainSetMemoryStatsPeriod(
                self.domain.as_ptr(),
                i32::from(seconds),
                sys::VIR_DOMAIN_AFFECT_LIVE,
            )
        };
        if answer < 0 {
            Err(Error::last("set the memory statistics' period"))
        } else {
            Ok(())
        }
    }

    /// Sets the balloon's target.
    ///
    /// # Errors
    /// When there is no balloon or the size exceeds the guest's maximum.
    pub fn set_memory_kib(&self, kib: u64) -> Result<(), Error> {
        // SAFETY: the handle is valid.
        let answer = unsafe {
            sys::virDomainSetMemoryFlags(self.domain.as_ptr(), kib, sys::VIR_DOMAIN_AFFECT_LIVE)
        };
        if answer < 0 {
            Err(Error::last("set the guest's memory"))
        } else {
            Ok(())
        }
    }

    /// What the guest has used so far, by one call (6 ms).
    ///
    /// # Errors
    /// When it is not running.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        Statistics::read(&self.domain)
    }

    pub(crate) fn undefine(&self) -> Result<(), Error> {
        // Flag 4: with NVRAM that does not exist yet, libvirt wants to be told what becomes of it.
        self.domain
            .undefine_flags(sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
            .map_err(|error| Error::from_virt("forget the checked domain", &error))
    }
}

/// Takes a string that libvirt made for the caller, and frees it.
///
/// # Safety
/// `pointer` must be null (an error is recorded then) or a malloc'ed C string nobody else owns.
unsafe fn take_string(
    what: &'static str,
    pointer: *mut c_char,
    max: usize,
) -> Result<String, Error> {
    if pointer.is_null() {
        return Err(Error::last(what));
    }
    // SAFETY: a valid C string per the contract above.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    let answer = if bytes.len() > max {
        Err(Error::other(
            what,
            format!(
                "the answer has {} bytes; at most {max} are read",
                bytes.len()
            ),
        ))
    } else {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    // SAFETY: malloc'ed and ours, per the contract above; `bytes` is not used after this.
    unsafe { libc::free(pointer.cast()) };
    answer
}

/// A list of libvirt's typed parameters, freed at the end.
struct Parameters {
    list: sys::virTypedParameterPtr,
    count: i32,
    room: i32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            list: std::ptr::null_mut(),
            count: 0,
            room: 0,
        }
    }
}

impl Parameters {
    fn add(&mut self, what: &'static str, name: &CStr, value: &str) -> Result<(), Error> {
        let value = c_string(what, value)?;
        // SAFETY: the three fields describe one list (empty at first) that libvirt grows; it copies both strings.
        let answer = unsafe {
            sys::virTypedParamsAddString(
                &raw mut self.list,
                &raw mut self.count,
                &raw mut self.room,
                name.as_ptr(),
                value.as_ptr(),
            )
        };
        if answer < 0 {
            Err(Error::last(what))
        } else {
            Ok(())
        }
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: the list and its count belong together; null with 0 is allowed.
        unsafe { sys::virTypedParamsFree(self.list, self.count) };
    }
}
