//! The clients of DHCP that people use get addresses of both families and renew them, whether or not a daemon is there.
//!
//! `udhcpc` (of busybox) with the minimal guest's own client of DHCPv6, `dhclient` and `systemd-networkd`, each in a real guest of its own:
//! the programs of the machine that runs the test, brought to the minimal guest on a disk. A whole Debian with its `systemd-networkd` takes
//! minutes to boot when it is emulated, so it is left to `cargo xtask test --long`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{machine, with_user_data};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, Console, SHORT, Setting, parcel, run_in, wait_for};
use serde_json::{Value, json};

/// Seconds of a lease: short, and every client asks for it anew after half of it.
const LEASE: &str = "10";
/// Renewals that a dead daemon must not be missed in.
const RENEWALS: usize = 10;
/// Longest time for them: twice what they take when every guest gets its turn at once.
const RENEWED: Duration = Duration::from_secs(120);
/// The Debian guest boots many times as long as the minimal one.
const LONG_BOOT: Duration = Duration::from_secs(900);

/// Unpacks the disk with the programs, and takes the address away from the guest's own clients.
const UNPACK: &str = "mkdir -p /x && tar -xf /dev/vdb -C /x && for at in proc sys dev; do mount -o bind /$at /x/$at; done \
    && chroot /x /bin/busybox --install -s /bin && rm -f /x/bin/ip";
const TAKE_OVER: &str = "killall udhcpc catamaran-guest-tool; ip -4 addr flush dev eth0; ip -6 addr flush dev eth0 scope global; true";
/// Busybox' client never asks before 61 s have passed, whatever the lease: it is told to.
const UDHCPC: &str =
    "(while sleep 4; do kill -USR1 $(cat /run/udhcpc.eth0.pid); done) >/dev/null 2>&1 & true";
const DHCLIENT: &str = "for family in 4 6; do chroot /x /usr/sbin/dhclient -$family -d -v -lf /run/$family.leases -pf /run/$family.pid eth0 \
    >/x/run/dhclient.$family.log 2>&1 & done; true";
/// With `/sys` read-only it does not wait for a udev that this guest does not have.
const NETWORKD: &str = "mount -o remount,bind,ro /x/sys; mkdir -p /x/run/systemd; SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console \
    chroot /x /usr/lib/systemd/systemd-networkd >/x/run/networkd.log 2>&1 & true";

/// What stands on the wire between one guest and its launcher.
struct Wire {
    tcpdump: Child,
    log: PathBuf,
}

impl Wire {
    fn tap(bench: &Bench, machine: &str) -> Result<Self> {
        let log = bench.folder().join(format!("{machine}.wire"));
        let mut command = bench.beside(
            machine,
            ["tcpdump", "-n", "-l", "-v", "-i", "tap0", "-Z", "root"],
        );
        let tcpdump = command
            .arg("udp and (port 67 or port 547)")
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()
            .context("tcpdump")?;
        Ok(Self { tcpdump, log })
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.log)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// What was said of some lines, by the words that tcpdump has for messages.
#[derive(Debug, Default)]
struct Talk {
    acks: usize,
    replies: usize,
    /// Messages of a client that has lost its lease, or never had one.
    beginnings: Vec<String>,
}

impl Talk {
    fn of(lines: &[String]) -> Self {
        let mut talk = Self::default();
        for line in lines {
            let v4 = line.contains("DHCP-Message");
            talk.acks += usize::from(v4 && line.ends_with("ACK"));
            talk.replies += usize::from(line.contains("dhcp6 reply"));
            let begins = v4 && line.ends_with("Discover") || line.contains("dhcp6 solicit");
            if begins {
                talk.beginnings.push(line.clone());
            }
        }
        talk
    }
}

/// The addresses of the guest's card as `ip -o` shows them, both families.
fn addresses(guest: &mut Console) -> Result<String> {
    guest.shell("ip -o addr show dev eth0 scope global")
}

/// Waits until a guest has both addresses.
fn wait_addresses(guest: &mut Console, wanted: &[String; 2]) -> Result<()> {
    wait_for(&format!("the guest has {wanted:?}"), SHORT, || {
        let found = addresses(guest)?;
        let all = wanted
            .iter()
            .all(|address| found.contains(&format!(" {address}/")));
        Ok(Seen::when(all, found))
    })
}

/// Waits until a guest has renewed both leases [`RENEWALS`] times after the first `skip` lines, and never had to begin anew.
fn wait_renewals(name: &str, wire: &Wire, skip: usize) -> Result<()> {
    let what = format!("{name} renews {RENEWALS} times without a daemon");
    wait_for(&what, RENEWED, || {
        let talk = Talk::of(&wire.lines()?[skip..]);
        let enough = talk.acks >= RENEWALS && talk.replies >= RENEWALS;
        Ok(Seen::when(enough, format!("{talk:?}")))
    })?;
    let talk = Talk::of(&wire.lines()?[skip..]);
    ensure!(
        talk.beginnings.is_empty(),
        "{name} lost its lease: {:?}",
        talk.beginnings
    );
    Ok(())
}

/// Network configuration and users for the programs on the disk.
fn configuration() -> [(&'static str, &'static str); 5] {
    [
        (
            "etc/systemd/network/10-eth0.network",
            "[Match]\nName=eth0\n[Network]\nDHCP=yes\n",
        ),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        (
            "etc/passwd",
            "root:x:0:0::/:/bin/sh\nsystemd-network:x:998:998::/:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\nsystemd-network:x:998:\n"),
        ("etc/fstab", ""),
    ]
}

/// A guest for one client, with the binding of its card.
fn guest(name: &str, binding: &str) -> Value {
    let mut vm = machine(name);
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = 0.into();
    let card = &mut spec["domain"]["devices"]["interfaces"][0];
    *card = json!({"name": "default", binding: {}});
    vm
}

/// The addresses that a guest is to get: those of the machine, or with a masquerade binding always the same.
fn promised(bench: &Bench, name: &str, binding: &str) -> Result<[String; 2]> {
    if binding == "masquerade" {
        return Ok(["10.0.2.2".to_owned(), "fd10:0:2::2".to_owned()]);
    }
    let said = bench.catamaran(["ip", name])?;
    let mut all: Vec<String> = said.lines().map(str::to_owned).collect();
    all.sort_by_key(|address| address.contains(':'));
    all.try_into()
        .map_err(|all| anyhow::anyhow!("not one address of each family: {all:?}"))
}

#[test]
fn clients_get_both_addresses_and_renew_them_while_the_daemon_is_dead() -> Result<()> {
    let clients = [
        ("udhcpc", "masquerade", UDHCPC),
        ("dhclient", "masquerade", DHCLIENT),
        ("networkd", "bridge", NETWORKD),
    ];
    run_in(Setting::words(&["--lease", LEASE]), |bench| {
        let disk = bench.folder().join("clients.tar");
        let programs = [
            "dhclient",
            "/usr/sbin/dhclient-script",
            "ip",
            "sh",
            "busybox",
            "/usr/lib/systemd/systemd-networkd",
        ];
        parcel::pack(&disk, &programs, &configuration())?;
        let mut guests = Vec::new();
        for (name, binding, _) in clients {
            let mut vm = guest(name, binding);
            if name != "udhcpc" {
                vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "256Mi".into();
                parcel::add(&mut vm, &disk);
            }
            guests.push(vm);
        }
        bench.apply(&guests.iter().collect::<Vec<_>>())?;

        let mut wires = Vec::new();
        for (name, binding, client) in clients {
            let mut console = bench.booted(name)?;
            let wanted = promised(bench, name, binding)?;
            let wire = Wire::tap(bench, name)?;
            if name != "udhcpc" {
                console.shell(UNPACK)?;
                console.shell(TAKE_OVER)?;
                let found = addresses(&mut console)?;
                ensure!(found.is_empty(), "{name} still has {found}");
            }
            console.shell(client)?;
            wait_addresses(&mut console, &wanted)
                .with_context(|| console.shell("tail -n 30 /x/run/*.log").unwrap_or_default())?;
            wires.push((name, wire, wanted));
        }

        bench.kill_daemon()?;
        let mut from = Vec::new();
        for (_, wire, _) in &wires {
            from.push(wire.lines()?.len());
        }
        for ((name, wire, _), skip) in wires.iter().zip(from) {
            wait_renewals(name, wire, skip)?;
        }

        bench.start_daemon()?;
        for (name, _, wanted) in &wires {
            bench.wait_field(
                &format!("vm/{name}"),
                "/status/printableStatus",
                "Running",
                SHORT,
            )?;
            let mut console = Console::open(bench, name, &[])?;
            wait_addresses(&mut console, wanted)?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots the Debian guest, which takes minutes when it is emulated: `cargo xtask test --long`"]
fn a_whole_debian_renews_its_addresses_while_the_daemon_is_dead() -> Result<()> {
    run_in(Setting::words(&["--lease", LEASE]), |bench| {
        let mut vm = with_user_data(guest("debian", "masquerade"), "#cloud-config\n");
        let spec = &mut vm["spec"]["template"]["spec"];
        spec["domain"]["memory"]["guest"] = "512Mi".into();
        spec["volumes"][0]["containerDisk"]["image"] = "catamaran.local/debian:dev".into();
        bench.apply(&[&vm])?;
        bench.wait_serial("debian", "catamaran-guest ready: debian", LONG_BOOT)?;
        let ready = bench.serial("debian");
        let ready = ready
            .lines()
            .find(|line| line.contains("catamaran-guest ready: "))
            .unwrap_or_default();
        ensure!(
            ready.contains(" 10.0.2.2") && ready.contains(" fd10:0:2::2"),
            "{ready}"
        );
        let wire = Wire::tap(bench, "debian")?;
        bench.kill_daemon()?;
        wait_renewals("debian", &wire, 0)?;
        bench.start_daemon()?;
        bench.wait_field("vm/debian", "/status/printableStatus", "Running", BOOT)?;
        Ok(())
    })
}
