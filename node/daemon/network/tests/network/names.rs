//! The DNS server as a process: what it answers, who it is, how it is found again.

use std::path::Path;

use catamaran_network::HostNetwork;
use catamaran_network::dns::{DnsServer, NameRecord, publish};

use crate::sandbox::{Host, Process, addresses, command_in, eventually, example, key, on_a_host};

/// Answers every question with 192.0.2.99.
const UPSTREAM: &str = r"
import socket, sys, threading
def answer(q): return q[:2] + b'\x81\x80\0\x01\0\x01\0\0\0\0' + q[12:q.index(b'\0', 12) + 5] + b'\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04' + bytes([192, 0, 2, 99])
def tcp():
    while True:
        c, _ = t.accept()
        q = c.recv(600)[2:]
        a = answer(q)
        c.sendall(len(a).to_bytes(2, 'big') + a)
        c.close()
t = socket.create_server(('192.0.2.1', 53))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('192.0.2.1', 53))
threading.Thread(target=tcp, daemon=True).start()
print('ready', flush=True)
while True:
    q, a = s.recvfrom(600)
    s.sendto(answer(q), a)
";

/// Prints the addresses in the answer: server, name, type, transport.
const CLIENT: &str = r"
import socket, struct, sys
server, name, kind, transport = sys.argv[1:]
kind = {'A': 1, 'AAAA': 28}[kind]
q = b'\x12\x34\x01\0\0\x01\0\0\0\0\0\0' + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\0' + struct.pack('!HH', kind, 1)
family = socket.AF_INET6 if ':' in server else socket.AF_INET
if transport == 'udp':
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(3)
    s.connect((server, 53))
    s.send(q)
    a = s.recv(2000)
else:
    s = socket.create_connection((server, 53), timeout=3)
    s.sendall(struct.pack('!H', len(q)) + q)
    n = struct.unpack('!H', s.recv(2))[0]
    a = s.recv(n)
assert a[:2] == b'\x12\x34'
code, answers = a[3] & 15, struct.unpack('!H', a[6:8])[0]
if code: print('error', code)
size = 4 if kind == 1 else 16
if answers: print(socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, a[len(q) + 12:][:size]))
";

fn ask(netns: &Path, server: &str, name: &str, kind: &str, transport: &str) -> String {
    let output = command_in(netns, "python3")
        .args(["-c", CLIENT, server, name, kind, transport])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .trim()
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

async fn start(host: &Host) -> DnsServer {
    DnsServer::spawn(&host.config, &example("dns_server"), &[])
        .await
        .unwrap()
}

#[test]
fn guests_find_each_other_by_name_and_the_rest_at_an_upstream() {
    on_a_host(async |host| {
        let mut host_config = host.config.clone();
        host_config.dns_upstreams = vec!["192.0.2.1:53".parse().unwrap()];
        let network = HostNetwork::ensure(&host_config).await.unwrap();
        let a = network.attach(&key("a"), None).await.unwrap();
        let b = network.attach(&key("b"), None).await.unwrap();
        let server = start(host).await;
        let [b4, b6] = addresses(&b);
        let record = NameRecord {
            namespace: "default".to_owned(),
            name: "b".to_owned(),
            addresses: vec![b4.parse().unwrap(), b6.parse().unwrap()],
        };
        assert_eq!(
            ask(
                &a.netns,
                "10.77.0.1",
                "b.default.catamaran.internal",
                "A",
                "udp"
            ),
            "error 3"
        );
        publish(&host_config, vec![record]).unwrap();
        let v6 = host.config.gateway_v6().unwrap().to_string();
        for gateway in ["10.77.0.1", &v6] {
            for transport in ["udp", "tcp"] {
                for name in ["b", "b.default", "b.default.catamaran.internal"] {
                    assert_eq!(
                        ask(&a.netns, gateway, name, "A", transport),
                        b4,
                        "{name} {gateway} {transport}"
                    );
                }
                assert_eq!(ask(&a.netns, gateway, "b.default", "AAAA", transport), b6);
            }
        }
        let _upstream =
            Process::start(command_in(&host.outside(), "python3").args(["-c", UPSTREAM]));
        assert_eq!(
            ask(&a.netns, "10.77.0.1", "example.com", "A", "udp"),
            "192.0.2.99"
        );
        assert_eq!(
            ask(&a.netns, "10.77.0.1", "example.com", "A", "tcp"),
            "192.0.2.99"
        );
        // It is no open resolver.
        assert!(!ask(&host.outside(), "10.77.0.1", "b", "A", "udp").starts_with("10."));

        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        for line in [
            "Uid:\t65534\t65534\t65534\t65534",
            "Groups:\t \n",
            "CapPrm:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "no {line:?} in {status}");
        }
        DnsServer::stop(&host.config).await.unwrap();
    });
}

#[test]
fn the_server_outlives_the_daemon_and_is_found_again() {
    on_a_host(async |host| {
        let _network = host.network().await;
        let first = start(host).await;
        assert_eq!(
            start(host).await,
            first,
            "a second daemon takes the one that runs"
        );
        assert_eq!(DnsServer::find(&host.config).unwrap(), Some(first.clone()));
        // The same pid, and not the same process: left alone.
        let record = host.config.folder.join("dns/server.json");
        let text = std::fs::read_to_string(&record).unwrap();
        host.run(&format!("kill -9 {}", first.pid()));
        eventually("the server is dead", || {
            DnsServer::find(&host.config).unwrap().is_none()
        });
        let second = start(host).await;
        assert_ne!(second.pid(), first.pid());
        assert_ne!(std::fs::read_to_string(&record).unwrap(), text);
        DnsServer::stop(&host.config).await.unwrap();
        assert_eq!(DnsServer::find(&host.config).unwrap(), None);
        DnsServer::stop(&host.config).await.unwrap();
    });
}
