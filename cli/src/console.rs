//! `console` and `vnc`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use catamaran_client::{AtEnd, ConsoleEnd, Terminal, forward, say};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::args::{Console, Vnc};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::{Kind, Target, object};

/// Between two tries while a machine comes up, as the peer's client.
const AGAIN: Duration = Duration::from_secs(1);
/// Port of display 0.
const DISPLAYS: i32 = 5900;
/// Viewers, best first.
const VIEWERS: [(&str, Address); 4] = [
    ("remote-viewer", Address::Url),
    ("vncviewer", Address::DoubleColon),
    ("xtigervncviewer", Address::DoubleColon),
    ("gvncviewer", Address::Display),
];

/// How a viewer wants to be told where.
#[derive(Debug, Clone, Copy)]
enum Address {
    /// `vnc://HOST:PORT`.
    Url,
    /// `HOST::PORT`.
    DoubleColon,
    /// `HOST:DISPLAY`, and no other.
    Display,
}

impl Address {
    fn of(self, bound: SocketAddr) -> String {
        match self {
            Self::Url => format!("vnc://{bound}"),
            Self::DoubleColon => format!("{}::{}", bound.ip(), bound.port()),
            Self::Display => {
                let display = i32::from(bound.port()) - DISPLAYS;
                format!("{}:{display}", bound.ip())
            }
        }
    }
}

/// `console`: waits until the machine runs, then copies.
pub(crate) async fn console(connection: &Connection, args: &Console) -> Result<(), Error> {
    let target = &args.vm.target;
    let mut terminal = Terminal::open().map_err(Error::io("standard input"))?;
    let Some(stream) = terminal.wait(running(connection, args)).await else {
        eprintln!("\r");
        return Ok(());
    };
    let stream = stream?;
    eprintln!(
        "Connected to {}. Press Ctrl+] or Ctrl+5 to leave.\r",
        target.name
    );
    let at_end = if args.read_only {
        AtEnd::Stay
    } else {
        AtEnd::Leave
    };
    let ended = terminal.console(stream, at_end).await;
    match ended.map_err(Error::io("console"))? {
        ConsoleEnd::Left | ConsoleEnd::EndOfInput => eprintln!("\r"),
        ConsoleEnd::Closed => eprintln!(
            "\r\nThe console was closed: the machine has ended, or the way to it broke (then connect again).\r"
        ),
    }
    Ok(())
}

/// The console of the machine, once it runs.
async fn running(
    connection: &Connection,
    args: &Console,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, Error> {
    let target = &args.vm.target;
    let word = format!("console?replay={}&readonly={}", args.replay, args.read_only);
    let path = connection.path(Kind::Instance, target, &word);
    let end = Instant::now() + Duration::from_secs(args.timeout);
    let mut waiting = false;
    loop {
        match connection.stream(&path).await {
            Err(error) if Instant::now() < end && comes(connection, target, &error).await? => {
                if !waiting {
                    eprintln!(
                        "{} does not run yet; waiting until it does (Ctrl+] leaves)\r",
                        target.name
                    );
                }
                waiting = true;
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}

/// Whether a refused stream is worth another try: the machine is on its way.
async fn comes(connection: &Connection, target: &Target, error: &Error) -> Result<bool, Error> {
    match error.code() {
        // Not running yet: 400 from the server of the streams, where a failed machine would be 409.
        Some(400) => Ok(error.to_string().contains("instead of Running")),
        Some(404) => {
            let namespace = connection.namespace_of(target);
            let path = object("kubevirt.io/v1", namespace, "virtualmachines", &target.name);
            let machine = connection.look(&path).await?;
            let status = machine
                .there()
                .and_then(|machine| machine["status"]["printableStatus"].as_str());
            if status == Some("Stopped") {
                return Err(Error::Usage(format!(
                    "{name} is stopped; `kubectl catamaran start {name}` starts it",
                    name = target.name
                )));
            }
            Ok(machine.there().is_some())
        }
        _ => Ok(false),
    }
}

/// `vnc`: a local port, and a viewer that shows it.
pub(crate) async fn vnc(connection: &Connection, args: &Vnc) -> Result<(), Error> {
    let target = &args.vm.target;
    let word = format!("vnc?readonly={}", args.read_only);
    let path = connection.path(Kind::Instance, target, &word);
    // The first stream shows whether there is a screen to look at, before a viewer fails without a word.
    drop(connection.stream(&path).await?);
    let (listener, bound) = forward::listen(args.address, args.port).await?;
    let serve = forward::pass_on(listener, || connection.clone().stream_to(path.clone()));
    let viewer = if args.proxy_only { None } else { viewer() };
    let Some((program, address)) = viewer else {
        let line: Value = json!({"port": bound.port()});
        if args.proxy_only {
            say(&format!("{line}\n")).map_err(Error::io("standard output"))?;
        } else {
            eprintln!("No VNC viewer was found on PATH.");
        }
        eprintln!(
            "The screen of {} is at vnc://{bound} until Ctrl+C.",
            target.name
        );
        return Ok(serve.await?);
    };
    let name = program.display().to_string();
    let mut child = tokio::process::Command::new(&program)
        .arg(address.of(bound))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io(name.clone()))?;
    tokio::select! {
        ended = child.wait() => {
            let status = ended.map_err(Error::io(name.clone()))?;
            if status.success() {
                Ok(())
            } else {
                Err(Error::Usage(format!("{name} ended with {status}")))
            }
        }
        served = serve => Ok(served?),
    }
}

/// The first viewer on PATH.
fn viewer() -> Option<(PathBuf, Address)> {
    let path = std::env::var_os("PATH")?;
    VIEWERS.into_iter().find_map(|(name, address)| {
        let found = std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())?;
        Some((found, address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_viewer_is_told_where_in_its_own_way() {
        let bound: SocketAddr = "127.0.0.1:40001".parse().unwrap();
        assert_eq!(Address::Url.of(bound), "vnc://127.0.0.1:40001");
        assert_eq!(Address::DoubleColon.of(bound), "127.0.0.1::40001");
        assert_eq!(Address::Display.of(bound), "127.0.0.1:34101");
    }
}
