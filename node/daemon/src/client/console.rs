//! `console` and `vnc`.

use std::time::{Duration, Instant};

use catamaran_client::{AtEnd, ConsoleEnd, Terminal, forward, segment, text};
use hyper::Method;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::args::{Console, Vnc};
use crate::client::http::{Client, ClientError};
use crate::client::names::no_machine;
use crate::client::objects::{path, say};
use crate::serve::store::Kind;

/// Between two looks at a machine that is waited for.
const PAUSE: Duration = Duration::from_millis(300);

/// `console`: waits until the machine runs, then copies.
///
/// # Errors
/// When the machine does not run in time or the stream fails.
pub async fn console(client: &Client, args: &Console) -> Result<(), ClientError> {
    let name = args.vm.name()?;
    let mut terminal = Terminal::open().map_err(ClientError::io("standard input"))?;
    let Some(stream) = terminal.wait(running(client, args, name)).await else {
        eprintln!("\r");
        return Ok(());
    };
    let stream = stream?;
    eprintln!("Connected to {name}. Press Ctrl+] or Ctrl+5 to leave.\r");
    let at_end = if args.read_only {
        AtEnd::Stay
    } else {
        AtEnd::Leave
    };
    match terminal
        .console(stream, at_end)
        .await
        .map_err(ClientError::io("console"))?
    {
        ConsoleEnd::Left | ConsoleEnd::EndOfInput => eprintln!("\r"),
        ConsoleEnd::Closed => eprintln!(
            "\r\nThe console was closed: the machine has ended, or the daemon was restarted (then connect again).\r"
        ),
    }
    Ok(())
}

/// The console of the machine, once it runs.
async fn running(
    client: &Client,
    args: &Console,
    name: &str,
) -> Result<TokioIo<Upgraded>, ClientError> {
    let namespace = &args.vm.namespace.namespace;
    let path = format!(
        "/v1/machines/{}/{}/console?replay={}&readOnly={}",
        segment(namespace),
        segment(name),
        args.replay,
        args.read_only
    );
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut said = None;
    loop {
        match client.upgrade(&path).await {
            // Not running (yet): the peer's clients retry for five minutes too.
            Err(ClientError::Refused {
                code: 400, message, ..
            }) if Instant::now() < deadline => {
                // Said once, though a machine that runs may have no console for a while: its launcher comes back.
                if said.as_ref() != Some(&message) {
                    eprintln!("{message}; waiting until it runs (Ctrl+] leaves)\r");
                    said = Some(message);
                }
                tokio::time::sleep(PAUSE).await;
                wait_running(client, namespace, name, deadline).await?;
            }
            Err(error) => return Err(no_machine(client, error, namespace, name).await),
            Ok(stream) => return Ok(stream),
        }
    }
}

async fn wait_running(
    client: &Client,
    namespace: &str,
    name: &str,
    deadline: Instant,
) -> Result<(), ClientError> {
    while Instant::now() < deadline {
        let instance = client
            .json::<Value>(
                Method::GET,
                &path(Kind::VirtualMachineInstance, namespace, name),
                None,
            )
            .await;
        if instance.is_ok_and(|instance| instance["status"]["phase"] == "Running") {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(ClientError::Usage(format!(
        "{name} did not run in time; `catamaran describe {name}` says why"
    )))
}

/// `vnc`: a local port for any viewer.
///
/// # Errors
/// When the port is in use or there is no such machine.
pub async fn vnc(client: &Client, args: &Vnc) -> Result<(), ClientError> {
    let (namespace, name) = (&args.vm.namespace.namespace, args.vm.name()?);
    let instance = client
        .json::<Value>(
            Method::GET,
            &path(Kind::VirtualMachineInstance, namespace, name),
            None,
        )
        .await;
    let instance = match instance {
        Ok(instance) => instance,
        Err(error) => return Err(no_machine(client, error, namespace, name).await),
    };
    if instance["status"]["phase"] != "Running" {
        return Err(ClientError::Usage(format!(
            "{name} is not running (phase {})",
            text(&instance["status"]["phase"])
        )));
    }
    let (listener, bound) = forward::listen(args.address, args.port).await?;
    say(&format!("{bound}\n"))?;
    eprintln!("The screen of {name} is at vnc://{bound} until Ctrl+C.");
    let path = format!(
        "/v1/machines/{}/{}/vnc?readOnly={}",
        segment(namespace),
        segment(name),
        args.read_only
    );
    Ok(forward::pass_on(listener, || client.clone().stream_to(path.clone())).await?)
}
