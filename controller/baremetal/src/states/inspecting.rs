//! Inspecting: what the host is made of, as its BMC knows.

use catamaran_api::metal3::BareMetalHost;

use crate::annotations::{self, INSPECT};
use crate::outcome::{Action, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost) -> Step {
    if is_disabled(host) {
        return Step::to(State::Preparing);
    }
    Step::after(vec![Action::Inspect], State::Preparing)
}

/// By the spec, or by the annotation that was there before it.
pub(super) fn is_disabled(host: &BareMetalHost) -> bool {
    host.spec.inspection_mode.as_deref() == Some("disabled")
        || annotations::get(host, INSPECT) == Some("disabled")
}
