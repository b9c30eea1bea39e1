//! Timestamps as Kubernetes writes them (RFC 3339, UTC, whole seconds).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Now.
#[must_use]
pub fn now() -> String {
    format(Timestamp::now().as_second())
}

/// Seconds of the Unix epoch, now.
#[must_use]
pub fn seconds() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// A timestamp from seconds of the Unix epoch.
#[must_use]
pub fn format(seconds: i64) -> String {
    let timestamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    serde_json::to_value(Time(timestamp))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Seconds of the Unix epoch of a timestamp; `None` when it is none.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    text.parse::<Timestamp>()
        .ok()
        .and_then(|timestamp| u64::try_from(timestamp.as_second()).ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn timestamps_are_whole_seconds_and_read_back() {
        assert_eq!(super::format(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(super::parse("2023-11-14T22:13:20Z"), Some(1_700_000_000));
    }
}
