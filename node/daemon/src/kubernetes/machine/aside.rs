//! Work that may block for long, such as a mount: away from the threads that serve everything else, and at most one piece for each volume.
//!
//! A call into the kernel can't be taken back. One that hangs keeps its thread and its volume, and nothing else: whoever asked goes on.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::machine::error::StartError;

/// Longest time that anybody waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What hangs, by volume.
#[derive(Debug)]
pub(super) struct Aside {
    patience: Duration,
    hanging: HashMap<String, JoinHandle<()>>,
}

impl Default for Aside {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            hanging: HashMap::new(),
        }
    }
}

impl Aside {
    /// Does some work on a volume and waits for it, for a while. It must be idempotent: what ends later is done again by the next try.
    ///
    /// # Errors
    /// The work's own, or that it takes long.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        volume: &str,
        work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
    ) -> Result<T, StartError> {
        let hangs = || {
            StartError::Overdue(format!(
                "the system has been busy with its file system for more than {} s",
                PATIENCE.as_secs()
            ))
        };
        if let Some(earlier) = self.hanging.get(volume) {
            if !earlier.is_finished() {
                return Err(hangs());
            }
            self.hanging.remove(volume);
        }
        let (answer, answered) = oneshot::channel();
        let handle = tokio::task::spawn_blocking(move || {
            // Nobody may be waiting any more.
            let _ = answer.send(work());
        });
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StartError::Overdue(
                "the work on its file system has ended without an answer".to_owned(),
            )),
            Err(_) => {
                self.hanging.insert(volume.to_owned(), handle);
                Err(hangs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread() {
        let own = std::thread::current().id();
        let mut aside = Aside::default();
        let other = aside.run("d", || Ok(std::thread::current().id())).await;
        assert_ne!(other.unwrap(), own);
    }

    #[tokio::test]
    async fn work_that_hangs_keeps_its_volume_and_nobody_else() {
        let mut aside = Aside::default();
        let (release, hang) = mpsc::channel::<()>();
        aside.patience = Duration::ZERO;
        let stuck = aside.run("d", move || {
            let _ = hang.recv();
            Ok(())
        });
        assert!(matches!(stuck.await, Err(StartError::Overdue(_))));
        aside.patience = Duration::from_secs(60);
        // It is not begun a second time.
        let second = aside.run("d", || -> Result<(), _> { panic!("two at once") });
        assert!(matches!(second.await, Err(StartError::Overdue(_))));
        assert_eq!(aside.run("e", || Ok(7)).await.unwrap(), 7);
        drop(release);
        let handle = aside.hanging.get_mut("d").unwrap();
        handle.await.unwrap();
        assert_eq!(aside.run("d", || Ok(8)).await.unwrap(), 8);
    }
}
