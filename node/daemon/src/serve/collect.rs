//! Garbage collection of images that no machine has used for a while, and of programs that none runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::serve::code;
use crate::serve::daemon::Daemon;

/// How often.
const PERIOD: Duration = Duration::from_secs(3600);
/// Images that were used so recently are kept: stopping and starting a machine pulls nothing.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Collects now and for ever: a daemon that is often started anew collects too.
pub async fn supervise(daemon: Arc<Daemon>) {
    loop {
        let in_use = daemon.used_images().into_iter().collect();
        let collected =
            tokio::task::block_in_place(|| daemon.images.gc(&in_use, SystemTime::now(), KEEP));
        tokio::task::block_in_place(|| code::collect(&daemon.layout));
        match collected {
            Ok(report) => tracing::debug!(?report, "unused images removed"),
            Err(error) => tracing::warn!(
                error = catamaran_client::chain(&error),
                "unused images were not removed"
            ),
        }
        tokio::time::sleep(PERIOD).await;
    }
}
