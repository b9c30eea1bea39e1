//! A CD for a host in use: what its `DataImage` asks for, and what becomes of it. Pure.
//!
//! As with the peer a CD comes and goes when the host is turned on, never while it runs, and a host is not turned on without the CD that it is
//! to have.

use catamaran_api::metal3::{
    AttachedImage, BareMetalHost, DataImage, DataImageError, DataImageStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::deploy::is_live_iso;
use crate::facts::Seconds;
use crate::state::State;

/// Finalizer of `DataImage`s: one whose CD is in stays until it is out.
pub(crate) const DATA_FINALIZER: &str = "dataimage.metal3.io";

/// What the host is to be given before it is turned on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing is asked for.
    Settled,
    /// This CD is to be in.
    Attach(String),
    /// The CD that is in is to be out.
    Detach,
    /// It did not work, and is not tried again yet.
    Held {
        /// Why not, in words.
        message: String,
        /// Seconds until it is.
        again: Seconds,
    },
}

/// What an object asks for in the host's state.
pub(crate) fn wanted(object: &DataImage, host: &BareMetalHost) -> Data {
    let state = State::of(host);
    let is_in = attached(object).is_some();
    let leaves = matches!(state, State::Deprovisioning | State::PoweringOff);
    let stays = state.in_use() && object.metadata.deletion_timestamp.is_none();
    if stays && refusal(host).is_none() && !object.spec.url.is_empty() {
        Data::Attach(object.spec.url.clone())
    } else if is_in && (state.in_use() || leaves) {
        Data::Detach
    } else {
        Data::Settled
    }
}

/// Why a host can't be given a CD; none where it can.
pub(crate) fn refusal(host: &BareMetalHost) -> Option<&'static str> {
    let given = host.status.as_ref()?.provisioning.image.as_ref();
    let live = State::of(host) == State::Provisioned && given.is_some_and(is_live_iso);
    live.then_some(
        "spec.image.format of the host is 'live-iso', which takes the CD; allowed with a DataImage: raw, qcow2, or a host that is externally provisioned",
    )
}

/// The CD that is in.
pub(crate) fn attached(object: &DataImage) -> Option<&str> {
    let status = object.status.as_ref()?;
    let there = status.attached_image.as_ref()?;
    (!there.url.is_empty()).then_some(there.url.as_str())
}

/// The status when a CD, or none, is in.
pub(crate) fn holds(url: Option<&str>, now: &Time) -> DataImageStatus {
    DataImageStatus {
        attached_image: url.map(|url| AttachedImage {
            url: url.to_owned(),
        }),
        error: None,
        last_reconciled: Some(now.clone()),
    }
}

/// The status after something went wrong.
pub(crate) fn failed(object: &DataImage, message: &str, now: &Time) -> DataImageStatus {
    let old = object.status.clone().unwrap_or_default();
    DataImageStatus {
        error: Some(DataImageError {
            count: failures(object) + 1,
            message: message.to_owned(),
        }),
        last_reconciled: Some(now.clone()),
        ..old
    }
}

/// How often it went wrong in a row.
pub(crate) fn failures(object: &DataImage) -> i64 {
    let error = object.status.as_ref().and_then(|one| one.error.as_ref());
    error.map_or(0, |error| error.count)
}
