//! A stand-in for the API server, and a user of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What is answered.
pub(crate) enum Answer {
    /// Code, further header lines, body.
    Plain(u16, &'static str, String),
    /// A websocket that says this, and hears until it is left.
    Stream(&'static str),
}

pub(crate) fn json(value: &Value) -> Answer {
    Answer::Plain(200, "", value.to_string())
}

pub(crate) fn status(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({"kind": "Status", "code": code, "reason": reason, "message": message});
    Answer::Plain(code, "", status.to_string())
}

/// A server, and the user's files.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) requests: Receiver<Request>,
}

impl World {
    pub(crate) fn new(answer: impl Fn(&str) -> Answer + Send + Sync + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                thread::spawn(move || serve(stream.unwrap(), &answer, &seen));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "me", "user": {"token": "t0ken"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "shop"}}],
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        Self { folder, requests }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-catamaran"));
        command.args(words).stdin(Stdio::null());
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

fn serve(
    stream: TcpStream,
    answer: &impl Fn(&str) -> Answer,
    seen: &std::sync::mpsc::Sender<Request>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let Some(request) = read(&mut reader) else {
            return;
        };
        let path = request.line.split(' ').nth(1).unwrap().to_owned();
        let key = request.header("sec-websocket-key").map(str::to_owned);
        let protocol = request.header("sec-websocket-protocol") == Some("plain.kubevirt.io");
        let _ = seen.send(request);
        match answer(&path) {
            Answer::Plain(code, headers, body) => {
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {code} Whatever\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
                )
                .unwrap();
            }
            Answer::Stream(words) => {
                assert!(protocol, "the subprotocol is missing");
                let accept = derive_accept_key(key.unwrap().as_bytes());
                write!(
                    stream,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: plain.kubevirt.io\r\n\r\n"
                )
                .unwrap();
                let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
                socket.send(Message::Binary(words.into())).unwrap();
                // What is typed comes back.
                while let Ok(message) = socket.read() {
                    if let Message::Binary(bytes) = message {
                        let _ = socket.send(Message::Binary(bytes));
                        let _ = socket.close(None);
                    }
                }
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        headers.push_str(&header);
    }
    let mut request = Request {
        line: line.trim().to_owned(),
        headers,
        body: String::new(),
    };
    let length = request
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
