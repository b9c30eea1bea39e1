//! What is tried again, as one pure function.
//!
//! A read may be repeated. A change may not, since nobody knows whether it took effect, except where the BMC itself says that it did not
//! even begin (it is not ready), or where no connection was made at all.

use std::time::Duration;

use crate::error::Error;
use crate::limits::Limits;
use crate::message::Message;
use crate::wire::Answer;

/// Messages by which BMCs say "not now, nothing was done": iDRAC is not ready; iLO is between states; the system runs its power-on self-test.
const NOT_NOW: [&str; 4] = [
    "SYS518",
    "InvalidOperationForSystemState",
    "UnableToModifyDuringSystemPOST",
    "ServiceTemporarilyUnavailable",
];

/// Tries of a change that the BMC says it is not ready for.
const NOT_NOW_RETRIES: u32 = 6;

/// What one try came to.
pub(crate) enum Try<'a> {
    Answered(&'a Answer, &'a [Message]),
    Failed(&'a Error),
}

/// How long to wait before the next try; none: that was the last. `tries` counts those made.
pub(crate) fn pause(
    read: bool,
    tries: u32,
    outcome: &Try<'_>,
    limits: &Limits,
) -> Option<Duration> {
    let (allowed, wait) = match outcome {
        Try::Failed(Error::Unreachable { sent, .. }) if read || !sent => {
            (limits.connect_retries, None)
        }
        Try::Failed(_) => (0, None),
        Try::Answered(answer, messages) => {
            let not_now = messages
                .iter()
                .any(|message| NOT_NOW.iter().any(|key| message.is(key)));
            let allowed = match answer.status {
                // A full session table is a 503 too, but no repetition empties it.
                _ if session_table_full(messages) => 0,
                400.. if not_now => NOT_NOW_RETRIES,
                429 | 502..=504 if read => limits.busy_retries,
                500 | 505.. if read => limits.error_retries,
                _ => 0,
            };
            (allowed, answer.retry_after)
        }
    };
    (tries <= allowed).then(|| {
        wait.unwrap_or(limits.retry_pause)
            .max(limits.retry_pause)
            .min(limits.retry_pause * 20)
    })
}

/// Whether a BMC says that it has no room for another session.
pub(crate) fn session_table_full(messages: &[Message]) -> bool {
    let keys = ["RAC0218", "SessionLimitExceeded", "MaximumSessionsExceeded"];
    messages
        .iter()
        .any(|message| keys.iter().any(|key| message.is(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Answer {
        Answer {
            status,
            ..Answer::default()
        }
    }

    fn tries(read: bool, status: u16, ids: &[&str]) -> u32 {
        let (answer, limits) = (answered(status), Limits::default());
        let messages: Vec<_> = ids
            .iter()
            .map(|id| Message {
                id: (*id).to_owned(),
                text: String::new(),
            })
            .collect();
        let outcome = Try::Answered(&answer, &messages);
        (1..100)
            .take_while(|tries| pause(read, *tries, &outcome, &limits).is_some())
            .count()
            .try_into()
            .unwrap()
    }

    #[test]
    fn reads_are_repeated_often_when_busy_seldom_when_broken_and_never_when_refused() {
        assert_eq!(tries(true, 503, &[]), 9);
        assert_eq!(tries(true, 500, &[]), 2);
        for status in [200, 400, 401, 404, 409, 412, 501] {
            assert_eq!(tries(true, status, &[]), 0, "{status}");
        }
    }

    #[test]
    fn changes_are_repeated_only_when_the_bmc_says_that_nothing_was_done() {
        for status in [500, 502, 503] {
            assert_eq!(tries(false, status, &[]), 0, "{status}");
        }
        assert_eq!(tries(false, 503, &["IDRAC.2.8.SYS518"]), 6);
        assert_eq!(
            tries(false, 400, &["iLO.2.14.UnableToModifyDuringSystemPOST"]),
            6
        );
        assert_eq!(tries(false, 503, &["IDRAC.2.8.RAC0218"]), 0);
    }

    #[test]
    fn broken_connections_are_repeated_where_harmless_and_tls_errors_never() {
        let limits = Limits::default();
        let unreachable = |sent| Error::Unreachable {
            bmc: String::new(),
            path: String::new(),
            detail: String::new(),
            sent,
        };
        let again =
            |read, sent| pause(read, 1, &Try::Failed(&unreachable(sent)), &limits).is_some();
        assert!(again(true, true) && again(true, false));
        assert!(again(false, false), "it can't have taken effect");
        assert!(!again(false, true));
        let tls = Error::Tls {
            bmc: String::new(),
            detail: String::new(),
        };
        assert!(pause(true, 1, &Try::Failed(&tls), &limits).is_none());
    }

    #[test]
    fn bmc_names_the_pause_within_reason() {
        let limits = Limits::default();
        let pause_of = |seconds| {
            let answer = Answer {
                retry_after: Some(Duration::from_secs(seconds)),
                ..answered(503)
            };
            pause(true, 1, &Try::Answered(&answer, &[]), &limits).unwrap()
        };
        assert_eq!(pause_of(0), Duration::from_secs(3));
        assert_eq!(pause_of(10), Duration::from_secs(10));
        assert_eq!(pause_of(86_400), Duration::from_secs(60));
    }
}
