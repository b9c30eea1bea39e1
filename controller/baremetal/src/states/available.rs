//! Available: waits to be used.

use catamaran_api::metal3::BareMetalHost;

use super::{inspecting, preparing};
use crate::annotations::{self, INSPECT};
use crate::facts::{Facts, Seen};
use crate::firmware::Firmware;
use crate::outcome::{Action, ErrorType, Failure, Outcome, Step};
use crate::power;
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    if host.spec.externally_provisioned == Some(true) {
        return Step::to(State::ExternallyProvisioned);
    }
    if annotations::get(host, INSPECT).is_some() && !inspecting::is_disabled(host) {
        let drop = Action::DropAnnotation(INSPECT.to_owned());
        return Step::after(vec![drop], State::Inspecting);
    }
    let prepared = host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.boot_mode.as_deref());
    let changed = matches!(facts.firmware, Firmware::Changed(_));
    if changed || prepared != Some(preparing::wanted(host)) {
        return Step::to(State::Preparing);
    }
    let refusal = match (&host.spec.image, &host.spec.custom_deploy) {
        (_, Some(custom)) => Some(format!(
            "spec.customDeploy.method: '{}' is not supported; give an image in spec.image",
            custom.method
        )),
        (Some(_), None) => match &facts.refusal {
            None if host.spec.online => return Step::to(State::Provisioning),
            refusal => refusal.clone(),
        },
        (None, None) => None,
    };
    let mut step = power::manage(host, seen, &[]);
    // Power is looked after even if what is to be put on it can't be.
    if let (Some(message), Outcome::Done { .. }) = (refusal, &step.outcome) {
        step.outcome = Outcome::Failed(Failure {
            error_type: ErrorType::Provisioning,
            message,
        });
    }
    step
}
