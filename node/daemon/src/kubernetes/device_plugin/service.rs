//! The two services over gRPC: `v1beta1.DevicePlugin`, which we serve, and `v1beta1.Registration`, which the kubelet does.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::Device;
use super::proto::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, DevicePluginOptions, DeviceSpec,
    Empty, ListAndWatchResponse, Mount, RegisterRequest,
};

/// How many of each device there are: more than pods on any node.
const COUNT: usize = 1000;

/// The plugin of one device.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    device: Device,
}

impl Plugin {
    pub(super) fn new(device: Device) -> Self {
        Self { device }
    }

    /// What one container gets. A folder that is not there yet is left out: a mount of it would keep the pod from starting.
    pub(super) fn allocation(&self) -> ContainerAllocateResponse {
        let mounts = self.device.folders.iter().filter(|(host, _)| host.is_dir());
        ContainerAllocateResponse {
            envs: Default::default(),
            mounts: mounts
                .map(|(host, inside)| Mount {
                    container_path: (*inside).to_owned(),
                    host_path: host.display().to_string(),
                    read_only: true,
                })
                .collect(),
            devices: vec![DeviceSpec {
                container_path: self.device.node.to_owned(),
                host_path: self.device.node.to_owned(),
                permissions: "rw".to_owned(),
            }],
        }
    }

    fn list(&self) -> ListAndWatchResponse {
        let devices = (0..COUNT).map(|number| super::proto::Device {
            id: format!("{}{number}", self.device.name),
            health: "Healthy".to_owned(),
        });
        ListAndWatchResponse {
            devices: devices.collect(),
        }
    }
}

impl NamedService for Plugin {
    const NAME: &'static str = "v1beta1.DevicePlugin";
}

struct Options;

impl UnaryService<Empty> for Options {
    type Response = DevicePluginOptions;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        Box::pin(async { Ok(Response::new(DevicePluginOptions::default())) })
    }
}

struct List(Plugin);

impl ServerStreamingService<Empty> for List {
    type Response = ListAndWatchResponse;
    type ResponseStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send + 'static>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        // Said once; the stream stays open for as long as the devices are there.
        let first = futures::stream::once(std::future::ready(Ok(self.0.list())));
        let stream = futures::StreamExt::chain(first, futures::stream::pending());
        Box::pin(async move { Ok(Response::new(Box::pin(stream) as Self::ResponseStream)) })
    }
}

struct Allocate(Plugin);

impl UnaryService<AllocateRequest> for Allocate {
    type Response = AllocateResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<AllocateRequest>) -> Self::Future {
        let containers = request.into_inner().container_requests;
        let container_responses = containers.iter().map(|_| self.0.allocation()).collect();
        Box::pin(async move {
            Ok(Response::new(AllocateResponse {
                container_responses,
            }))
        })
    }
}

impl Service<http::Request<Body>> for Plugin {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let plugin = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            Ok(match path.as_str() {
                "/v1beta1.DevicePlugin/GetDevicePluginOptions" => {
                    Grpc::new(ProstCodec::new()).unary(Options, request).await
                }
                "/v1beta1.DevicePlugin/ListAndWatch" => {
                    Grpc::new(ProstCodec::new())
                        .server_streaming(List(plugin), request)
                        .await
                }
                "/v1beta1.DevicePlugin/Allocate" => {
                    Grpc::new(ProstCodec::new())
                        .unary(Allocate(plugin), request)
                        .await
                }
                _ => Status::unimplemented(format!("{path} is not served")).into_http(),
            })
        })
    }
}

/// Introduces a plugin to the kubelet.
pub(super) async fn register(channel: Channel, request: RegisterRequest) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let codec: ProstCodec<RegisterRequest, Empty> = ProstCodec::new();
    let path = http::uri::PathAndQuery::from_static("/v1beta1.Registration/Register");
    client.unary(Request::new(request), path, codec).await?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A kubelet that remembers who introduced himself.
    #[derive(Clone)]
    pub(crate) struct FakeKubelet(pub(crate) Arc<Mutex<Vec<RegisterRequest>>>);

    impl NamedService for FakeKubelet {
        const NAME: &'static str = "v1beta1.Registration";
    }

    impl UnaryService<RegisterRequest> for FakeKubelet {
        type Response = Empty;
        type Future = BoxFuture<Response<Empty>, Status>;

        fn call(&mut self, request: Request<RegisterRequest>) -> Self::Future {
            self.0.lock().unwrap().push(request.into_inner());
            Box::pin(async { Ok(Response::new(Empty {})) })
        }
    }

    impl Service<http::Request<Body>> for FakeKubelet {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let kubelet = self.clone();
            Box::pin(async move { Ok(Grpc::new(ProstCodec::new()).unary(kubelet, request).await) })
        }
    }

    #[test]
    fn every_device_has_a_name_of_its_own() {
        let plugin = Plugin::new(Device {
            name: "tun",
            node: "/dev/net/tun",
            folders: Vec::new(),
        });
        let mut ids: Vec<String> = plugin.list().devices.into_iter().map(|d| d.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), COUNT);
    }
}
