//! Power and fencing: read back, lies, slowness.

use std::time::Duration;

use catamaran_redfish::{Error, Kind, Limits, PowerOff, PowerState};
use catamaran_redfish_mock::{Effect, Fault, Lie, Personality, Timing};

use crate::{Bench, like_standard, quick, until};

#[tokio::test]
async fn every_vendors_system_goes_on_and_off_and_is_fenced() {
    for name in Personality::names() {
        let bench = Bench::new(name).await;
        let on = bench.bmc.power_on().await.unwrap();
        assert_eq!(
            (on.before, on.now),
            (PowerState::Off, PowerState::On),
            "{name}"
        );
        assert!(bench.handle.is_on(), "{name}");
        bench.bmc.power_on().await.unwrap();
        let off = bench.bmc.power_off(PowerOff::Soft).await.unwrap();
        assert_eq!(off.now, PowerState::Off, "{name}");
        assert!(!bench.handle.is_on(), "{name}");
        bench.bmc.power_on().await.unwrap();
        bench.bmc.power_off(PowerOff::Hard).await.unwrap();
        bench.bmc.power_on().await.unwrap();
        let fenced = bench.bmc.fence().await.unwrap();
        assert!(!bench.handle.is_on(), "{name}");
        assert_eq!(
            (fenced.before, fenced.readings),
            (PowerState::On, 3),
            "{name}"
        );
        let (before, after) = fenced.watts.unwrap();
        assert!(before > 2.0 * after, "{name}: {before} W, {after} W");
        // A system that is off already is proved to be off, whatever the BMC thinks of the order.
        let again = bench.bmc.fence().await.unwrap();
        assert_eq!(
            (again.before, again.watts),
            (PowerState::Off, None),
            "{name}"
        );
        assert_eq!(bench.handle.most_in_flight(), 1, "{name}");
    }
}

#[tokio::test]
async fn lies_about_power_are_never_fenced() {
    for lie in Lie::ALL {
        let limits = Limits {
            poll: Duration::from_millis(50),
            ..quick()
        };
        let bench = Bench::with(Personality::named("standard").unwrap(), limits).await;
        bench.handle.press(true);
        // The machine does what it is told late enough that it is still on at the deadline.
        bench.handle.timing(Timing {
            off_ms: 60_000,
            ..Timing::default()
        });
        bench.handle.lie(lie);
        let error = bench
            .bmc
            .within(Duration::from_millis(700))
            .fence()
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::NotConfirmed { .. }),
            "{lie:?}: {error}"
        );
        assert!(bench.handle.is_on(), "{lie:?}");
    }
}

#[tokio::test]
async fn meter_that_can_not_be_read_any_more_is_no_proof() {
    let bench = Bench::new("standard").await;
    bench.handle.press(true);
    bench.handle.lie(Lie::AlwaysOff);
    // The first reading tells that it draws something.
    let requests = bench.handle.clone();
    bench.bmc.identity().await.unwrap();
    let fence = bench.bmc.within(Duration::from_millis(600));
    let fails = async {
        until("the order came", || {
            let records = requests.records();
            records
                .iter()
                .any(|record| record.path.ends_with("ComputerSystem.Reset"))
        })
        .await;
        requests.fault(Fault::status(404, "", "").at("GET", "/Power"));
    };
    let (fenced, ()) = tokio::join!(fence.fence(), fails);
    let error = fenced.unwrap_err();
    assert!(matches!(error, Error::NotConfirmed { .. }), "{error}");
    assert!(bench.handle.is_on());
}

#[tokio::test]
async fn refused_or_lost_fencing_order_is_not_fenced() {
    for (effect, kind) in [
        (Effect::CloseAfter, Kind::Unreachable),
        (Effect::CloseBefore, Kind::Unreachable),
        (
            Effect::Status {
                status: 403,
                id: "Base.1.8.InsufficientPrivilege".to_owned(),
                text: "no right".to_owned(),
                retry_after: None,
            },
            Kind::Refused,
        ),
    ] {
        let bench = Bench::new("standard").await;
        bench.handle.press(true);
        bench
            .handle
            .fault(Fault::new(effect.clone()).at("POST", "Reset"));
        let error = bench.bmc.fence().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{effect:?}: {error}");
    }
    let bench = Bench::new("standard").await;
    bench.handle.press(true);
    bench
        .handle
        .fault(Fault::new(Effect::Swallow).at("POST", "Reset"));
    let error = bench
        .bmc
        .within(Duration::from_millis(400))
        .fence()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("power is On after"), "{error}");
}

#[tokio::test]
async fn slow_power_is_waited_for_and_being_on_the_way_is_not_off() {
    let bench = Bench::new("standard").await;
    bench.handle.press(true);
    bench.handle.timing(Timing {
        off_ms: 400,
        ..Timing::default()
    });
    let fenced = bench.bmc.fence().await.unwrap();
    assert!(
        fenced.took >= Duration::from_millis(400),
        "{:?}",
        fenced.took
    );
    assert!(!bench.handle.is_on());
}

#[tokio::test]
async fn system_that_ignores_a_shutdown_is_still_on_and_the_error_says_so() {
    let bench = Bench::new("standard").await;
    bench.handle.press(true);
    bench.handle.timing(Timing {
        soft_ms: None,
        ..Timing::default()
    });
    let bmc = bench.bmc.within(Duration::from_millis(300));
    let error = bmc.power_off(PowerOff::Soft).await.unwrap_err();
    assert!(matches!(error, Error::NotConfirmed { .. }), "{error}");
    assert!(error.to_string().contains("power is On after"), "{error}");
    bench.bmc.power_off(PowerOff::Hard).await.unwrap();
}

#[tokio::test]
async fn order_that_is_not_offered_is_not_given() {
    let bench = Bench::with(
        like_standard("reset: {values: [\"On\", ForceOff], action_info: true}"),
        quick(),
    )
    .await;
    bench.bmc.power_on().await.unwrap();
    let error = bench.bmc.power_off(PowerOff::Soft).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("'GracefulShutdown' is not allowed; allowed: On, ForceOff"),
        "{error}"
    );
}

#[tokio::test]
async fn on_right_after_off_is_repeated_where_the_vendor_needs_it() {
    let id = "Base.1.12.ActionParameterValueConflict";
    let conflict = || {
        Fault::status(409, id, "The power state is changing.")
            .at("POST", "Reset")
            .times(2)
    };
    let dell = include_str!("../../../../integration/redfish-mock/src/personalities/dell.yaml");
    let dell = dell.replace("15G Monolithic", "17G Monolithic");
    let bench = Bench::with(Personality::parse(&dell).unwrap(), quick()).await;
    bench.handle.fault(conflict());
    bench.bmc.power_on().await.unwrap();
    let bench = Bench::new("standard").await;
    bench.handle.fault(conflict());
    let error = bench.bmc.power_on().await.unwrap_err();
    assert_eq!(error.status(), Some(409), "{error}");
}

#[tokio::test]
async fn power_that_changes_behind_our_back_is_seen_at_the_next_reading() {
    let bench = Bench::new("openbmc").await;
    assert_eq!(bench.bmc.power().await.unwrap(), PowerState::Off);
    bench.handle.press(true);
    assert_eq!(bench.bmc.power().await.unwrap(), PowerState::On);
    let before = bench.handle.count();
    bench.bmc.power().await.unwrap();
    assert_eq!(
        bench.handle.count(),
        before + 1,
        "one reading is one request"
    );
    until("no request is left over", || bench.handle.in_flight() == 0).await;
}
