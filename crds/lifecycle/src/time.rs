//! Time as this crate sees it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Seconds since 1970-01-01T00:00:00Z. Kubernetes' timestamps have no finer grain.
pub type Seconds = i64;

/// As a Kubernetes timestamp; times that cannot be written become 1970.
#[must_use]
pub fn to_time(seconds: Seconds) -> Time {
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// From a Kubernetes timestamp.
#[must_use]
pub fn from_time(time: &Time) -> Seconds {
    time.0.as_second()
}
