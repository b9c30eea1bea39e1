//! A thousand mocked BMCs: each is registered (found, logged in to, identified) and inspected.
//!
//! The floor is the same number of bare requests to the same BMCs, as many at once, without sessions, retries, or anybody who reads the answers.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use catamaran_redfish::{Bmc, Connector, Credentials, Endpoint};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::mib;
use crate::process;
use crate::say;
use crate::stats::Samples;
use crate::table::Row;

/// All that the mock knows.
const VENDORS: &str = "standard,dell,hpe,supermicro,lenovo,openbmc";
/// BMCs that are asked at once.
const AT_ONCE: usize = 64;

/// The mocks, in a process of their own. Killed on drop.
pub(super) struct Mocks {
    child: Child,
    /// Of each.
    pub(super) urls: Vec<String>,
    pub(super) systems: Vec<String>,
    /// Address of the interface for scripts.
    admin: String,
}

impl Drop for Mocks {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mocks {
    /// Starts so many, of all vendors.
    pub(super) fn start(programs: &Path, count: usize) -> Result<Self> {
        Self::of(programs, count, VENDORS)
    }

    /// Starts so many, of these vendors.
    pub(super) fn of(programs: &Path, count: usize, vendors: &str) -> Result<Self> {
        let program = programs.join("catamaran-redfish-mock");
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let admin = format!("127.0.0.1:{port}");
        let mut child = Command::new(&program)
            .args([
                "--count",
                &count.to_string(),
                "--remember",
                "0",
                "--admin",
                &admin,
            ])
            .args(["--personality", vendors])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let lines = BufReader::new(child.stdout.take().context("standard output")?).lines();
        let (mut urls, mut systems) = (Vec::new(), Vec::new());
        for line in lines.take(count) {
            let bmc: Value = serde_json::from_str(&line?)?;
            urls.push(bmc["url"].as_str().unwrap_or_default().to_owned());
            systems.push(bmc["system"].as_str().unwrap_or_default().to_owned());
        }
        ensure!(urls.len() == count, "the mock ended early");
        Ok(Self {
            child,
            urls,
            systems,
            admin,
        })
    }

    /// How many requests each has had.
    pub(super) fn requests(&self) -> Result<Vec<u64>> {
        let all: Vec<Value> = serde_json::from_str(&get(&self.admin, "/bmcs")?)?;
        let requests = all.iter().map(|bmc| bmc["requests"].as_u64());
        requests
            .collect::<Option<_>>()
            .context("no number of requests")
    }
}

/// The body of an answer from this machine.
pub(super) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

/// When each of so many hosts was registered and inspected by the client alone, in ms from its start.
pub(super) fn alone(programs: &Path, hosts: usize) -> Result<Samples> {
    let mocks = Mocks::start(programs, hosts)?;
    let runtime = tokio::runtime::Runtime::new()?;
    say(&format!("{hosts} hosts by the client alone"));
    let inspected = runtime.block_on(inspect_all(&mocks.urls))?;
    runtime.block_on(close_all(&inspected.bmcs));
    Ok(inspected.ends)
}

/// BMCs that were asked.
struct Inspected {
    bmcs: Vec<Bmc>,
    /// How long each took.
    times: Samples,
    /// When each was done, from the beginning of all.
    ends: Samples,
}

/// Measures hosts with one BMC each.
pub(crate) fn run(programs: &Path, hosts: usize) -> Result<Vec<Row>> {
    let mocks = Mocks::start(programs, hosts)?;
    let me = i32::try_from(std::process::id())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let before = process::pss(me)?;

    say(&format!("{hosts} hosts"));
    let begin = Instant::now();
    let Inspected { bmcs, times, .. } = runtime.block_on(inspect_all(&mocks.urls))?;
    let whole = begin.elapsed();
    let requests: Vec<f64> = bmcs.iter().map(|bmc| bmc.requests() as f64).collect();
    let held = mib(process::pss(me)?.saturating_sub(before));
    runtime.block_on(close_all(&bmcs));
    drop(bmcs);
    let requests = Samples::new(requests);
    say(&format!(
        "{hosts} hosts registered and inspected in {:.1} s, {AT_ONCE} at once; {:.0} requests a host (median); the client holds {held:.1} MiB; \
         the mocks {:.1} MiB",
        whole.as_secs_f64(),
        requests.median(),
        mib(process::pss(i32::try_from(mocks.child.id())?)?),
    ));

    say("as many bare requests");
    let begin = Instant::now();
    let bare = runtime.block_on(bare_all(&mocks, requests.median() as usize))?;
    say(&format!(
        "as many bare requests took {:.1} s",
        begin.elapsed().as_secs_f64()
    ));
    Ok(vec![Row::median(
        &format!("register and inspect a host, of {hosts} (floor: as many bare requests)"),
        "ms",
        bare,
        times,
        None,
    )])
}

async fn inspect_all(urls: &[String]) -> Result<Inspected> {
    let all = Instant::now();
    let connector = Connector::new();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for url in urls {
        let credentials = Credentials {
            username: "admin".to_owned(),
            password: "password".to_owned(),
        };
        let bmc = Bmc::new(&connector, Endpoint::new(url.parse()?, credentials))?;
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let begin = Instant::now();
            bmc.identity().await?;
            let inventory = bmc.inventory().await?;
            ensure!(
                inventory.nics.len() == 2 && inventory.gaps.is_empty(),
                "{inventory:?}"
            );
            Ok((
                bmc,
                milliseconds(begin.elapsed()),
                milliseconds(all.elapsed()),
            ))
        });
    }
    let (mut bmcs, mut times, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for done in tasks.join_all().await {
        let (bmc, time, end) = done?;
        bmcs.push(bmc);
        times.push(time);
        ends.push(end);
    }
    Ok(Inspected {
        bmcs,
        times: Samples::new(times),
        ends: Samples::new(ends),
    })
}

async fn close_all(bmcs: &[Bmc]) {
    let mut tasks = JoinSet::new();
    for bmc in bmcs {
        let bmc = bmc.clone();
        tasks.spawn(async move { bmc.close().await });
    }
    tasks.join_all().await;
}

async fn bare_all(mocks: &Mocks, requests: usize) -> Result<Samples> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (url, system) in mocks.urls.iter().zip(&mocks.systems) {
        let (turns, system) = (Arc::clone(&turns), system.clone());
        let address = url.trim_start_matches("http://").to_owned();
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let begin = Instant::now();
            for _ in 0..requests {
                bare(&address, &system).await?;
            }
            anyhow::Ok(milliseconds(begin.elapsed()))
        });
    }
    let times: Result<Vec<f64>> = tasks.join_all().await.into_iter().collect();
    Ok(Samples::new(times?))
}

/// One request as admin with the password `password`, on a connection of its own.
async fn bare(address: &str, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic YWRtaW46cGFzc3dvcmQ=\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
