//! How far image pulls are: bars where a person looks on, events for everybody.

use std::io::IsTerminal as _;

use catamaran_images::{Phase, Progress as State, ProgressSender};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;

use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

/// One pull; the bar goes away with it.
#[derive(Debug)]
pub struct Progress {
    sender: ProgressSender,
    shown: AbortHandle,
    bar: ProgressBar,
}

impl Progress {
    /// Shows a pull.
    #[must_use]
    pub fn show(daemon: &Daemon, machine: &Key, image: &str) -> Self {
        let (sender, mut states) = tokio::sync::watch::channel(State::default());
        let target = if daemon.settings.bars && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        );
        let bar = daemon.bars.add(
            ProgressBar::with_draw_target(None, target)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
        );
        let (events, key, image, shown_bar) = (
            daemon.events.clone(),
            machine.with_kind(Kind::VirtualMachineInstance),
            image.to_owned(),
            bar.clone(),
        );
        let shown = daemon.streams.spawn(async move {
            let mut told = None;
            while states.changed().await.is_ok() {
                let state = states.borrow_and_update().clone();
                shown_bar.set_message(format!(
                    "{} {image}",
                    if state.phase == Phase::Extracting {
                        "unpacking"
                    } else {
                        "pulling"
                    }
                ));
                shown_bar.set_length(state.total);
                shown_bar.set_position(state.done);
                if told != Some(state.phase)
                    && matches!(state.phase, Phase::Pulling | Phase::Extracting)
                {
                    told = Some(state.phase);
                    let (reason, word) = if state.phase == Phase::Pulling {
                        ("Pulling", "Pulling")
                    } else {
                        ("Unpacking", "Unpacking")
                    };
                    events.normal(&key, reason, format!("{word} image {image}"));
                }
            }
        });
        Self { sender, shown, bar }
    }

    /// Where the pull tells how far it is.
    #[must_use]
    pub fn sender(&self) -> ProgressSender {
        self.sender.clone()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shown.abort();
        self.bar.finish_and_clear();
    }
}
