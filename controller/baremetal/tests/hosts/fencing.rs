//! Fencing: honest, lying and dead BMCs.

use catamaran_baremetal::{CONFIRMED_OFF, FENCE_HOLD, FENCED, NodeIdentity, NotFenced, State};
use catamaran_redfish_mock::{Availability, Lie, Timing};
use serde_json::json;

use crate::fake::Bench;

/// A host that runs a node, and is on.
pub(crate) async fn running() -> Bench {
    let bench = Bench::new().await;
    bench
        .cluster
        .change(&json!({"spec": {"externallyProvisioned": true}}));
    bench.until(State::ExternallyProvisioned).await;
    bench.step().await;
    assert!(bench.bmc.is_on());
    bench
}

#[tokio::test]
async fn a_node_is_fenced_held_off_and_freed() {
    let bench = running().await;
    let uuid = bench.status().provisioning.id;
    let node = NodeIdentity {
        system_uuid: Some(uuid.to_uppercase()),
        ..NodeIdentity::default()
    };
    let (host, proof) = Box::pin(bench.shell.fence_node(&node)).await.unwrap();
    assert_eq!((host, proof.by_hand), (Bench::name(), false));
    assert!(!bench.bmc.is_on());
    assert_eq!(bench.condition("Fenced").as_deref(), Some("True"));
    bench.step().await;
    assert!(!bench.bmc.is_on(), "it is held off");
    let annotations = bench.host().unwrap().metadata.annotations.unwrap();
    assert!(
        annotations[FENCED].contains("read Off 3 times") && annotations.contains_key(FENCE_HOLD)
    );
    bench.shell.unfence(&Bench::name()).await.unwrap();
    bench.step().await;
    assert!(bench.bmc.is_on());
    bench.step().await;
    assert_eq!(bench.condition("Fenced").as_deref(), Some("False"));
    assert!(
        !bench
            .host()
            .unwrap()
            .metadata
            .annotations
            .unwrap()
            .contains_key(FENCED)
    );
}

#[tokio::test]
async fn lies_about_power_are_never_fenced() {
    for lie in Lie::ALL {
        let bench = running().await;
        bench.bmc.timing(Timing {
            off_ms: 60_000,
            ..Timing::default()
        });
        bench.bmc.lie(lie);
        // Whatever a person says: this BMC answers.
        bench
            .cluster
            .change(&json!({"metadata": {"annotations": {CONFIRMED_OFF: "ann saw it"}}}));
        let error = Box::pin(bench.shell.fence(&Bench::name()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, NotFenced::NotProved { .. }),
            "{lie:?}: {error}"
        );
        assert_eq!(
            bench.condition("Fenced").as_deref(),
            Some("False"),
            "{lie:?}"
        );
        assert!(bench.told("FencingFailed"));
    }
}

#[tokio::test]
async fn a_bmc_that_can_not_be_reached_is_no_proof_but_a_person_is() {
    for lost in [Availability::Gone, Availability::Hung] {
        let bench = running().await;
        bench.bmc.availability(lost);
        let error = Box::pin(bench.shell.fence(&Bench::name()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("is NOT fenced"), "{error}");
        bench
            .cluster
            .change(&json!({"metadata": {"annotations": {CONFIRMED_OFF: "ann pulled the plug"}}}));
        let proof = Box::pin(bench.shell.fence(&Bench::name())).await.unwrap();
        assert!(
            proof.by_hand && proof.how.contains("ann pulled the plug"),
            "{proof:?}"
        );
        let annotations = bench.host().unwrap().metadata.annotations.unwrap();
        assert!(!annotations.contains_key(CONFIRMED_OFF), "it is used once");
    }
}
