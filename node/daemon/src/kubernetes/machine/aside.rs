//! Work on a volume that may take long, such as a mount or a launcher's look at a disk: away from the threads that serve everything else, and at
//! most one piece for each volume.
//!
//! A call into the kernel can't be taken back, nor can a request to a launcher. One that hangs keeps its volume, and nothing else: whoever asked
//! goes on.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::machine::error::StartError;

/// Longest time that anybody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is under way, and what hangs, by volume.
#[derive(Debug)]
pub struct Aside {
    patience: Duration,
    tasks: JoinSet<()>,
    hanging: HashMap<String, AbortHandle>,
}

impl Default for Aside {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            tasks: JoinSet::new(),
            hanging: HashMap::new(),
        }
    }
}

impl Aside {
    /// Does some blocking work on a volume and waits for it, for a while. It must be idempotent: what ends later is done again by the next try.
    ///
    /// # Errors
    /// The work's own, or that it takes long.
    pub async fn run<T: Send + 'static>(
        &mut self,
        volume: &str,
        work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
    ) -> Result<T, StartError> {
        let (answer, answered) = oneshot::channel();
        self.free(volume)?;
        let task = self.tasks.spawn_blocking(move || {
            // Nobody may be waiting any more.
            let _ = answer.send(work());
        });
        self.wait(volume, task, answered).await
    }

    /// As [`Self::run`], for work that waits for somebody else.
    ///
    /// # Errors
    /// As those of [`Self::run`].
    pub async fn ask<T: Send + 'static>(
        &mut self,
        volume: &str,
        work: impl Future<Output = Result<T, StartError>> + Send + 'static,
    ) -> Result<T, StartError> {
        let (answer, answered) = oneshot::channel();
        self.free(volume)?;
        let task = self.tasks.spawn(async move {
            let _ = answer.send(work.await);
        });
        self.wait(volume, task, answered).await
    }

    /// Whether work on a volume can begin.
    fn free(&mut self, volume: &str) -> Result<(), StartError> {
        while self.tasks.try_join_next().is_some() {}
        self.hanging.retain(|_, task| !task.is_finished());
        match self.hanging.get(volume) {
            Some(_) => Err(self.hangs()),
            None => Ok(()),
        }
    }

    async fn wait<T>(
        &mut self,
        volume: &str,
        task: AbortHandle,
        answered: oneshot::Receiver<Result<T, StartError>>,
    ) -> Result<T, StartError> {
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StartError::Overdue(
                "the work on the volume has ended without an answer".to_owned(),
            )),
            Err(_) => {
                self.hanging.insert(volume.to_owned(), task);
                Err(self.hangs())
            }
        }
    }

    fn hangs(&self) -> StartError {
        StartError::Overdue(format!(
            "the system has been busy with the volume for more than {} s",
            self.patience.as_secs()
        ))
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
        while aside.tasks.join_next().await.is_some() {}
        assert_eq!(aside.run("d", || Ok(8)).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_launcher_that_does_not_answer_keeps_its_volume_and_nobody_else() {
        let mut aside = Aside::default();
        let (answer, answered) = oneshot::channel();
        aside.patience = Duration::ZERO;
        let stuck = aside.ask("d", async { Ok(answered.await.unwrap_or_default()) });
        let stuck: Result<u8, _> = stuck.await;
        assert!(matches!(stuck, Err(StartError::Overdue(_))));
        aside.patience = Duration::from_secs(60);
        let second = aside.run("d", || -> Result<(), _> { panic!("two at once") });
        assert!(matches!(second.await, Err(StartError::Overdue(_))));
        assert_eq!(aside.ask("e", async { Ok(7) }).await.unwrap(), 7);
        answer.send(1).unwrap();
        while aside.tasks.join_next().await.is_some() {}
        assert_eq!(aside.ask("d", async { Ok(8) }).await.unwrap(), 8);
    }
}
