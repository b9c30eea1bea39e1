//! Thawing guests that nobody else has thawed in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Task;
use crate::kubernetes::events::Kind;
use crate::kubernetes::frozen;
use crate::kubernetes::instance::Instance;

/// How long after a thaw that failed it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

impl Task {
    /// Thaws a guest whose time is up, or that is to stop, which it can't without writing; when to look again. What fails is tried again and
    /// holds up nothing else.
    pub(super) async fn thaw(
        &mut self,
        instance: &Arc<Instance>,
        stopping: bool,
    ) -> Option<Instant> {
        if instance.status().fs_freeze_status.as_deref() != Some(frozen::STATUS) {
            return None;
        }
        let (world, uid, now) = (self.world.clone(), instance.uid, Instant::now());
        let due = world.frozen.due(uid, now);
        if !stopping && due.is_none_or(|due| due > now) {
            return due;
        }
        if let Err(error) = self.ask(frozen::thaw()).await {
            let words = format!(
                "The guest's file systems could not be thawed, which is tried again: {}",
                catamaran_client::chain(&error)
            );
            self.tell(instance, Kind::Warning, "ThawFailed", &words);
            return Some(now + AGAIN);
        }
        world.frozen.forget_due(uid, due);
        let cleared = self.publish(|before| {
            let mut status = before.clone();
            if !world.frozen.knows(uid) {
                status.fs_freeze_status = None;
            }
            status
        });
        if let Err(error) = cleared.await {
            tracing::warn!(vm = %instance.key, error = catamaran_client::chain(&error), "that the guest is thawed is not told");
            world.frozen.set(uid, now, AGAIN);
            return Some(now + AGAIN);
        }
        None
    }
}
