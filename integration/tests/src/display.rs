//! A display that nobody looks at: programs with windows are started on it, and typed into as a person would.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::wait::{SHORT, Seen, wait_for};

/// An X server without a screen. Ends with the value.
#[derive(Debug)]
pub struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// Starts it on a number that is free.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn open() -> Result<Self> {
        let words = [
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1024x768x24",
            "-nolisten",
            "tcp",
        ];
        let mut server = command::program("Xvfb", words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("Xvfb (integration/setup/packages.sh test installs it)")?;
        // It tells its number in a line, once it serves.
        let mut output = server.stdout.take().context("no standard output")?;
        let mut number = String::new();
        let mut byte = [0];
        while output.read(&mut byte)? == 1 && byte != *b"\n" {
            number.push(char::from(byte[0]));
        }
        let display = Self {
            server,
            name: format!(":{number}"),
        };
        ensure!(number.parse::<u16>().is_ok(), "Xvfb did not start");
        Ok(display)
    }

    /// Has a program show its windows here.
    pub fn show<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("DISPLAY", &self.name)
    }

    /// Waits for a window with that in its title; gives its number.
    ///
    /// # Errors
    /// When none comes.
    pub fn window(&self, title: &str) -> Result<String> {
        wait_for(&format!("a window {title:?}"), SHORT, || {
            let found = self.drive(&["search", "--onlyvisible", "--name", title])?;
            Ok(match found.lines().next() {
                Some(window) => Seen::Yes(window.to_owned()),
                None => Seen::NotYet("there is none".to_owned()),
            })
        })
    }

    /// Types a line into a window.
    ///
    /// # Errors
    /// When it is gone.
    pub fn type_line(&self, window: &str, line: &str) -> Result<()> {
        // Nobody else gives windows the focus.
        self.drive(&["windowfocus", "--sync", window])?;
        self.drive(&["type", "--delay", "50", line])?;
        self.drive(&["key", "Return"]).map(drop)
    }

    fn drive(&self, words: &[&str]) -> Result<String> {
        command::stdout(self.show(&mut command::program("xdotool", words)))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
