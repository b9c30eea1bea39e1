//! What writes images to the disks of hosts. The states know it by this trait only.

use std::future::Future;

use catamaran_api::metal3::{BareMetalHost, Image};
use catamaran_redfish::Bmc;

/// How far writing an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It was not begun.
    None,
    /// It goes on; in words.
    Working(String),
    /// The host runs what was written.
    Done,
    /// It can't be done; in words.
    Failed(String),
}

/// Writes images to the disks of hosts.
pub trait Deploy: Send + Sync {
    /// Why the spec's image can't be written, in words that name the field; none when it can. Not asked for a live ISO.
    fn refusal(&self, host: &BareMetalHost) -> Option<String>;

    /// How far it is with a host in the state *provisioning*.
    fn progress(&self, host: &BareMetalHost) -> impl Future<Output = Progress> + Send;

    /// Begins. The host may be on or off.
    fn begin(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Ends what was begun or made; the host is off.
    fn end(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Writes nothing, and says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDeploy;

impl Deploy for NoDeploy {
    fn refusal(&self, host: &BareMetalHost) -> Option<String> {
        let format = host.spec.image.as_ref()?.format.as_deref().unwrap_or("raw");
        Some(format!(
            "spec.image.format: '{format}' can't be written to a disk by this version; supported: live-iso"
        ))
    }

    async fn progress(&self, host: &BareMetalHost) -> Progress {
        self.refusal(host).map_or(Progress::None, Progress::Failed)
    }

    async fn begin(&self, host: &BareMetalHost, _: &Bmc) -> Result<(), String> {
        self.refusal(host).map_or(Ok(()), Err)
    }

    async fn end(&self, _: &BareMetalHost, _: &Bmc) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn is_live_iso(image: &Image) -> bool {
    image.format.as_deref() == Some("live-iso")
}
