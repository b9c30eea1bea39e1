//! A client of the container runtime interface: each call with its deadline, its errors with the call's name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};

use crate::Error;

/// Most bytes of one answer: listings of a full node.
const MAX_ANSWER: usize = 16 << 20;
/// Calls that only look.
const SHORT: Duration = Duration::from_secs(20);
/// Calls that make or end things: CNI plugins and slow disks.
const LONG: Duration = Duration::from_secs(120);
/// Pulls of images.
const PULL: Duration = Duration::from_secs(3600);

/// Connection to one runtime; a clone shares it, and it is opened again when the runtime comes back.
#[derive(Clone, Debug)]
pub(crate) struct Cri {
    socket: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

fn with<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn answer<T>(call: &'static str, result: Result<Response<T>, Status>) -> Result<T, Error> {
    let failed = |status: Status| {
        // A connection that breaks in the middle of a call has no code of its own.
        let broken = match status.code() {
            tonic::Code::Unknown => std::error::Error::source(&status).is_some(),
            tonic::Code::Cancelled => status.message() == "operation was canceled",
            _ => false,
        };
        let code = if broken {
            tonic::Code::Unavailable
        } else {
            status.code()
        };
        Error::Cri {
            call,
            code,
            message: status.message().to_owned(),
        }
    };
    result.map(Response::into_inner).map_err(failed)
}

impl Cri {
    /// A client of the runtime at `socket`; the connection is made with the first call.
    pub(crate) fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector_lazy(connect);
        Self {
            socket: socket.to_owned(),
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) async fn version(&self) -> Result<cri::VersionResponse, Error> {
        let request = with(
            cri::VersionRequest {
                version: "v1".to_owned(),
            },
            Duration::from_secs(5),
        );
        answer("Version", self.runtime.clone().version(request).await)
    }

    pub(crate) async fn list_sandboxes(
        &self,
        filter: cri::PodSandboxFilter,
    ) -> Result<Vec<cri::PodSandbox>, Error> {
        let request = with(
            cri::ListPodSandboxRequest {
                filter: Some(filter),
            },
            SHORT,
        );
        Ok(answer(
            "ListPodSandbox",
            self.runtime.clone().list_pod_sandbox(request).await,
        )?
        .items)
    }

    pub(crate) async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus, Error> {
        let request = with(
            cri::PodSandboxStatusRequest {
                pod_sandbox_id: id.to_owned(),
                verbose: false,
            },
            SHORT,
        );
        Ok(answer(
            "PodSandboxStatus",
            self.runtime.clone().pod_sandbox_status(request).await,
        )?
        .status
        .unwrap_or_default())
    }

    pub(crate) async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Result<String, Error> {
        let request = with(
            cri::RunPodSandboxRequest {
                config: Some(config),
                runtime_handler: String::new(),
            },
            LONG,
        );
        Ok(answer(
            "RunPodSandbox",
            self.runtime.clone().run_pod_sandbox(request).await,
        )?
        .pod_sandbox_id)
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = with(
            cri::StopPodSandboxRequest {
                pod_sandbox_id: id.to_owned(),
            },
            LONG,
        );
        answer(
            "StopPodSandbox",
            self.runtime.clone().stop_pod_sandbox(request).await,
        )
        .map(|_| ())
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = with(
            cri::RemovePodSandboxRequest {
                pod_sandbox_id: id.to_owned(),
            },
            LONG,
        );
        answer(
            "RemovePodSandbox",
            self.runtime.clone().remove_pod_sandbox(request).await,
        )
        .map(|_| ())
    }

    pub(crate) async fn list_containers(
        &self,
        filter: cri::ContainerFilter,
    ) -> Result<Vec<cri::Container>, Error> {
        let request = with(
            cri::ListContainersRequest {
                filter: Some(filter),
            },
            SHORT,
        );
        Ok(answer(
            "ListContainers",
            self.runtime.clone().list_containers(request).await,
        )?
        .containers)
    }

    pub(crate) async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus, Error> {
        let request = with(
            cri::ContainerStatusRequest {
                container_id: id.to_owned(),
                verbose: false,
            },
            SHORT,
        );
        Ok(answer(
            "ContainerStatus",
            self.runtime.clone().container_status(request).await,
        )?
        .status
        .unwrap_or_default())
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String, Error> {
        let message = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let mut client = self.runtime.clone();
        // Boxed: the request is large.
        let call = Box::pin(client.create_container(with(message, LONG)));
        Ok(answer("CreateContainer", call.await)?.container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = with(
            cri::StartContainerRequest {
                container_id: id.to_owned(),
            },
            LONG,
        );
        answer(
            "StartContainer",
            self.runtime.clone().start_container(request).await,
        )
        .map(|_| ())
    }

    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = with(
            cri::StopContainerRequest {
                container_id: id.to_owned(),
                timeout,
            },
            LONG.saturating_add(grace),
        );
        answer(
            "StopContainer",
            self.runtime.clone().stop_container(request).await,
        )
        .map(|_| ())
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = with(
            cri::RemoveContainerRequest {
                container_id: id.to_owned(),
            },
            LONG,
        );
        answer(
            "RemoveContainer",
            self.runtime.clone().remove_container(request).await,
        )
        .map(|_| ())
    }

    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<cri::ExecSyncResponse, Error> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let message = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            timeout,
        };
        answer(
            "ExecSync",
            self.runtime
                .clone()
                .exec_sync(with(message, SHORT.saturating_add(limit)))
                .await,
        )
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let request = with(
            cri::ReopenContainerLogRequest {
                container_id: id.to_owned(),
            },
            SHORT,
        );
        answer(
            "ReopenContainerLog",
            self.runtime.clone().reopen_container_log(request).await,
        )
        .map(|_| ())
    }

    /// The image, if the runtime has it.
    pub(crate) async fn image(&self, image: &str) -> Result<Option<cri::Image>, Error> {
        let message = cri::ImageStatusRequest {
            image: Some(image_spec(image)),
            verbose: false,
        };
        Ok(answer(
            "ImageStatus",
            self.images.clone().image_status(with(message, SHORT)).await,
        )?
        .image)
    }

    pub(crate) async fn pull(
        &self,
        image: &str,
        auth: Option<cri::AuthConfig>,
    ) -> Result<String, Error> {
        let message = cri::PullImageRequest {
            image: Some(image_spec(image)),
            auth,
            sandbox_config: None,
        };
        Ok(answer(
            "PullImage",
            self.images.clone().pull_image(with(message, PULL)).await,
        )?
        .image_ref)
    }
}

pub(crate) fn image_spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
        ..cri::ImageSpec::default()
    }
}
