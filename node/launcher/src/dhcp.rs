//! DHCP, DHCPv6 and router advertisements for this machine's own interfaces.
//!
//! The daemon opens the sockets in the machine's network namespace and passes them in; what the guest sends is read
//! here, without privileges. Each server knows one guest and one address, so there is no lease table: the answer to a
//! question is a pure function of the question ([`v4::answer`], [`v6::answer`], [`advert::advertisement`]), and leases
//! are infinite unless the plan says otherwise.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use catamaran_wire::DhcpServe;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub mod advert;
pub mod v4;
pub mod v6;

/// Sockets of one interface and what to say on them.
pub type Serve = Vec<(DhcpServe, Vec<OwnedFd>)>;

/// Largest packet that is read, bytes.
const PACKET: usize = 2048;
/// Pause between unasked router advertisements.
const ADVERTISE_EVERY: Duration = Duration::from_secs(200);
/// Packets that are answered in a second; a guest that floods only slows itself.
const ANSWERS_A_SECOND: u32 = 50;

/// Serves what was passed last; new sockets replace all old ones.
pub async fn run(mut passed: mpsc::Receiver<Serve>) {
    let mut servers = JoinSet::new();
    loop {
        tokio::select! {
            serve = passed.recv() => {
                let Some(serve) = serve else { return };
                servers.abort_all();
                for (config, sockets) in serve {
                    let config = Arc::new(config);
                    for (kind, socket) in config.sockets.clone().into_iter().zip(sockets) {
                        start(&mut servers, &config, &kind, socket);
                    }
                }
            }
            Some(_) = servers.join_next(), if !servers.is_empty() => {}
        }
    }
}

fn start(servers: &mut JoinSet<()>, config: &Arc<DhcpServe>, kind: &str, socket: OwnedFd) {
    // The raw socket of ICMPv6 too is sent to and received from like a datagram socket, with port 0.
    let socket = std::net::UdpSocket::from(socket);
    let socket = socket
        .set_nonblocking(true)
        .and_then(|()| UdpSocket::from_std(socket));
    let (socket, config) = match socket {
        Ok(socket) => (socket, Arc::clone(config)),
        Err(error) => {
            tracing::error!(%error, kind, device = config.device, "a network socket cannot be used");
            return;
        }
    };
    match kind {
        "dhcp4" => {
            servers.spawn(async move {
                serve(&socket, |packet, _| {
                    let answer = v4::answer(&config, packet)?;
                    Some((
                        answer.bytes,
                        SocketAddrV4::new(answer.to, v4::CLIENT_PORT).into(),
                    ))
                })
                .await;
            });
        }
        "dhcp6" => {
            servers.spawn(async move {
                serve(&socket, |packet, from| {
                    Some((v6::answer(&config, packet)?, from))
                })
                .await;
            });
        }
        "ra" => {
            servers.spawn(async move { advertise(&socket, &config).await });
        }
        _ => tracing::warn!(
            kind,
            device = config.device,
            "an unknown kind of network socket is not served"
        ),
    }
}

async fn serve(
    socket: &UdpSocket,
    answer: impl Fn(&[u8], SocketAddr) -> Option<(Vec<u8>, SocketAddr)>,
) {
    let mut budget = Budget::default();
    loop {
        let (packet, from) = receive(socket).await;
        budget.spend().await;
        if let Some((bytes, to)) = answer(&packet, from)
            && let Err(error) = socket.send_to(&bytes, to).await
        {
            tracing::debug!(%error, %to, "an answer was not sent");
        }
    }
}

/// Answers solicitations and, as RFC 4861 wants, speaks up now and then by itself.
async fn advertise(socket: &UdpSocket, config: &DhcpServe) {
    let all_nodes = SocketAddrV6::new(
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        0,
        0,
        config.device_index,
    );
    let Some(message) = advert::advertisement(config) else {
        return;
    };
    let mut budget = Budget::default();
    // A guest that has its own RA state across our restart gets it at once.
    let mut next = tokio::time::Instant::now();
    loop {
        let solicited = tokio::select! {
            (packet, _) = receive(socket) => advert::is_solicitation(&packet),
            () = tokio::time::sleep_until(next) => true,
        };
        if solicited {
            budget.spend().await;
            if let Err(error) = socket.send_to(&message, SocketAddr::from(all_nodes)).await {
                tracing::debug!(%error, device = config.device, "a router advertisement was not sent");
            }
            next = tokio::time::Instant::now() + ADVERTISE_EVERY;
        }
    }
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; PACKET];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => return (buffer[..length.min(PACKET)].to_vec(), from),
            // The device is gone for the moment, or a former answer was not taken.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Answers left in this second.
#[derive(Debug)]
struct Budget {
    left: u32,
    second: tokio::time::Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: ANSWERS_A_SECOND,
            second: tokio::time::Instant::now(),
        }
    }
}

impl Budget {
    async fn spend(&mut self) {
        if self.left == 0 {
            tokio::time::sleep_until(self.second + Duration::from_secs(1)).await;
        }
        if self.left == 0 || self.second.elapsed() >= Duration::from_secs(1) {
            *self = Self::default();
        }
        self.left -= 1;
    }
}

/// Lease time in seconds; all ones is infinity in both protocols.
fn lease(config: &DhcpServe) -> u32 {
    config.lease_seconds.unwrap_or(u32::MAX)
}

/// Domain names as DNS writes them, uncompressed. What is no name is left out.
fn domain_names(names: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let good = labels
            .iter()
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain));
        if good && bytes.len() + name.len() + 2 <= 255 {
            for label in labels {
                bytes.push(u8::try_from(label.len()).unwrap_or_default());
                bytes.extend_from_slice(label.as_bytes());
            }
            bytes.push(0);
        }
    }
    bytes
}

fn v4_servers(config: &DhcpServe) -> Vec<Ipv4Addr> {
    config
        .dns
        .iter()
        .filter_map(|ip| match ip {
            std::net::IpAddr::V4(ip) => Some(*ip),
            std::net::IpAddr::V6(_) => None,
        })
        .collect()
}

fn v6_servers(config: &DhcpServe) -> Vec<Ipv6Addr> {
    config
        .dns
        .iter()
        .filter_map(|ip| match ip {
            std::net::IpAddr::V6(ip) => Some(*ip),
            std::net::IpAddr::V4(_) => None,
        })
        .collect()
}

#[cfg(test)]
pub(crate) fn example() -> DhcpServe {
    DhcpServe {
        device: "tap0".into(),
        device_index: 7,
        device_mac: [2, 0, 0, 0, 0, 1],
        sockets: vec!["dhcp4".into(), "ra".into(), "dhcp6".into()],
        mac: [2, 0, 0, 0, 0, 2],
        v4: Some(("10.0.2.2".parse().unwrap(), 24)),
        v4_gateway: Some("10.0.2.1".parse().unwrap()),
        v4_server: Some("10.0.2.1".parse().unwrap()),
        v4_routes: Vec::new(),
        v6: Some(("fd10:0:2::2".parse().unwrap(), 120)),
        v6_gateway: Some("fe80::1".parse().unwrap()),
        v6_gateway_is_ours: true,
        dns: vec!["10.96.0.10".parse().unwrap(), "fd10::a".parse().unwrap()],
        search: vec!["default.svc.cluster.local".into(), "no good".into()],
        hostname: "vm".into(),
        mtu: 1450,
        lease_seconds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_labels_and_bad_ones_left_out() {
        assert_eq!(
            domain_names(&["a.bc.".into(), "..".into()]),
            [1, b'a', 2, b'b', b'c', 0]
        );
    }

    #[test]
    fn sockets_that_are_passed_later_replace_the_first_ones() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (sender, passed) = mpsc::channel(1);
            let mut tasks = JoinSet::new();
            tasks.spawn(run(passed));
            let mut config = example();
            config.sockets = vec!["dhcp6".into()];
            let client = std::net::UdpSocket::bind("[::1]:0").unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            for hostname in ["one", "two"] {
                config.hostname = hostname.into();
                let server = std::net::UdpSocket::bind("[::1]:0").unwrap();
                let address = server.local_addr().unwrap();
                sender
                    .send(vec![(config.clone(), vec![server.into()])])
                    .await
                    .unwrap();
                let question = v6::tests::solicit(&config);
                let mine = client.try_clone().unwrap();
                let answer = tokio::task::spawn_blocking(move || {
                    mine.send_to(&question, address).unwrap();
                    let mut buffer = [0; 1500];
                    mine.recv(&mut buffer).unwrap();
                    buffer[0]
                });
                assert_eq!(answer.await.unwrap(), 2, "an Advertise");
            }
        });
    }
}
