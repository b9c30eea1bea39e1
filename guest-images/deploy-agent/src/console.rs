//! The log: on the serial port and on the screen, since nobody knows which of the two a person looks at.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

const CONSOLES: [&str; 2] = ["/dev/ttyS0", "/dev/tty1"];

/// Writes to all consoles that there are, else to standard error.
struct Consoles(Vec<File>);

impl Consoles {
    fn open() -> Self {
        // Opening a port that has no hardware behind it fails.
        let open = |name: &&str| OpenOptions::new().write(true).open(name).ok();
        Self(CONSOLES.iter().filter_map(open).collect())
    }
}

impl Write for Consoles {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return io::stderr().write(data);
        }
        for console in &mut self.0 {
            // A console that is broken must not stop the others, nor the work.
            let _ = console.write_all(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opened at the first line: PID 1 has no `/dev` at its start.
struct Lazy;

static OPENED: Mutex<Option<Consoles>> = Mutex::new(None);

impl Write for Lazy {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        opened.get_or_insert_with(Consoles::open).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to log.
pub fn start() {
    let root = std::process::id() == 1 || std::env::var_os("CATAMARAN_DEPLOY_CONSOLES").is_some();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || -> Box<dyn Write> {
            if root {
                Box::new(Lazy)
            } else {
                Box::new(io::stderr())
            }
        });
    subscriber.init();
}
