//! How a BMC is asked: by one session where it has sessions, else by basic authentication.

use tokio::time::Instant;

use crate::message::Message;
use crate::wire::Authorization;

/// What is known of a BMC's authentication.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) way: Way,
    /// A session worked once: basic authentication is never used after that.
    pub(crate) worked: bool,
    /// Credentials were refused, then and with these words.
    pub(crate) refused: Option<Refusal>,
    /// The same, to those who only look.
    pub(crate) refused_reading: Option<Refusal>,
}

/// Credentials that a BMC refused.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) messages: Vec<Message>,
}

/// How to authenticate.
#[derive(Clone, Default)]
pub(crate) enum Way {
    /// Nothing was tried yet, or the session ended.
    #[default]
    Unknown,
    /// A session: its token, and where to delete it.
    Token {
        token: String,
        location: Option<String>,
    },
    /// User name and password with each request.
    Basic,
    /// The connection was closed.
    Closed,
}

/// What the answer to a log-in means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginResult {
    Opened,
    /// No sessions here (or no room for one): try basic authentication.
    FallBack,
    /// User name or password are wrong, or may not log in.
    Denied,
    /// Neither.
    Failed,
}

/// Reads the answer to a log-in. `advertised`: the service root says that there are sessions; `worked`: one was open before.
pub(crate) fn login_result(
    status: u16,
    token: bool,
    full: bool,
    advertised: bool,
    worked: bool,
) -> LoginResult {
    match status {
        200..=299 if token => LoginResult::Opened,
        // Wrong credentials, from a BMC that has sessions. Trying them again as basic authentication would only bring an account's lock
        // nearer.
        401 | 403 if advertised || worked => LoginResult::Denied,
        // Without a session service a BMC may ask for authentication wherever one looks.
        200..=299 | 400..=405 | 501 if !worked => LoginResult::FallBack,
        _ if full && !worked => LoginResult::FallBack,
        _ => LoginResult::Failed,
    }
}

impl Session {
    /// The credentials that were refused, as far as it counts for those who only look, or for all.
    pub(crate) fn refusal(&self, reading: bool) -> Option<&Refusal> {
        let seen = self.refused_reading.as_ref().filter(|_| reading);
        let all = [seen, self.refused.as_ref()].into_iter().flatten();
        all.max_by_key(|refusal| refusal.at)
    }

    /// Takes what a log-in came to; what is answered is not needed: there is another, or the connection was closed.
    pub(crate) fn keep(&mut self, way: Way) -> Way {
        if !matches!(self.way, Way::Unknown) {
            return way;
        }
        self.worked |= matches!(way, Way::Token { .. });
        (self.refused, self.refused_reading) = (None, None);
        std::mem::replace(&mut self.way, way)
    }

    /// Forgets what was sent, unless there is something else by now; answers what it was.
    pub(crate) fn forget(&mut self, sent: &Authorization) -> Way {
        let is_it = match (&self.way, sent) {
            (Way::Token { token, .. }, Authorization::Token(sent)) => token == sent,
            (Way::Basic, Authorization::Basic { .. }) => true,
            _ => false,
        };
        if is_it {
            std::mem::take(&mut self.way)
        } else {
            Way::Unknown
        }
    }

    /// The header to send; none: log in first.
    pub(crate) fn authorization(&self, username: &str, password: &str) -> Option<Authorization> {
        match &self.way {
            Way::Unknown | Way::Closed => None,
            Way::Token { token, .. } => Some(Authorization::Token(token.clone())),
            Way::Basic => Some(Authorization::Basic {
                username: username.to_owned(),
                password: password.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_authentication_is_for_bmcs_whose_sessions_never_worked() {
        use LoginResult::{Denied, Failed, FallBack, Opened};
        assert_eq!(login_result(201, true, false, true, false), Opened);
        for status in [401, 404, 405, 501] {
            assert_eq!(
                login_result(status, false, false, false, false),
                FallBack,
                "{status}"
            );
            assert_ne!(
                login_result(status, false, false, false, true),
                FallBack,
                "{status}"
            );
        }
        assert_eq!(login_result(405, false, false, true, false), FallBack);
        assert_eq!(login_result(401, false, false, true, false), Denied);
        assert_eq!(login_result(503, false, true, true, false), FallBack);
        assert_eq!(login_result(503, false, true, true, true), Failed);
        assert_eq!(login_result(500, false, false, true, false), Failed);
    }
}
