//! What looks at hosts, writes images to their disks and cleans them, by a program that they boot. The states know it by this trait only.

use std::future::Future;

use catamaran_api::metal3::{BareMetalHost, HardwareDetails, Image};

use crate::annotations::{self, INSPECT};
use crate::state::State;

/// What is done by a program on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Its hardware is looked at.
    Inspect,
    /// The spec's image is written to a disk.
    Write,
    /// What was written is made unreadable to firmware and operating systems.
    Clean,
}

impl Job {
    /// What a host's state needs, or leads to; none where its BMC does everything.
    #[must_use]
    pub fn of(host: &BareMetalHost) -> Option<Self> {
        let by_agent = |image: Option<&Image>| image.is_some_and(|image| !is_live_iso(image));
        let status = host.status.as_ref();
        let given = status.and_then(|status| status.provisioning.image.as_ref());
        match State::of(host) {
            State::Inspecting => is_by_agent(host).then_some(Self::Inspect),
            State::Available | State::Provisioning => {
                by_agent(host.spec.image.as_ref()).then_some(Self::Write)
            }
            State::Deprovisioning => {
                // A disk that was not written to the end boots nothing, and one that was refused is somebody's.
                let history = status.and_then(|status| status.operation_history.as_ref());
                let written = history
                    .and_then(|history| history.provision.as_ref())
                    .is_some_and(|provision| provision.end.is_some());
                let cleaned = written && Cleaning::of(host) != Cleaning::Nothing;
                (cleaned && by_agent(given)).then_some(Self::Clean)
            }
            _ => None,
        }
    }
}

/// Which disks are cleaned after a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleaning {
    /// None.
    Nothing,
    /// The one that the image was written to.
    Root,
    /// All of them. This is said in so many words only, and allows to overwrite what is on a disk, too.
    All,
}

impl Cleaning {
    pub(crate) fn of(host: &BareMetalHost) -> Self {
        match host.spec.automated_cleaning_mode.as_deref() {
            Some("disabled") => Self::Nothing,
            Some("metadata") => Self::All,
            _ => Self::Root,
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It was not begun, or has to be begun anew.
    None,
    /// The host is booting the program; in words.
    Booting(String),
    /// It goes on; in words.
    Working(String),
    /// It is done. The host is on still.
    Done,
    /// It can't be done now; in words. Asked again later, it is tried again.
    Failed(String),
}

/// Does jobs on hosts. All of it may be asked twice.
pub trait Deploy: Send + Sync {
    /// Why nothing can be done by a program on any host, in words; none where it can.
    fn absence(&self) -> Option<String>;

    /// Why a job can't be done, in words that name the field; none when it can.
    fn refusal(&self, host: &BareMetalHost, job: Job) -> Option<String>;

    /// Goes on with what was begun in the host's present state, and says how far it is. Does not need its BMC.
    fn progress(&self, host: &BareMetalHost, job: Job) -> impl Future<Output = Progress> + Send;

    /// Begins: answers with the URL of the CD that the host has to boot. It opens one session, and is not for the eyes of others.
    fn begin(
        &self,
        host: &BareMetalHost,
        job: Job,
    ) -> impl Future<Output = Result<String, String>> + Send;

    /// What the host is made of, where the program has told.
    fn inventory(&self, host: &BareMetalHost) -> Option<HardwareDetails>;

    /// The disk that the image was written to, where the program has told.
    fn disk(&self, host: &BareMetalHost) -> Option<String>;

    /// Forgets the host.
    fn end(&self, host: &BareMetalHost);
}

/// Without a word the BMC is asked: that needs neither a boot nor a way from the host to the controller.
fn is_by_agent(host: &BareMetalHost) -> bool {
    host.spec.inspection_mode.as_deref() == Some("agent")
        && annotations::get(host, INSPECT) != Some("disabled")
}

pub(crate) fn is_live_iso(image: &Image) -> bool {
    image.format.as_deref() == Some("live-iso")
}
