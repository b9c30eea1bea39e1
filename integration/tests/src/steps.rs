//! Steps that several tests take.

use std::process::{Child, Stdio};

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::command;
use crate::snapshot::Snapshot;
use crate::wait::{SHORT, Seen, wait_for};

/// Waits until all words stand in what `describe` says of an object; gives what it says.
///
/// # Errors
/// When they do not.
pub fn wait_described(bench: &Bench, object: &str, words: &[&str]) -> Result<String> {
    wait_for(&format!("{object} says {words:?}"), SHORT, || {
        let said = bench.catamaran(["describe", object])?;
        let all = words.iter().all(|word| said.contains(word));
        Ok(if all {
            Seen::Yes(said)
        } else {
            Seen::NotYet(said)
        })
    })
}

/// Deletes objects, after which nothing may be left of them.
///
/// # Errors
/// When something is.
pub fn delete(bench: &Bench, objects: &[&str], before: &Snapshot) -> Result<()> {
    bench.catamaran(["delete"].iter().chain(objects))?;
    wait_for(&format!("nothing is left of {objects:?}"), SHORT, || {
        let difference = bench.snapshot().difference(before);
        Ok(Seen::when(difference.is_empty(), difference.to_string()))
    })
}

/// A process of the bench's network namespace that ends with the value.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of the host that listens on a port.
///
/// # Errors
/// When it does not.
pub fn listener(bench: &Bench, port: u16) -> Result<Running> {
    let address = format!("TCP-LISTEN:{port},fork");
    let mut socat = bench.inside(["socat", &address, "EXEC:true"]);
    let listener = Running(socat.stdin(Stdio::null()).spawn()?);
    wait_for(&format!("somebody listens on port {port}"), SHORT, || {
        let source = format!("sport = :{port}");
        let said = command::stdout(&mut bench.inside(["ss", "-Hltn", &source]))?;
        Ok(Seen::when(said.contains(&port.to_string()), said))
    })?;
    Ok(listener)
}

/// A page, fetched on the host.
///
/// # Errors
/// When it is not there.
pub fn page(bench: &Bench, url: &str) -> Result<String> {
    let words = ["curl", "-sfg", "--max-time", "10", url];
    command::stdout(&mut bench.inside(words))
}

/// Waits until a page begins with these words.
///
/// # Errors
/// When it does not.
pub fn wait_page(bench: &Bench, url: &str, begin: &str) -> Result<()> {
    wait_for(&format!("{url} begins with {begin:?}"), SHORT, || {
        let page = page(bench, url)?;
        Ok(Seen::when(page.starts_with(begin), page))
    })
}

/// Makes sure that nobody answers there.
///
/// # Errors
/// When somebody does.
pub fn no_page(bench: &Bench, url: &str) -> Result<()> {
    let answer = page(bench, url);
    ensure!(answer.is_err(), "{url} is answered: {answer:?}");
    Ok(())
}
