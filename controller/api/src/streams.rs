//! console, vnc and portforward: the other side is reached first, then the client is switched to a websocket.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use catamaran_api::VirtualMachineInstance;
use catamaran_lifecycle::{Phase, VmiView};
use kube::ResourceExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::answer::Refusal;
use crate::instances::{has_screen, node, path};
use crate::objects::INSTANCE;
use crate::route::Action;
use crate::server::State;
use crate::websocket::Handshake;
use crate::{splice, websocket};

/// Until a port of a guest answers.
const CONNECT: Duration = Duration::from_secs(10);

/// `console` and `vnc`: the launcher's stream, through the node daemon.
pub(crate) async fn attach(
    state: &State,
    vmi: &VirtualMachineInstance,
    action: Action,
    user: &str,
    mut request: Request,
) -> Result<Response, Refusal> {
    let word = viewable(vmi, action)?;
    let handshake = Handshake::read(request.headers())?;
    let path = path(vmi, word, request.uri().query());
    let guest = state.nodes.stream(node(vmi)?, &path, user).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    state.tasks.spawn(async move {
        match websocket::switched(upgrade).await {
            Ok(socket) => splice::stream(socket, guest).await,
            Err(error) => tracing::debug!(error = %error, "client did not switch to a websocket"),
        }
    });
    Ok(handshake.answer())
}

/// The daemon's word for a stream, if the instance has it and runs.
fn viewable(vmi: &VirtualMachineInstance, action: Action) -> Result<&'static str, Refusal> {
    let word = if action == Action::Vnc {
        has_screen(vmi)?;
        "vnc"
    } else if vmi.spec.domain.devices.autoattach_serial_console == Some(false) {
        return Err(Refusal::bad_request("No serial consoles are present."));
    } else {
        "console"
    };
    running(vmi)?;
    Ok(word)
}

/// Streams need a running instance. Clients of the peer try again on 400 and give up on 409.
fn running(vmi: &VirtualMachineInstance) -> Result<(), Refusal> {
    let phase = VmiView::of(vmi).phase;
    let words = format!(
        "Unable to connect to VirtualMachineInstance because phase is {phase} instead of Running"
    );
    match phase {
        Phase::Running => Ok(()),
        Phase::Failed => Err(Refusal::conflict(INSTANCE, &vmi.name_any(), &words)),
        _ => Err(Refusal::bad_request(words)),
    }
}

/// `portforward`: a port at the address of the instance's pod.
pub(crate) async fn forward(
    state: &State,
    vmi: &VirtualMachineInstance,
    arguments: &[String],
    mut request: Request,
) -> Result<Response, Refusal> {
    let Destination {
        address,
        port,
        datagrams,
    } = destination(vmi, arguments)?;
    let handshake = Handshake::read(request.headers())?;
    let upgrade = hyper::upgrade::on(&mut request);
    if datagrams {
        let socket = datagram_socket(address, port)
            .await
            .map_err(|error| dialing(&error))?;
        state.tasks.spawn(async move {
            if let Ok(client) = websocket::switched(upgrade).await {
                splice::datagrams(client, socket).await;
            }
        });
    } else {
        let stream = timeout(CONNECT, TcpStream::connect((address, port)))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|error| dialing(&error))?;
        stream.set_nodelay(true).map_err(|error| dialing(&error))?;
        state.tasks.spawn(async move {
            if let Ok(client) = websocket::switched(upgrade).await {
                splice::stream(client, stream).await;
            }
        });
    }
    Ok(handshake.answer())
}

fn dialing(error: &std::io::Error) -> Refusal {
    Refusal::internal(format!("dialing VM: {error}"))
}

async fn datagram_socket(address: IpAddr, port: u16) -> std::io::Result<UdpSocket> {
    let any = match address {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect((address, port)).await?;
    Ok(socket)
}

#[derive(Debug, PartialEq, Eq)]
struct Destination {
    address: IpAddr,
    port: u16,
    datagrams: bool,
}

/// Where a port-forward goes. `arguments`: port and, maybe, protocol.
fn destination(vmi: &VirtualMachineInstance, arguments: &[String]) -> Result<Destination, Refusal> {
    running(vmi)?;
    if VmiView::of(vmi).paused {
        return Err(Refusal::conflict(
            INSTANCE,
            &vmi.name_any(),
            "VMI is paused",
        ));
    }
    let given = arguments.first().map(String::as_str).unwrap_or_default();
    let port = given
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            Refusal::bad_request(format!(
                "port {given:?}: must be between 1 and 65535, inclusive"
            ))
        })?;
    let datagrams = match arguments.get(1).map(String::as_str) {
        None | Some("tcp") => false,
        Some("udp") => true,
        Some(other) => {
            return Err(Refusal::bad_request(format!(
                "protocol {other:?}: must be tcp or udp"
            )));
        }
    };
    let interfaces = vmi.status.as_ref().map(|s| s.interfaces.as_slice());
    let address = interfaces
        .and_then(<[_]>::first)
        .and_then(|interface| interface.ip_address.as_deref())
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| Refusal::bad_request("no network interfaces are present"))?;
    Ok(Destination {
        address,
        port,
        datagrams,
    })
}

#[cfg(test)]
mod tests {
    use catamaran_api::VirtualMachineInstance;
    use serde_json::json;

    use super::{Destination, destination, viewable};
    use crate::route::Action;

    fn vmi(phase: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": phase, "nodeName": "n", "interfaces": [{"ipAddress": "10.1.2.3"}]},
        }))
        .unwrap()
    }

    #[test]
    fn streams_of_a_machine_that_comes_are_tried_again_and_of_a_failed_one_not() {
        assert_eq!(viewable(&vmi("Running"), Action::Console), Ok("console"));
        let soon = viewable(&vmi("Scheduled"), Action::Console).unwrap_err();
        assert_eq!(soon.0.code, 400);
        assert_eq!(
            soon.0.message,
            "Unable to connect to VirtualMachineInstance because phase is Scheduled instead of Running"
        );
        assert_eq!(
            viewable(&vmi("Failed"), Action::Vnc).unwrap_err().0.code,
            409
        );
    }

    #[test]
    fn a_missing_device_is_said() {
        let mut vmi = vmi("Running");
        vmi.spec.domain.devices.autoattach_serial_console = Some(false);
        vmi.spec.domain.devices.autoattach_graphics_device = Some(false);
        let console = viewable(&vmi, Action::Console).unwrap_err();
        assert_eq!(
            (console.0.code, console.0.message.as_str()),
            (400, "No serial consoles are present.")
        );
        let vnc = viewable(&vmi, Action::Vnc).unwrap_err();
        assert_eq!(
            (vnc.0.code, vnc.0.message.as_str()),
            (400, "No graphics devices are present.")
        );
    }

    #[test]
    fn a_port_forward_goes_to_the_pods_address() {
        let to = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
            destination(&vmi("Running"), &arguments)
        };
        let address = "10.1.2.3".parse().unwrap();
        assert_eq!(
            to(&["22"]),
            Ok(Destination {
                address,
                port: 22,
                datagrams: false
            })
        );
        assert_eq!(
            to(&["53", "udp"]),
            Ok(Destination {
                address,
                port: 53,
                datagrams: true
            })
        );
        for wrong in [&["0"][..], &["70000"], &["ssh"], &["22", "sctp"]] {
            assert_eq!(to(wrong).unwrap_err().0.code, 400);
        }
    }
}
