//! What a browser does with the web console: HTTPS with a cookie, the origin of the page, and web sockets; nothing of the product's own code.
//!
//! `kubectl port-forward` leads to one pod of the controller. TLS is spoken by a thread of its own, so that everything else is plain here. The
//! console of `play` is in the test's network namespace, where another thread leads to.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::websocket::{FrameReader, FrameWriter, head, open};
use super::{Cluster, SYSTEM};

/// The sub-protocol of the console's streams.
const PROTOCOL: &str = "catamaran.console.v1";
/// A browser at the console of one replica. Ends with the value.
#[derive(Debug)]
pub struct Browser {
    forward: Option<Child>,
    address: String,
    host: String,
    origin: String,
    cookie: String,
}

impl Cluster {
    /// The controller's pods that are ready.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn controllers(&self) -> Result<Vec<String>> {
        let listed = self.kubectl([
            "--namespace",
            SYSTEM,
            "get",
            "pod",
            "--selector",
            "kubevirt.io=virt-controller",
            "-o",
            "json",
        ])?;
        let listed: Value = serde_json::from_str(&listed)?;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.any(|found| found["type"] == "Ready" && found["status"] == "True")
        };
        let pods = listed["items"].as_array().into_iter().flatten();
        Ok(pods
            .filter(ready)
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// A browser at the console of one of the controller's pods.
    ///
    /// # Errors
    /// When there is no way to it.
    pub fn browser(&self, pod: &str) -> Result<Browser> {
        let map = self.kubectl([
            "--namespace",
            SYSTEM,
            "get",
            "configmap/catamaran-ca",
            "-o",
            "json",
        ])?;
        let map: Value = serde_json::from_str(&map)?;
        let authority = map["data"]["ca.crt"].as_str().context("no ca.crt")?;
        let mut command = self.kubectl_command(["--namespace", SYSTEM, "port-forward"]);
        let mut forward = command
            .args([&format!("pod/{pod}"), ":8443"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("kubectl port-forward")?;
        let output = forward.stdout.take().context("no standard output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        // Forwarding from 127.0.0.1:40123 -> 8443
        let port = line
            .split(' ')
            .find_map(|word| word.strip_prefix("127.0.0.1:"))
            .and_then(|port| port.parse().ok())
            .with_context(|| format!("kubectl port-forward said {line:?}"))?;
        // It says something about each connection.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let host = format!("localhost:{port}");
        Ok(Browser {
            forward: Some(forward),
            address: speak_tls(port, authority)?,
            origin: format!("https://{host}"),
            host,
            cookie: String::new(),
        })
    }
}

/// A local address; whoever connects there is connected with a port of the loopback of a network namespace.
fn lead_into(namespace: &Path, port: u16) -> Result<String> {
    let namespace = File::open(namespace).with_context(|| namespace.display().to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || -> Result<()> {
        // This thread only; sockets stay where they were made.
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        loop {
            let (near, _) = listener.accept()?;
            let far = TcpStream::connect(("127.0.0.1", port))?;
            for (mut from, mut to) in [
                (near.try_clone()?, far.try_clone()?),
                (far.try_clone()?, near.try_clone()?),
            ] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    Ok(address)
}

/// A local address; whoever connects there speaks TLS to the port.
fn speak_tls(port: u16, authority: &str) -> Result<String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(format!("catamaran-api.{SYSTEM}.svc"))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (mut near, _) = listener.accept().await?;
                let (connector, name) = (connector.clone(), name.clone());
                tokio::task::spawn_local(async move {
                    let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                    let mut far = connector.connect(name, far).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
            #[expect(unreachable_code, reason = "says what the block answers")]
            std::io::Result::Ok(())
        })
    });
    Ok(address)
}

/// An answer of the console.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub code: u16,
    /// Header lines.
    pub fields: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Browser {
    /// A browser at the console of `play`, which listens on the loopback of a network namespace.
    ///
    /// # Errors
    /// When there is no such namespace.
    pub fn inside(namespace: &Path, port: u16) -> Result<Self> {
        let host = format!("127.0.0.1:{port}");
        Ok(Self {
            forward: None,
            address: lead_into(namespace, port)?,
            origin: format!("http://{host}"),
            host,
            cookie: String::new(),
        })
    }

    /// The same browser, led here by a name of somebody else's.
    pub fn rename(&mut self, host: &str) {
        host.clone_into(&mut self.host);
        self.origin = format!("http://{host}");
    }

    /// Asks below `/console/api/`.
    ///
    /// # Errors
    /// When the console can't be reached or does not speak HTTP.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (length, cookie, host, origin) = (body.len(), &self.cookie, &self.host, &self.origin);
        write!(
            stream,
            "{method} /console/api/{path} HTTP/1.0\r\nHost: {host}\r\nOrigin: {origin}\r\nCookie: {cookie}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut reader = BufReader::new(stream);
        let (code, fields) = head(&mut reader).with_context(|| format!("{method} {path}"))?;
        let length = fields.iter().find_map(|field| {
            let (name, value) = field.split_once(':')?;
            let length = name.eq_ignore_ascii_case("content-length");
            length.then(|| value.trim().parse::<u64>().ok())?
        });
        let mut body = Vec::new();
        match length {
            Some(length) => reader.take(length).read_to_end(&mut body)?,
            None => reader.read_to_end(&mut body)?,
        };
        Ok(Answer { code, fields, body })
    }

    /// As [`Self::ask`], for an answer of that code; gives its JSON.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect(&self, method: &str, path: &str, body: &Value, code: u16) -> Result<Value> {
        let answer = self.ask(method, path, body)?;
        ensure!(
            answer.code == code,
            "{method} {path}: {} instead of {code}: {}",
            answer.code,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(answer.json())
    }

    /// Logs in and keeps the cookie.
    ///
    /// # Errors
    /// When the token is not taken.
    pub fn login(&mut self, token: &str) -> Result<Value> {
        let answer = self.ask("POST", "login", &json!({"token": token}))?;
        ensure!(answer.code == 200, "login: {answer:?}");
        let cookie = answer.fields.iter().find_map(|field| {
            let (name, value) = field.split_once(':')?;
            let given = name.eq_ignore_ascii_case("set-cookie");
            given.then(|| value.trim().split(';').next().map(str::to_owned))?
        });
        self.cookie = cookie.context("no cookie")?;
        Ok(answer.json())
    }

    /// Takes over the cookie of another browser and the name that it calls, as one browser does when a load balancer sends it to another replica.
    pub fn as_same_browser(&mut self, other: &Self) {
        self.cookie.clone_from(&other.cookie);
        self.host.clone_from(&other.host);
        self.origin.clone_from(&other.origin);
    }

    /// A ticket for a stream of a machine; `wish` as in the console's API.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn ticket(&self, namespace: &str, machine: &str, wish: &Value) -> Result<String> {
        let path = format!("machines/{namespace}/{machine}/ticket");
        let answer = self.expect("POST", &path, wish, 200)?;
        Ok(answer["ticket"].as_str().context("no ticket")?.to_owned())
    }

    /// Uses a ticket.
    ///
    /// # Errors
    /// When the console does not switch to a web socket.
    pub fn stream(&self, ticket: &str) -> Result<(FrameReader, FrameWriter)> {
        let offered = format!("{PROTOCOL}, ticket.{ticket}");
        let further = format!("Origin: {}\r\nCookie: {}\r\n", self.origin, self.cookie);
        let path = "/console/api/stream";
        open(
            &self.address,
            &self.host,
            path,
            &offered,
            PROTOCOL,
            &further,
        )
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(forward) = &mut self.forward {
            let _ = forward.kill();
            let _ = forward.wait();
        }
    }
}
