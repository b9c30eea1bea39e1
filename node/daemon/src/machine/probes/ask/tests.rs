//! Probes and the answers of servers and agents that pretend.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use catamaran_spec::{Probe, ProbeAction};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Answer, Guest, Silence, ask};

/// A guest on loopback whose agent answers from a list, and keeps what it was asked.
#[derive(Default)]
struct Fake {
    homeless: bool,
    answers: Mutex<VecDeque<Result<Value, Silence>>>,
    asked: Mutex<Vec<Value>>,
}

impl Fake {
    fn agent(answers: impl IntoIterator<Item = Result<Value, Silence>>) -> Self {
        Self {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Self::default()
        }
    }
}

impl Guest for Fake {
    fn address(&self) -> Option<IpAddr> {
        (!self.homeless).then_some(Ipv4Addr::LOCALHOST.into())
    }

    async fn agent(&self, command: Value, _: u32) -> Result<Value, Silence> {
        self.asked.lock().unwrap().push(command);
        let next = self.answers.lock().unwrap().pop_front();
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

fn probe(action: ProbeAction) -> Probe {
    Probe {
        action,
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 1,
    }
}

fn get(port: u16) -> ProbeAction {
    ProbeAction::HttpGet {
        port,
        path: "/ready?full=1".to_owned(),
        host: None,
        tls: false,
        headers: vec![
            ("Host".to_owned(), "guest.example".to_owned()),
            ("X-Probe".to_owned(), "yes".to_owned()),
        ],
    }
}

fn bad(words: &str) -> Answer {
    Answer::Bad(words.to_owned())
}

/// Answers one connection after another; the requests come back.
async fn server(answers: Vec<String>) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    };
    (port, tokio::runtime::Handle::current().spawn(serve))
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn an_http_probe_sends_its_path_and_headers_and_passes_from_200_to_399() {
    for (line, expected) in [
        ("200 OK", Answer::Good),
        ("204 No Content", Answer::Good),
        ("304 Not Modified", Answer::Good),
        (
            "404 Not Found",
            bad("HTTP probe failed with statuscode: 404"),
        ),
        ("500 Oh", bad("HTTP probe failed with statuscode: 500")),
    ] {
        let (port, requests) = server(vec![status(line)]).await;
        assert_eq!(
            ask(&Fake::default(), &probe(get(port))).await,
            expected,
            "{line}"
        );
        let request = requests.await.unwrap().remove(0).to_lowercase();
        assert!(
            request.starts_with("get /ready?full=1 http/1.1\r\n"),
            "{request}"
        );
        for header in ["host: guest.example\r\n", "x-probe: yes\r\n"] {
            assert_eq!(request.matches(header).count(), 1, "{request}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_followed_on_the_same_host_only() {
    let moved = |to: &str| {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    let (port, requests) = server(vec![moved("/other"), status("503 No")]).await;
    assert_eq!(
        ask(&Fake::default(), &probe(get(port))).await,
        bad("HTTP probe failed with statuscode: 503")
    );
    assert_eq!(requests.await.unwrap().len(), 2);

    let (port, _) = server(vec![moved("http://127.0.0.2:1/")]).await;
    assert_eq!(ask(&Fake::default(), &probe(get(port))).await, Answer::Good);
}

#[tokio::test]
async fn an_http_probe_goes_to_the_host_that_it_names() {
    let (port, _requests) = server(vec![status("200 OK")]).await;
    let homeless = Fake {
        homeless: true,
        ..Fake::default()
    };
    let mut action = get(port);
    assert_eq!(
        ask(&homeless, &probe(action.clone())).await,
        bad("the machine has no address")
    );
    if let ProbeAction::HttpGet { host, .. } = &mut action {
        *host = Some("127.0.0.1".to_owned());
    }
    assert_eq!(ask(&homeless, &probe(action)).await, Answer::Good);
}

/// Answers one request by TLS with a certificate that is self-signed, for another name, and expired.
fn tls_server(answer: String) -> u16 {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    });
    port
}

#[tokio::test]
async fn an_https_probe_does_not_check_the_certificate() {
    for (line, expected) in [
        ("200 OK", Answer::Good),
        ("500 Oh", bad("HTTP probe failed with statuscode: 500")),
    ] {
        let mut action = get(tls_server(status(line)));
        if let ProbeAction::HttpGet { tls, .. } = &mut action {
            *tls = true;
        }
        assert_eq!(ask(&Fake::default(), &probe(action)).await, expected);
    }
}

#[tokio::test]
async fn a_silent_or_endless_server_fails_the_probe_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        ask(&Fake::default(), &probe(get(port))).await,
        bad("no answer within 1 s")
    );

    let (port, _requests) = server(vec![format!(
        "HTTP/1.1 200 OK\r\nX: {}",
        "x".repeat(8 << 20)
    )])
    .await;
    assert!(matches!(
        ask(&Fake::default(), &probe(get(port))).await,
        Answer::Bad(_)
    ));
}

#[tokio::test]
async fn a_tcp_probe_passes_when_the_port_accepts() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let action = |host: Option<&str>| {
        probe(ProbeAction::TcpSocket {
            port,
            host: host.map(str::to_owned),
        })
    };
    assert_eq!(ask(&Fake::default(), &action(None)).await, Answer::Good);
    assert_eq!(
        ask(&Fake::default(), &action(Some("localhost"))).await,
        Answer::Good
    );
    drop(listener);
    let refused = ask(&Fake::default(), &action(None)).await;
    assert!(
        matches!(&refused, Answer::Bad(words) if words.starts_with(&format!("dial tcp 127.0.0.1:{port}: "))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_ping_passes_when_the_agent_answers() {
    let action = probe(ProbeAction::GuestAgentPing);
    let guest = Fake::agent([
        Ok(json!({})),
        Err(Silence::Guest("the agent is not connected".to_owned())),
        Err(Silence::Way("the launcher has gone".to_owned())),
    ]);
    assert_eq!(ask(&guest, &action).await, Answer::Good);
    assert_eq!(
        ask(&guest, &action).await,
        bad("the agent is not connected")
    );
    assert_eq!(
        ask(&guest, &action).await,
        Answer::Unknown("the launcher has gone".to_owned())
    );
    assert_eq!(ask(&guest, &action).await, bad("no answer within 1 s"));
    assert_eq!(
        guest.asked.lock().unwrap()[0],
        json!({ "execute": "guest-ping" })
    );
}

#[tokio::test]
async fn an_exec_probe_waits_for_its_command_and_tells_its_output() {
    let action = probe(ProbeAction::Exec {
        command: vec!["/bin/check".to_owned(), "--now".to_owned()],
    });
    let running = || [Ok(json!({ "pid": 7 })), Ok(json!({ "exited": false }))];
    let guest = Fake::agent(
        running()
            .into_iter()
            .chain([Ok(json!({ "exited": true, "exitcode": 0 }))]),
    );
    assert_eq!(ask(&guest, &action).await, Answer::Good);
    assert_eq!(
        *guest.asked.lock().unwrap(),
        [
            json!({ "execute": "guest-exec", "arguments": { "path": "/bin/check", "arg": ["--now"], "capture-output": true } }),
            json!({ "execute": "guest-exec-status", "arguments": { "pid": 7 } }),
            json!({ "execute": "guest-exec-status", "arguments": { "pid": 7 } }),
        ]
    );

    let output = base64::engine::general_purpose::STANDARD.encode("not yet\x1b[2J\n");
    for (status, expected) in [
        (
            json!({ "exited": true, "exitcode": 3, "err-data": output }),
            "exit code 3: not yet [2J",
        ),
        (json!({ "exited": true, "exitcode": 1 }), "exit code 1"),
        (json!({ "exited": true, "signal": 9 }), "ended by signal 9"),
    ] {
        let guest = Fake::agent(running().into_iter().chain([Ok(status)]));
        assert_eq!(ask(&guest, &action).await, bad(expected));
    }
    assert_eq!(
        ask(&Fake::agent(running()), &action).await,
        bad("no answer within 1 s")
    );
}
