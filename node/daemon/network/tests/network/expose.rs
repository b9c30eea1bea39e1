//! Host ports: from the outside, from the host, from guests; conflicts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;

use catamaran_network::{Attachment, Error, HostPort, Owner, PortTarget, Protocol};

use crate::sandbox::{HOST, addresses, hears, key, must_hear, on_a_host, speaker};

fn pod(name: &str) -> Owner {
    Owner::pod(key(name))
}

fn target(attachment: &Attachment, port: u16) -> PortTarget {
    let [v4, v6] = addresses(attachment);
    PortTarget {
        v4: v4.parse::<Ipv4Addr>().ok(),
        v6: v6.parse::<Ipv6Addr>().ok(),
        port,
    }
}

fn tcp(ip: Option<IpAddr>, port: u16) -> HostPort {
    HostPort {
        ip,
        port,
        protocol: Protocol::Tcp,
    }
}

const OWN: &str = "/proc/thread-self/ns/net";

#[test]
fn a_host_port_leads_to_the_vm_from_everywhere() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), None).await.unwrap();
        let b = network.attach(&key("b"), None).await.unwrap();
        let _server = speaker(&a.netns, 80, "a");
        network
            .expose(&pod("a"), tcp(None, 8080), target(&a, 80))
            .await
            .unwrap();
        network
            .expose(&pod("a"), tcp(None, 8080), target(&a, 80))
            .await
            .unwrap();
        let outside = host.outside();
        must_hear(&outside, HOST, 8080, "a");
        must_hear(&outside, "2001:db8::2", 8080, "a");
        must_hear(Path::new(OWN), "127.0.0.1", 8080, "a");
        must_hear(Path::new(OWN), HOST, 8080, "a");
        must_hear(Path::new(OWN), "2001:db8::2", 8080, "a");
        must_hear(&b.netns, HOST, 8080, "a");

        // The rules are written anew by the next daemon, from what is on disk.
        host.run("nft flush ruleset");
        let network = host.network().await;
        must_hear(&outside, HOST, 8080, "a");
        assert_eq!(network.host_ports().unwrap().len(), 1);
        network.unexpose_all(&pod("a")).await.unwrap();
        assert!(!hears(&outside, HOST, 8080, "a"), "taken back");
    });
}

#[test]
fn a_port_on_loopback_is_for_the_host_only() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), None).await.unwrap();
        let b = network.attach(&key("b"), None).await.unwrap();
        let _server = speaker(&a.netns, 80, "a");
        let from = tcp(Some("127.0.0.1".parse().unwrap()), 8080);
        network
            .expose(&pod("a"), from, target(&a, 80))
            .await
            .unwrap();
        must_hear(Path::new(OWN), "127.0.0.1", 8080, "a");
        assert!(!hears(&host.outside(), HOST, 8080, "a"), "from outside");
        // A guest that sends packets for 127.0.0.1 over the wire gets nowhere, although route_localnet is set.
        let _local = speaker(Path::new(OWN), 9090, "host");
        must_hear(Path::new(OWN), "127.0.0.1", 9090, "host");
        crate::sandbox::run_in(
            &b.netns,
            "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip addr del 127.0.0.1/8 dev lo;
             ip route del local 127.0.0.0/8 table local 2>/dev/null || true; ip route add 127.0.0.1 via 10.77.0.1",
        );
        assert!(
            !hears(&b.netns, "127.0.0.1", 9090, "host"),
            "the host's loopback from a guest"
        );
        network.unexpose(from).await.unwrap();
        assert!(!hears(Path::new(OWN), "127.0.0.1", 8080, "a"));
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), None).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let error = network
            .expose(&pod("a"), tcp(None, 8080), target(&a, 80))
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::HostPortInUse { port: 8080, .. }),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "host port 8080/tcp on all addresses is in use by another process"
        );
        drop(listener);
        network
            .expose(&pod("a"), tcp(None, 8080), target(&a, 80))
            .await
            .unwrap();
        let one = tcp(Some(HOST.parse().unwrap()), 8080);
        let error = network
            .expose(&pod("b"), one, target(&a, 80))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "host port 8080/tcp on 192.0.2.2 is in use by Pod default/a"
        );
        let udp = HostPort {
            protocol: Protocol::Udp,
            ..one
        };
        network
            .expose(&pod("b"), udp, target(&a, 80))
            .await
            .unwrap();

        // A machine is another owner than the Pod of its name, and takes its own ports with it only.
        let machine = Owner::machine(key("a"));
        let error = network
            .expose(&machine, one, target(&a, 80))
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("in use by Pod default/a"));
        network
            .expose(&machine, tcp(None, 8081), target(&a, 80))
            .await
            .unwrap();
        network.unexpose_all(&machine).await.unwrap();
        let left = network.host_ports().unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
    });
}
