//! What is said of a host in few words. Pure.

use catamaran_api::metal3::annotations::{PAUSED, REBOOT};
use catamaran_api::metal3::{BareMetalHost, BareMetalHostStatus};
use catamaran_client::age;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// An annotation's value.
pub(super) fn annotation<'a>(host: &'a BareMetalHost, name: &str) -> Option<&'a str> {
    let all = host.metadata.annotations.as_ref()?;
    all.get(name).map(String::as_str)
}

/// The state's word; a host that nobody has looked at yet is `new`.
pub(super) fn state(host: &BareMetalHost) -> &str {
    let status = host.status.as_ref();
    match status.map(|status| status.provisioning.state.as_str()) {
        None | Some("") => "new",
        Some(state) => state,
    }
}

/// A state in which somebody uses the host.
pub(super) fn is_in_use(host: &BareMetalHost) -> bool {
    matches!(state(host), "provisioned" | "externally provisioned")
}

/// A state in which the host's power follows its spec.
pub(super) fn is_powered(host: &BareMetalHost) -> bool {
    is_in_use(host) || state(host) == "available"
}

/// How long ago; nothing where that is not known.
pub(super) fn ago(then: Option<&Time>, now: Timestamp) -> String {
    let seconds = then.map(|then| now.as_second() - then.0.as_second());
    seconds.map_or_else(String::new, |seconds| {
        age(u64::try_from(seconds).unwrap_or(0))
    })
}

/// How long it has been in its state.
pub(super) fn in_state(host: &BareMetalHost, now: Timestamp) -> String {
    let status = host.status.as_ref();
    ago(
        status.and_then(|status| status.provisioning.state_since.as_ref()),
        now,
    )
}

/// What power is, and what it is to be where that differs.
pub(super) fn power(host: &BareMetalHost) -> String {
    let word = |on: bool| if on { "on" } else { "off" };
    let wanted = host.spec.online && held_off(host).is_none();
    let is = match &host.status {
        Some(status) if status.good_credentials.is_some() => status.powered_on,
        // Nobody has read it yet.
        _ => return "unknown".to_owned(),
    };
    if is == wanted || !is_powered(host) {
        return word(is).to_owned();
    }
    format!("{}, to be {}", word(is), word(wanted))
}

/// The annotation that holds it off.
pub(super) fn held_off(host: &BareMetalHost) -> Option<&str> {
    let all = host.metadata.annotations.as_ref()?;
    let prefix = format!("{REBOOT}/");
    let held = all.keys().find(|name| name.starts_with(&prefix))?;
    is_in_use(host).then_some(held.as_str())
}

/// Who uses it.
pub(super) fn consumer(host: &BareMetalHost) -> String {
    let Some(consumer) = &host.spec.consumer_ref else {
        return String::new();
    };
    consumer.name.clone().unwrap_or_default()
}

pub(super) fn condition<'a>(status: &'a BareMetalHostStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|one| one.type_ == type_)
}

/// What is not as it should be, or is waited for, if anything: the most telling thing.
pub(super) fn reason(host: &BareMetalHost) -> Option<String> {
    if annotation(host, PAUSED).is_some() {
        return Some(format!("left alone: it has the annotation {PAUSED}"));
    }
    let status = host.status.as_ref()?;
    if status.operational_status == "detached" {
        return Some("its BMC is left alone: it is detached".to_owned());
    }
    if !status.error_message.is_empty() {
        return Some(status.error_message.clone());
    }
    if let Some(held) = held_off(host).filter(|_| host.spec.online) {
        return Some(format!("held off by the annotation {held}"));
    }
    let progressing = condition(status, "Progressing")?;
    (progressing.status == "True" && !progressing.message.is_empty())
        .then(|| progressing.message.clone())
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn now() -> Timestamp {
        "2026-01-01T00:05:00Z".parse().unwrap()
    }

    /// A host in a state, five minutes old, with more of spec, status and annotations.
    pub(crate) fn host(name: &str, state: &str, more: &Value) -> BareMetalHost {
        let mut value = json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
            "metadata": {"namespace": "metal", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z",
                         "annotations": more["annotations"]},
            "spec": {"online": true, "bmc": {"address": "redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1", "credentialsName": "bmc"}},
            "status": {
                "operationalStatus": "OK", "errorMessage": "", "errorCount": 0, "poweredOn": true, "provisioningFailCount": 0,
                "goodCredentials": {"credentialsVersion": "1"},
                "provisioning": {"state": state, "ID": "", "stateSince": "2026-01-01T00:03:00Z"},
            },
        });
        for part in ["spec", "status"] {
            for (field, wanted) in more[part].as_object().into_iter().flatten() {
                value[part][field] = wanted.clone();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn power_says_what_is_and_what_is_to_be() {
        let said = |state, more| power(&host("a", state, &more));
        assert_eq!(said("available", json!({})), "on");
        let off = json!({"spec": {"online": false}});
        assert_eq!(said("provisioned", off.clone()), "on, to be off");
        assert_eq!(
            said("inspecting", off),
            "on",
            "it is nobody's business there"
        );
        let held = json!({"annotations": {"reboot.metal3.io/fix": ""}});
        assert_eq!(said("provisioned", held), "on, to be off");
        let unread = json!({"status": {"goodCredentials": null}});
        assert_eq!(said("registering", unread), "unknown");
    }

    #[test]
    fn the_most_telling_reason_is_said() {
        let waits = json!([{"type": "Progressing", "status": "True", "reason": "Deploying", "message": "write: 40 %",
                            "lastTransitionTime": "2026-01-01T00:03:00Z"}]);
        let waiting = json!({"status": {"conditions": waits}});
        let said = |state, more| reason(&host("a", state, &more));
        assert_eq!(
            said("provisioning", waiting).as_deref(),
            Some("write: 40 %")
        );
        let wrong = json!({"status": {"conditions": waits, "errorMessage": "no"}});
        assert_eq!(said("provisioning", wrong).as_deref(), Some("no"));
        let held = json!({"annotations": {"reboot.metal3.io/fix": ""}});
        assert_eq!(
            said("provisioned", held).as_deref(),
            Some("held off by the annotation reboot.metal3.io/fix")
        );
        assert_eq!(said("available", json!({})), None);
    }
}
