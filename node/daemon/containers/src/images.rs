//! Images for Pods: imported from local OCI layouts where one has the reference, else pulled by the runtime.

mod auth;
mod layout;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_cri::v1 as cri;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::pod::{PodSpec, PullPolicy};
use crate::{Error, Objects, Runtime};
use layout::LocalImage;

pub(crate) use auth::Logins;

/// Time for the runtime to list an image that was imported.
const LISTED: Duration = Duration::from_secs(20);

/// Where images come from.
#[derive(Clone, Debug, Default)]
pub struct ImageSources {
    /// OCI layouts and archives, or folders of them: what they have is never pulled.
    pub layouts: Vec<PathBuf>,
    /// Files with registry logins, in the form of docker's `config.json`; the first that has the registry wins.
    pub auth_files: Vec<PathBuf>,
}

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PullFailure {
    /// `ErrImagePull` or `ErrImageNeverPull`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl ImageSources {
    /// Makes the runtime have the image; gives the image as the runtime knows it.
    pub(crate) async fn ensure(
        &self,
        runtime: &Runtime,
        image: &str,
        policy: PullPolicy,
        logins: &Logins,
    ) -> Result<cri::Image, PullFailure> {
        let failed = |error: Error| PullFailure {
            reason: "ErrImagePull",
            message: catamaran_client::chain(&error),
        };
        let present = runtime.cri().image(image).await.map_err(failed)?;
        if let Some(local) = LocalImage::find(&self.layouts, image).map_err(failed)? {
            // A layout that was built anew replaces the image that was imported from it before.
            if let Some(present) = present.filter(|present| present.id == local.config_digest) {
                return Ok(present);
            }
            return import(runtime, image, local).await.map_err(failed);
        }
        match (policy, present) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(present)) => return Ok(present),
            (PullPolicy::Never, None) => {
                return Err(PullFailure {
                    reason: "ErrImageNeverPull",
                    message: format!(
                        "Container image \"{image}\" is not present with pull policy of Never"
                    ),
                });
            }
            _ => {}
        }
        if layout::is_local(image) {
            let places: Vec<_> = self
                .layouts
                .iter()
                .map(|place| place.display().to_string())
                .collect();
            let looked = if places.is_empty() {
                "no folder was given (play --images FOLDER)".to_owned()
            } else {
                format!("looked in {}", places.join(", "))
            };
            let message = format!("image {image} is in no local OCI layout; {looked}");
            return Err(PullFailure {
                reason: "ErrImagePull",
                message,
            });
        }
        let mut result = Err(Error::Image {
            image: image.to_owned(),
            message: "not pulled".to_owned(),
        });
        for auth in logins.find(image) {
            result = runtime.cri().pull(image, auth).await;
            if result.is_ok() {
                break;
            }
        }
        let pulled = result.map_err(failed)?;
        info!(image, id = pulled, "pulled");
        let absent = || Error::Image {
            image: image.to_owned(),
            message: "was pulled, but the runtime does not list it".to_owned(),
        };
        runtime
            .cri()
            .image(&pulled)
            .await
            .and_then(|image| image.ok_or_else(absent))
            .map_err(failed)
    }

    /// Logins for the Pod: its own Secrets, then the files. A Secret that is missing or broken is passed over, as in
    /// Kubernetes, so that a public image needs none.
    pub(crate) fn logins(&self, pod: &PodSpec, objects: &dyn Objects) -> Logins {
        Logins::read(pod, objects, &self.auth_files)
    }
}

/// CRI has no import: containerd's own client does it, into the namespace that CRI uses.
async fn import(runtime: &Runtime, image: &str, local: LocalImage) -> Result<cri::Image, Error> {
    let failed = |message: String| Error::Image {
        image: image.to_owned(),
        message,
    };
    if runtime.name() != "containerd" {
        return Err(failed(format!(
            "is in the local OCI layout {}, and only containerd can import it, not {}",
            local.path.display(),
            runtime.name()
        )));
    }
    let expected = local.config_digest.clone();
    let from = local.path.clone();
    let name = image.to_owned();
    let socket = runtime.socket().to_owned();
    tokio::task::spawn_blocking(move || hand_over(&local, &name, &socket))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|why| failed(format!("in the OCI layout {}: {why}", from.display())))?;
    info!(image, layout = %from.display(), "imported");
    // The runtime's own list follows containerd's events.
    let deadline = Instant::now() + LISTED;
    loop {
        match runtime.cri().image(image).await? {
            Some(found) if found.id == expected => return Ok(found),
            _ if Instant::now() > deadline => {
                return Err(failed(
                    "was imported, but the runtime does not list it".to_owned(),
                ));
            }
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Packs the image into containerd's client. The error is a message for a person.
fn hand_over(local: &LocalImage, image: &str, socket: &Path) -> Result<(), String> {
    let mut child = Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run ctr (Debian package containerd): {error}"))?;
    let packed = match child.stdin.take() {
        Some(mut stdin) => {
            let packed = local.pack(image, &mut stdin);
            // Before its input ends: a broken image must not look like a whole one.
            if packed.is_err() {
                let _ = child.kill();
            }
            packed
        }
        None => Ok(()),
    };
    let output = child
        .wait_with_output()
        .map_err(|error| format!("ctr: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match packed {
        // ctr has ended early, and says why.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(format!("ctr: {words}"))
        }
        Err(error) => Err(error.to_string()),
        Ok(()) if output.status.success() => Ok(()),
        Ok(()) => Err(format!("ctr: {words}")),
    }
}
