//! The user's terminal while a console is open.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Stdin};
use tokio::time::Instant;

use crate::escape::{EscapeFilter, LEAVE, Typed};
use crate::time::until;

/// Raw mode of a terminal; the old mode comes back when this goes.
#[derive(Debug)]
struct RawMode<F: AsFd> {
    terminal: F,
    old: Option<Termios>,
}

impl<F: AsFd> RawMode<F> {
    /// Puts the terminal into raw mode. Does nothing where it is not one.
    fn new(terminal: F) -> io::Result<Self> {
        if !isatty(&terminal) {
            return Ok(Self {
                terminal,
                old: None,
            });
        }
        let old = tcgetattr(&terminal)?;
        let mut raw = old.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self {
            terminal,
            old: Some(old),
        })
    }
}

impl<F: AsFd> Drop for RawMode<F> {
    fn drop(&mut self) {
        if let Some(old) = &self.old {
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, old);
        }
    }
}

/// How a console ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleEnd {
    /// The user left with Ctrl+].
    Left,
    /// The other side closed it.
    Closed,
    /// Input ended, and the machine's console took all of it.
    EndOfInput,
}

/// How long the other side may be silent while it takes what was sent, once input has ended.
const TAKEN: Duration = Duration::from_secs(30);

/// What the end of input means for a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// It is over, as soon as the machine's console has taken what was sent.
    Leave,
    /// Nothing: this viewer only looks.
    Stay,
}

/// The user's side of a console. A terminal is in raw mode until this goes, so that single keys are seen.
#[derive(Debug)]
pub struct Terminal {
    raw: RawMode<io::Stdin>,
    // One handle for all reads: a read that is broken off leaves what was typed in here.
    input: Stdin,
}

impl Terminal {
    /// Takes standard input.
    ///
    /// # Errors
    /// When it is a terminal that refuses raw mode.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            raw: RawMode::new(io::stdin())?,
            input: tokio::io::stdin(),
        })
    }

    /// Waits for what is to come; `None` when the user leaves before. Input that is no terminal is left unread: it is for the guest.
    pub async fn wait<T>(&mut self, coming: impl Future<Output = T>) -> Option<T> {
        if self.raw.old.is_some() {
            until_left(&mut self.input, coming).await
        } else {
            Some(coming.await)
        }
    }

    /// Copies between the user and a stream until one of them leaves.
    ///
    /// # Errors
    /// When the terminal or the stream fails, or the other side does not take what was sent.
    pub async fn console<S>(&mut self, stream: S, at_end: AtEnd) -> io::Result<ConsoleEnd>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        copy(stream, &mut self.input, tokio::io::stdout(), at_end, TAKEN).await
    }
}

/// Waits, unless Ctrl+] or Ctrl+C (which raises no signal in raw mode) is typed before, or the terminal goes away. Other keys are for nobody.
async fn until_left<T>(
    mut input: impl AsyncRead + Unpin,
    coming: impl Future<Output = T>,
) -> Option<T> {
    let mut coming = pin!(coming);
    let mut typed = [0; 64];
    loop {
        tokio::select! {
            biased;
            come = &mut coming => return Some(come),
            read = input.read(&mut typed) => match read {
                Ok(0) | Err(_) => return None,
                Ok(n) if typed[..n].iter().any(|byte| LEAVE.contains(byte)) => return None,
                Ok(_) => {}
            },
        }
    }
}

async fn copy<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    at_end: AtEnd,
    taken: Duration,
) -> io::Result<ConsoleEnd> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut typed, mut said) = (vec![0; 1024], vec![0; 16 << 10]);
    let mut input_open = true;
    let mut deadline = None;
    // A slow guest is at work as long as it answers; one that never stops talking is not waited for.
    let mut last = None;
    loop {
        tokio::select! {
            read = from.read(&mut said) => match read {
                Ok(0) if deadline.is_some() => return Ok(ConsoleEnd::EndOfInput),
                Ok(0) => return Ok(ConsoleEnd::Closed),
                Ok(n) => {
                    output.write_all(&said[..n]).await?;
                    output.flush().await?;
                    deadline = last.map(|last| (Instant::now() + taken).min(last));
                }
                Err(error) => return Err(error),
            },
            read = input.read(&mut typed), if input_open => match read? {
                0 => {
                    input_open = false;
                    if at_end == AtEnd::Leave {
                        // The other side closes when it has taken all: what is on its way would be lost if this side just went.
                        to.shutdown().await?;
                        deadline = Some(Instant::now() + taken);
                        last = Some(Instant::now() + 10 * taken);
                    }
                }
                n => match EscapeFilter.sort(&typed[..n]) {
                    Typed::Leave => return Ok(ConsoleEnd::Left),
                    Typed::Bytes(bytes) => {
                        to.write_all(bytes).await?;
                        // A websocket keeps them until then.
                        to.flush().await?;
                    }
                },
            },
            () = until(deadline) => return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the machine's console did not take all of the input: nothing came for {} s after its end", taken.as_secs()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Long enough for any machine, as nothing waits for it unless a test fails.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_end_of_input_ends_a_console_after_all_of_it_went_out() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let guest = async {
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            theirs.write_all(b"done").await.unwrap();
            drop(theirs);
            heard
        };
        let mut said = Vec::new();
        let input = &b"one line\nand another\n"[..];
        let (end, heard) = tokio::join!(copy(ours, input, &mut said, AtEnd::Leave, LONG), guest);
        assert_eq!(end.unwrap(), ConsoleEnd::EndOfInput);
        assert_eq!(heard, input);
        assert_eq!(said, b"done");
    }

    #[tokio::test]
    async fn input_that_nobody_takes_does_not_hold_a_console_for_ever() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let end = copy(ours, &b"x"[..], Vec::new(), AtEnd::Leave, Duration::ZERO).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_only_looks_stays_when_input_ends() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut said = Vec::new();
        theirs.write_all(b"boot").await.unwrap();
        drop(theirs);
        let end = copy(ours, tokio::io::empty(), &mut said, AtEnd::Stay, LONG).await;
        assert_eq!(
            (end.unwrap(), &said[..]),
            (ConsoleEnd::Closed, &b"boot"[..])
        );
    }

    #[tokio::test]
    async fn waiting_is_left_with_the_key_that_leaves_a_console() {
        for keys in [&b"\x1d"[..], b"\x03", b"root\r\x1d", b""] {
            assert_eq!(until_left(keys, pending::<()>()).await, None, "{keys:?}");
        }
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"root\r").await.unwrap();
        assert_eq!(until_left(ours, ready(1)).await, Some(1));
    }
}
