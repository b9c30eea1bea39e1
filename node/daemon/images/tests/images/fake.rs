//! A registry that does what real ones do not: a few lines of HTTP/1.1 whose answers the test chooses.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) authorization: Option<String>,
}

/// What it gets.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Declared length, where it is not that of the body.
    pub(crate) length: Option<u64>,
    /// Keep the connection open and silent afterwards.
    pub(crate) stall: bool,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).with_body(body)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            length: None,
            stall: false,
        }
    }

    pub(crate) fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

pub(crate) struct Fake {
    pub(crate) port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Serves until the test process ends.
    pub(crate) fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                std::thread::spawn(move || {
                    // A client that hangs up is no failure of the server.
                    let _ = serve(&stream.unwrap(), &*handler, &seen);
                });
            }
        });
        Self { port, log }
    }

    /// Serves the files of a layout as a registry would.
    pub(crate) fn serving(folder: &std::path::Path) -> Self {
        let folder = folder.to_owned();
        Self::start(move |asked| from_layout(&folder, asked))
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|a| a.path.contains(part))
            .cloned()
            .collect()
    }
}

/// Answer to a request for the one image or any blob of a layout.
pub(crate) fn from_layout(folder: &std::path::Path, asked: &Asked) -> Answer {
    let blob = |hex: &str| match std::fs::read(folder.join("blobs/sha256").join(hex)) {
        Ok(bytes) => Answer::ok(bytes),
        Err(_) => Answer::status(404),
    };
    if asked.path == "/v2/" {
        return Answer::ok("{}");
    }
    if let Some((_, hex)) = asked.path.split_once("sha256:") {
        return blob(hex);
    }
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    blob(digest.strip_prefix("sha256:").unwrap()).header("Docker-Content-Digest", digest)
}

fn serve(stream: &TcpStream, handler: &Handler, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut asked = Asked {
            path: line.split(' ').nth(1).unwrap_or("").to_owned(),
            host: String::new(),
            authorization: None,
        };
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    asked.authorization = Some(value.to_owned());
                }
                Some((name, value)) if name.eq_ignore_ascii_case("host") => {
                    value.clone_into(&mut asked.host);
                }
                Some(_) => {}
                None => break,
            }
        }
        log.lock().unwrap().push(asked.clone());
        let answer = handler(&asked);
        let mut head = format!(
            "HTTP/1.1 {} x\r\nContent-Length: {}\r\n",
            answer.status,
            answer.length.unwrap_or(answer.body.len() as u64)
        );
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut writer = stream;
        writer.write_all(head.as_bytes())?;
        writer.write_all(b"\r\n")?;
        writer.write_all(&answer.body)?;
        if answer.stall {
            // Ends when the client hangs up.
            line.clear();
            reader.read_line(&mut line)?;
            return Ok(());
        }
        if answer.length.is_some_and(|n| n != answer.body.len() as u64) {
            return Ok(());
        }
    }
}
