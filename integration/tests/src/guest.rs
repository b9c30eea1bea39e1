//! A guest, spoken to as its owner would: over the serial console.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::bench::Bench;
use crate::wait::{SHORT, Seen, wait_for};

/// An open console: `catamaran console`, or a stream of the API server. Ends with the value.
pub struct Console {
    child: Option<Child>,
    input: Box<dyn Write + Send>,
    said: Arc<Mutex<Vec<u8>>>,
    commands: u32,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("said", &tail(&self.text()))
            .finish_non_exhaustive()
    }
}

impl Console {
    /// Opens the console of a machine, with further words for the program such as `--replay`.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn open(bench: &Bench, machine: &str, words: &[&str]) -> Result<Self> {
        let mut command = bench.client(["console", machine]);
        let mut child = command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("catamaran console")?;
        let output = child.stdout.take().context("no standard output")?;
        let input = child.stdin.take().context("no standard input")?;
        let mut console = Self::over(output, input);
        console.child = Some(child);
        Ok(console)
    }

    /// A console over a connection.
    pub fn over(
        mut output: impl Read + Send + 'static,
        input: impl Write + Send + 'static,
    ) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                if let Ok(mut heard) = heard.lock() {
                    heard.extend_from_slice(&buffer[..read]);
                }
            }
        });
        Self {
            child: None,
            input: Box::new(input),
            said,
            commands: 0,
        }
    }

    /// All that came out so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.said
            .lock()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Process id of the client; none where there is no program.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Types.
    ///
    /// # Errors
    /// When the client has ended.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes())?;
        self.input.flush()?;
        Ok(())
    }

    /// Waits for a text.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_for(&self, text: &str, deadline: Duration) -> Result<()> {
        wait_for(&format!("{text:?} on the console"), deadline, || {
            let said = self.text();
            Ok(Seen::when(said.contains(text), tail(&said)))
        })
    }

    /// Runs a shell command in the guest and gives what it printed.
    ///
    /// # Errors
    /// When it does not end in time or fails.
    pub fn shell(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        let number = self.commands;
        // The shell's echo of the line must not look like its output.
        let (begin, end) = (format!("<<{number}:\r\n"), format!("\n>>{number} "));
        self.type_in(&format!(
            "echo '<''<'{number}:; {command}; echo; echo '>''>'{number} $?\n"
        ))?;
        wait_for(
            &format!("the end of {command:?} in the guest"),
            SHORT,
            || {
                let said = self.text();
                let Some((_, after)) = said.split_once(&begin) else {
                    return Ok(Seen::NotYet(tail(&said)));
                };
                let Some((printed, code)) = after
                    .split_once(&end)
                    .filter(|(_, code)| code.contains('\n'))
                else {
                    return Ok(Seen::NotYet(tail(&said)));
                };
                let code = code.lines().next().unwrap_or_default().trim().to_owned();
                // The guest tells of an address on the same line whenever it gets one.
                let printed: Vec<&str> = printed
                    .lines()
                    .filter(|line| !line.starts_with("catamaran-guest "))
                    .collect();
                Ok(Seen::Yes((printed.join("\n").replace('\r', ""), code)))
            },
        )
        .and_then(|(printed, code)| match code.as_str() {
            "0" => Ok(printed.trim_end_matches('\n').to_owned()),
            _ => bail!("{command:?} in the guest ended with {code}: {printed}"),
        })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The end of a text, for messages.
#[must_use]
pub fn tail(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(600);
    text.chars().skip(skip).collect()
}
