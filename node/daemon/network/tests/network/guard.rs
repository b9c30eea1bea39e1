//! A VM cannot speak with the addresses of a neighbour or of the gateway. Each test has a control: the same frame with
//! the sender's own addresses arrives.

use std::path::Path;

use catamaran_network::MacAddr;

use crate::sandbox::{Process, addresses, command_in, key, must_ping, on_a_host};

/// Writes frames to eth0: each is a list of (destination MAC, source MAC, kind, source IP, other IP).
const SENDER: &str = r#"
import socket, struct, sys, ipaddress
def mac(t): return bytes.fromhex(t.replace(':', ''))
def ip(t): return ipaddress.ip_address(t).packed
def checksum(b):
    if len(b) % 2: b += b'\0'
    t = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return 0xffff - t
kind, dst, src, sip, dip, word = sys.argv[1:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
if kind == 'arp':
    frame = mac(dst) + mac(src) + b'\x08\x06' + struct.pack('!HHBBH', 1, 0x800, 6, 4, 2) + mac(src) + ip(sip) + mac(dst) + ip(dip)
elif kind == 'arp-inner':
    frame = mac(dst) + mac(src) + b'\x08\x06' + struct.pack('!HHBBH', 1, 0x800, 6, 4, 2) + mac(word) + ip(sip) + mac(dst) + ip(dip)
elif kind == 'udp4':
    udp = struct.pack('!HHHH', 999, 7777, 8 + len(word), 0) + word.encode()
    h = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ip(sip) + ip(dip)
    h = h[:10] + struct.pack('!H', checksum(h)) + h[12:]
    frame = mac(dst) + mac(src) + b'\x08\x00' + h + udp
elif kind in ('na', 'ra'):
    body = struct.pack('!I', 0xa0000000) + ip(word) if kind == 'na' else struct.pack('!BBHII', 64, 0, 1800, 0, 0)
    body += b'\x02\x01' + mac(src) if kind == 'na' else b'\x01\x01' + mac(src)
    t = 136 if kind == 'na' else 134
    icmp = struct.pack('!BBH', t, 0, 0) + body
    pseudo = ip(sip) + ip(dip) + struct.pack('!II', len(icmp), 58)
    icmp = icmp[:2] + struct.pack('!H', checksum(pseudo + icmp)) + icmp[4:]
    frame = mac(dst) + mac(src) + b'\x86\xdd' + struct.pack('!IHBB', 0x60000000, len(icmp), 58, 255) + ip(sip) + ip(dip) + icmp
elif kind == 'vlan':
    frame = mac(dst) + mac(src) + b'\x81\x00\x00\x05\x08\x00' + b'\0' * 46
frame += b'\0' * max(0, 60 - len(frame))
s.send(frame)
print(frame.hex())
"#;

/// Prints every frame that arrives at eth0 and is not its own, as hex, after "ready", into a file.
const LISTENER: &str = r#"
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('eth0', 3))
out = open(sys.argv[1], 'w')
print('ready', flush=True)
while True:
    frame, where = s.recvfrom(4000)
    if where[2] != 4:
        out.write(frame.hex() + '\n')
        out.flush()
"#;

struct Wire<'a> {
    sender: &'a Path,
    heard: std::path::PathBuf,
    destination: MacAddr,
    _listener: Process,
}

impl Wire<'_> {
    /// Sends a frame and returns it in hex.
    fn send(&self, kind: &str, source: &MacAddr, ip: &str, to: &str, word: &str) -> String {
        let mut command = command_in(self.sender, "python3");
        let destination = self.destination.to_string();
        command.args([
            "-c",
            SENDER,
            kind,
            &destination,
            &source.to_string(),
            ip,
            to,
            word,
        ]);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Sends the frame, then one that is allowed, and says whether the first came before it.
    fn arrives(
        &self,
        kind: &str,
        source: &MacAddr,
        ip: &str,
        to: &str,
        word: &str,
        own: (&MacAddr, &str),
    ) -> bool {
        let before = self.lines().len();
        let mut sent = self.send(kind, source, ip, to, word);
        if kind == "vlan" {
            // The receiving kernel takes the tag out.
            sent.replace_range(24..32, "");
        }
        let fence = self.send("udp4", own.0, own.1, to_v4(to), "fence");
        // A bridge may cut the padding off.
        let heard = |frame: &str| {
            self.lines()
                .iter()
                .skip(before)
                .any(|line| line.len() > 28 && frame.starts_with(line))
        };
        crate::sandbox::eventually("the fence arrives", || heard(&fence));
        heard(&sent)
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.heard)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// The fence is always IPv4.
fn to_v4(to: &str) -> &str {
    if to.contains(':') { "10.77.0.200" } else { to }
}

#[test]
fn a_vm_cannot_speak_for_its_neighbour_or_the_gateway() {
    on_a_host(async |host| {
        let network = host.network().await;
        let a = network.attach(&key("a"), None).await.unwrap();
        let b = network.attach(&key("b"), None).await.unwrap();
        let c = network.attach(&key("c"), None).await.unwrap();
        let heard = host.config.folder.join("heard");
        let mut listen = command_in(&b.netns, "python3");
        let listener = Process::start(listen.args(["-c", LISTENER]).arg(&heard));
        let wire = Wire {
            sender: &a.netns,
            heard,
            destination: b.mac,
            _listener: listener,
        };
        let ([a4, a6], [b4, b6], [c4, c6]) = (addresses(&a), addresses(&b), addresses(&c));
        let gateway_mac: MacAddr = host
            .run("ip -o link show ctm0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'")
            .parse()
            .unwrap();
        let own = (&a.mac, a4.as_str());
        let arrives = |kind: &str, source: &MacAddr, ip: &str, to: &str, word: &str| {
            wire.arrives(kind, source, ip, to, word, own)
        };
        let a_mac_text = a.mac.to_string();
        let all_nodes = "ff02::1";
        let a_local = a.mac.link_local().to_string();

        // Controls: with its own addresses each kind of frame arrives.
        assert!(arrives("udp4", &a.mac, &a4, &b4, "x"), "own IPv4");
        assert!(arrives("arp", &a.mac, &a4, &b4, ""), "own ARP");
        assert!(
            arrives("arp-inner", &a.mac, &a4, &b4, &a_mac_text),
            "own ARP"
        );
        assert!(
            arrives("na", &a.mac, &a6, &b6, &a6),
            "own neighbour advertisement"
        );

        assert!(
            !arrives("udp4", &c.mac, &a4, &b4, "x"),
            "the neighbour's MAC"
        );
        assert!(
            !arrives("udp4", &gateway_mac, &a4, &b4, "x"),
            "the gateway's MAC"
        );
        assert!(
            !arrives("udp4", &a.mac, &c4, &b4, "x"),
            "the neighbour's IPv4"
        );
        assert!(
            !arrives("udp4", &a.mac, "10.77.0.1", &b4, "x"),
            "the gateway's IPv4"
        );
        assert!(
            !arrives("udp4", &a.mac, "198.51.100.7", &b4, "x"),
            "an address of the outside"
        );
        assert!(
            !arrives("arp", &a.mac, &c4, &b4, ""),
            "ARP for the neighbour"
        );
        assert!(
            !arrives("arp", &a.mac, "10.77.0.1", &b4, ""),
            "ARP for the gateway"
        );
        assert!(
            !arrives("arp-inner", &a.mac, &a4, &b4, &c.mac.to_string()),
            "ARP with another MAC inside"
        );
        assert!(
            !arrives("na", &a.mac, &a6, &b6, &c6),
            "advertisement for the neighbour"
        );
        assert!(
            !arrives("na", &a.mac, &c6, &b6, &c6),
            "advertisement from the neighbour"
        );
        let gateway_local = a.gateway_link_local.unwrap().to_string();
        assert!(
            !arrives("na", &a.mac, &a_local, &b6, &gateway_local),
            "advertisement for the gateway"
        );
        assert!(
            !arrives("ra", &a.mac, &a_local, all_nodes, ""),
            "router advertisement"
        );
        assert!(!arrives("vlan", &a.mac, &a4, &b4, ""), "tagged frame");
    });
}

#[test]
fn a_port_without_a_lease_cannot_take_the_addresses_of_vms() {
    on_a_host(async |host| {
        let network = host.network().await;
        let b = network.attach(&key("b"), None).await.unwrap();
        let c = network.attach(&key("c"), None).await.unwrap();
        // As the CNI bridge plugin plugs a Pod in.
        let pod = Process::start(std::process::Command::new("unshare").args([
            "-n",
            "sh",
            "-c",
            "echo ready; exec sleep 600",
        ]));
        host.run(&format!(
            "ip link add pod type veth peer name eth0 netns {}; ip link set pod master ctm0 up
             nsenter --net={} sh -c 'ip link set eth0 address 02:99:00:00:00:01; ip addr add 10.77.128.2/16 dev eth0; ip link set eth0 up'",
            pod.pid(),
            pod.netns().display()
        ));
        let netns = pod.netns();
        must_ping(&netns, &addresses(&b)[0]);
        let heard = host.config.folder.join("heard");
        let mut listen = command_in(&b.netns, "python3");
        let listener = Process::start(listen.args(["-c", LISTENER]).arg(&heard));
        let wire = Wire {
            sender: &netns,
            heard,
            destination: b.mac,
            _listener: listener,
        };
        let mac: MacAddr = "02:99:00:00:00:01".parse().unwrap();
        let own = (&mac, "10.77.128.2");
        let [b4, _] = addresses(&b);
        let [c4, _] = addresses(&c);
        assert!(
            wire.arrives("udp4", &mac, own.1, &b4, "x", own),
            "own address"
        );
        assert!(
            wire.arrives("vlan", &mac, own.1, &b4, "", own),
            "a tagged frame"
        );
        assert!(
            !wire.arrives("udp4", &mac, &c4, &b4, "x", own),
            "a VM's address"
        );
        assert!(
            !wire.arrives("udp4", &c.mac, own.1, &b4, "x", own),
            "a VM's MAC"
        );
        assert!(
            !wire.arrives("arp", &mac, &c4, &b4, "", own),
            "ARP for a VM"
        );
        assert!(
            !wire.arrives("arp", &mac, "10.77.0.1", &b4, "", own),
            "ARP for the gateway"
        );
    });
}
