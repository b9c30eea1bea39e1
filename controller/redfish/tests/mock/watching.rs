//! Sensors and the event log.

use std::time::Duration;

use catamaran_redfish::{Kind, SensorKind};
use catamaran_redfish_mock::{Availability, Fault, Personality};

use crate::{Bench, like_standard};

#[tokio::test]
async fn every_vendors_sensors_are_read_with_units_and_health() {
    let vendors = Personality::names().into_iter();
    let vendors = vendors.map(|name| (name, Personality::named(name).unwrap()));
    let single = like_standard("sensors: {older: false, single: true}");
    for (name, personality) in vendors.chain([("single sensors", single)]) {
        let bench = Bench::with(personality, crate::quick()).await;
        bench.handle.press(true);
        let found = bench.bmc.sensors().await.unwrap();
        assert!(found.gaps.is_empty(), "{name}: {:?}", found.gaps);
        assert_eq!(found.health.as_deref(), Some("OK"), "{name}");
        let of = |wanted: &str| {
            let sensor = found.sensors.iter().find(|sensor| sensor.name == wanted);
            sensor.unwrap()
        };
        let inlet = of("Inlet Temp");
        assert_eq!(inlet.kind, SensorKind::Temperature, "{name}");
        assert_eq!((inlet.reading, inlet.unit.as_str()), (Some(24.0), "°C"));
        let high = (inlet.caution.high, inlet.critical.high);
        assert_eq!(high, (Some(42.0), Some(47.0)), "{name}");
        assert_eq!(inlet.health.as_deref(), Some("OK"), "{name}: by its bounds");
        let fan = of("Fan1A");
        assert_eq!((fan.kind, fan.reading), (SensorKind::Fan, Some(7320.0)));
        assert_eq!(fan.unit, "RPM", "{name}");
        let drawn = of("System Power");
        assert_eq!((drawn.reading, drawn.unit.as_str()), (Some(210.0), "W"));
        let absent = found.sensors.iter().any(|sensor| sensor.name == "Fan3A");
        assert!(!absent, "{name}: what is not there is left out");
        assert!(found.sensors.is_sorted_by_key(|sensor| sensor.kind));
    }
}

#[tokio::test]
async fn many_sensors_are_one_request_where_the_bmc_can() {
    let bench = Bench::new("dell").await;
    bench.bmc.sensors().await.unwrap();
    let before = bench.bmc.requests();
    bench.bmc.sensors().await.unwrap();
    assert_eq!(
        bench.bmc.requests() - before,
        3,
        "system, chassis, all sensors"
    );
    // One that says it could, and fails, is asked for the older resources.
    bench
        .handle
        .fault(Fault::status(501, "Base.1.8.QueryNotSupported", "no").at("GET", "Sensors"));
    let found = bench.bmc.sensors().await.unwrap();
    assert!(
        found.sensors.iter().any(|sensor| sensor.name == "PSU2"),
        "{found:?}"
    );
}

#[tokio::test]
async fn host_that_is_off_still_has_sensors_and_heat_is_seen_by_the_bounds() {
    let bench = Bench::new("standard").await;
    bench.handle.inlet(43.5);
    let found = bench.bmc.sensors().await.unwrap();
    let of = |name: &str| found.sensors.iter().find(|sensor| sensor.name == name);
    assert_eq!(of("CPU1 Temp").unwrap().reading, None);
    assert_eq!(of("CPU1 Temp").unwrap().health, None);
    let inlet = of("Inlet Temp").unwrap();
    assert_eq!(inlet.health.as_deref(), Some("Warning"));
}

#[tokio::test]
async fn sensors_that_fail_are_gaps_and_a_lost_bmc_is_an_error() {
    let bench = Bench::new("standard").await;
    bench.bmc.sensors().await.unwrap();
    bench
        .handle
        .fault(Fault::status(500, "Base.1.8.InternalError", "no fans").at("GET", "Thermal"));
    let found = bench.bmc.sensors().await.unwrap();
    assert!(
        found.gaps[0].contains("temperatures and fans") && found.gaps[0].contains("no fans"),
        "{:?}",
        found.gaps
    );
    assert!(!found.sensors.is_empty(), "power was read");
    bench.handle.availability(Availability::Gone);
    let address = bench.handle.address();
    crate::until("nothing listens", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let error = bench.bmc.sensors().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");

    let none = Bench::with(like_standard("sensors: {older: false}"), crate::quick()).await;
    let found = none.bmc.sensors().await.unwrap();
    assert_eq!(found.gaps, ["the BMC shows no sensors"]);
}

#[tokio::test]
async fn every_vendors_event_log_is_told_newest_first() {
    for (name, log) in [
        ("standard", "SEL"),
        ("dell", "Sel"),
        ("hpe", "IML"),
        ("supermicro", "Log1"),
        ("lenovo", "PlatformLog"),
        ("openbmc", "EventLog"),
    ] {
        let bench = Bench::new(name).await;
        let found = bench.bmc.event_log(0, 50).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.total), (log, 4), "{name}");
        let ids: Vec<&str> = found
            .entries
            .iter()
            .map(|entry| entry.id.as_str())
            .collect();
        assert_eq!(ids, ["4", "3", "2", "1"], "{name}: whatever the clock was");
        let lost = &found.entries[1];
        assert_eq!(lost.severity.as_deref(), Some("Critical"), "{name}");
        assert_eq!(lost.message, "Power supply 2 has lost its input.", "{name}");
        assert_eq!(lost.created.as_deref(), Some("2026-03-02T09:30:00Z"));
        assert_eq!(lost.about.as_deref(), Some("Power Supply / Converter"));
    }
}

#[tokio::test]
async fn parts_of_a_long_log_cost_few_requests() {
    for (name, most_requests) in [
        // Where parts can be asked for, those; else all pages.
        ("dell", 12),
        ("openbmc", 18),
        ("standard", 24),
        // Links, which come as entries when that is asked for.
        ("hpe", 14),
        ("links", 32),
    ] {
        let personality = match name {
            "standard" => like_standard("log: {page: 10}"),
            // Single entries, of which ten are read.
            "links" => like_standard("log: {page: 10, links: true}"),
            name => Personality::named(name).unwrap(),
        };
        let bench = Bench::with(personality, crate::quick()).await;
        for number in 5..=104 {
            bench
                .handle
                .log("2026-03-03T00:00:00Z", "OK", &format!("entry {number}"));
        }
        let found = bench.bmc.event_log(20, 10).await.unwrap().unwrap();
        assert_eq!(found.total, 104, "{name}");
        let ids: Vec<u64> = found
            .entries
            .iter()
            .map(|entry| entry.id.parse().unwrap())
            .collect();
        assert_eq!(ids, (75..=84).rev().collect::<Vec<_>>(), "{name}");
        let requests = bench.bmc.requests();
        assert!(requests <= most_requests, "{name}: {requests} requests");
        let last = bench.bmc.event_log(100, 50).await.unwrap().unwrap();
        assert_eq!(last.entries.len(), 4, "{name}");
        assert_eq!(last.entries[3].id, "1", "{name}");
        let beyond = bench.bmc.event_log(500, 50).await.unwrap().unwrap();
        assert_eq!((beyond.total, beyond.entries.len()), (104, 0), "{name}");
    }
}

#[tokio::test]
async fn logs_that_are_none_of_events_are_never_read() {
    let bench = Bench::with(
        like_standard("log: {id: AuditLog, others: [PostCodes]}"),
        crate::quick(),
    )
    .await;
    assert_eq!(bench.bmc.event_log(0, 50).await.unwrap(), None);
    let read = bench.handle.records();
    assert!(
        read.iter().all(|record| !record.path.contains("Entries")),
        "{read:?}"
    );
}

#[tokio::test]
async fn a_log_of_endless_pages_is_not_told_by_its_oldest_part() {
    let bench = Bench::with(like_standard("log: {page: 1}"), crate::quick()).await;
    for _ in 0..100 {
        bench.handle.log("2026-03-03T00:00:00Z", "OK", "again");
    }
    let error = bench.bmc.event_log(0, 10).await.unwrap_err();
    assert!(error.to_string().contains("more than 100 pages"), "{error}");
}

#[tokio::test]
async fn what_a_bmc_sends_is_bounded() {
    let rules = "log: {page: 1, newest_first: true}";
    let bench = Bench::with(like_standard(rules), crate::quick()).await;
    let long = "lost ".repeat(180_000);
    for _ in 0..9 {
        bench.handle.log("2026-03-03T00:00:00Z", "OK", &long);
    }
    let found = bench.bmc.event_log(0, 50).await.unwrap().unwrap();
    let (told, gap) = (found.entries.len(), found.gap.unwrap_or_default());
    assert!((3..9).contains(&told) && found.total == 13, "{told}: {gap}");
    assert!(gap.contains("longer than"), "{gap}");
    assert!(found.entries[0].message.len() < 500);

    bench
        .handle
        .log("2026-03-03T00:00:00Z", "OK", &long.repeat(2));
    let error = bench.bmc.event_log(0, 50).await.unwrap_err();
    assert!(
        error.to_string().contains("longer than 1048576 bytes"),
        "{error}"
    );
    // Nothing else is bounded like that.
    bench.bmc.inventory().await.unwrap();
}

#[tokio::test]
async fn what_was_read_of_a_log_by_the_deadline_is_told() {
    let rules = "log: {links: true, newest_first: true}";
    let bench = Bench::with(like_standard(rules), crate::quick()).await;
    bench.bmc.event_log(0, 1).await.unwrap();
    let late = Fault::delay(Duration::from_millis(250)).at("GET", "Entries/");
    bench.handle.fault(late);
    let hurried = bench.bmc.within(Duration::from_millis(700));
    let found = hurried.event_log(0, 50).await.unwrap().unwrap();
    let told = found.entries.len();
    assert!((1..4).contains(&told) && found.total == 4, "{told}");
    assert!(found.gap.is_some());
    assert_eq!(found.entries[0].id, "4");
}

#[tokio::test]
async fn parts_that_a_bmc_only_says_it_gives_are_not_taken_for_the_newest() {
    let rules = "top_skip: true\nlog: {page: 1, ignores_skip: true}";
    let bench = Bench::with(like_standard(rules), crate::quick()).await;
    let found = bench.bmc.event_log(0, 2).await.unwrap().unwrap();
    let ids: Vec<&str> = found.entries.iter().map(|one| one.id.as_str()).collect();
    assert_eq!((ids, found.total), (vec!["4", "3"], 4));
    // One entry on the first page tells no order either.
    let rules = "log: {page: 1, newest_first: true}";
    let bench = Bench::with(like_standard(rules), crate::quick()).await;
    let found = bench.bmc.event_log(0, 1).await.unwrap().unwrap();
    assert_eq!(found.entries[0].id, "4");
}
