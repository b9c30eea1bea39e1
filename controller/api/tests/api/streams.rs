//! Websockets.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use hyper::http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::world::World;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Dials as virtctl does: the subprotocol offered, the user in the front proxy's headers.
async fn dial(world: &World, path: &str) -> Result<Socket, Error> {
    let stream = world.dial(Some("front-proxy-client")).await;
    let base = "wss://catamaran-api/apis/subresources.kubevirt.io/v1/namespaces/d";
    let mut request = format!("{base}/{path}").into_client_request().unwrap();
    for (name, value) in [
        ("sec-websocket-protocol", "plain.kubevirt.io"),
        ("x-remote-user", "alice"),
        ("x-remote-group", "system:authenticated"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let (socket, response) = client_async(request, stream).await?;
    assert_eq!(
        response.headers()["sec-websocket-protocol"],
        "plain.kubevirt.io"
    );
    Ok(socket)
}

async fn read(socket: &mut Socket, wanted: &[u8]) {
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
        match next.expect("bytes within ten seconds").unwrap().unwrap() {
            Message::Binary(bytes) => got.extend_from_slice(&bytes),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, wanted);
}

#[tokio::test]
async fn a_console_is_joined_with_the_daemons_stream() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Running"));
    let path = "virtualmachineinstances/a/console?replay=true";
    let mut socket = dial(&world, path).await.unwrap();
    read(&mut socket, b"login: ").await;
    socket.send(Message::binary(&b"root\n"[..])).await.unwrap();
    read(&mut socket, b"root\n").await;
    socket.close(None).await.unwrap();
    assert_eq!(
        *world.asked.lock().unwrap(),
        ["GET /v1/namespaces/d/virtualmachineinstances/a/console?replay=true"]
    );
}

#[tokio::test]
async fn a_machine_that_is_not_up_answers_400_so_that_clients_try_again() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Scheduled"));
    let refused = dial(&world, "virtualmachineinstances/a/console").await;
    match refused {
        Err(Error::Http(response)) => assert_eq!(response.status(), 400),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_is_forwarded_to_the_pods_address() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Running"));
    let guest = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = guest.local_addr().unwrap().port();
    for path in [
        format!("virtualmachines/a/portforward/{port}"),
        format!("virtualmachineinstances/a/portforward/{port}/tcp"),
    ] {
        let (socket, accepted) = tokio::join!(dial(&world, &path), guest.accept());
        let (mut socket, mut stream) = (socket.unwrap(), accepted.unwrap().0);
        stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        read(&mut socket, b"SSH-2.0-x\r\n").await;
        socket.send(Message::binary(&b"hi"[..])).await.unwrap();
        let mut got = [0; 2];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hi");
        drop(stream);
        let end = socket.next().await;
        assert!(matches!(end, None | Some(Ok(Message::Close(_)))), "{end:?}");
    }
}

#[tokio::test]
async fn a_closed_port_is_said_before_the_switch() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Running"));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    match dial(
        &world,
        &format!("virtualmachineinstances/a/portforward/{port}"),
    )
    .await
    {
        Err(Error::Http(response)) => assert_eq!(response.status(), 500),
        other => panic!("{other:?}"),
    }
}
