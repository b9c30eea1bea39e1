//! Decisions without BMCs: every state, every trouble.

use catamaran_api::metal3::{BareMetalHost, CredentialsStatus};
use catamaran_baremetal::{
    Action, Contact, Data, Facts, Firmware, Login, Off, Outcome, Progress, Seen, State, Step,
    Trouble, decide,
};
use catamaran_redfish::{Kind, PowerState};
use proptest::prelude::*;
use serde_json::{Value, json};

fn host(state: State, spec: &Value) -> BareMetalHost {
    let mut host: BareMetalHost = serde_json::from_value(json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": "a", "namespace": "n", "finalizers": ["baremetalhost.metal3.io"]},
        "spec": {"online": true, "bmc": {"address": "redfish://bmc", "credentialsName": "s"}},
        "status": {
            "operationalStatus": "OK", "errorCount": 0, "errorMessage": "", "poweredOn": false, "provisioningFailCount": 0,
            "provisioning": {"state": state.as_str(), "ID": "", "bootMode": "UEFI"}, "goodCredentials": {"credentialsVersion": "1"},
        },
    }))
    .unwrap();
    let mut all = serde_json::to_value(&host.spec).unwrap();
    for (name, value) in spec.as_object().unwrap() {
        all[name] = value.clone();
    }
    host.spec = serde_json::from_value(all).unwrap();
    host
}

fn facts(contact: Contact) -> Facts {
    Facts {
        now: 0,
        login: Login::Ready(CredentialsStatus {
            credentials_version: Some("1".to_owned()),
            credentials: None,
        }),
        contact,
        job: None,
        refusal: None,
        progress: Progress::None,
        firmware: Firmware::Settled,
        data: Data::Settled,
    }
}

fn seen(power: PowerState) -> Contact {
    Contact::Answers(Seen {
        power,
        health: None,
        uuid: None,
    })
}

fn goes(from: State, spec: &Value) -> Option<State> {
    match decide(&host(from, spec), &facts(seen(PowerState::Off))).outcome {
        Outcome::Transition { to } => Some(to),
        _ => None,
    }
}

#[test]
fn every_state_leads_where_it_should() {
    let plain = json!({});
    let iso = json!({"image": {"url": "http://a/b.iso", "format": "live-iso"}});
    let external = json!({"externallyProvisioned": true});
    let uninspected = json!({"inspectionMode": "disabled"});
    for (from, spec, to) in [
        (State::New, &plain, Some(State::Registering)),
        (State::Unmanaged, &plain, Some(State::Registering)),
        (State::Registering, &plain, Some(State::Inspecting)),
        (State::Registering, &uninspected, Some(State::Preparing)),
        (
            State::Registering,
            &external,
            Some(State::ExternallyProvisioned),
        ),
        (State::Inspecting, &plain, Some(State::Preparing)),
        (State::Preparing, &plain, Some(State::Available)),
        (State::Available, &plain, None),
        (State::Available, &iso, Some(State::Provisioning)),
        (
            State::Available,
            &external,
            Some(State::ExternallyProvisioned),
        ),
        (
            State::Available,
            &json!({"bootMode": "UEFISecureBoot"}),
            Some(State::Preparing),
        ),
        (State::Provisioning, &iso, Some(State::Provisioned)),
        (State::Provisioning, &plain, Some(State::Deprovisioning)),
        (State::Provisioned, &plain, Some(State::Deprovisioning)),
        (State::Provisioned, &iso, Some(State::Deprovisioning)),
        (State::ExternallyProvisioned, &external, None),
        (
            State::ExternallyProvisioned,
            &plain,
            Some(State::Provisioned),
        ),
        (State::Deprovisioning, &plain, Some(State::Available)),
        (State::PoweringOff, &plain, Some(State::Deleting)),
    ] {
        assert_eq!(goes(from, spec), to, "{from:?} {spec}");
    }
}

#[test]
fn a_deleted_host_is_turned_off_and_let_go() {
    for (from, to) in [
        (State::New, State::Deleting),
        (State::Registering, State::Deleting),
        (State::Available, State::PoweringOff),
        (State::Provisioned, State::Deprovisioning),
        (State::ExternallyProvisioned, State::PoweringOff),
        (State::Deprovisioning, State::PoweringOff),
    ] {
        let mut host = host(from, &json!({}));
        host.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let step = decide(&host, &facts(seen(PowerState::Off)));
        assert_eq!(step.outcome, Outcome::Transition { to }, "{from:?}");
    }
    let mut host = host(State::PoweringOff, &json!({}));
    host.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let step = decide(&host, &facts(seen(PowerState::On)));
    assert_eq!(step.actions, [Action::PowerOff(Off::Hard)]);
}

fn failed(step: &Step) -> bool {
    matches!(step.outcome, Outcome::Failed(_)) && step.actions.is_empty()
}

proptest! {
    #[test]
    fn errors_never_change_the_state(
        state in proptest::sample::select(&State::ALL[2..11]),
        kind in proptest::sample::select(&[Kind::Credentials, Kind::Trust, Kind::Unreachable, Kind::Busy, Kind::Unsupported][..]),
        online in any::<bool>(),
        external in any::<bool>(),
        image in any::<bool>(),
        failures in 0..20_i64,
        deleting in any::<bool>(),
        missing in any::<bool>(),
    ) {
        let mut host = host(state, &json!({"online": online, "externallyProvisioned": external}));
        if image {
            host.spec.image = serde_json::from_value(json!({"url": "http://a/b"})).unwrap();
        }
        host.status.as_mut().unwrap().error_count = failures;
        let mut facts = facts(Contact::Failed(Trouble { kind, message: "no".to_owned() }));
        if missing {
            facts.contact = Contact::NotAsked;
            facts.login = Login::Unusable("no Secret".to_owned());
        }
        if deleting {
            host.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
            let step = decide(&host, &facts);
            // A deletion only ever goes on towards its end, and touches nothing while the BMC is lost.
            let ends = matches!(step.outcome, Outcome::Transition { to: State::Deprovisioning | State::PoweringOff | State::Deleting });
            prop_assert!(step.actions.is_empty() && ends || failed(&step));
        } else {
            prop_assert!(failed(&decide(&host, &facts)));
        }
    }
}
