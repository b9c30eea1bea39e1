//! The API server's requests, watches and web sockets, spoken by hand (RFC 6455): what a client of the subresources needs, and nothing of the
//! product's own code.
//!
//! `kubectl proxy` stands between, so that neither TLS nor certificates are needed here.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Cluster;

/// Subprotocol of the streams.
const PLAIN: &str = "plain.kubevirt.io";
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
/// Code of an end that is nobody's fault.
const NORMAL: u16 = 1000;
const PING: u8 = 9;

/// A running `kubectl proxy`. Ends with the value.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    address: String,
}

impl Proxy {
    pub(super) fn open(cluster: &Cluster) -> Result<Self> {
        let mut command = cluster.kubectl_command(["proxy", "--port=0"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("kubectl proxy")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line
            .trim()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let proxy = Self { child, address };
        ensure!(
            proxy.address.starts_with("127.0.0.1:"),
            "kubectl proxy said {line:?}"
        );
        Ok(proxy)
    }

    /// Makes a request and gives status and body.
    ///
    /// # Errors
    /// When the server can't be reached or does not speak HTTP.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        self.request_with(method, path, "Content-Type: application/json\r\n", body)
    }

    /// As [`Self::request`], with header lines of one's own: whom to be taken for, what the body is.
    ///
    /// # Errors
    /// As of [`Self::request`].
    pub fn request_with(
        &self,
        method: &str,
        path: &str,
        further: &str,
        body: &str,
    ) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{further}Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut reader = BufReader::new(stream);
        let (status, _) = head(&mut reader)?;
        let mut said = String::new();
        reader.read_to_string(&mut said)?;
        Ok((status, said))
    }

    /// Follows the objects of a list; those that are there come first.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn watch(&self, list: &str, selector: &str) -> Result<Watch> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "GET {list}?watch=true&{selector} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        )?;
        let mut reader = BufReader::new(stream);
        let (status, _) = head(&mut reader)?;
        ensure!(status == 200, "{list}: {status}");
        Ok(Watch(reader))
    }

    /// Ends it, and so every watch and stream that goes through it.
    ///
    /// # Errors
    /// When it can't be ended.
    pub fn end(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(
            pid,
            rustix::process::Signal::KILL,
        )?)
    }

    /// Opens a stream: both directions.
    ///
    /// # Errors
    /// When the server does not switch to the protocol; the error holds its answer.
    pub fn stream(&self, path: &str) -> Result<(FrameReader, FrameWriter)> {
        open(&self.address, "localhost", path, PLAIN, PLAIN, "")
    }
}

/// Opens a stream with sub-protocols of which the server must choose one, and further header lines.
pub(super) fn open(
    address: &str,
    host: &str,
    path: &str,
    offered: &str,
    wanted: &str,
    further: &str,
) -> Result<(FrameReader, FrameWriter)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Y2F0YW1hcmFuLXRlc3RzLg==\r\nSec-WebSocket-Protocol: {offered}\r\n{further}\r\n"
    )?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (status, fields) = head(&mut reader)?;
    if status != 101 {
        let mut said = [0; 2048];
        let read = reader.read(&mut said)?;
        bail!(
            "{path}: {status} {}",
            String::from_utf8_lossy(&said[..read])
        );
    }
    let chosen = fields
        .iter()
        .find(|field| field.to_lowercase().starts_with("sec-websocket-protocol:"));
    ensure!(
        chosen.is_some_and(|field| field.ends_with(wanted)),
        "{path}: the subprotocol is {chosen:?}"
    );
    let writer = FrameWriter { stream };
    let reader = FrameReader {
        reader,
        answers: FrameWriter {
            stream: writer.stream.try_clone()?,
        },
        left: Vec::new(),
    };
    Ok((reader, writer))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Objects of a list as they change.
#[derive(Debug)]
pub struct Watch(BufReader<TcpStream>);

impl Watch {
    /// Reads on until a change (its word, `ADDED`, `MODIFIED` or `DELETED`, and the object) is the one that is waited for.
    ///
    /// # Errors
    /// When none comes in time, or the server ends the watch.
    pub fn until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut wanted: impl FnMut(&str, &Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + deadline;
        let mut last = Value::Null;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "not in time: {what}; at last: {last}");
            self.0.get_ref().set_read_timeout(Some(left))?;
            let mut line = String::new();
            let read = self.0.read_line(&mut line);
            let read = read.with_context(|| format!("{what}; at last: {last}"))?;
            ensure!(read > 0, "the watch ended: {what}; at last: {last}");
            let mut change: Value = serde_json::from_str(&line)?;
            last = change["object"].take();
            if wanted(change["type"].as_str().unwrap_or_default(), &last) {
                return Ok(last);
            }
        }
    }
}

/// Status and header fields.
pub(super) fn head(reader: &mut impl std::io::BufRead) -> Result<(u16, Vec<String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the answer ended early");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1));
    let status = status
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("no status in {lines:?}"))?;
    Ok((status, lines))
}

/// The bytes that come, without their frames.
#[derive(Debug)]
pub struct FrameReader {
    reader: BufReader<TcpStream>,
    answers: FrameWriter,
    left: Vec<u8>,
}

impl FrameReader {
    /// The next frame: what it is, and its content.
    fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut two = [0; 2];
        self.reader.read_exact(&mut two)?;
        let length = match two[1] & 0x7f {
            126 => {
                let mut long = [0; 2];
                self.reader.read_exact(&mut long)?;
                u64::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut long = [0; 8];
                self.reader.read_exact(&mut long)?;
                u64::from_be_bytes(long)
            }
            short => u64::from(short),
        };
        let mut content = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut content)?;
        Ok((two[0] & 0x0f, content))
    }
}

impl FrameReader {
    /// Reads on to the server's farewell: its code and reason.
    ///
    /// # Errors
    /// When it says none in time.
    pub fn farewell(&mut self, deadline: Duration) -> Result<(u16, String)> {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no farewell within {deadline:?}");
            self.reader.get_ref().set_read_timeout(Some(left))?;
            match self.frame().context("no farewell")? {
                (CLOSE, content) => return Ok(told(&content)),
                (PING, content) => self.answers.frame(PING + 1, &content)?,
                _ => {}
            }
        }
    }
}

/// Code and reason of a farewell.
fn told(content: &[u8]) -> (u16, String) {
    let (code, reason) = content.split_at_checked(2).unwrap_or_default();
    let code = code.try_into().map(u16::from_be_bytes).unwrap_or_default();
    (code, String::from_utf8_lossy(reason).into_owned())
}

impl Read for FrameReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            match self.frame()? {
                (CLOSE, content) => match told(&content) {
                    (0 | NORMAL, _) => return Ok(0),
                    (code, reason) => {
                        return Err(std::io::Error::other(format!(
                            "closed with {code}: {reason}"
                        )));
                    }
                },
                (PING, content) => self.answers.frame(PING + 1, &content)?,
                (_, content) => self.left = content,
            }
        }
        let count = buffer.len().min(self.left.len());
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

/// Takes the bytes that go, and frames them. Closes the connection with the value.
#[derive(Debug)]
pub struct FrameWriter {
    stream: TcpStream,
}

impl FrameWriter {
    fn frame(&mut self, kind: u8, content: &[u8]) -> std::io::Result<()> {
        // A client's frames are masked; with zeros the content stays as it is.
        let mut frame = vec![0x80 | kind];
        match u16::try_from(content.len()) {
            Ok(length @ ..126) => frame.push(0x80 | u8::try_from(length).unwrap_or(0)),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend((content.len() as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(content);
        self.stream.write_all(&frame)
    }
}

impl Write for FrameWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.frame(BINARY, buffer)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
