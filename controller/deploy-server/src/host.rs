//! The state of one host: who may speak for it, what it was asked, what it told. Pure: times come in, nothing is sent.
//!
//! ```text
//!            enrol                 hello (token)                 ask                     outcome
//!   absent ────────> token open ────────────────> session open ───────> command stands ─────────> told
//!                        ^   another token or another key: denied             │ ask something else: the old one is aborted
//!                        └────────────────────── enrol ───────────────────────┘
//! ```

use std::time::Instant;

use bytes::Bytes;
use catamaran_deploy_wire::{
    Action, Command, Directive, Hello, Inventory, Outcome, Progress, Result as Told_, VERSION,
};
use sha2::{Digest as _, Sha256};

use crate::error::Denied;
use crate::ledger::Record;
use crate::token::digest;

/// How a command ended.
pub type Told = Told_;

/// Least characters of a session's key.
const KEY_MIN: usize = 32;

/// What is known of a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Whether an agent has opened its session: the host has booted from its ISO.
    pub session: bool,
    /// When its agent was heard last.
    pub seen: Option<Instant>,
    /// Version of the agent.
    pub agent: String,
    /// The last one it told.
    pub inventory: Option<Inventory>,
    /// The last command.
    pub command: Option<Command>,
    /// How far the command is; none before its first report.
    pub progress: Option<Progress>,
    /// How the command ended; none while it stands.
    pub outcome: Option<Told>,
    /// What it was enrolled for.
    pub purpose: String,
    /// When it was enrolled; none where an earlier process did it, with which its ISO has gone.
    pub enrolled: Option<Instant>,
    /// The last time that an agent was not let in, and why: a copy of an ISO, or an old one.
    pub denied: Option<(Instant, Denied)>,
}

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) record: Record,
    pub(crate) status: Status,
    /// Of the last command.
    pub(crate) config_drive: Option<Bytes>,
}

impl Host {
    /// A host whose token has this digest.
    pub(crate) fn new(token: String, last_command: u64, purpose: &str, now: Instant) -> Self {
        let record = Record {
            token,
            session: None,
            last_command,
            command: None,
            outcome: None,
            purpose: purpose.to_owned(),
        };
        let mut host = Self::resume(record, now);
        host.status.enrolled = Some(now);
        host
    }

    /// A host that was enrolled by an earlier process. Its agent has time from now on to be heard.
    pub(crate) fn resume(record: Record, now: Instant) -> Self {
        let session = record.session.is_some();
        let status = Status {
            session,
            seen: session.then_some(now),
            outcome: record.outcome.clone(),
            purpose: record.purpose.clone(),
            ..Status::default()
        };
        Self {
            record,
            status,
            config_drive: None,
        }
    }

    /// Opens a session, or finds it open. Says whether the record has changed.
    pub(crate) fn hello(&mut self, hello: &Hello, now: Instant) -> Result<bool, Denied> {
        let checked = self.check(hello);
        match checked {
            Err(denied) => {
                self.status.denied = Some((now, denied));
                Err(denied)
            }
            Ok(changed) => {
                self.record.session = Some(digest(&hello.session));
                self.status.session = true;
                self.status.seen = Some(now);
                self.status.agent.clone_from(&hello.agent);
                Ok(changed)
            }
        }
    }

    fn check(&self, hello: &Hello) -> Result<bool, Denied> {
        if hello.version != VERSION {
            return Err(Denied::Version(hello.version));
        }
        if hello.session.len() < KEY_MIN {
            return Err(Denied::Key);
        }
        if digest(&hello.token) != self.record.token {
            return Err(Denied::Token);
        }
        match &self.record.session {
            None => Ok(true),
            Some(session) if *session == digest(&hello.session) => Ok(false),
            Some(_) => Err(Denied::Used),
        }
    }

    /// Whether this key is that of the session; notes that the agent lives.
    pub(crate) fn enter(&mut self, key: &str, now: Instant) -> Result<(), Denied> {
        if self.record.session.as_deref() != Some(&digest(key)) {
            return Err(Denied::Session);
        }
        self.status.seen = Some(now);
        Ok(())
    }

    /// Asks for something; returns the command's id. The same thing again is the same command, while it stands and after it ended well,
    /// whoever has asked for it first.
    pub(crate) fn ask(&mut self, action: Action, config_drive: Option<Bytes>) -> u64 {
        let failed = matches!(self.status.outcome, Some(Told::Failed(_)));
        let digest = digest_of(&action, config_drive.as_deref());
        if failed || self.record.command.as_ref() != Some(&digest) {
            self.record.last_command += 1;
            self.record.command = Some(digest);
            self.record.outcome = None;
            self.status.progress = None;
            self.status.outcome = None;
        }
        let id = self.record.last_command;
        self.status.command = Some(Command { id, action });
        self.config_drive = config_drive;
        id
    }

    /// Forgets the command: the next one is another, whatever it is.
    pub(crate) fn withdraw(&mut self) {
        self.record.command = None;
        self.record.outcome = None;
        self.status.command = None;
        self.status.progress = None;
        self.status.outcome = None;
        self.config_drive = None;
    }

    /// The command that an agent which did `after` has to do.
    pub(crate) fn command(&self, after: u64) -> Option<Command> {
        let command = self.status.command.as_ref()?;
        (command.id != after && self.status.outcome.is_none()).then(|| command.clone())
    }

    /// Takes a report; says whether to go on.
    pub(crate) fn progress(&mut self, progress: Progress) -> Directive {
        if !self.stands(progress.id) {
            return Directive::Abort;
        }
        self.status.progress = Some(progress);
        Directive::Continue
    }

    /// Takes an outcome. One of a command that does not stand any more is nobody's.
    pub(crate) fn outcome(&mut self, outcome: Outcome) -> bool {
        let stands = self.stands(outcome.id);
        if stands {
            self.record.outcome = Some(outcome.result.clone());
            self.status.outcome = Some(outcome.result);
        }
        stands
    }

    /// The last command stands until it has ended. One of an earlier process does, too, until somebody asks for something else.
    fn stands(&self, id: u64) -> bool {
        self.status.outcome.is_none()
            && self.record.command.is_some()
            && self.record.last_command == id
    }
}

/// What tells one command from another.
fn digest_of(action: &Action, config_drive: Option<&[u8]>) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(action).expect("commands have no maps with odd keys"));
    hash.update(config_drive.unwrap_or_default());
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use catamaran_deploy_wire::{
        Action, Answer, Directive, Failure, Hello, Outcome, Progress, Reason, Step, WipeScope,
    };

    use super::{Denied, Host, Told};
    use crate::token::digest;

    fn hello(token: &str, key: &str) -> Hello {
        Hello {
            version: 1,
            token: token.into(),
            session: key.repeat(32),
            agent: "0.1.0".into(),
            boot: "b".into(),
        }
    }

    fn host() -> Host {
        Host::new(digest("token"), 0, "test", Instant::now())
    }

    fn ended(id: u64, result: Told) -> Outcome {
        Outcome { id, result }
    }

    #[test]
    fn a_token_opens_one_session_which_may_be_taken_up_again() {
        let (mut host, now) = (host(), Instant::now());
        assert_eq!(host.hello(&hello("other", "a"), now), Err(Denied::Token));
        assert_eq!(host.hello(&hello("token", "a"), now), Ok(true));
        assert_eq!(host.hello(&hello("token", "a"), now), Ok(false));
        assert_eq!(host.hello(&hello("token", "b"), now), Err(Denied::Used));
        assert_eq!(host.status.denied, Some((now, Denied::Used)));
        assert_eq!(host.enter(&"a".repeat(32), now), Ok(()));
        assert_eq!(host.enter(&"b".repeat(32), now), Err(Denied::Session));
    }

    #[test]
    fn agents_of_another_protocol_are_told_so() {
        let mut other = hello("token", "a");
        other.version = 2;
        assert_eq!(
            host().hello(&other, Instant::now()),
            Err(Denied::Version(2))
        );
    }

    #[test]
    fn asking_twice_for_the_same_is_one_command() {
        let mut host = host();
        assert_eq!(host.ask(Action::Inspect, None), 1);
        assert_eq!(host.ask(Action::Inspect, None), 1);
        assert_eq!(host.command(0).unwrap().id, 1);
        assert!(host.outcome(ended(1, Told::Done(Answer::Inspected))));
        assert_eq!(host.ask(Action::Inspect, None), 1);
        assert_eq!(host.command(0), None);
        assert_eq!(host.ask(Action::PowerOff, None), 2);
    }

    #[test]
    fn what_failed_is_tried_again_when_it_is_asked_again() {
        let mut host = host();
        let action = Action::Wipe {
            disks: WipeScope::All,
        };
        assert_eq!(host.ask(action.clone(), None), 1);
        let failure = Failure {
            reason: Reason::Disk,
            message: "no".into(),
        };
        host.outcome(ended(1, Told::Failed(failure)));
        assert_eq!(host.ask(action, None), 2);
        assert_eq!(host.status.outcome, None);
    }

    #[test]
    fn another_process_knows_the_command_again_and_what_came_of_it() {
        let mut first = host();
        first.hello(&hello("token", "a"), Instant::now()).unwrap();
        let id = first.ask(Action::Inspect, None);
        let mut next = Host::resume(first.record.clone(), Instant::now());
        assert!(next.status.session && next.status.enrolled.is_none());
        let progress = Progress {
            id,
            step: Step::Other,
            done: 0,
            total: 0,
            message: String::new(),
        };
        assert_eq!(next.progress(progress), Directive::Continue);
        assert!(next.outcome(ended(id, Told::Done(Answer::Inspected))));
        assert_eq!(next.ask(Action::Inspect, None), id);
        assert_eq!(
            next.status.outcome,
            Some(Told::Done(Answer::Inspected)),
            "it is not done again"
        );
        let mut third = Host::resume(next.record, Instant::now());
        assert_eq!(third.ask(Action::Inspect, None), id);
        assert_eq!(third.status.outcome, Some(Told::Done(Answer::Inspected)));
        assert_eq!(third.ask(Action::Reboot, None), id + 1);
        assert_eq!(third.status.outcome, None);
    }

    #[test]
    fn what_was_withdrawn_is_asked_anew() {
        let mut host = host();
        let id = host.ask(Action::Inspect, None);
        host.withdraw();
        assert_eq!(host.command(0), None);
        assert_eq!(host.ask(Action::Inspect, None), id + 1);
    }

    #[test]
    fn a_command_that_was_replaced_is_aborted_and_its_outcome_is_nobodys() {
        let mut host = host();
        host.ask(Action::Inspect, None);
        host.ask(Action::Reboot, None);
        let progress = |id| Progress {
            id,
            step: Step::Writing,
            done: 1,
            total: 2,
            message: String::new(),
        };
        assert_eq!(host.progress(progress(1)), Directive::Abort);
        assert_eq!(host.progress(progress(2)), Directive::Continue);
        assert!(!host.outcome(ended(1, Told::Done(Answer::Inspected))));
        assert_eq!(host.status.outcome, None);
    }

    #[test]
    fn an_agent_that_starts_anew_is_given_its_command_again() {
        let mut host = host();
        let id = host.ask(Action::Inspect, None);
        assert_eq!(host.command(0).unwrap().id, id);
        assert_eq!(host.command(id), None);
    }
}
