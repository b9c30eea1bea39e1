//! What a server's BMC shows, through the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_redfish_mock::{Mock, Options, Personality};
use serde_json::json;

use crate::world::World;

const HOST: &str = "/apis/subresources.kubevirt.io/v1/namespaces/d/baremetalhosts/rack-1";

#[tokio::test]
async fn sensors_and_events_are_read_from_the_bmc_by_those_who_may() {
    let world = World::new().await;
    let mut mock = Mock::new();
    let options = Options::new("bmc0", 0, Personality::named("dell").unwrap());
    let bmc = mock.add(options, None).await.unwrap();
    let missing = world
        .ask("alice", "GET", &format!("{HOST}/sensors"), "")
        .await;
    assert_eq!(missing.code, 404, "{}", missing.text);

    let address = bmc.url().replacen("http", "redfish+http", 1);
    world.cluster.put(
        "/apis/metal3.io/v1alpha1/namespaces/d/baremetalhosts/rack-1",
        json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": "rack-1", "namespace": "d"},
            "spec": {"online": true, "bmc": {"address": address, "credentialsName": "rack-1-bmc"}},
        }),
    );
    let nobody = world
        .ask("alice", "GET", &format!("{HOST}/events"), "")
        .await;
    assert_eq!(nobody.code, 409, "{}", nobody.text);
    assert!(nobody.text.contains("no Secret"), "{}", nobody.text);
    world.cluster.put(
        "/api/v1/namespaces/d/secrets/rack-1-bmc",
        json!({
            "metadata": {"name": "rack-1-bmc", "namespace": "d"},
            "data": {"username": STANDARD.encode("admin"), "password": STANDARD.encode("password")},
        }),
    );
    let sensors = world
        .ask("alice", "GET", &format!("{HOST}/sensors"), "")
        .await;
    assert_eq!(sensors.code, 200, "{}", sensors.text);
    let inlet = &sensors.json()["sensors"][0];
    assert_eq!(
        *inlet,
        json!({
            "name": "Inlet Temp", "type": "temperature", "reading": 24.0, "unit": "°C", "health": "OK",
            "caution": {"high": 42.0}, "critical": {"high": 47.0},
        })
    );
    let part = format!("{HOST}/events?skip=1&limit=1");
    let events = world.ask("alice", "GET", &part, "").await.json();
    assert_eq!(
        (&events["log"], &events["total"]),
        (&json!("Sel"), &json!(4))
    );
    assert_eq!(events["entries"][0]["severity"], "Critical");

    let denied = world
        .ask("bob", "GET", &format!("{HOST}/sensors"), "")
        .await;
    assert_eq!(denied.code, 403, "{}", denied.text);
    let path = format!("{HOST}/events?limit=0");
    let wrong = world.ask("alice", "GET", &path, "").await;
    assert_eq!(wrong.code, 400, "{}", wrong.text);
    let put = world
        .ask("alice", "PUT", &format!("{HOST}/sensors"), "")
        .await;
    assert_eq!(put.code, 405, "{}", put.text);
}
