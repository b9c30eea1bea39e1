//! The machine's state and what follows from each thing that happens: pure, no clock, no I/O.
//!
//! ```text
//!            Start          prepared          started
//!   Idle ───────────> Preparing ───> Starting ───> Running <──────> Paused(user, no space, I/O error)
//!                        │              │            │ │ └─panic─> Paused(panicked) ─ log kept ─┐
//!                        │ failed       │ failed     │ └──Stop──> Stopping ──deadline: destroy──┤
//!                        v              v            v               v                          v
//!                      Ended <──────────┴────────── gone ────────────┴──────────────────────────┘
//! ```
//!
//! "Gone" takes two witnesses: QEMU's process has ended (nothing writes to the disks any more), and the hypervisor has
//! said why, or had two seconds to say it. A QEMU that is gone and of which nothing was said has crashed.

use catamaran_plan::Generation;
use catamaran_wire::{EndReason, PauseReason, VmState};

use crate::hypervisor::{DomainState, Event, Press};
use crate::request_queue::{Request, Verdict, judge};

/// How often the power button is pressed while a guest is asked to power off, ms.
const PRESS_EVERY_MS: u64 = 5_000;
/// How often a machine without disk space is looked at, ms.
const SPACE_EVERY_MS: u64 = 5_000;
/// How soon after it went on a machine that is full again was resumed in vain, ms. Then the time doubles, up to 64 times:
/// the limit of an overlay is no matter of the host's space, and the guest should not flicker.
const IN_VAIN_MS: u64 = 10_000;
/// How long the hypervisor may take to say why QEMU is gone, ms.
const LAST_WORDS_MS: u64 = 2_000;
/// How long a destroyed QEMU may take to end before it is destroyed again, ms.
const DESTROY_AGAIN_MS: u64 = 15_000;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Somebody asks.
    Request(Request),
    /// The preparation is over.
    Prepared(Result<(), String>),
    /// The start is over: QEMU's pid, if there is one, and the machine's state.
    Started(Result<(Option<i32>, DomainState), String>),
    /// The hypervisor tells.
    Event(Event),
    /// A button was pressed on behalf of a request, with this result.
    Pressed(Press, Result<(), String>),
    /// Memory was saved, or not.
    Saved(Result<(), String>),
    /// QEMU's process has ended, in these words.
    ProcessGone(String),
    /// The disk has space again, or not yet.
    Space(bool),
    /// The panicked guest's log is kept.
    LogKept,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Do the plan's preparation, then [`Input::Prepared`].
    Prepare,
    /// Start the machine, then [`Input::Started`].
    Start,
    /// Press a button, then [`Input::Pressed`].
    Press(Press),
    /// Reboot by the guest agent if it is there, else by ACPI, then [`Input::Pressed`].
    SoftReboot,
    /// Save memory, then [`Input::Saved`].
    Save,
    /// Look whether the disk of this file has space, then [`Input::Space`].
    LookForSpace(String),
    /// Keep the tail of the guest's kernel log, then [`Input::LogKept`].
    KeepLog,
    /// Record the end durably. The state is [`VmState::Ended`] now.
    RecordEnd,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its state.
    pub state: VmState,
    /// Since when, ms of the Unix epoch.
    pub since_ms: u64,
    /// The plan it is about.
    pub generation: Option<Generation>,
    /// For people.
    pub message: Option<String>,
    /// QEMU's pid.
    pub pid: Option<i32>,
    /// Times the guest has rebooted.
    pub reboots: u32,
    /// The launcher is to end when the machine is gone.
    pub finishing: bool,
    plan_grace_seconds: u32,
    stopping: Option<Stopping>,
    destroyed: bool,
    destroyed_at_ms: u64,
    panicked: bool,
    saved: bool,
    powered_off: bool,
    full_disk: Option<String>,
    space_asked_ms: u64,
    space_freed_ms: u64,
    resumed_in_vain: u32,
    gone: Option<(u64, String)>,
    stopped: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stopping {
    deadline_ms: u64,
    pressed_ms: Option<u64>,
}

impl Machine {
    /// A machine that nothing was asked of yet.
    #[must_use]
    pub fn idle(now_ms: u64) -> Self {
        Self {
            state: VmState::Idle,
            since_ms: now_ms,
            generation: None,
            message: None,
            pid: None,
            reboots: 0,
            finishing: false,
            plan_grace_seconds: 0,
            stopping: None,
            destroyed: false,
            destroyed_at_ms: 0,
            panicked: false,
            saved: false,
            powered_off: false,
            full_disk: None,
            space_asked_ms: 0,
            space_freed_ms: 0,
            resumed_in_vain: 0,
            gone: None,
            stopped: None,
        }
    }

    /// Takes a plan's grace period; to be called before the [`Request::Start`] that goes with it.
    pub fn expect_plan(&mut self, grace_period_seconds: u32) {
        self.plan_grace_seconds = grace_period_seconds;
    }

    /// A machine that an earlier launcher has started.
    #[must_use]
    pub fn adopted(
        generation: Generation,
        grace_period_seconds: u32,
        pid: Option<i32>,
        state: DomainState,
        now_ms: u64,
    ) -> (Self, Vec<Effect>) {
        let mut machine = Self::idle(now_ms);
        machine.generation = Some(generation);
        machine.plan_grace_seconds = grace_period_seconds;
        let effects = machine.is_up(pid, state, now_ms);
        (machine, effects)
    }

    /// A machine that is known to have ended.
    #[must_use]
    pub fn ended(
        generation: Option<Generation>,
        reason: EndReason,
        message: Option<String>,
        since_ms: u64,
    ) -> Self {
        let state = VmState::Ended { reason };
        Self {
            generation,
            message,
            state,
            ..Self::idle(since_ms)
        }
    }

    /// Whether the launcher may end, and whether the machine has failed.
    #[must_use]
    pub fn finished(&self) -> Option<bool> {
        match &self.state {
            VmState::Ended { reason } if self.finishing => Some(!matches!(
                reason,
                EndReason::Shutdown | EndReason::Destroyed | EndReason::Saved
            )),
            VmState::Idle if self.finishing => Some(false),
            _ => None,
        }
    }

    /// Judges a request, and if it is taken, says what to do.
    pub fn request(&mut self, request: Request, now_ms: u64) -> (Verdict, Vec<Effect>) {
        let verdict = judge(&self.state, self.generation.as_ref(), &request);
        let effects = if verdict == Verdict::Queued {
            self.take(request, now_ms)
        } else {
            Vec::new()
        };
        (verdict, effects)
    }

    /// Takes note of something that has happened, and says what to do.
    pub fn step(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        let mut effects = match input {
            Input::Request(request) => self.request(request, now_ms).1,
            Input::Prepared(Ok(())) if self.state == VmState::Preparing => {
                if self.stopping.is_some() {
                    self.end(
                        EndReason::Destroyed,
                        Some("stopped before it was started".into()),
                        now_ms,
                    )
                } else {
                    self.enter(VmState::Starting, now_ms);
                    vec![Effect::Start]
                }
            }
            Input::Prepared(Err(why)) | Input::Started(Err(why)) => {
                self.end(EndReason::FailedToStart, Some(why), now_ms)
            }
            Input::Prepared(Ok(())) => Vec::new(),
            Input::Started(Ok((pid, state))) => self.is_up(pid, state, now_ms),
            Input::Event(event) => self.event(event, now_ms),
            Input::Pressed(button, result) => self.pressed(button, result, now_ms),
            Input::Saved(Ok(())) => {
                self.saved = true;
                Vec::new()
            }
            Input::Saved(Err(why)) => {
                self.message = Some(why);
                Vec::new()
            }
            Input::ProcessGone(how) => {
                self.gone = Some((now_ms, how));
                Vec::new()
            }
            Input::Space(true) if self.full_disk.is_some() => vec![Effect::Press(Press::Resume)],
            Input::Space(_) | Input::Tick => Vec::new(),
            Input::LogKept => {
                self.message =
                    Some("the guest's kernel has panicked; its last lines are kept".into());
                self.destroy(now_ms)
            }
        };
        effects.extend(self.due(now_ms));
        effects
    }

    /// When [`Input::Tick`] is needed next, ms of the Unix epoch.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        if matches!(self.state, VmState::Idle | VmState::Ended { .. }) {
            return None;
        }
        let stopping = self
            .stopping
            .filter(|_| !self.destroyed && self.is_on())
            .map(|stopping| {
                stopping
                    .pressed_ms
                    .map_or(0, |pressed| pressed + PRESS_EVERY_MS)
                    .min(stopping.deadline_ms)
            });
        let gone = self.gone.as_ref().map(|(at, _)| at + LAST_WORDS_MS);
        let again = (self.destroyed && self.gone.is_none())
            .then_some(self.destroyed_at_ms + DESTROY_AGAIN_MS);
        let space = self.full_disk.as_ref().map(|_| self.space_due());
        [stopping, gone, again, space].into_iter().flatten().min()
    }

    fn take(&mut self, request: Request, now_ms: u64) -> Vec<Effect> {
        match request {
            Request::Start(generation) => {
                self.generation = Some(generation);
                self.enter(VmState::Preparing, now_ms);
                vec![Effect::Prepare]
            }
            Request::Stop(grace) => self.stop(grace, now_ms),
            Request::Destroy => {
                self.stopping
                    .get_or_insert(Stopping {
                        deadline_ms: now_ms,
                        pressed_ms: None,
                    })
                    .deadline_ms = now_ms;
                if self.is_on() {
                    self.destroy(now_ms)
                } else {
                    Vec::new()
                }
            }
            Request::Pause => vec![Effect::Press(Press::Pause)],
            Request::Unpause => vec![Effect::Press(Press::Resume)],
            Request::Reset => vec![Effect::Press(Press::Reset)],
            Request::SoftReboot => vec![Effect::SoftReboot],
            Request::Save => vec![Effect::Save],
            Request::Finish => {
                self.finishing = true;
                Vec::new()
            }
        }
    }

    /// QEMU is there and nobody has said that it is gone.
    fn is_on(&self) -> bool {
        matches!(
            self.state,
            VmState::Running | VmState::Paused { .. } | VmState::Stopping
        )
    }

    fn is_up(&mut self, pid: Option<i32>, state: DomainState, now_ms: u64) -> Vec<Effect> {
        self.pid = pid;
        match state {
            // The events of its end will come, or have come.
            DomainState::Off => {}
            DomainState::ShuttingDown => {
                self.powered_off = true;
                self.enter(VmState::Stopping, now_ms);
            }
            DomainState::Crashed => return self.panic(now_ms),
            DomainState::Paused { io_error: true } => self.pause(PauseReason::IoError, now_ms),
            DomainState::Paused { io_error: false } => self.pause(PauseReason::User, now_ms),
            DomainState::Running => self.enter(VmState::Running, now_ms),
        }
        match self.stopping {
            Some(stopping) => {
                self.enter(VmState::Stopping, now_ms);
                if stopping.deadline_ms <= now_ms {
                    self.destroy(now_ms)
                } else {
                    Vec::new()
                }
            }
            None => Vec::new(),
        }
    }

    fn stop(&mut self, grace_seconds: Option<u32>, now_ms: u64) -> Vec<Effect> {
        let grace = u64::from(grace_seconds.unwrap_or(self.plan_grace_seconds)) * 1000;
        let deadline_ms = now_ms.saturating_add(grace);
        let stopping = self.stopping.get_or_insert(Stopping {
            deadline_ms,
            pressed_ms: None,
        });
        // A shorter time replaces a longer one, never the other way.
        stopping.deadline_ms = stopping.deadline_ms.min(deadline_ms);
        if !self.is_on() {
            return Vec::new();
        }
        let was_paused = matches!(self.state, VmState::Paused { .. });
        self.enter(VmState::Stopping, now_ms);
        // A guest that is held still cannot power itself off.
        if was_paused && deadline_ms > now_ms {
            vec![Effect::Press(Press::Resume)]
        } else {
            Vec::new()
        }
    }

    fn destroy(&mut self, now_ms: u64) -> Vec<Effect> {
        self.destroyed = true;
        self.destroyed_at_ms = now_ms;
        if !matches!(self.state, VmState::Stopping) {
            self.enter(VmState::Stopping, now_ms);
        }
        vec![Effect::Press(Press::Destroy)]
    }

    fn panic(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.panicked {
            return Vec::new();
        }
        self.panicked = true;
        self.message = Some("the guest's kernel has panicked".into());
        self.pause(PauseReason::Panicked, now_ms);
        vec![Effect::KeepLog]
    }

    fn event(&mut self, event: Event, now_ms: u64) -> Vec<Effect> {
        match event {
            Event::Panicked => return self.panic(now_ms),
            Event::ShuttingDown => {
                self.powered_off = true;
                if self.is_on() {
                    self.enter(VmState::Stopping, now_ms);
                }
            }
            Event::Stopped { orderly, reason } => {
                self.powered_off |= orderly;
                self.saved |= reason == "saved";
                self.destroyed |= reason == "destroyed";
                self.stopped = Some(reason);
                if self.pid.is_none() {
                    self.gone = Some((now_ms, "gone".into()));
                }
            }
            Event::Rebooted => self.reboots += 1,
            Event::DiskFailed {
                file,
                alias,
                no_space,
            } => {
                let reason = if no_space {
                    PauseReason::NoSpace
                } else {
                    PauseReason::IoError
                };
                self.message = Some(if no_space {
                    format!(
                        "no space for disk {alias} ({file}); it goes on by itself when there is some"
                    )
                } else {
                    format!("disk {alias} ({file}) has failed")
                });
                if no_space {
                    if self.full_disk.is_none() {
                        let again =
                            self.space_freed_ms > 0 && now_ms < self.space_freed_ms + IN_VAIN_MS;
                        self.resumed_in_vain = if again { self.resumed_in_vain + 1 } else { 0 };
                    }
                    self.full_disk = Some(file);
                    self.space_asked_ms = now_ms;
                }
                self.pause(reason, now_ms);
            }
            Event::Suspended { io_error } => {
                let known = matches!(self.state, VmState::Paused { .. } | VmState::Stopping);
                if !known {
                    self.pause(
                        if io_error {
                            PauseReason::IoError
                        } else {
                            PauseReason::User
                        },
                        now_ms,
                    );
                }
            }
            Event::Resumed => self.resumed(now_ms),
            Event::Agent { .. } => {}
        }
        Vec::new()
    }

    fn pressed(&mut self, button: Press, result: Result<(), String>, now_ms: u64) -> Vec<Effect> {
        match (button, result) {
            (Press::Pause, Ok(())) if self.state == VmState::Running => {
                self.pause(PauseReason::User, now_ms);
            }
            (Press::Resume, Ok(())) => self.resumed(now_ms),
            (_, Ok(())) => {}
            // The next tick tries again, or the guest is gone anyway.
            (Press::Power | Press::Destroy, Err(why)) => {
                if self.is_on() {
                    self.message = Some(why);
                }
            }
            (_, Err(why)) => self.message = Some(why),
        }
        Vec::new()
    }

    fn resumed(&mut self, now_ms: u64) {
        if let VmState::Paused { reason } = self.state
            && reason != PauseReason::Panicked
        {
            if self.full_disk.take().is_some() {
                self.space_freed_ms = now_ms;
            }
            self.message = None;
            self.enter(VmState::Running, now_ms);
        }
    }

    fn space_due(&self) -> u64 {
        self.space_asked_ms + (SPACE_EVERY_MS << self.resumed_in_vain.min(6))
    }

    fn pause(&mut self, reason: PauseReason, now_ms: u64) {
        if matches!(self.state, VmState::Stopping) {
            return;
        }
        self.enter(VmState::Paused { reason }, now_ms);
    }

    /// What time alone brings about.
    fn due(&mut self, now_ms: u64) -> Vec<Effect> {
        if matches!(self.state, VmState::Ended { .. } | VmState::Idle) {
            return Vec::new();
        }
        if let Some((at, how)) = self.gone.clone()
            && (self.stopped.is_some() || self.powered_off || now_ms >= at + LAST_WORDS_MS)
            && !matches!(self.state, VmState::Preparing | VmState::Starting)
        {
            return self.is_gone(&how, now_ms);
        }
        let mut effects = Vec::new();
        if self.destroyed
            && self.gone.is_none()
            && now_ms >= self.destroyed_at_ms + DESTROY_AGAIN_MS
        {
            effects.extend(self.destroy(now_ms));
        }
        if let Some(stopping) = self.stopping
            && self.is_on()
            && !self.destroyed
            && self.gone.is_none()
        {
            if now_ms >= stopping.deadline_ms {
                effects.extend(self.destroy(now_ms));
            } else if !self.powered_off
                && stopping
                    .pressed_ms
                    .is_none_or(|pressed| now_ms >= pressed + PRESS_EVERY_MS)
            {
                self.stopping = Some(Stopping {
                    pressed_ms: Some(now_ms),
                    ..stopping
                });
                effects.push(Effect::Press(Press::Power));
            }
        }
        if let Some(file) = &self.full_disk
            && now_ms >= self.space_due()
        {
            effects.push(Effect::LookForSpace(file.clone()));
            self.space_asked_ms = now_ms;
        }
        effects
    }

    fn is_gone(&mut self, how: &str, now_ms: u64) -> Vec<Effect> {
        let (reason, message) = if self.panicked {
            (EndReason::Panicked, self.message.take())
        } else if self.saved {
            (EndReason::Saved, None)
        } else if self.powered_off {
            (EndReason::Shutdown, None)
        } else if self.destroyed {
            (EndReason::Destroyed, None)
        } else {
            let why = self
                .stopped
                .as_deref()
                .unwrap_or("nothing was said of a shutdown");
            (
                EndReason::Crashed,
                Some(format!("QEMU is gone ({how}; {why})")),
            )
        };
        self.end(reason, message, now_ms)
    }

    fn end(&mut self, reason: EndReason, message: Option<String>, now_ms: u64) -> Vec<Effect> {
        if matches!(self.state, VmState::Ended { .. }) {
            return Vec::new();
        }
        self.pid = None;
        self.message = message;
        self.enter(VmState::Ended { reason }, now_ms);
        vec![Effect::RecordEnd]
    }

    fn enter(&mut self, state: VmState, now_ms: u64) {
        if self.state != state {
            self.state = state;
            self.since_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests;
