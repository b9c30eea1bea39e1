//! `--wait`: asks until a host is what it is to be, and tells each change on standard error.

use std::time::Duration;

use catamaran_api::metal3::BareMetalHost;
use catamaran_api::metal3::annotations::{INSPECT, REBOOT};
use catamaran_client::table::printable;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use super::view;
use crate::args::Waiting;
use crate::connection::Connection;
use crate::error::Error;

/// Pause between two looks.
const POLL: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    /// It was registered and inspected, and can be used or is.
    Enrolled,
    /// Its power is that.
    Power(bool),
    /// It was rebooted, and is on.
    Rebooted,
    /// It was inspected after that time.
    Inspected(Option<Time>),
}

impl Wanted {
    /// Pure.
    fn is_met(&self, host: &BareMetalHost) -> bool {
        let Some(status) = &host.status else {
            return false;
        };
        if status.operational_status != "OK" {
            return false;
        }
        match self {
            Self::Enrolled => view::is_powered(host),
            Self::Power(on) => status.powered_on == *on,
            Self::Rebooted => view::annotation(host, REBOOT).is_none() && status.powered_on,
            Self::Inspected(before) => {
                let history = status.operation_history.as_ref();
                let last = history.and_then(|history| history.inspect.as_ref());
                last.is_some_and(|last| last.end.is_some() && last.start != *before)
                    && view::annotation(host, INSPECT).is_none()
                    && view::is_powered(host)
            }
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Enrolled => "available",
            Self::Power(true) => "on",
            Self::Power(false) => "off",
            Self::Rebooted => "rebooted",
            Self::Inspected(_) => "inspected",
        }
    }
}

/// A line on how far a host is. Pure.
fn progress(host: &BareMetalHost) -> String {
    let mut line = view::state(host).to_owned();
    if let Some(status) = &host.status
        && let Some(kind) = &status.error_type
    {
        let times = match status.error_count {
            0 | 1 => String::new(),
            count => format!(", {count} times in a row"),
        };
        line.push_str(&format!(" ({kind}{times}; tried again)"));
    }
    if let Some(reason) = view::reason(host) {
        line.push_str(": ");
        line.push_str(&reason);
    }
    printable(&line)
}

/// Waits, where that is wanted; gives the host as it is then.
pub(super) async fn wait(
    connection: &Connection,
    name: &str,
    waiting: Waiting,
    wanted: &Wanted,
) -> Result<Option<BareMetalHost>, Error> {
    if !waiting.wait {
        return Ok(None);
    }
    let begin = Instant::now();
    let limit = Duration::from_secs(waiting.timeout);
    let mut told = String::new();
    loop {
        let host = super::host(connection, name).await?;
        let line = progress(&host);
        if line != told {
            eprintln!("{name}: {line}");
            told.clone_from(&line);
        }
        if wanted.is_met(&host) {
            return Ok(Some(host));
        }
        if begin.elapsed() >= limit {
            return Err(Error::Waited(format!(
                "{name} is not {} after {} s; it is {line}",
                wanted.words(),
                waiting.timeout
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::view::tests::host;

    #[test]
    fn each_thing_that_is_waited_for_is_seen_when_it_is_there() {
        let at = |state, more| host("a", state, &more);
        assert!(!Wanted::Enrolled.is_met(&at("inspecting", json!({}))));
        assert!(Wanted::Enrolled.is_met(&at("available", json!({}))));
        let wrong = json!({"status": {"operationalStatus": "error"}});
        assert!(!Wanted::Enrolled.is_met(&at("available", wrong)));
        assert!(Wanted::Power(true).is_met(&at("available", json!({}))));
        assert!(!Wanted::Power(false).is_met(&at("available", json!({}))));
        let asked = json!({"annotations": {REBOOT: ""}});
        assert!(!Wanted::Rebooted.is_met(&at("provisioned", asked)));
        assert!(Wanted::Rebooted.is_met(&at("provisioned", json!({}))));
        let inspected = json!({"status": {"operationHistory": {"inspect": {
            "start": "2026-01-01T00:01:00Z", "end": "2026-01-01T00:02:00Z"}}}});
        let first: Time = serde_json::from_value(json!("2026-01-01T00:01:00Z")).unwrap();
        assert!(Wanted::Inspected(None).is_met(&at("available", inspected.clone())));
        assert!(!Wanted::Inspected(Some(first)).is_met(&at("available", inspected)));
    }

    #[test]
    fn progress_names_the_failure_and_that_it_is_tried_again() {
        let wrong = json!({"status": {"errorType": "registration error", "errorCount": 3, "errorMessage": "refused"}});
        assert_eq!(
            progress(&host("a", "registering", &wrong)),
            "registering (registration error, 3 times in a row; tried again): refused"
        );
        assert_eq!(progress(&host("a", "available", &json!({}))), "available");
    }
}
