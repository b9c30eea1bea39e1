//! BIOS settings and secure boot.

use std::collections::BTreeMap;

use catamaran_redfish::{Change, Error, Kind, PowerOff};
use serde_json::json;

use crate::Bench;

#[tokio::test]
async fn settings_are_checked_ordered_and_hold_after_the_next_start() {
    for (personality, name, value) in [
        ("standard", "BootMode", json!("Bios")),
        ("dell", "ProcVirtualization", json!("Disabled")),
        ("hpe", "WorkloadProfile", json!("Disabled")),
        (
            "lenovo",
            "Processors_IntelVirtualizationTechnology",
            json!("Disabled"),
        ),
        ("supermicro", "QuietBoot", json!(false)),
    ] {
        let bench = Bench::new(personality).await;
        let bmc = &bench.bmc;
        let bios = bmc.bios().await.unwrap();
        let schema = bmc.bios_schema(&bios).await.unwrap();
        assert!(
            schema.iter().any(|attribute| attribute.name == name),
            "{personality}: {schema:?}"
        );
        let wanted = BTreeMap::from([(name.to_owned(), value.clone())]);
        assert_eq!(
            bmc.set_bios(&wanted, &schema).await.unwrap(),
            Change::AtReset,
            "{personality}"
        );
        let bios = bmc.bios().await.unwrap();
        assert_ne!(
            bios.attributes[name], value,
            "{personality}: not before a start"
        );
        assert_eq!(bios.pending[name], value, "{personality}");
        bmc.power_on().await.unwrap();
        let bios = bmc.bios().await.unwrap();
        assert_eq!(bios.attributes[name], value, "{personality}");
        assert_eq!(
            bmc.set_bios(&wanted, &schema).await.unwrap(),
            Change::None,
            "{personality}"
        );
    }
}

#[tokio::test]
async fn settings_that_can_not_be_are_refused_before_they_are_sent() {
    let bench = Bench::new("standard").await;
    let bios = bench.bmc.bios().await.unwrap();
    let schema = bench.bmc.bios_schema(&bios).await.unwrap();
    let set = async |name: &str, value| {
        let wanted = BTreeMap::from([(name.to_owned(), value)]);
        bench.bmc.set_bios(&wanted, &schema).await.unwrap_err()
    };
    let error = set("BootMode", json!("Network")).await;
    assert!(
        error
            .to_string()
            .contains("BIOS setting BootMode 'Network' is not allowed; allowed: Uefi, Bios"),
        "{error}"
    );
    let error = set("NumCores", json!(65)).await;
    assert!(error.to_string().contains("0 to 64"), "{error}");
    let error = set("Colour", json!("red")).await;
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(
        bench
            .handle
            .records()
            .iter()
            .all(|record| record.method != "PATCH")
    );
}

#[tokio::test]
async fn factory_settings_come_back() {
    let bench = Bench::new("standard").await;
    let wanted = BTreeMap::from([("NumCores".to_owned(), json!(8))]);
    bench.bmc.set_bios(&wanted, &[]).await.unwrap();
    bench.bmc.power_on().await.unwrap();
    bench.bmc.reset_bios().await.unwrap();
    bench.bmc.power_off(PowerOff::Hard).await.unwrap();
    bench.bmc.power_on().await.unwrap();
    assert_eq!(
        bench.bmc.bios().await.unwrap().attributes["NumCores"],
        json!(0)
    );
}

#[tokio::test]
async fn bmc_without_settings_says_so() {
    let bench = Bench::new("openbmc").await;
    let error = bench.bmc.bios().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error.to_string().contains("does not offer BIOS settings"),
        "{error}"
    );
}

#[tokio::test]
async fn secure_boot_holds_after_the_next_start() {
    let bench = Bench::new("hpe").await;
    bench.bmc.set_secure_boot(true).await.unwrap();
    let ordered = bench.bmc.secure_boot().await.unwrap();
    assert_eq!((ordered.current, ordered.enabled), (false, true));
    bench.bmc.power_on().await.unwrap();
    assert!(bench.bmc.secure_boot().await.unwrap().current);
}
