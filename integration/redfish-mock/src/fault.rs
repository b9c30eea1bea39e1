//! Faults: what goes wrong with which request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One thing that goes wrong. All conditions that are given must fit; the first fault that fits is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// HTTP method; any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A part of the path; any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The number of the request to this BMC, from 1; any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The number of the first request that it meets; any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// How many requests it meets; all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Effect {
    /// It is answered with an error, and has no other effect.
    Status {
        /// HTTP status.
        status: u16,
        /// Message id, such as `IDRAC.2.8.SYS518`.
        #[serde(default)]
        id: String,
        /// Text of the message.
        #[serde(default)]
        text: String,
        /// `Retry-After`, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// It is not answered, and the connection stays.
    Hang,
    /// It has its effect, and is answered late.
    Delay {
        /// By how many milliseconds.
        ms: u64,
    },
    /// It has its effect, but the connection ends without an answer.
    CloseAfter,
    /// The connection ends, and it has no effect.
    CloseBefore,
    /// The answer is no JSON.
    Garbage,
    /// It is answered as done, and has no effect.
    Swallow,
    /// It is sent elsewhere (308).
    Moved {
        /// Where to.
        to: String,
    },
}

impl Fault {
    /// One that meets every request.
    #[must_use]
    pub fn new(effect: Effect) -> Self {
        Self {
            method: None,
            path: None,
            number: None,
            from: None,
            times: None,
            effect,
        }
    }

    /// An answer with a status and a message.
    #[must_use]
    pub fn status(status: u16, id: &str, text: &str) -> Self {
        Self::new(Effect::Status {
            status,
            id: id.to_owned(),
            text: text.to_owned(),
            retry_after: None,
        })
    }

    /// Late answers.
    #[must_use]
    pub fn delay(time: Duration) -> Self {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self::new(Effect::Delay { ms })
    }

    /// Only for requests with this method whose path has this part.
    #[must_use]
    pub fn at(mut self, method: &str, path: &str) -> Self {
        self.method = Some(method.to_owned());
        self.path = Some(path.to_owned());
        self
    }

    /// Only for the next so many.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for the request with this number, from 1.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// For the request with this number, from 1, and all that come after it.
    #[must_use]
    pub fn from(mut self, number: u64) -> Self {
        self.from = Some(number);
        self
    }

    fn fits(&self, method: &str, path: &str, number: u64) -> bool {
        self.method
            .as_ref()
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self
                .path
                .as_ref()
                .is_none_or(|part| path.contains(part.as_str()))
            && self.number.is_none_or(|wanted| wanted == number)
            && self.from.is_none_or(|first| first <= number)
    }
}

/// The effect for a request, if any; a fault that has met as many as it shall is gone.
pub(crate) fn meet(
    faults: &mut Vec<Fault>,
    method: &str,
    path: &str,
    number: u64,
) -> Option<Effect> {
    let at = faults
        .iter()
        .position(|fault| fault.fits(method, path, number))?;
    let effect = faults[at].effect.clone();
    if let Some(times) = &mut faults[at].times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            faults.remove(at);
        }
    }
    Some(effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_meets_as_many_requests_as_it_shall() {
        let mut faults = vec![
            Fault::new(Effect::Hang).at("POST", "Reset").times(2),
            Fault::new(Effect::Garbage).number(7),
            Fault::new(Effect::CloseBefore).from(8),
        ];
        let mut meet =
            |method: &str, path: &str, number| super::meet(&mut faults, method, path, number);
        assert_eq!(meet("GET", "/Reset", 1), None);
        assert_eq!(meet("POST", "/Reset", 2), Some(Effect::Hang));
        assert_eq!(meet("POST", "/Reset", 3), Some(Effect::Hang));
        assert_eq!(meet("POST", "/Reset", 4), None);
        assert_eq!(meet("GET", "/", 7), Some(Effect::Garbage));
        assert_eq!(meet("GET", "/", 8), Some(Effect::CloseBefore));
        assert_eq!(meet("GET", "/", 9), Some(Effect::CloseBefore));
    }

    #[test]
    fn faults_are_written_as_json() {
        let text = r#"{"path": "Reset", "times": 1, "effect": {"status": {"status": 503}}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(fault.times, Some(1));
        assert_eq!(
            serde_json::from_str::<Fault>(r#"{"effect": "hang"}"#)
                .unwrap()
                .effect,
            Effect::Hang
        );
    }
}
