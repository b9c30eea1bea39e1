//! The open driver: making, finding and restoring domains.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use virt::connect::Connect;
use virt::domain::Domain as VirtDomain;
use virt_sys as sys;

use crate::event::{self, Event};
use crate::{Domain, Error, ErrorKind};

/// How a saved guest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// Holes stay holes (the best on local disks); plain where this libvirt is older than 11.2.
    #[default]
    Sparse,
    /// Compressed; for slow storage. Plain where this libvirt is older than 11.2.
    Zstd,
}

/// The embedded driver, opened on one ROOT folder.
#[derive(Debug)]
pub struct Connection {
    connect: Connect,
    root: PathBuf,
}

impl Connection {
    /// Opens the driver and passes every event to `sink`, which runs on the event thread and must not block.
    ///
    /// # Errors
    /// When another process has ROOT open, or the driver cannot start.
    pub fn open(root: &Path, sink: impl Fn(Event) + Send + Sync + 'static) -> Result<Self, Error> {
        let what = "open the embedded libvirt driver";
        event::start_loop()?;
        let uri = root
            .to_str()
            .filter(|root| root.starts_with('/') && !root.contains(['?', '&', '#', '%']))
            .map(|root| format!("qemu:///embed?root={root}"))
            .ok_or_else(|| {
                Error::other(
                    what,
                    format!("{} is not a plain absolute path", root.display()),
                )
            })?;
        let connect = Connect::open(Some(&uri)).map_err(|error| Error::from_virt(what, &error))?;
        event::register(&connect, &(Arc::new(sink) as event::Sink))?;
        Ok(Self {
            connect,
            root: root.to_owned(),
        })
    }

    /// The library's version: major, minor, micro.
    ///
    /// # Errors
    /// When the library does not say.
    pub fn library_version(&self) -> Result<(u32, u32, u32), Error> {
        let version = self
            .connect
            .get_lib_version()
            .map_err(|error| Error::from_virt("read libvirt's version", &error))?;
        Ok((
            version / 1_000_000,
            version / 1_000 % 1_000,
            version % 1_000,
        ))
    }

    /// Starts a transient domain. The caller then reaps QEMU ([`Domain::qemu_pid`]) and calls [`crate::trim_memory`].
    ///
    /// # Errors
    /// When the XML is wrong (it is checked against libvirt's schema) or QEMU does not start; the message holds its
    /// last words.
    pub fn create(&self, xml: &str, paused: bool) -> Result<Domain, Error> {
        let mut flags = sys::VIR_DOMAIN_START_VALIDATE;
        if paused {
            flags |= sys::VIR_DOMAIN_START_PAUSED;
        }
        let xml = c_string("start the domain", xml)?;
        // SAFETY: the connection is open and the string lives during the call; a non-null answer is a new reference.
        let pointer =
            unsafe { sys::virDomainCreateXML(self.connect.as_ptr(), xml.as_ptr(), flags) };
        self.own("start the domain", pointer)
    }

    /// Checks domain XML against libvirt's schema and the driver's own rules, without starting anything.
    ///
    /// # Errors
    /// The first thing that is wrong, in libvirt's words.
    pub fn validate(&self, xml: &str) -> Result<(), Error> {
        let what = "check the domain XML";
        let xml = c_string(what, xml)?;
        // SAFETY: as in `create`.
        let pointer = unsafe {
            sys::virDomainDefineXMLFlags(
                self.connect.as_ptr(),
                xml.as_ptr(),
                sys::VIR_DOMAIN_DEFINE_VALIDATE,
            )
        };
        let domain = self.own(what, pointer)?;
        domain.undefine()
    }

    /// What the emulator can do, as libvirt's domain capabilities XML.
    ///
    /// Probes this one emulator when it is not in the capabilities cache (4 s), and so fills the cache.
    ///
    /// # Errors
    /// When the emulator cannot be run or does not know the machine.
    pub fn domain_capabilities(
        &self,
        emulator: &str,
        arch: &str,
        machine: &str,
        domain_type: &str,
    ) -> Result<String, Error> {
        self.connect
            .get_domain_capabilities(
                Some(emulator),
                Some(arch),
                Some(machine),
                Some(domain_type),
                0,
            )
            .map_err(|error| Error::from_virt("read the emulator's capabilities", &error))
    }

    /// The domain of that name, if there is one.
    ///
    /// # Errors
    /// When libvirt fails in another way than "there is none".
    pub fn lookup(&self, name: &str) -> Result<Option<Domain>, Error> {
        match VirtDomain::lookup_by_name(&self.connect, name) {
            Ok(domain) => Ok(Some(Domain::new(
                domain,
                self.connect.clone(),
                self.root.clone(),
            ))),
            Err(error) => {
                let error = Error::from_virt("look a domain up", &error);
                if error.kind == ErrorKind::NoDomain {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// All domains the driver knows. After a reconnect, a domain whose QEMU has died stays in the list for up to 4 s.
    ///
    /// # Errors
    /// When libvirt fails.
    pub fn domains(&self) -> Result<Vec<Domain>, Error> {
        let domains = self
            .connect
            .list_all_domains(0)
            .map_err(|error| Error::from_virt("list the domains", &error))?;
        Ok(domains
            .into_iter()
            .map(|domain| Domain::new(domain, self.connect.clone(), self.root.clone()))
            .collect())
    }

    /// Starts a domain from a file made by [`Domain::save`]; `xml`, when given, replaces the host-side parts of the
    /// saved description.
    ///
    /// # Errors
    /// When the file is not a saved guest or QEMU refuses it.
    pub fn restore(&self, file: &Path, xml: Option<&str>, paused: bool) -> Result<(), Error> {
        let what = "restore the guest from a file";
        let path = file
            .to_str()
            .ok_or_else(|| Error::other(what, format!("{} is not UTF-8", file.display())))?;
        let path = c_string(what, path)?;
        let xml = xml.map(|xml| c_string(what, xml)).transpose()?;
        let flags = if paused {
            sys::VIR_DOMAIN_SAVE_PAUSED
        } else {
            sys::VIR_DOMAIN_SAVE_RUNNING
        };
        // SAFETY: the connection is open and both strings live during the call; a null XML means "as saved".
        let answer = unsafe {
            sys::virDomainRestoreFlags(
                self.connect.as_ptr(),
                path.as_ptr(),
                xml.as_ref().map_or(std::ptr::null(), |xml| xml.as_ptr()),
                flags,
            )
        };
        if answer < 0 {
            Err(Error::last(what))
        } else {
            Ok(())
        }
    }

    fn own(&self, what: &'static str, pointer: sys::virDomainPtr) -> Result<Domain, Error> {
        if pointer.is_null() {
            return Err(Error::last(what));
        }
        // SAFETY: the pointer is a new reference that nobody else frees.
        let domain = unsafe { VirtDomain::from_ptr(pointer) };
        Ok(Domain::new(domain, self.connect.clone(), self.root.clone()))
    }
}

/// A C string, or an error that says the text holds a NUL.
pub(crate) fn c_string(what: &'static str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::other(what, "the text holds a NUL byte"))
}
