//! The user's terminal while a console is open.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::escape::{EscapeFilter, Typed};

/// Raw mode of a terminal; the old mode comes back when this goes.
#[derive(Debug)]
pub struct RawMode<F: AsFd> {
    terminal: F,
    old: Option<Termios>,
}

impl<F: AsFd> RawMode<F> {
    /// Puts the terminal into raw mode. Does nothing where it is not one.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn new(terminal: F) -> io::Result<Self> {
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
    /// Input ended (it was no terminal).
    EndOfInput,
}

/// Copies between the user's terminal and a stream until the user leaves or the stream ends.
///
/// # Errors
/// When the terminal or the stream fails.
pub async fn console<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    end_with_input: bool,
) -> io::Result<ConsoleEnd> {
    let _raw = RawMode::new(io::stdin())?;
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let (mut typed, mut said) = (vec![0; 1024], vec![0; 16 << 10]);
    let mut input_open = true;
    loop {
        tokio::select! {
            read = from.read(&mut said) => match read? {
                0 => return Ok(ConsoleEnd::Closed),
                n => {
                    output.write_all(&said[..n]).await?;
                    output.flush().await?;
                }
            },
            read = input.read(&mut typed), if input_open => match read? {
                0 if end_with_input => return Ok(ConsoleEnd::EndOfInput),
                0 => input_open = false,
                n => match EscapeFilter.sort(&typed[..n]) {
                    Typed::Leave => return Ok(ConsoleEnd::Left),
                    Typed::Bytes(bytes) => {
                        to.write_all(bytes).await?;
                        // A websocket keeps them until then.
                        to.flush().await?;
                    }
                },
            },
        }
    }
}
