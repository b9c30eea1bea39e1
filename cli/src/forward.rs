//! `port-forward`: local ports, or standard input and output, that lead to a guest.

use catamaran_client::{Port, forward, say};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::args::PortForward;
use crate::connection::Connection;
use crate::error::Error;

/// `port-forward`: until Ctrl+C.
pub(crate) async fn port_forward(connection: &Connection, args: &PortForward) -> Result<(), Error> {
    let target = &args.vm.target;
    let path = |port: u16| connection.path(target.kind, target, &format!("portforward/{port}"));
    let ports = args
        .ports
        .iter()
        .map(|word| Port::parse(word))
        .collect::<Result<Vec<_>, _>>()?;
    if args.stdio {
        let [port] = ports[..] else {
            return Err(Error::Usage(format!(
                "--stdio joins one port, and {} are named",
                ports.len()
            )));
        };
        return stdio(connection, &path(port.target)).await;
    }
    let mut running = JoinSet::new();
    for port in ports {
        let (listener, bound) = forward::listen(args.address, port.local).await?;
        let line = format!("Forwarding from {bound} -> {}\n", port.target);
        say(&line).map_err(Error::io("standard output"))?;
        let (connection, path) = (connection.clone(), path(port.target));
        running.spawn(forward::pass_on(listener, move || {
            connection.clone().stream_to(path.clone())
        }));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| Error::Usage(error.to_string()))??;
    }
    Ok(())
}

/// Until the guest ends the connection. The end of standard input is no end: the answer may still come.
async fn stdio(connection: &Connection, path: &str) -> Result<(), Error> {
    let stream = connection.stream(path).await?;
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let (mut typed, mut said) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let mut open = true;
    loop {
        tokio::select! {
            read = from.read(&mut said) => match read.map_err(Error::io("the stream"))? {
                0 => return Ok(()),
                count => {
                    let written = output.write_all(&said[..count]).await;
                    written.map_err(Error::io("standard output"))?;
                    output.flush().await.map_err(Error::io("standard output"))?;
                }
            },
            read = input.read(&mut typed), if open => match read.map_err(Error::io("standard input"))? {
                0 => open = false,
                count => {
                    let sent = to.write_all(&typed[..count]).await;
                    sent.map_err(Error::io("the stream"))?;
                    to.flush().await.map_err(Error::io("the stream"))?;
                }
            },
        }
    }
}
