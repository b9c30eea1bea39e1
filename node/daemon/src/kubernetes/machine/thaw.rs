//! Thawing guests that nobody else has thawed in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Task;
use crate::kubernetes::events::Kind;
use crate::kubernetes::frozen;
use crate::kubernetes::instance::Instance;
use crate::machine::error::StartError;

/// How long after a thaw that failed it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

impl Task {
    /// Thaws a guest whose time is up; when to look again.
    pub(super) async fn thaw(
        &mut self,
        instance: &Arc<Instance>,
    ) -> Result<Option<Instant>, StartError> {
        if instance.status().fs_freeze_status.as_deref() != Some(frozen::STATUS) {
            return Ok(None);
        }
        let now = Instant::now();
        let due = self.world.frozen.due(instance.uid, now);
        if due.is_none_or(|due| due > now) {
            return Ok(due);
        }
        if let Err(error) = self.ask(frozen::thaw()).await {
            let words = format!(
                "The guest's file systems could not be thawed, which is tried again: {}",
                catamaran_client::chain(&error)
            );
            self.tell(instance, Kind::Warning, "ThawFailed", &words);
            return Ok(Some(now + AGAIN));
        }
        self.world.frozen.forget(instance.uid);
        self.publish(|before| {
            let mut status = before.clone();
            status.fs_freeze_status = None;
            status
        })
        .await?;
        Ok(None)
    }
}
