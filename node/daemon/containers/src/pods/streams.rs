//! What comes out of containers: logs, and the output of commands run in them.

use std::time::Duration;

use futures::{FutureExt as _, Stream};

use super::Pods;
use crate::Error;
use crate::logs::{self, LogLine, LogOptions};
use crate::observed::{Run, RunState};
use crate::pod::{PodKey, PodSpec};

impl Pods {
    /// Lines of a container's log, oldest first. `container` may be left out for a Pod with one container.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container or it has no log.
    pub fn logs(
        &self,
        pod: &PodSpec,
        container: Option<&str>,
        options: LogOptions,
    ) -> Result<impl Stream<Item = Result<LogLine, Error>> + Send + use<>, Error> {
        let name = match (container, pod.containers.as_slice()) {
            (Some(name), _) if pod.container(name).is_some() => name.to_owned(),
            (None, [only]) => only.name.clone(),
            (other, _) => {
                let names: Vec<_> = pod
                    .init_containers
                    .iter()
                    .chain(&pod.containers)
                    .map(|container| container.name.as_str())
                    .collect();
                let other = other.map_or_else(
                    || "a container must be named:".to_owned(),
                    |name| format!("container \"{name}\" in"),
                );
                return Err(Error::NotFound(format!(
                    "{other} Pod {} has {}, which is",
                    pod.key,
                    names.join(", ")
                )));
            }
        };
        let path = logs::find(
            &self.shared.pod_folder(&pod.key).join("logs"),
            &name,
            options.previous,
        )?;
        let (shared, key, previous) = (self.shared.clone(), pod.key.clone(), options.previous);
        let attempt = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<u32>().ok());
        let ended = Box::new(move || {
            let (shared, key, name) = (shared.clone(), key.clone(), name.clone());
            async move {
                let observed = shared.observe(&key).await;
                let runs = |run: &Run| {
                    run.name == name && Some(run.attempt) == attempt && run.exit().is_none()
                };
                previous || observed.is_ok_and(|observed| !observed.runs.iter().any(runs))
            }
            .boxed()
        });
        Ok(logs::read(path, options, ended))
    }

    /// Runs a command in a running container and gives exit code, standard output and standard error.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the container does not run; [`Error::Cri`] when the command cannot be run or takes
    /// longer than `limit`.
    pub async fn exec(
        &self,
        key: &PodKey,
        container: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<(i32, Vec<u8>, Vec<u8>), Error> {
        let observed = self.shared.observe(key).await?;
        let run = observed
            .run(container)
            .filter(|run| matches!(run.state, RunState::Running { .. }));
        let run = run.ok_or_else(|| {
            Error::NotFound(format!("running container {container} in Pod {key}"))
        })?;
        let answer = self
            .shared
            .runtime
            .cri()
            .exec_sync(&run.id, command, limit)
            .await?;
        Ok((answer.exit_code, answer.stdout, answer.stderr))
    }
}
