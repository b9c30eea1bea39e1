//! Inventories by Redfish alone.

use catamaran_redfish::{DiskKind, Kind};
use catamaran_redfish_mock::{Availability, Fault, Personality};

use crate::Bench;

#[tokio::test]
async fn every_vendors_system_is_described() {
    for name in Personality::names() {
        let bench = Bench::new(name).await;
        let inventory = bench.bmc.inventory().await.unwrap();
        assert!(inventory.gaps.is_empty(), "{name}: {:?}", inventory.gaps);
        assert_eq!(inventory.memory_mib, Some(128 * 1024), "{name}");
        let processors = &inventory.processors;
        assert_eq!(
            (processors.sockets, processors.threads),
            (2, Some(64)),
            "{name}"
        );
        assert_eq!(processors.arch.as_deref(), Some("x86_64"), "{name}");
        let macs: Vec<&str> = inventory.nics.iter().map(|nic| nic.mac.as_str()).collect();
        assert_eq!(
            macs,
            ["02:bc:00:00:00:00", "02:bc:01:00:00:00"],
            "{name}: the port without an address is left out"
        );
        assert_eq!(inventory.nics[0].link, Some(true), "{name}");
        assert_eq!(inventory.disks.len(), 2, "{name}");
        assert_eq!(inventory.disks[0].bytes, Some(480_000_000_000), "{name}");
        assert_eq!(
            inventory.identity.serial.as_deref(),
            Some("MOCK000000"),
            "{name}"
        );
        if name != "openbmc" {
            assert_eq!(inventory.disks[0].kind, Some(DiskKind::Nvme), "{name}");
            assert_eq!(inventory.disks[1].kind, Some(DiskKind::Hdd), "{name}");
            assert!(inventory.disks[0].wwn.is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn part_that_fails_is_a_gap_with_a_reason() {
    let bench = Bench::new("standard").await;
    bench
        .handle
        .fault(Fault::status(500, "Base.1.8.InternalError", "no controller").at("GET", "torage"));
    bench
        .handle
        .fault(Fault::status(404, "", "").at("GET", "EthernetInterfaces"));
    let inventory = bench.bmc.inventory().await.unwrap();
    assert_eq!(inventory.gaps.len(), 2, "{:?}", inventory.gaps);
    assert!(
        inventory.gaps[0].starts_with("network interfaces: "),
        "{:?}",
        inventory.gaps
    );
    assert!(
        inventory.gaps[1].contains("no controller"),
        "{:?}",
        inventory.gaps
    );
    assert_eq!(inventory.processors.sockets, 2);
}

#[tokio::test]
async fn bmc_that_goes_away_meanwhile_is_an_error_and_no_gap() {
    let bench = Bench::new("standard").await;
    bench.bmc.identity().await.unwrap();
    bench.handle.availability(Availability::Gone);
    let address = bench.handle.address();
    crate::until("nothing listens", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let error = bench.bmc.inventory().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
}
