//! One question of a probe. Whatever answers is the guest's own making: little of it is read, and not for long.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use catamaran_spec::{Probe, ProbeAction};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Characters of a command's output in a message.
const OUTPUT_MAX: usize = 200;
/// Redirects that are followed, on the same host.
const REDIRECTS_MAX: usize = 10;
/// Pause between two questions whether a command has ended.
const POLL: Duration = Duration::from_millis(100);

/// What one question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The guest is well.
    Good,
    /// It is not, and why.
    Bad(String),
    /// The question could not be put: it says nothing of the guest.
    Unknown(String),
}

/// Why the guest agent's answer is not there.
#[derive(Debug)]
pub(super) enum Silence {
    /// The agent does not answer, or answers with an error.
    Guest(String),
    /// The way to it is broken: its launcher is being started anew.
    Way(String),
}

impl From<Silence> for Answer {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Guest(why) => Self::Bad(why),
            Silence::Way(why) => Self::Unknown(why),
        }
    }
}

/// The way to a guest.
pub(super) trait Guest {
    /// Its address, for probes that name no host.
    fn address(&self) -> Option<IpAddr>;

    /// Asks its agent; the answer is what stands in `return`.
    fn agent(
        &self,
        command: Value,
        timeout_seconds: u32,
    ) -> impl Future<Output = Result<Value, Silence>> + Send;
}

/// Asks once, within the probe's timeout.
pub(super) async fn ask(guest: &impl Guest, probe: &Probe) -> Answer {
    let seconds = probe.timeout_seconds.max(1);
    let question = async {
        match &probe.action {
            ProbeAction::HttpGet { .. } => http(guest, &probe.action).await,
            ProbeAction::TcpSocket { port, host } => tcp(guest, host.as_deref(), *port).await,
            ProbeAction::GuestAgentPing => {
                let ping = guest.agent(json!({ "execute": "guest-ping" }), seconds);
                ping.await.map_or_else(Answer::from, |_| Answer::Good)
            }
            ProbeAction::Exec { command } => exec(guest, command, seconds)
                .await
                .unwrap_or_else(Answer::from),
        }
    };
    let limit = Duration::from_secs(seconds.into());
    let late = |_| Answer::Bad(format!("no answer within {seconds} s"));
    timeout(limit, question).await.unwrap_or_else(late)
}

/// The host as it stands in an address: the one named, else the guest's.
fn host(guest: &impl Guest, named: Option<&str>) -> Option<String> {
    let address = || guest.address().map(|address| address.to_string());
    named.map(str::to_owned).or_else(address)
}

fn no_address() -> Answer {
    Answer::Bad("the machine has no address".to_owned())
}

async fn tcp(guest: &impl Guest, named: Option<&str>, port: u16) -> Answer {
    let Some(host) = host(guest, named) else {
        return no_address();
    };
    match TcpStream::connect((host.as_str(), port)).await {
        Ok(_) => Answer::Good,
        Err(error) => Answer::Bad(format!("dial tcp {}: {error}", at(&host, port))),
    }
}

/// `host:port`, an IPv6 address in brackets.
fn at(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

async fn http(guest: &impl Guest, action: &ProbeAction) -> Answer {
    let ProbeAction::HttpGet {
        port,
        path,
        host: named,
        tls,
        headers,
    } = action
    else {
        return Answer::Unknown("no HTTP probe".to_owned());
    };
    let Some(host) = host(guest, named.as_deref()) else {
        return no_address();
    };
    let client = match client() {
        Ok(client) => client,
        Err(error) => return Answer::Unknown(catamaran_client::chain(&error)),
    };
    let scheme = if *tls { "https" } else { "http" };
    let mut request = client.get(format!("{scheme}://{}{path}", at(&host, *port)));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // The body is not read.
    match request.send().await.map(|response| response.status()) {
        Ok(status) if (200..400).contains(&status.as_u16()) => Answer::Good,
        Ok(status) => Answer::Bad(bad_status(status)),
        Err(error) => Answer::Bad(format!(
            "Get {scheme}://{}{path}: {}",
            at(&host, *port),
            catamaran_client::chain(&error.without_url())
        )),
    }
}

fn bad_status(status: StatusCode) -> String {
    format!("HTTP probe failed with statuscode: {}", status.as_u16())
}

/// Each question is a connection of its own. A guest's certificate is its own affair, as it is to the kubelet.
fn client() -> reqwest::Result<Client> {
    // reqwest takes the process' default provider; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = Policy::custom(|attempt| {
        let from_here =
            attempt.previous().first().and_then(|url| url.host_str()) == attempt.url().host_str();
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(format!("stopped after {REDIRECTS_MAX} redirects"))
        } else if from_here {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    Client::builder()
        .user_agent(concat!("catamaran-probe/", env!("CARGO_PKG_VERSION")))
        .tls_danger_accept_invalid_certs(true)
        .redirect(redirects)
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0)
        .build()
}

/// Runs a command by the guest agent and waits for its end.
async fn exec(guest: &impl Guest, command: &[String], seconds: u32) -> Result<Answer, Silence> {
    let (program, arguments) = command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let start = json!({
        "execute": "guest-exec",
        "arguments": { "path": program, "arg": arguments, "capture-output": true },
    });
    let started = guest.agent(start, seconds).await?;
    let pid = started["pid"].as_i64();
    let pid = pid.ok_or_else(|| Silence::Guest("the guest agent names no process".to_owned()))?;
    let look = json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } });
    loop {
        let status = guest.agent(look.clone(), seconds).await?;
        if status["exited"] == true {
            return Ok(ended(&status));
        }
        sleep(POLL).await;
    }
}

/// How a command of the guest agent ended.
fn ended(status: &Value) -> Answer {
    let how = match (status["exitcode"].as_i64(), status["signal"].as_i64()) {
        (Some(0), _) => return Answer::Good,
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended without an exit code".to_owned(),
    };
    let text = |field: &str| {
        let encoded = status[field].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .unwrap_or_default()
    };
    let output = [text("out-data"), text("err-data")].concat();
    let output = String::from_utf8_lossy(&output);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let output: String = output.trim().chars().take(OUTPUT_MAX).map(plain).collect();
    Answer::Bad(if output.is_empty() {
        how
    } else {
        format!("{how}: {output}")
    })
}

#[cfg(test)]
mod tests;
