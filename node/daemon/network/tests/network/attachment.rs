//! Attachments: they reach what they should, keep their addresses, converge from any half-made state, leave nothing.

use catamaran_network::{Error, HostNetwork, NetworkConfig};

use crate::sandbox::{
    OUTSIDE, OUTSIDE_V6, addresses, eventually, hears, key, must_hear, must_ping, on_a_host,
    run_in, speaker, try_run_in,
};

#[test]
fn attachments_reach_each_other_the_gateway_and_the_outside() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), None).await.unwrap();
        let b = network.attach(&key("b"), None).await.unwrap();
        for address in addresses(&b) {
            must_ping(&a.netns, &address);
        }
        for gateway in host.config.gateways() {
            must_ping(&a.netns, &gateway.to_string());
        }
        let _server = speaker(&b.netns, 8080, "hello from b");
        must_hear(&a.netns, &addresses(&b)[0], 8080, "hello from b");
        must_hear(&a.netns, &addresses(&b)[1], 8080, "hello from b");

        must_ping(&a.netns, OUTSIDE);
        must_ping(&a.netns, OUTSIDE_V6);
        // The outside has a route to the host, and still cannot open connections to a VM.
        assert!(
            !hears(&host.outside(), &addresses(&b)[0], 8080, "hello from b"),
            "the outside reached a VM"
        );
    });
}

#[test]
fn an_address_is_kept_until_it_is_released() {
    on_a_host(async |host| {
        let network = host.network().await;
        let first = network.attach(&key("a"), None).await.unwrap();
        network.detach(&key("a")).await.unwrap();
        assert!(!first.netns.exists());
        // Another daemon, later.
        drop(network);
        let network = host.network().await;
        assert_eq!(network.attach(&key("a"), None).await.unwrap(), first);
        network.release(&key("a")).await.unwrap();
        assert!(network.leases().unwrap().is_empty());
    });
}

#[test]
fn a_second_attach_disturbs_nothing() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), None).await.unwrap();
        let list = || run_in(&a.netns, "ip -o link; ip -o addr; ip route; ip -6 route");
        // The carrier comes a moment after the link is set up, and the link-local address with it.
        eventually("the link is up", || {
            list().contains(&format!("{}/64", a.mac.link_local()))
        });
        let before = (list(), host.snapshot().await);
        let network = host.network().await;
        assert_eq!(network.attach(&key("a"), None).await.unwrap(), a);
        assert_eq!((list(), host.snapshot().await), before);
    });
}

#[test]
fn attach_completes_whatever_a_killed_daemon_left() {
    on_a_host(async |host| {
        let network = host.network().await;
        let b = network.attach(&key("b"), None).await.unwrap();
        let a = network.attach(&key("a"), None).await.unwrap();
        let port = network
            .leases()
            .unwrap()
            .into_iter()
            .find(|lease| lease.key == key("a"))
            .unwrap()
            .host_interface;
        let bridge = &host.config.bridge;
        let netns = a.netns.display();
        let damages = [
            // The port never got into the bridge.
            format!("ip link set {port} nomaster down"),
            // Addresses, routes or the link are missing.
            format!("nsenter --net={netns} ip addr flush dev eth0"),
            format!(
                "nsenter --net={netns} ip route flush default; nsenter --net={netns} ip -6 route flush default"
            ),
            format!("nsenter --net={netns} ip link set eth0 down"),
            // No pair at all; or one of which the other end is elsewhere, with eth0 of yet another.
            format!("ip link del {port}"),
            format!("ip link del {port}; ip link add {port} type veth peer name stray"),
            format!(
                "ip link del {port}; ip link add {port} type veth peer name stray;
                 ip link add other type veth peer name x0; ip link set x0 netns {netns} name eth0"
            ),
            // The namespace was never mounted, or is gone while the pair is there.
            format!("umount {netns}"),
            format!("umount {netns}; rm {netns}"),
            // The rules or the bridge are gone.
            "nft flush ruleset".to_owned(),
            format!("ip link del {bridge}"),
        ];
        for damage in damages {
            host.run(&damage);
            let network = host.network().await;
            assert_eq!(
                network.attach(&key("a"), None).await.unwrap(),
                a,
                "after {damage}"
            );
            network.attach(&key("b"), None).await.unwrap();
            for address in addresses(&b) {
                must_ping(&a.netns, &address);
            }
            assert!(
                host.run("nft list tables").contains("bridge catamaran"),
                "no rules after {damage}"
            );
        }
    });
}

#[test]
fn teardown_leaves_no_difference() {
    on_a_host(async |host| {
        let before = host.snapshot().await;
        let network = host.network().await;
        let during = host.snapshot().await;
        assert_ne!(before, during);
        assert_eq!(during.sysctls["ipv4/ip_forward"], "1");
        // A forwarding host must keep the routes that its own router announces.
        assert_eq!(during.sysctls["ipv6/conf/up0/accept_ra"], "2");
        network.attach(&key("a"), None).await.unwrap();
        network.attach(&key("b"), None).await.unwrap();
        // A daemon that comes later knows what to put back.
        let _second = host.network().await;
        let ours = host.snapshot().await.ours(&host.config);
        assert_eq!(
            (ours.links.len(), ours.tables.len(), ours.netns.len()),
            (3, 2, 2)
        );
        HostNetwork::remove(&host.config).await.unwrap();
        assert_eq!(host.snapshot().await, before);
        assert_eq!(before.ours(&host.config), Default::default());
        HostNetwork::remove(&host.config).await.unwrap();
    });
}

#[test]
fn a_subnet_or_a_name_of_something_else_is_refused() {
    on_a_host(async |host| {
        let subnet = NetworkConfig {
            subnet_v4: "192.0.2.0/24".parse().unwrap(),
            ..host.config.clone()
        };
        let error = HostNetwork::ensure(&subnet).await.unwrap_err();
        assert!(matches!(error, Error::SubnetInUse { .. }), "{error}");
        assert!(error.to_string().contains("up0"), "{error}");
        let name = NetworkConfig {
            bridge: "up0".to_owned(),
            ..host.config.clone()
        };
        let error = HostNetwork::ensure(&name).await.unwrap_err();
        assert!(error.to_string().contains("up0"), "{error}");
    });
}

#[test]
fn a_smaller_mtu_reaches_the_interface() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), Some(1400)).await.unwrap();
        assert_eq!(a.mtu, 1400);
        assert!(run_in(&a.netns, "ip link show eth0").contains("mtu 1400"));
        assert!(try_run_in(&a.netns, "ping -c1 -W1 -M do -s 1372 10.77.0.1").is_ok());
        eventually("the link is up", || {
            run_in(&a.netns, "ip -o link show eth0").contains("LOWER_UP")
        });
    });
}
