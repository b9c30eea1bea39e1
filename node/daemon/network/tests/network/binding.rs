//! Bindings with a guest at the tap: another namespace whose `eth0` is wired to it, frame by frame, by a process of uid
//! 107, as QEMU would be.

use std::net::Ipv4Addr;
use std::path::Path;

use catamaran_network::{
    Attachment, BindRequest, Binding, BoundNic, DhcpV4, GuestPort, HostNetwork, MacAddr, Protocol,
    bind, interface_mtu, open_dhcp_sockets, unbind,
};
use rustix::net::RecvFlags;

use crate::sandbox::{
    Host, OUTSIDE, OUTSIDE_V6, Process, addresses, command_in, eventually, hears, key, must_hear,
    must_ping, on_a_host, pings, run_in, speaker, try_run_in,
};

/// Opens the tap as uid 107 and wires it to `eth0` in a namespace of its own.
const GUEST: &str = r#"
import ctypes, fcntl, os, select, struct, sys
netns, tap = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def opened(name):
    fd = os.open('/dev/net/tun', os.O_RDWR)
    return fd, struct.pack('16sH22s', name.encode(), 0x1002, b'')
assert libc.unshare(0x40000000) == 0
inner, request = opened('eth0')
fcntl.ioctl(inner, 0x400454ca, request)
own = os.open('/proc/self/ns/net', os.O_RDONLY)
target = os.open(netns, os.O_RDONLY)
assert libc.setns(target, 0) == 0
outer, request = opened(tap)
os.setgroups([]); os.setgid(107); os.setuid(107)
fcntl.ioctl(outer, 0x400454ca, request)
print('ready', flush=True)
while True:
    for fd in select.select([inner, outer], [], [])[0]:
        try: os.write(outer if fd == inner else inner, os.read(fd, 70000))
        except OSError: pass
"#;

struct Guest {
    // The process is in the VM's namespace; this one keeps the guest's.
    _wire: Process,
    netns: std::path::PathBuf,
}

/// Boots a "guest" on the tap, with what its DHCP servers would tell it.
fn boot(host: &Host, netns: &Path, nic: &BoundNic, name: &str) -> Guest {
    let holder = Process::start(std::process::Command::new("unshare").args([
        "-n",
        "sh",
        "-c",
        "echo ready; exec sleep 600",
    ]));
    let script = GUEST.replace("assert libc.unshare(0x40000000) == 0", "pass");
    let mut command = command_in(&holder.netns(), "python3");
    let wire = Process::start(command.args(["-c", &script]).arg(netns).arg(&nic.tap));
    let path = host.config.folder.join(format!("guest-{name}"));
    std::fs::File::create(&path).unwrap();
    host.run(&format!(
        "mount --bind {} {}",
        holder.netns().display(),
        path.display()
    ));
    let v4 = nic.dhcp.v4.as_ref().unwrap();
    let mut script = format!(
        "ip link set lo up; ip link set eth0 address {} mtu {}; ip addr add {} dev eth0;
         sysctl -qw net.ipv6.conf.eth0.accept_ra=0; ip link set eth0 up; ip route add default via {}",
        nic.mac,
        nic.mtu,
        v4.address,
        v4.gateway.unwrap()
    );
    if let Some(v6) = &nic.dhcp.v6 {
        script += &format!(
            "; ip addr add {} dev eth0 nodad; ip -6 route add default via {} dev eth0",
            v6.address,
            v6.router.unwrap()
        );
    }
    run_in(&path, &script);
    Guest {
        _wire: wire,
        netns: path,
    }
}

fn request(host: &Host, attachment: &Attachment, binding: Binding) -> BindRequest {
    BindRequest {
        netns: attachment.netns.clone(),
        interface: "eth0".to_owned(),
        tap: "tap0".to_owned(),
        binding,
        owner_uid: 107,
        mtu: None,
        guest_mac: None,
        multi_queue: false,
        hostname: Some("a".to_owned()),
        domain_search: vec!["default.catamaran.internal".to_owned()],
        dns: host.config.gateways(),
        router: attachment.gateway_link_local,
        records: host.config.folder.join("vm"),
    }
}

async fn two(host: &Host) -> (HostNetwork, Attachment, Attachment) {
    let network = host.network().await;
    let a = network.attach(&key("a"), None).await.unwrap();
    let b = network.attach(&key("b"), None).await.unwrap();
    (network, a, b)
}

fn port(port: u16) -> GuestPort {
    GuestPort {
        protocol: Protocol::Tcp,
        port,
    }
}

#[test]
fn masquerade_connects_the_guest_in_both_directions_and_families() {
    on_a_host(async |host| {
        let (_network, a, b) = two(host).await;
        let request = request(host, &a, Binding::masquerade(Vec::new()));
        let nic = bind(&request).await.unwrap();
        assert_eq!(
            nic.dhcp.v4.as_ref().unwrap().address.to_string(),
            "10.0.2.2/24"
        );
        assert_eq!(
            nic.dhcp.v6.as_ref().unwrap().address.to_string(),
            "fd10:0:2::2/120"
        );
        assert_eq!(nic.dhcp.dns_v4, [Ipv4Addr::new(10, 77, 0, 1)]);
        let guest = boot(host, &a.netns, &nic, "a");

        for address in [OUTSIDE, OUTSIDE_V6]
            .into_iter()
            .chain(addresses(&b).iter().map(String::as_str))
        {
            eventually(&format!("the guest pings {address}"), || {
                pings(&guest.netns, address)
            });
        }
        let _server = speaker(&guest.netns, 80, "guest");
        for address in addresses(&a) {
            must_hear(&b.netns, &address, 80, "guest");
            must_ping(&b.netns, &address);
            must_hear(&a.netns, &address, 80, "guest");
        }
        must_hear(&a.netns, "127.0.0.1", 80, "guest");

        // A second call keeps connections and the tap's user.
        let before = run_in(
            &a.netns,
            "ip -o link show tap0; ip -o addr; nft list ruleset",
        );
        assert_eq!(bind(&request).await.unwrap(), nic);
        assert_eq!(
            run_in(
                &a.netns,
                "ip -o link show tap0; ip -o addr; nft list ruleset"
            ),
            before
        );
        must_hear(&b.netns, &addresses(&a)[0], 80, "guest");
    });
}

#[test]
fn masquerade_with_ports_lets_in_only_those() {
    on_a_host(async |host| {
        let (_network, a, b) = two(host).await;
        let nic = bind(&request(host, &a, Binding::masquerade(vec![port(80)])))
            .await
            .unwrap();
        let guest = boot(host, &a.netns, &nic, "a");
        let (_web, _other) = (
            speaker(&guest.netns, 80, "web"),
            speaker(&guest.netns, 81, "other"),
        );
        eventually("the guest pings out", || pings(&guest.netns, OUTSIDE));
        for address in addresses(&a) {
            must_hear(&b.netns, &address, 80, "web");
            assert!(
                !hears(&b.netns, &address, 81, "other"),
                "port 81 at {address}"
            );
        }
        // Nor by its inner address, for one that knows the way.
        run_in(
            &b.netns,
            &format!("ip route add 10.0.2.0/24 via {}", addresses(&a)[0]),
        );
        assert!(
            !hears(&b.netns, "10.0.2.2", 81, "other"),
            "by the inner address"
        );
        // A guest with another address gets nowhere.
        run_in(&guest.netns, "ip addr add 10.0.2.77/24 dev eth0");
        assert!(
            try_run_in(
                &guest.netns,
                &format!("ping -c1 -W1 -I 10.0.2.77 {OUTSIDE}")
            )
            .is_err()
        );
    });
}

#[test]
fn bridge_gives_the_guest_the_pods_addresses_and_unbind_gives_them_back() {
    on_a_host(async |host| {
        let (network, a, b) = two(host).await;
        let before = run_in(
            &a.netns,
            "ip -o -br link; ip -o -br addr; ip route; ip -6 route; nft list tables",
        );
        let request = request(host, &a, Binding::Bridge);
        let nic = bind(&request).await.unwrap();
        assert_eq!(nic.mac, a.mac);
        assert_eq!(
            nic.dhcp.v4.as_ref().unwrap().address.to_string(),
            a.addresses[0].to_string()
        );
        assert_eq!(nic.dhcp.v4.as_ref().unwrap().gateway, Some(a.gateway_v4));
        let guest = boot(host, &a.netns, &nic, "a");
        let _server = speaker(&guest.netns, 80, "guest");
        for address in [OUTSIDE, OUTSIDE_V6]
            .into_iter()
            .chain(addresses(&b).iter().map(String::as_str))
        {
            eventually(&format!("the guest pings {address}"), || {
                pings(&guest.netns, address)
            });
        }
        for address in addresses(&a) {
            must_hear(&b.netns, &address, 80, "guest");
        }
        // The daemon comes again: neither verb disturbs the guest.
        assert_eq!(network.attach(&key("a"), None).await.unwrap(), a);
        assert_eq!(bind(&request).await.unwrap(), nic);
        must_hear(&b.netns, &addresses(&a)[0], 80, "guest");

        drop(guest);
        unbind(&a.netns, "tap0", &request.records).await.unwrap();
        let after = run_in(
            &a.netns,
            "ip -o -br link; ip -o -br addr; ip route; ip -6 route; nft list tables",
        );
        assert_eq!(after, before);
        must_ping(&a.netns, &addresses(&b)[0]);
        unbind(&a.netns, "tap0", &request.records).await.unwrap();
    });
}

#[test]
fn a_guest_is_a_member_of_another_network_with_a_mac_address_of_its_own() {
    on_a_host(async |host| {
        let (_network, a, _b) = two(host).await;
        let outside = host.outside();
        run_in(
            &a.netns,
            &format!(
                "ip link add seg0 mtu 1400 type veth peer name seg1 mtu 1400 netns {};
                 ip addr add 10.9.0.2/24 dev seg0; ip link set seg0 up",
                outside.display()
            ),
        );
        run_in(
            &outside,
            "ip addr add 10.9.0.1/24 dev seg1; ip link set seg1 up",
        );
        let mac: MacAddr = "02:00:00:00:09:0a".parse().unwrap();
        let request = BindRequest {
            interface: "seg0".to_owned(),
            tap: "tap1".to_owned(),
            guest_mac: Some(mac),
            ..request(host, &a, Binding::Segment)
        };
        let nic = bind(&request).await.unwrap();
        assert_eq!((nic.mac, nic.mtu), (mac, 1400));
        assert!(nic.dhcp.v4.is_none() && nic.dhcp.v6.is_none());
        assert_eq!(interface_mtu(&a.netns, "seg0").await.unwrap(), 1400);
        // The pod has no part in that network any more.
        assert_eq!(run_in(&a.netns, "ip -o addr show dev seg0"), "");

        let mut told = nic.clone();
        told.dhcp.v4 = Some(DhcpV4 {
            address: "10.9.0.3/24".parse().unwrap(),
            server: Ipv4Addr::LOCALHOST,
            gateway: Some("10.9.0.1".parse().unwrap()),
            routes: Vec::new(),
        });
        let guest = boot(host, &a.netns, &told, "a");
        eventually("the guest pings its network", || {
            pings(&guest.netns, "10.9.0.1")
        });
        let seen = run_in(&outside, "ip neigh show 10.9.0.3");
        assert!(seen.contains(&mac.to_string()), "{seen}");
        assert_eq!(bind(&request).await.unwrap(), nic);
        must_ping(&guest.netns, "10.9.0.1");
        run_in(&guest.netns, "ip link set eth0 address 02:00:00:00:09:0b");
        assert!(!pings(&guest.netns, "10.9.0.1"), "as somebody else");

        drop(guest);
        unbind(&a.netns, "tap1", &request.records).await.unwrap();
        let back = run_in(&a.netns, "ip -o -4 addr show dev seg0");
        assert!(back.contains("10.9.0.2/24"), "{back}");
    });
}

#[test]
fn bind_completes_whatever_a_killed_daemon_left() {
    on_a_host(async |host| {
        let (network, a, b) = two(host).await;
        for binding in [Binding::Bridge, Binding::masquerade(Vec::new())] {
            let request = request(host, &a, binding);
            let nic = bind(&request).await.unwrap();
            let damages = [
                "ip link del tap0",
                "ip link del br-tap0 2>/dev/null || true",
                "ip addr flush dev eth0",
                "ip link set eth0 nomaster",
                "nft flush ruleset",
                "ip link set tap0 down; ip link set tap0 nomaster",
                "ip addr flush dev tap0",
            ];
            for damage in damages {
                run_in(&a.netns, damage);
                // As the daemon does at its start: both, in this order.
                network.attach(&key("a"), None).await.unwrap();
                assert_eq!(bind(&request).await.unwrap(), nic, "after {damage}");
                let guest = boot(host, &a.netns, &nic, "a");
                for address in [OUTSIDE, OUTSIDE_V6, &addresses(&b)[0]] {
                    eventually(&format!("the guest pings {address} after {damage}"), || {
                        pings(&guest.netns, address)
                    });
                }
                drop(guest);
                host.run(&format!(
                    "umount {0}; rm {0}",
                    host.config.folder.join("guest-a").display()
                ));
            }
        }
    });
}

#[test]
fn unbind_without_a_namespace_forgets_the_record() {
    on_a_host(async |host| {
        let (network, a, _b) = two(host).await;
        let request = request(host, &a, Binding::Bridge);
        bind(&request).await.unwrap();
        network.release(&key("a")).await.unwrap();
        unbind(&a.netns, "tap0", &request.records).await.unwrap();
        // The next namespace of the same path has nothing to do with the record of the first.
        let a = network.attach(&key("a"), None).await.unwrap();
        let nic = bind(&self::request(host, &a, Binding::masquerade(Vec::new())))
            .await
            .unwrap();
        assert_eq!(nic.dhcp.v4.unwrap().address.to_string(), "10.0.2.2/24");
    });
}

#[test]
fn dhcp_sockets_hear_the_guest_and_announce_the_router() {
    on_a_host(async |host| {
        let (_network, a, _b) = two(host).await;
        for binding in [Binding::masquerade(Vec::new()), Binding::Bridge] {
            let nic = bind(&request(host, &a, binding)).await.unwrap();
            let guest = boot(host, &a.netns, &nic, "a");
            let sockets = open_dhcp_sockets(&a.netns, &nic.dhcp).await.unwrap();
            // A launcher that is replaced: both sets are open for a while.
            drop(open_dhcp_sockets(&a.netns, &nic.dhcp).await.unwrap());
            let (ra, v6) = (sockets.ra.unwrap(), sockets.v6.unwrap());
            let say = |script: &str| {
                let mut command = command_in(&guest.netns, "python3");
                assert!(
                    command
                        .args(["-c", &format!("import socket\n{script}")])
                        .status()
                        .unwrap()
                        .success()
                );
            };
            let heard = |fd: &std::os::fd::OwnedFd, begins: &[u8]| {
                let mut bytes = [0; 1500];
                std::iter::from_fn(|| {
                    rustix::net::recv(fd, &mut bytes[..], RecvFlags::empty())
                        .ok()
                        .map(|(_, n)| n)
                })
                .count()
                    > 0
                    && !begins.is_empty()
            };
            eventually("DHCP is heard", || {
                say("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, 25, b'eth0')
s.bind(('0.0.0.0', 68))
s.sendto(b'discover', ('255.255.255.255', 67))");
                heard(&sockets.v4, b"discover")
            });
            eventually("DHCPv6 is heard", || {
                say("s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.sendto(b'solicit', ('ff02::1:2', 547, 0, socket.if_nametoindex('eth0')))");
                heard(&v6, b"solicit")
            });
            eventually("a router solicitation is heard", || {
                say("s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ('ff02::2', 0, 0, socket.if_nametoindex('eth0')))");
                heard(&ra, &[133])
            });

            // The guest's kernel takes the advertisement and has its default route from it.
            run_in(
                &guest.netns,
                "ip -6 route del default; sysctl -qw net.ipv6.conf.eth0.accept_ra=2",
            );
            let router = nic.dhcp.v6.as_ref().unwrap().router.unwrap();
            let advertisement = [134, 0, 0, 0, 64, 0x80, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
            let all_nodes = "[ff02::1]:0".parse::<std::net::SocketAddrV6>().unwrap();
            eventually("the guest has a default route", || {
                rustix::net::sendto(
                    &ra,
                    &advertisement,
                    rustix::net::SendFlags::empty(),
                    &all_nodes,
                )
                .unwrap();
                run_in(&guest.netns, "ip -6 route show default").contains(&format!("via {router}"))
            });
            eventually("the guest pings by that route", || {
                pings(&guest.netns, OUTSIDE_V6)
            });
            // Broadcast answers reach the guest: the socket may send them.
            let broadcast: std::net::SocketAddrV4 = "255.255.255.255:68".parse().unwrap();
            rustix::net::sendto(
                &sockets.v4,
                b"offer",
                rustix::net::SendFlags::empty(),
                &broadcast,
            )
            .unwrap();
            drop(guest);
            host.run(&format!(
                "umount {0}; rm {0}",
                host.config.folder.join("guest-a").display()
            ));
        }
    });
}
