//! A request to the BMC with all that belongs to it: its turn, the session, what is tried again, what is given up.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::gate::Lane;
use crate::message::{Message, line, messages};
use crate::retry::{Try, pause, session_table_full};
use crate::session::{LoginResult, Refusal, Way, login_result};
use crate::wire::{Answer, Authorization, Request};

/// Redirections of a read that are followed.
const MOST_MOVES: u32 = 3;

/// What became of one turn.
enum Turn {
    Done(Result<Answer, Error>),
    /// Somebody urgent needed the BMC: take another turn.
    MadeWay,
}

/// What a 401 comes to.
enum Verdict {
    /// The session has ended.
    LogIn,
    Refused(Error),
}

impl Bmc {
    /// Sends a request until there is an answer that counts. Answers of 400 and above are errors.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        let bmc = self.bounded();
        let read = request.method == Method::GET;
        // Counted apart: a BMC that starts is first not there, then busy.
        let (mut failed, mut answered) = (0, 0);
        let mut moved: Option<Request> = None;
        let mut moves = 0;
        loop {
            let request = moved.as_ref().unwrap_or(request);
            let result = match bmc.turn(request).await {
                Turn::MadeWay => continue,
                Turn::Done(result) => result,
            };
            let (wait, error) = match result {
                Ok(Answer {
                    status: 301 | 302 | 307 | 308,
                    location: Some(location),
                    ..
                }) if read && moves < MOST_MOVES => {
                    // A slash at the end, mostly. Never to another host: `wire` sees to that.
                    moves += 1;
                    moved = Some(Request::get(location));
                    continue;
                }
                Ok(answer) if answer.status < 400 => {
                    return bmc.checked(request, answer);
                }
                Ok(answer) => {
                    answered += 1;
                    let found = bmc.messages(&answer);
                    let wait = pause(
                        read,
                        answered,
                        &Try::Answered(&answer, &found),
                        bmc.limits(),
                    );
                    (wait, bmc.refused(request, answer.status, found))
                }
                Err(error) => {
                    failed += 1;
                    (
                        pause(read, failed, &Try::Failed(&error), bmc.limits()),
                        error,
                    )
                }
            };
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(%error, "asked again soon");
            if !bmc.pause(wait).await {
                return Err(error);
            }
        }
    }

    /// An answer below 400 must be one that a caller can use.
    fn checked(&self, request: &Request, answer: Answer) -> Result<Answer, Error> {
        let unexpected = |what: String| Error::Unexpected {
            bmc: self.name().to_owned(),
            path: request.path.clone(),
            what,
        };
        if !answer.is_success() {
            return Err(unexpected(format!(
                "status {} leads to {}, which is not followed",
                answer.status,
                answer.location.as_deref().unwrap_or("nowhere")
            )));
        }
        if request.method == Method::GET && answer.status == 200 && !answer.body.is_object() {
            return Err(unexpected(format!(
                "the answer is no JSON object: '{}'",
                answer.text
            )));
        }
        Ok(answer)
    }

    /// One turn at the BMC: log in if needed, ask, and log in anew once if the session has ended.
    async fn turn(&self, request: &Request) -> Turn {
        let shared = &self.shared;
        if self.lane == Lane::Normal
            && let Some(suspension) = shared.breaker().check(Instant::now())
        {
            return Turn::Done(Err(Error::Suspended {
                bmc: shared.name.clone(),
                failures: suspension.failures,
                next_try: suspension.next_try,
                last: suspension.last,
            }));
        }
        let what = || format!("{} {}", request.verb(), request.path);
        let entering = tokio::time::timeout(self.remaining(), shared.gate.enter(self.lane));
        let Ok(_permit) = entering.await else {
            let last = "other requests to this BMC are under way".to_owned();
            return Turn::Done(Err(self.overdue(&what(), Some(last))));
        };
        let mut fresh = false;
        loop {
            let authorizing = self.authorize(&mut fresh);
            let authorization = match self.unless_wanted(authorizing).await {
                Some(Ok(authorization)) => authorization,
                Some(Err(error)) => return Turn::Done(Err(self.reached(error))),
                None => return Turn::MadeWay,
            };
            let timeout = self.limits().request.min(self.remaining());
            if timeout.is_zero() {
                return Turn::Done(Err(self.overdue(&what(), None)));
            }
            let sending = self.send_once(request, &authorization, timeout);
            let result = if request.method == Method::GET {
                match self.unless_wanted(sending).await {
                    Some(result) => result,
                    None => return Turn::MadeWay,
                }
            } else {
                sending.await
            };
            let answer = match result {
                Ok(answer) => answer,
                // So little time was left that no answer means nothing.
                Err(Error::Timeout { after, .. })
                    if after < self.limits().request.min(self.limits().connect) =>
                {
                    let last = format!("no answer within the last {} s", after.as_secs_f32());
                    return Turn::Done(Err(self.overdue(&what(), Some(last))));
                }
                Err(error) => return Turn::Done(Err(self.reached(error))),
            };
            shared.breaker().reached();
            if answer.status != 401 {
                return Turn::Done(Ok(answer));
            }
            match self
                .unless_wanted(self.judge(request, &authorization, &answer, fresh))
                .await
            {
                Some(Verdict::LogIn) => {}
                Some(Verdict::Refused(error)) => return Turn::Done(Err(error)),
                None => return Turn::MadeWay,
            }
        }
    }

    /// Does something, unless somebody urgent needs the BMC before it is done, and this is nobody urgent.
    async fn unless_wanted<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        if self.lane == Lane::Urgent {
            return Some(what.await);
        }
        tokio::select! {
            result = what => Some(result),
            () = self.shared.gate.wanted() => None,
        }
    }

    /// What a 401 means: that a session has ended, that this path is refused, or that the credentials are. `fresh`: after a log-in of now.
    async fn judge(
        &self,
        request: &Request,
        authorization: &Authorization,
        answer: &Answer,
        fresh: bool,
    ) -> Verdict {
        let messages = self.messages(answer);
        if self.lane == Lane::Normal && self.is_accepted(request, authorization).await {
            return Verdict::Refused(self.refused(request, answer.status, messages));
        }
        let forgotten = self.shared.session().forget(authorization);
        // It may be there in spite of all, and the BMC's table is small. Fencing does not wait for that.
        if self.lane == Lane::Normal {
            self.log_out(forgotten).await;
        }
        if matches!(authorization, Authorization::Token(_)) && !fresh {
            // It was idle for too long, or the BMC was restarted.
            return Verdict::LogIn;
        }
        Verdict::Refused(self.note_refusal(Refusal {
            at: Instant::now(),
            path: request.path.clone(),
            status: answer.status,
            messages,
        }))
    }

    /// Whether the system may be read so, where that is not what was refused.
    async fn is_accepted(&self, request: &Request, authorization: &Authorization) -> bool {
        let Some(system) = self.known_system().filter(|path| *path != request.path) else {
            return false;
        };
        let timeout = self.limits().request.min(self.remaining());
        let asked = Request::get(system);
        let answer = self.send_once(&asked, authorization, timeout).await;
        answer.is_ok_and(|answer| answer.is_success())
    }

    /// Keeps in mind that credentials were refused: by those who look after the host for all, by those who only look for such.
    fn note_refusal(&self, refusal: Refusal) -> Error {
        let mut session = self.shared.session();
        let kept = if self.is_reading() {
            &mut session.refused_reading
        } else {
            &mut session.refused
        };
        *kept = Some(refusal.clone());
        self.denied(refusal)
    }

    /// Keeps account of whether the BMC can be reached.
    fn reached(&self, error: Error) -> Error {
        let mut breaker = self.shared.breaker();
        match &error {
            Error::Unreachable { .. } | Error::Timeout { .. } => {
                let limits = self.limits();
                breaker.failed(
                    Instant::now(),
                    limits.suspend_after,
                    limits.suspension,
                    error.to_string(),
                );
            }
            Error::Refused { .. } | Error::Credentials { .. } => breaker.reached(),
            _ => {}
        }
        error
    }

    /// The header that says who asks, after a log-in where there is no session yet; `fresh` says whether there was one.
    async fn authorize(&self, fresh: &mut bool) -> Result<Authorization, Error> {
        let credentials = &self.shared.endpoint.credentials;
        let closed = || Error::Closed {
            bmc: self.name().to_owned(),
        };
        {
            let session = self.shared.session();
            if matches!(session.way, Way::Closed) {
                return Err(closed());
            }
            if let Some(authorization) =
                session.authorization(&credentials.username, &credentials.password)
            {
                return Ok(authorization);
            }
            if let Some(refusal) = session.refusal(self.is_reading())
                && refusal.at.elapsed() < self.limits().refused_credentials
                && self.lane == Lane::Normal
            {
                return Err(self.denied(refusal.clone()));
            }
        }
        *fresh = true;
        let bmc = self.clone();
        let (sender, result) = oneshot::channel();
        // A task: whoever goes away, or makes way for fencing, leaves no session behind that nobody knows of.
        self.shared.log_in(async move {
            let result = match bmc.login().await {
                Ok(way) => {
                    let late = bmc.shared.session().keep(way);
                    bmc.log_out(late).await;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            // Nobody may wait for it any more.
            let _ = sender.send(result);
        });
        result.await.map_err(|_| closed())??;
        let session = self.shared.session();
        // Somebody may have closed the connection meanwhile.
        session
            .authorization(&credentials.username, &credentials.password)
            .ok_or_else(closed)
    }

    /// Opens a session, or finds that basic authentication is the way.
    async fn login(&self) -> Result<Way, Error> {
        if !self.quirks().sessions {
            return Ok(Way::Basic);
        }
        let nobody = Authorization::Nobody;
        let timeout = || self.limits().login.min(self.remaining());
        let root = self
            .send_once(&Request::get("/redfish/v1/"), &nobody, timeout())
            .await?;
        // The standard place is Links.Sessions; some have only the service.
        let advertised = root.body["Links"]["Sessions"]["@odata.id"].as_str();
        let service = root.body["SessionService"]["@odata.id"].as_str();
        let path = match (advertised, service) {
            (Some(path), _) => path.to_owned(),
            (None, Some(service)) => format!("{}/Sessions", service.trim_end_matches('/')),
            (None, None) => "/redfish/v1/SessionService/Sessions".to_owned(),
        };
        let credentials = &self.shared.endpoint.credentials;
        let body = json!({"UserName": credentials.username, "Password": credentials.password});
        let request = Request::new(Method::POST, path, Some(body));
        let mut tries = 0;
        let (answer, found) = loop {
            let answer = self.send_once(&request, &nobody, timeout()).await?;
            let found = self.messages(&answer);
            tries += 1;
            let wait = pause(false, tries, &Try::Answered(&answer, &found), self.limits());
            match wait {
                Some(wait) if answer.status >= 400 && self.pause(wait).await => {}
                _ => break (answer, found),
            }
        };
        let full = session_table_full(&found);
        let worked = self.shared.session().worked;
        let known = advertised.is_some() || service.is_some();
        match login_result(answer.status, answer.token.is_some(), full, known, worked) {
            LoginResult::Opened => {
                tracing::debug!(bmc = %self.name(), "session opened");
                Ok(Way::Token {
                    token: answer.token.unwrap_or_default(),
                    location: answer.location.or_else(|| {
                        let id = answer.body["@odata.id"].as_str();
                        id.map(str::to_owned)
                    }),
                })
            }
            LoginResult::FallBack => {
                tracing::info!(bmc = %self.name(), status = answer.status, said = %line(&found), "no session to be had: basic authentication");
                Ok(Way::Basic)
            }
            LoginResult::Denied => {
                let refusal = Refusal {
                    at: Instant::now(),
                    path: request.path.clone(),
                    status: answer.status,
                    messages: found,
                };
                Err(self.note_refusal(refusal))
            }
            LoginResult::Failed => Err(self.refused(&request, answer.status, found)),
        }
    }

    /// The BMC's words, without what must not be shown: some repeat what they were sent.
    pub(crate) fn messages(&self, answer: &Answer) -> Vec<Message> {
        let credentials = &self.shared.endpoint.credentials;
        let mut found = messages(&answer.body, &answer.text);
        for message in &mut found {
            for secret in [&credentials.password, &credentials.username] {
                if !secret.is_empty() && message.text.contains(secret.as_str()) {
                    message.text = message.text.replace(secret.as_str(), "…");
                }
            }
        }
        found
    }

    pub(crate) fn refused(&self, request: &Request, status: u16, messages: Vec<Message>) -> Error {
        Error::Refused {
            bmc: self.name().to_owned(),
            method: request.verb(),
            path: request.path.clone(),
            status,
            messages,
        }
    }

    fn denied(&self, refusal: Refusal) -> Error {
        Error::Credentials {
            bmc: self.name().to_owned(),
            path: refusal.path,
            status: refusal.status,
            messages: refusal.messages,
        }
    }

    /// Sends a change with a body.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Answer, Error> {
        self.ask(&Request::new(method, path, Some(body))).await
    }

    /// How long one wait for something to be read back is.
    pub(crate) fn poll_pause(&self) -> Duration {
        self.limits().poll
    }
}
