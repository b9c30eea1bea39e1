//! What reaches a running guest from its host: ports, screen, counters.

use anyhow::{Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{machine, pod};
use catamaran_tests::metrics::Scrape;
use catamaran_tests::offer::Offer;
use catamaran_tests::steps::{delete, listener, no_page, page, wait_described, wait_page};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, SHORT, run, wait_for};
use serde_json::{Value, json};

/// Annotation with the ports of the host.
const HOST_PORTS: &str = "catamaran.dev/host-ports";
/// The bridge's addresses: the only ones of the host in a bench.
const BRIDGE: [&str; 2] = ["10.88.0.1", "[fd88:ca7a::1]"];

fn on_ports(name: &str, ports: &str) -> Value {
    let mut vm = machine(name);
    vm["spec"]["template"]["metadata"]["annotations"] = json!({ HOST_PORTS: ports });
    vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
    vm
}

/// The guest answers on a port of the host, at all addresses that the host has.
fn answers_everywhere(bench: &Bench, port: u16, name: &str) -> Result<()> {
    for address in ["127.0.0.1", BRIDGE[0], BRIDGE[1]] {
        let url = format!("http://{address}:{port}/");
        wait_page(bench, &url, &format!("catamaran-guest {name}\n"))?;
    }
    Ok(())
}

/// Objects that want a port which is taken say by whom, and nothing of them is started.
fn taken_ports_are_told(bench: &Bench) -> Result<()> {
    let _listener = listener(bench, 8083)?;
    let before = bench.snapshot();
    let mut taken = pod("taken", &["sleep", "1000"]);
    taken["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
    // Of the second machine's ports one is free.
    let (second, third) = (
        on_ports("second", "8082:80, 127.0.0.1:8080:80"),
        on_ports("third", "8083:80"),
    );
    bench.apply(&[&second, &third, &taken])?;
    let owner = "in use by virtual machine default/harbour";
    for (object, port, words) in [
        ("vm/second", "host port 8080/tcp on 127.0.0.1", owner),
        (
            "vm/third",
            "host port 8083/tcp",
            "in use by another process",
        ),
        ("pod/taken", "host port 8080/TCP", owner),
    ] {
        // The machine's events are its instance's.
        let object = object.replace("vm/", "vmi/");
        wait_described(bench, &object, &["HostPortConflict", port, words])?;
    }
    for name in ["second", "third"] {
        let started = bench.processes(name, "catamaran-launcher");
        ensure!(started.is_empty(), "{name} has {started:?}");
        let status = bench.get(&format!("vmi/{name}"))?["status"]["phase"].clone();
        ensure!(
            status != "Running" && status != "Scheduled",
            "{name} is {status}"
        );
    }
    delete(bench, &["vm/second", "vm/third", "pod/taken"], &before)
}

#[test]
fn a_guest_answers_on_its_ports_of_the_host() -> Result<()> {
    run(|bench| {
        let empty = bench.snapshot();
        let vm = on_ports("harbour", "8080:80, 127.0.0.1:8081:80/tcp, 8053:53/udp");
        bench.apply(&[&vm])?;
        drop(bench.booted("harbour")?);
        answers_everywhere(bench, 8080, "harbour")?;
        wait_page(bench, "http://127.0.0.1:8081/", "catamaran-guest harbour\n")?;
        no_page(bench, &format!("http://{}:8081/", BRIDGE[0]))?;
        taken_ports_are_told(bench)?;

        // They need no daemon, and the next one knows them.
        bench.kill_daemon()?;
        answers_everywhere(bench, 8080, "harbour")?;
        bench.start_daemon()?;
        answers_everywhere(bench, 8080, "harbour")?;

        // Who stops gives them back, here to a guest that has the address of its pod itself.
        let mut heir = on_ports("heir", "8080:80");
        let domain = &mut heir["spec"]["template"]["spec"]["domain"];
        domain["devices"]["interfaces"][0] = json!({"name": "default", "bridge": {}});
        bench.apply(&[&heir])?;
        wait_described(bench, "vmi/heir", &["HostPortConflict"])?;
        bench.catamaran(["stop", "harbour"])?;
        bench.wait_field("vm/harbour", "/status/printableStatus", "Stopped", SHORT)?;
        no_page(bench, "http://127.0.0.1:8081/")?;
        drop(bench.booted("heir")?);
        answers_everywhere(bench, 8080, "heir")?;
        delete(bench, &["vm/harbour", "vm/heir"], &empty)
    })
}

/// RFB 3.8 as far as the size of the screen.
fn screen_is_there(bench: &Bench) -> Result<()> {
    const VERSION: &[u8; 12] = b"RFB 003.008\n";
    let offer = Offer::open(bench, ["vnc", "demo"])?;
    let mut viewer = offer.connect(bench)?;
    viewer.hear_only(VERSION)?;
    viewer.say(VERSION)?;
    // One kind of security: none.
    viewer.hear_only(&[1, 1])?;
    viewer.say(&[1])?;
    viewer.hear_only(&[0; 4])?;
    // Others may stay.
    viewer.say(&[1])?;
    let [high, low, ..] = viewer.hear::<24>()?;
    let width = u16::from_be_bytes([high, low]);
    ensure!((320..=4096).contains(&width), "the screen is {width} wide");
    Ok(())
}

/// Names and values of the counters, in the peer's words.
fn counters_are_plausible(bench: &Bench) -> Result<()> {
    const MIB: f64 = 1024.0 * 1024.0;
    let page = page(bench, "http://127.0.0.1:9191/metrics")?;
    let scrape = Scrape::parse(&page)?;
    let own = [("namespace", "default"), ("name", "demo")];
    let with = |label| [own.as_slice(), &[label]].concat();
    let (processor, card, drive) = (
        with(("id", "0")),
        with(("interface", "default")),
        with(("drive", "root")),
    );
    let (none, running) = (own.to_vec(), with(("phase", "running")));
    for (name, labels, from, to) in [
        ("info", &running, 1.0, 1.0),
        ("cpu_usage_seconds_total", &none, 0.5, 600.0),
        ("cpu_user_usage_seconds_total", &none, 0.1, 600.0),
        ("cpu_system_usage_seconds_total", &none, 0.01, 600.0),
        ("vcpu_seconds_total", &processor, 0.5, 600.0),
        ("vcpu_wait_seconds_total", &processor, 0.0, 600.0),
        ("vcpu_delay_seconds_total", &processor, 0.0, 600.0),
        ("memory_domain_bytes", &none, 128.0 * MIB, 128.0 * MIB),
        (
            "memory_actual_balloon_bytes",
            &none,
            128.0 * MIB,
            128.0 * MIB,
        ),
        ("memory_resident_bytes", &none, 32.0 * MIB, 1024.0 * MIB),
        ("memory_available_bytes", &none, 64.0 * MIB, 128.0 * MIB),
        ("memory_unused_bytes", &none, MIB, 128.0 * MIB),
        ("memory_usable_bytes", &none, MIB, 128.0 * MIB),
        ("memory_used_bytes", &none, MIB, 128.0 * MIB),
        ("memory_cached_bytes", &none, 0.0, 128.0 * MIB),
        ("memory_swap_in_traffic_bytes", &none, 0.0, 0.0),
        ("memory_swap_out_traffic_bytes", &none, 0.0, 0.0),
        ("memory_pgmajfault_total", &none, 0.0, 1e6),
        ("memory_pgminfault_total", &none, 1.0, 1e9),
        // A page was fetched.
        ("network_receive_bytes_total", &card, 500.0, 10.0 * MIB),
        ("network_receive_packets_total", &card, 5.0, 1e5),
        ("network_receive_errors_total", &card, 0.0, 0.0),
        ("network_receive_packets_dropped_total", &card, 0.0, 1e3),
        ("network_transmit_bytes_total", &card, 500.0, 10.0 * MIB),
        ("network_transmit_packets_total", &card, 5.0, 1e5),
        ("network_transmit_errors_total", &card, 0.0, 0.0),
        ("network_transmit_packets_dropped_total", &card, 0.0, 1e3),
        // Kernel and initrd were read, and a MiB was written and flushed.
        ("storage_iops_read_total", &drive, 10.0, 1e6),
        (
            "storage_read_traffic_bytes_total",
            &drive,
            10.0 * MIB,
            100.0 * MIB,
        ),
        ("storage_read_times_seconds_total", &drive, 0.0001, 600.0),
        ("storage_iops_write_total", &drive, 1.0, 1e6),
        ("storage_write_traffic_bytes_total", &drive, MIB, 2.0 * MIB),
        ("storage_write_times_seconds_total", &drive, 0.00001, 600.0),
        ("storage_flush_requests_total", &drive, 1.0, 1e3),
        ("storage_flush_times_seconds_total", &drive, 0.0, 600.0),
    ] {
        let value = scrape.value(&format!("kubevirt_vmi_{name}"), labels)?;
        ensure!(
            (from..=to).contains(&value),
            "{name} is {value}, not {from} to {to}"
        );
    }
    let count = [("namespace", "default")];
    ensure!(scrape.value("kubevirt_number_of_vms", &count)? == 1.0);
    let phase = [("phase", "running")];
    ensure!(scrape.value("kubevirt_vmi_phase_count", &phase)? == 1.0);
    Ok(())
}

#[test]
fn a_guest_is_seen_reached_and_counted_from_its_host() -> Result<()> {
    run(|bench| {
        let mut vm = machine("demo");
        vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
        bench.apply(&[&vm])?;
        let said = bench.refused(["vnc", "nobody"])?;
        ensure!(
            said.contains("nobody") && said.contains("not found"),
            "{said}"
        );
        let mut guest = bench.booted("demo")?;

        let forward = Offer::open(bench, ["port-forward", "demo", ":80"])?;
        let url = format!("http://{}/", forward.address());
        wait_page(bench, &url, "catamaran-guest demo\n")?;
        drop(forward);
        no_page(bench, &url)?;

        screen_is_there(bench)?;

        guest.shell("dd if=/dev/zero of=/dev/vda bs=1M seek=30 count=1 conv=fsync 2>&1")?;
        // The guest tells of its memory every ten seconds.
        wait_for("the counters are plausible", BOOT, || {
            counters_are_plausible(bench).map(Seen::Yes)
        })
    })
}
