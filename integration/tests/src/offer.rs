//! A local port that a client offers as long as it runs: `catamaran vnc`, `catamaran port-forward`.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};

use crate::bench::Bench;
use crate::steps::Running;
use crate::wait::SHORT;

/// Seconds without a byte after which a conversation is over.
const SILENCE: &str = "-T20";

/// The client and its port. Ends with the value.
#[derive(Debug)]
pub struct Offer {
    _client: Running,
    address: SocketAddr,
}

impl Offer {
    /// Starts the client and waits until it says where it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn open<S: AsRef<OsStr>>(
        bench: &Bench,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut client = bench.client(words);
        let name = format!("{client:?}");
        let child = client
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut client = Running(child.spawn()?);
        let output = client.0.stdout.take().context("no standard output")?;
        let (say, said) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let address = line.split(' ').find_map(|word| word.parse().ok());
                if address.is_some_and(|address: SocketAddr| say.send(address).is_err()) {
                    return;
                }
            }
        });
        let address = said
            .recv_timeout(SHORT)
            .with_context(|| format!("{name} does not say where it listens"))?;
        Ok(Self {
            _client: client,
            address,
        })
    }

    /// Where it listens, in the bench's network namespace.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn connect(&self, bench: &Bench) -> Result<Conversation> {
        let to = format!("TCP:{}", self.address);
        let mut socat = bench.inside(["socat", SILENCE, "-", &to]);
        let socat = socat.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Conversation(Running(socat.spawn()?)))
    }
}

/// Bytes there and back.
#[derive(Debug)]
pub struct Conversation(Running);

impl Conversation {
    fn child(&mut self) -> &mut Child {
        &mut self.0.0
    }

    /// Says something.
    ///
    /// # Errors
    /// When the other side has gone.
    pub fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.child().stdin.as_mut().context("no standard input")?;
        input.write_all(bytes)?;
        Ok(input.flush()?)
    }

    /// Hears so many bytes.
    ///
    /// # Errors
    /// When the other side goes or is silent for long.
    pub fn hear<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        let output = self.child().stdout.as_mut().context("no standard output")?;
        output.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Hears exactly these bytes.
    ///
    /// # Errors
    /// When others come, or none.
    pub fn hear_only<const LENGTH: usize>(&mut self, expected: &[u8; LENGTH]) -> Result<()> {
        let heard = self.hear::<LENGTH>()?;
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            heard == *expected,
            "{:?} came instead of {:?}",
            words(&heard),
            words(expected)
        );
        Ok(())
    }
}
