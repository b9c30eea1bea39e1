//! What takes more than one request: drains; and what a host is asked for.

use catamaran_api::metal3::annotations;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backend::{Backend, Failure, Name, Place};
use crate::kind::Kind;
use crate::words::NodeVerb;

/// What a host is asked for: one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum HostWish {
    /// Power.
    Online(bool),
    /// One reboot.
    Reboot(Reboot),
    /// A new inventory.
    Inspect(bool),
    /// What to boot from at the next start; none: as its firmware says.
    BootOnce(Option<BootOnce>),
}

/// What to boot from.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BootOnce {
    /// The CD, also a virtual one.
    Cd,
    /// The network.
    Pxe,
    /// The disk.
    Disk,
    /// The firmware's own settings.
    BiosSetup,
}

/// How to reboot.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reboot {
    /// The system is asked.
    Soft,
    /// Power is cut.
    Hard,
}

impl HostWish {
    /// The patch of the host that means it.
    pub(crate) fn patch(&self) -> Value {
        let annotation =
            |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
        match self {
            Self::Online(on) => json!({"spec": {"online": on}}),
            Self::Reboot(how) => {
                let detail = json!({"mode": how}).to_string();
                annotation(annotations::REBOOT, detail.into())
            }
            Self::BootOnce(device) => annotation(annotations::BOOT_ONCE, json!(device)),
            Self::Inspect(true) => annotation(annotations::INSPECT, "".into()),
            Self::Inspect(false) => annotation(annotations::INSPECT, Value::Null),
        }
    }
}

fn node(name: &Name) -> Result<Place, Failure> {
    let kind = Kind::parse("nodes").ok_or_else(|| Failure::new(500, "nodes are not known"))?;
    Ok(Place {
        kind,
        namespace: None,
        name: Some(name.clone()),
    })
}

/// The kind of a host.
pub(crate) fn hosts() -> Result<&'static Kind, Failure> {
    Kind::parse("baremetalhosts").ok_or_else(|| Failure::new(500, "hosts are not known"))
}

/// Cordons, uncordons or drains a node; a drain is asked for again until nothing is left.
pub(crate) async fn to_node<B: Backend>(
    backend: &B,
    caller: &B::Caller,
    name: &Name,
    verb: NodeVerb,
) -> Result<Value, Failure> {
    let closed = verb != NodeVerb::Uncordon;
    let patch = json!({"spec": {"unschedulable": closed}});
    backend.patch(caller, &node(name)?, &patch).await?;
    let mut drained = Drained::default();
    if verb == NodeVerb::Drain {
        for pod in backend.pods_of(caller, name).await? {
            drained.take(backend, caller, &pod).await;
        }
    }
    Ok(json!({"evicted": drained.evicted, "refused": drained.refused, "left": drained.left}))
}

#[derive(Default)]
struct Drained {
    evicted: usize,
    refused: Vec<Value>,
    left: usize,
}

impl Drained {
    async fn take<B: Backend>(&mut self, backend: &B, caller: &B::Caller, pod: &Value) {
        let ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        if ended {
            return;
        }
        self.left += 1;
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        let word = |field: &str| {
            let text = pod["metadata"][field].as_str().unwrap_or_default();
            Name::parse(text)
        };
        let (Some(namespace), Some(name)) = (word("namespace"), word("name")) else {
            return;
        };
        match backend.evict(caller, &namespace, &name).await {
            Ok(()) => self.evicted += 1,
            Err(failure) => self.refused.push(json!({
                "pod": format!("{namespace}/{name}"), "message": failure.message,
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::HostWish;

    #[test]
    fn wishes_for_a_host_are_what_its_controller_reads() {
        let patch = |wish: serde_json::Value| {
            serde_json::from_value::<HostWish>(wish).map(|wish| wish.patch())
        };
        assert_eq!(
            patch(json!({"online": false})).unwrap(),
            json!({"spec": {"online": false}})
        );
        assert_eq!(
            patch(json!({"reboot": "hard"})).unwrap(),
            json!({"metadata": {"annotations": {"reboot.metal3.io": "{\"mode\":\"hard\"}"}}})
        );
        assert_eq!(
            patch(json!({"inspect": true})).unwrap(),
            json!({"metadata": {"annotations": {"inspect.metal3.io": ""}}})
        );
        assert_eq!(
            patch(json!({"bootOnce": "bios-setup"})).unwrap(),
            json!({"metadata": {"annotations": {"catamaran.dev/boot-once": "bios-setup"}}})
        );
        assert_eq!(
            patch(json!({"bootOnce": null})).unwrap(),
            json!({"metadata": {"annotations": {"catamaran.dev/boot-once": null}}})
        );
        for wrong in [
            json!({"bootOnce": "floppy"}),
            json!({"bmc": {"address": "x"}}),
            json!({"online": true, "reboot": "soft"}),
            json!({"reboot": "now"}),
        ] {
            assert!(patch(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
