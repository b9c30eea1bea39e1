//! Time: how it is told, and how it is waited for.

use std::future;

use tokio::time::{Instant, sleep_until};

/// Waits until then; for ever without a time. For branches of `select!` that only sometimes have an end.
pub async fn until(deadline: Option<impl Into<Instant>>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}

/// Age as kubectl shows it: two units at most below a day (`90s`, `5m10s`, `3h4m`, `2d`).
#[must_use]
pub fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (rest_seconds, rest_minutes) = (seconds % 60, minutes % 60);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if rest_seconds != 0 => format!("{minutes}m{rest_seconds}s"),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if rest_minutes != 0 => format!("{hours}h{rest_minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_read_like_kubectl() {
        let said: Vec<_> = [5, 119, 120, 310, 700, 11_000, 30_000, 200_000]
            .into_iter()
            .map(age)
            .collect();
        assert_eq!(
            said,
            ["5s", "119s", "2m", "5m10s", "11m", "3h3m", "8h", "2d"]
        );
    }
}
