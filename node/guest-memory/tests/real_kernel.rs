//! The kernel log of real Linux guests under raw QEMU (emulated, no network): live, panicked, reset, in small and large memory.
//!
//! Needs `qemu-system-x86_64`, a static `busybox` and a kernel: `CATAMARAN_TEST_KERNEL`, else the minimal guest's, else `/boot`'s.
//! Without them each test says that it was skipped, and why.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy allows them in test functions, not in what these call"
)]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use catamaran_guest_memory::dmesg::{self, KernelLog, Limits};
use catamaran_guest_memory::guest_ram::{GuestRam, Machine};

const QEMU: &str = "qemu-system-x86_64";
/// A guest boots within some seconds; the rest is for a busy machine.
const BOOT: Duration = Duration::from_secs(180);

/// The first program of the guest: says that it is there, then does what it reads from its serial line.
const INIT: &str = r#"#!/bin/busybox sh
busybox mkdir -p /proc /dev
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
busybox stty -F /dev/ttyS0 raw -echo
echo "<5>catamaran: hello from the guest" > /dev/kmsg
long=$(busybox printf '%0200d' 0)
echo "guest is up"
while read word; do
    case "$word" in
        panic) echo c > /proc/sysrq-trigger ;;
        reset) echo b > /proc/sysrq-trigger ;;
        flood) i=0; while [ $i -lt 1500 ]; do echo "<7>flood $i ${long}$i" > /dev/kmsg; i=$((i+1)); done; echo "flood is over" ;;
        control) busybox printf 'evil \033[31m \377 text' > /dev/kmsg; echo "control is over" ;;
    esac
done
"#;

/// A running guest; killed on drop.
struct Guest {
    qemu: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    seen: String,
    _folder: tempfile::TempDir,
}

impl Guest {
    fn boot(kernel: &Path, machine: &str, mib: u64) -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let initrd = folder.path().join("initrd");
        fs::write(&initrd, initramfs(&busybox().unwrap())).unwrap();
        let mut qemu = Command::new(QEMU)
            .args([
                "-machine",
                &format!("{machine},accel=tcg,memory-backend=ram"),
                "-m",
                &format!("{mib}M"),
            ])
            .args([
                "-object",
                &format!("memory-backend-memfd,id=ram,size={mib}M,share=on"),
                "-cpu",
                "max",
            ])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&initrd)
            // On a busy machine the kernel takes the timer of an emulated one for broken.
            .args(["-append", "console=ttyS0 printk.devkmsg=on no_timer_check"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (sender, output) = channel();
        let mut stdout = qemu.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stdout.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = qemu.stdin.take().unwrap();
        let mut guest = Guest {
            qemu,
            input,
            output,
            seen: String::new(),
            _folder: folder,
        };
        guest.wait_for("guest is up");
        guest
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
    }

    /// Waits for a text on the serial line and forgets what came before it.
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + BOOT;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            match self
                .output
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {text:?} within {BOOT:?}; seen: {}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("QEMU ended before {text:?}; seen: {}", self.seen)
                }
            }
        }
    }

    fn ram(&self, machine: Machine) -> GuestRam {
        GuestRam::of_process(self.qemu.id(), machine).unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// An archive in cpio's "newc" format: busybox, the first program, the console's device.
fn initramfs(busybox: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    let mut entry = |name: &str, mode: u32, device: (u32, u32), data: &[u8]| {
        let size = u32::try_from(data.len()).unwrap();
        let name_size = u32::try_from(name.len() + 1).unwrap();
        out.extend_from_slice(b"070701");
        // inode, mode, uid, gid, links, time, size, device, node's device, name's size, checksum
        for field in [
            0, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ] {
            out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    entry("bin", 0o040_755, (0, 0), b"");
    entry("dev", 0o040_755, (0, 0), b"");
    entry("dev/console", 0o020_600, (5, 1), b"");
    entry(
        "bin/busybox",
        0o100_755,
        (0, 0),
        &fs::read(busybox).unwrap(),
    );
    entry("init", 0o100_755, (0, 0), INIT.as_bytes());
    entry("TRAILER!!!", 0, (0, 0), b"");
    out
}

fn busybox() -> Option<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

fn kernel() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CATAMARAN_TEST_KERNEL") {
        return Some(PathBuf::from(path));
    }
    let minimal =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-images/out/minimal/vmlinuz");
    let boot = fs::read_dir("/boot")
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let boot = boot.filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    });
    std::iter::once(minimal)
        .chain(boot)
        .find(|path| path.exists())
}

/// The kernel to boot, or `None` with a line that says what is missing.
fn kernel_or_skip() -> Option<PathBuf> {
    let qemu = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let missing = if !qemu {
        QEMU
    } else if busybox().is_none() {
        "busybox"
    } else if let Some(kernel) = kernel() {
        return Some(kernel);
    } else {
        "a kernel (CATAMARAN_TEST_KERNEL, the minimal guest's, /boot/vmlinuz-*)"
    };
    eprintln!("skipped: {missing} is missing");
    None
}

/// Reads, and says how long it took. With time enough for an unoptimised build on a busy machine: the corpus tests the limits.
fn read(ram: &GuestRam) -> KernelLog {
    let started = Instant::now();
    let log = dmesg::read(ram, &Limits::patient());
    let took = started.elapsed();
    let log = log.unwrap();
    eprintln!(
        "{} MiB: {} records in {took:?}",
        ram.size() >> 20,
        log.records.len()
    );
    log
}

/// What every log of a whole boot shows.
fn check_boot(log: &KernelLog) {
    assert!(
        log.records
            .first()
            .unwrap()
            .text
            .starts_with("Linux version "),
        "{:?}",
        log.records.first()
    );
    assert!(log.records.first().unwrap().text.contains(&log.os_release));
    let mut numbers = log.records.iter().map(|record| record.seq);
    let first = numbers.next().unwrap();
    assert!(
        numbers.eq(first + 1..first + log.records.len() as u64),
        "records are missing or out of order"
    );
    let hello = log
        .records
        .iter()
        .find(|record| record.text == "catamaran: hello from the guest")
        .unwrap();
    assert_eq!((hello.level, hello.facility), (5, 1));
    assert!(hello.ts_nsec > 0);
}

/// Live, then panicked, in `mib` of memory.
fn live_and_panicked(machine: &str, mib: u64) {
    let Some(kernel) = kernel_or_skip() else {
        return;
    };
    let mut guest = Guest::boot(&kernel, machine, mib);
    let ram = guest.ram(Machine::from_name(machine).unwrap());
    assert_eq!(ram.size(), mib << 20);
    let log = read(&ram);
    check_boot(&log);
    assert!(!log.crashed);
    assert!(log.build_id.is_some_and(|id| id.len() == 40));

    guest.tell("panic");
    guest.wait_for("end Kernel panic");
    let log = read(&ram);
    check_boot(&log);
    assert!(log.crashed);
    let tail = dmesg::render_tail(&log, 4096);
    assert!(
        tail.contains("] Kernel panic - not syncing: sysrq triggered crash\n"),
        "{tail}"
    );
    assert!(tail.len() <= 4096);
}

#[test]
fn a_small_guest_is_read_live_and_panicked() {
    live_and_panicked("q35", 512);
}

#[test]
fn a_guest_with_ram_above_4_gib_is_read_live_and_panicked() {
    live_and_panicked("q35", 5120);
}

#[test]
fn a_guest_with_just_less_than_the_split_is_read_live_and_panicked() {
    live_and_panicked("q35", 2800);
}

#[test]
fn a_guest_of_the_old_pc_machine_is_read_live_and_panicked() {
    live_and_panicked("pc", 3840);
}

#[test]
fn after_a_reset_the_new_kernel_is_read() {
    let Some(kernel) = kernel_or_skip() else {
        return;
    };
    let mut guest = Guest::boot(&kernel, "q35", 512);
    let ram = guest.ram(Machine::Q35);
    let before = read(&ram);
    guest.tell("control");
    guest.wait_for("control is over");
    guest.tell("reset");
    guest.wait_for("guest is up");
    let after = read(&ram);
    check_boot(&before);
    check_boot(&after);
    assert!(
        !after
            .records
            .iter()
            .any(|record| record.text.contains("evil")),
        "the old kernel's log was read"
    );
}

#[test]
fn a_ring_that_has_wrapped_gives_its_newest_records() {
    let Some(kernel) = kernel_or_skip() else {
        return;
    };
    let mut guest = Guest::boot(&kernel, "q35", 512);
    let ram = guest.ram(Machine::Q35);
    guest.tell("flood");
    // While the guest writes: what is read is whole and in order, although slots are reused under the reader.
    let end = Instant::now() + BOOT;
    loop {
        let log = read(&ram);
        assert!(log.records.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        check_flood(&log);
        if log
            .records
            .iter()
            .any(|record| record.text.starts_with("flood 1200 "))
        {
            break;
        }
        assert!(Instant::now() < end, "the guest does not get on");
    }
    guest.wait_for("flood is over");
    let log = read(&ram);
    assert!(
        !log.records
            .first()
            .unwrap()
            .text
            .starts_with("Linux version "),
        "the ring has not wrapped"
    );
    let numbers: Vec<u64> = log.records.iter().map(|record| record.seq).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "records are missing: {numbers:?}"
    );
    check_flood(&log);
    assert!(
        log.records.last().unwrap().text.starts_with("flood 1499 "),
        "{:?}",
        log.records.last()
    );
}

/// Each record of the flood says its number at its start and at its end, and nothing of another's between.
fn check_flood(log: &KernelLog) {
    for record in log
        .records
        .iter()
        .filter(|record| record.text.starts_with("flood "))
    {
        let number = record.text.split(' ').nth(1).unwrap();
        assert_eq!(
            record.text,
            format!("flood {number} {}{number}", "0".repeat(200))
        );
    }
}

#[test]
fn control_characters_of_a_guest_are_escaped() {
    let Some(kernel) = kernel_or_skip() else {
        return;
    };
    let mut guest = Guest::boot(&kernel, "q35", 256);
    guest.tell("control");
    guest.wait_for("control is over");
    let log = read(&guest.ram(Machine::Q35));
    assert!(
        log.records
            .iter()
            .any(|record| record.text == "evil \\x1b[31m \\xff text"),
        "{}",
        dmesg::render_tail(&log, 1000)
    );
}

#[test]
fn reading_allocates_no_memory_of_the_guest() {
    use std::os::unix::fs::MetadataExt;
    let Some(kernel) = kernel_or_skip() else {
        return;
    };
    let mut guest = Guest::boot(&kernel, "q35", 2048);
    guest.tell("panic");
    guest.wait_for("end Kernel panic");
    let blocks = || {
        let folder = format!("/proc/{}/fd", guest.qemu.id());
        fs::read_dir(folder)
            .unwrap()
            .flatten()
            .filter(|entry| {
                fs::read_link(entry.path())
                    .is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"))
            })
            .map(|entry| fs::metadata(entry.path()).unwrap().blocks())
            .sum::<u64>()
    };
    let before = blocks();
    read(&guest.ram(Machine::Q35));
    assert_eq!(blocks(), before);
}
