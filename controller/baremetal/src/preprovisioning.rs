//! The deploy agent's image as a `PreprovisioningImage` asks for it. Pure.
//!
//! The image is ours: it is made for each boot, and its URL, which opens a session, is shown to nobody. So an object of this kind is not needed;
//! one with the host's name is read, says what its host's agent must be, and is told whether it can be so.

use catamaran_api::metal3::{PreprovisioningImage, PreprovisioningImageStatus, SecretVersion};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions::set;

/// The processors that the deploy agent runs on.
const ARCHITECTURE: &str = "x86_64";
/// The format of its image.
const FORMAT: &str = "iso";

/// Why the image can't be so: the field, the value and what is allowed.
pub(crate) fn refusal(object: &PreprovisioningImage) -> Option<String> {
    let spec = &object.spec;
    match spec.architecture.as_deref() {
        None | Some("" | ARCHITECTURE) => {}
        Some(other) => {
            return Some(format!(
                "PreprovisioningImage: spec.architecture: '{other}' is not supported; allowed: {ARCHITECTURE}"
            ));
        }
    }
    let accepted = spec.accept_formats.iter().any(|one| one == FORMAT);
    (!accepted).then(|| {
        format!(
            "PreprovisioningImage: spec.acceptFormats: '{}' leaves nothing; allowed: {FORMAT}",
            spec.accept_formats.join(", ")
        )
    })
}

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    reason: &'static str,
    message: String,
}

impl Flaw {
    /// What is asked for, or the installation.
    pub(crate) fn configuration(message: String) -> Self {
        Self {
            reason: "ConfigurationError",
            message,
        }
    }

    /// The Secret.
    pub(crate) fn network(message: String) -> Self {
        Self {
            reason: "MissingNetworkData",
            message,
        }
    }
}

/// The status; `network`: the Secret that comes into the image.
pub(crate) fn next(
    object: &PreprovisioningImage,
    image: Result<Option<SecretVersion>, Flaw>,
    now: &Time,
) -> PreprovisioningImageStatus {
    let old = object.status.clone().unwrap_or_default();
    let mut new = PreprovisioningImageStatus {
        conditions: old.conditions,
        ..PreprovisioningImageStatus::default()
    };
    let generation = object.metadata.generation;
    let mut put = |type_: &str, holds: bool, reason: &str, message: &str| {
        let all = &mut new.conditions;
        set(all, generation, type_, Some(holds), reason, message, now);
    };
    match image {
        Ok(network) => {
            const READY: &str =
                "the deploy agent's image is made for each boot; its URL is a secret";
            put("Ready", true, "ImageSuccess", READY);
            put("Error", false, "ImageSuccess", "");
            new.format = Some(FORMAT.to_owned());
            new.architecture = Some(ARCHITECTURE.to_owned());
            new.network_data = network;
        }
        Err(Flaw { reason, message }) => {
            put("Ready", false, reason, "");
            put("Error", true, reason, &message);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(spec: &Value) -> PreprovisioningImage {
        serde_json::from_value(json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "PreprovisioningImage", "metadata": {"name": "a"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn what_the_image_can_not_be_is_refused_by_its_field() {
        for (spec, said) in [
            (json!({"acceptFormats": ["initrd", "iso"]}), None),
            (
                json!({"acceptFormats": ["iso"], "architecture": "x86_64"}),
                None,
            ),
            (
                json!({"acceptFormats": ["iso"], "architecture": "aarch64"}),
                Some("spec.architecture: 'aarch64' is not supported; allowed: x86_64"),
            ),
            (
                json!({"acceptFormats": ["initrd"]}),
                Some("spec.acceptFormats: 'initrd' leaves nothing; allowed: iso"),
            ),
            (json!({}), Some("spec.acceptFormats: ''")),
        ] {
            let refusal = refusal(&object(&spec));
            match said {
                Some(said) => assert!(refusal.unwrap().contains(said), "{spec}"),
                None => assert_eq!(refusal, None, "{spec}"),
            }
        }
    }
}
