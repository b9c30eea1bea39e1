//! The measuring part of the probe: a machine with 2 MiB of memory, one vCPU put into 64-bit mode by hand, and four loops.
//!
//! Runs on a thread of its own (`kvm_probe::probe` makes it), since signals are blocked on it and since a broken kernel may keep it.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::kick::Kick;
use super::{LEAST_RATIO, Measurements, Stop};

/// How long each loop runs.
const SPAN: Duration = Duration::from_millis(15);
/// How long the host runs its own plain loop; done three times, the fastest counts.
const NATIVE_SPAN: Duration = Duration::from_millis(1);
/// The guest's memory, in bytes.
const MEMORY: usize = 2 << 20;
/// Where a loop's code is put.
const CODE: u64 = 0x1000;
/// Page tables: one entry each in PML4 and PDPT, one 2 MiB page.
const PML4: u64 = 0x9000;
const PDPT: u64 = 0xa000;
const PD: u64 = 0xb000;
/// Loops count down from here and are always kicked before they reach 0.
const ITERATIONS: u64 = 1 << 40;
/// KVM's version since 2007; the kernel promises that it never changes.
const API_VERSION: i32 = 12;

/// `mov dx, 0x3f8; l: out dx, al; jmp l`: each round is an exit to the VMM.
const EXITS: &[u8] = &[0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd];
/// `l: dec rsi; jnz l; hlt`.
const PLAIN: &[u8] = &[0x48, 0xff, 0xce, 0x75, 0xfb, 0xf4];
/// `l: mov rax, cr3; mov cr3, rax; dec rsi; jnz l; hlt`.
const CR3_LOADS: &[u8] = &[
    0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x48, 0xff, 0xce, 0x75, 0xf5, 0xf4,
];
/// `l: cpuid; dec rsi; jnz l; hlt`.
const CPUIDS: &[u8] = &[0x0f, 0xa2, 0x48, 0xff, 0xce, 0x75, 0xf9, 0xf4];

/// Measures everything it can; `measurements` holds what was reached, also when it stops early.
pub(super) fn measure(device: &Path, measurements: &mut Measurements) -> Result<(), Stop> {
    let started = Instant::now();
    let outcome = measure_steps(device, measurements);
    measurements.total_ms = Some(started.elapsed().as_secs_f64() * 1e3);
    outcome
}

fn measure_steps(device: &Path, measurements: &mut Measurements) -> Result<(), Stop> {
    let kvm = open(device)?;
    let kick = Kick::for_this_thread()
        .map_err(|error| Stop::Unusable(format!("no timer for the probe: {error}")))?;
    let mut machine = Machine::create(&kvm, &kick, measurements)?;

    measurements.exits_per_s = Some(machine.exits_per_s(&kick)?);
    measurements.native_mips = Some(native_mips());
    let mut guest_mips = machine.rounds_per_s(&kick, "plain", PLAIN)? * 2.0 / 1e6;
    measurements.guest_mips = Some(guest_mips);
    // Between a useless KVM and a real one lie three orders of magnitude. A value just below the line means that the host is busy.
    if measurements
        .ratio()
        .is_some_and(|ratio| (LEAST_RATIO / 20.0..LEAST_RATIO).contains(&ratio))
    {
        guest_mips = guest_mips.max(machine.rounds_per_s(&kick, "plain", PLAIN)? * 2.0 / 1e6);
        measurements.guest_mips = Some(guest_mips);
    }
    measurements.cr3_loads_per_s = Some(machine.rounds_per_s(&kick, "page table", CR3_LOADS)?);
    measurements.cpuids_per_s = Some(machine.rounds_per_s(&kick, "cpuid", CPUIDS)?);
    Ok(())
}

/// Opens the device, and says in words why it cannot be opened.
fn open(device: &Path) -> Result<Kvm, Stop> {
    let name = device.display();
    let meta = match std::fs::metadata(device) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Stop::Absent(format!(
                "{name} does not exist (no KVM module loaded, or no hardware virtualisation)"
            )));
        }
        Err(error) => {
            return Err(Stop::Unusable(format!(
                "{name} cannot be looked at: {error}"
            )));
        }
    };
    if !meta.file_type().is_char_device() {
        return Err(Stop::Absent(format!("{name} is not a character device")));
    }
    let path = std::ffi::CString::new(device.as_os_str().as_encoded_bytes())
        .map_err(|_| Stop::Absent(format!("{name} holds a zero byte")))?;
    let kvm = Kvm::new_with_path(path).map_err(|errno| match errno.errno() {
        libc::ENXIO | libc::ENODEV | libc::ENOENT => {
            Stop::Absent(format!("{name} has no driver behind it: {}", words(&errno)))
        }
        libc::EACCES | libc::EPERM => Stop::Unusable(format!(
            "{name} cannot be opened: {} (its mode is {:04o}, owner {}, group {})",
            words(&errno),
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid()
        )),
        _ => Stop::Unusable(format!("{name} cannot be opened: {}", words(&errno))),
    })?;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        version if version < 0 => Err(Stop::Absent(format!(
            "{name} is another kind of device: it does not answer as KVM"
        ))),
        version => Err(Stop::Unusable(format!(
            "{name} speaks KVM API version {version}; only {API_VERSION} is known"
        ))),
    }
}

/// The kernel's words for an error number.
fn words(errno: &kvm_ioctls::Error) -> String {
    std::io::Error::from_raw_os_error(errno.errno()).to_string()
}

/// Says which step of the set-up the kernel refused.
fn refused(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> Stop {
    move |errno| Stop::Unusable(format!("the kernel refuses to {step}: {}", words(&errno)))
}

/// A machine with one vCPU. Fields drop in order: the vCPU and the machine are closed before their memory is unmapped.
struct Machine {
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemoryMmap<()>,
}

impl Machine {
    fn create(kvm: &Kvm, kick: &Kick, measurements: &mut Measurements) -> Result<Machine, Stop> {
        let no_memory = |error: &dyn std::fmt::Display| {
            Stop::Unusable(format!("no memory for the probe's guest: {error}"))
        };
        let started = Instant::now();
        let vm = kvm.create_vm().map_err(refused("create a machine"))?;
        measurements.create_vm_us = Some(started.elapsed().as_secs_f64() * 1e6);

        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)])
            .map_err(|error| no_memory(&error))?;
        let host = memory
            .get_host_address(GuestAddress(0))
            .map_err(|error| no_memory(&error))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: host as u64,
        };
        // SAFETY: the region is the whole of `memory`'s mapping, which lives in the same struct as the machine and is unmapped after
        // the machine and its vCPU are closed; nothing else in this process uses it.
        unsafe { vm.set_user_memory_region(region) }.map_err(refused("give a machine memory"))?;

        let started = Instant::now();
        let vcpu = vm.create_vcpu(0).map_err(refused("create a vCPU"))?;
        measurements.create_vcpu_us = Some(started.elapsed().as_secs_f64() * 1e6);
        let cpuid = kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(refused("name the CPU's features"))?;
        vcpu.set_cpuid2(&cpuid)
            .map_err(refused("set the vCPU's features"))?;
        kick.let_through(&vcpu).map_err(|error| {
            Stop::Unusable(format!(
                "the kernel refuses to set a vCPU's signal mask: {error}"
            ))
        })?;

        let tables = [(PML4, PDPT | 3), (PDPT, PD | 3), (PD, 0x83)];
        for (at, entry) in tables {
            memory
                .write_obj(entry, GuestAddress(at))
                .map_err(|error| no_memory(&error))?;
        }
        long_mode(&vcpu)?;
        Ok(Machine {
            vcpu,
            _vm: vm,
            memory,
        })
    }

    /// Puts a loop into memory and the vCPU before it.
    fn load(&self, code: &[u8]) -> Result<(), Stop> {
        self.memory
            .write_slice(code, GuestAddress(CODE))
            .map_err(|error| {
                Stop::Unusable(format!("the probe's guest cannot be written: {error}"))
            })?;
        let regs = kvm_regs {
            rip: CODE,
            rsi: ITERATIONS,
            rflags: 2,
            rsp: 0x8000,
            ..kvm_regs::default()
        };
        self.vcpu
            .set_regs(&regs)
            .map_err(refused("set a vCPU's registers"))
    }

    /// Runs a loop for [`SPAN`] and gives its rounds per second.
    fn rounds_per_s(&mut self, kick: &Kick, name: &str, code: &[u8]) -> Result<f64, Stop> {
        self.load(code)?;
        let (_, elapsed) = self.run(kick, name)?;
        let left = self
            .vcpu
            .get_regs()
            .map_err(refused("read a vCPU's registers"))?
            .rsi;
        let done = ITERATIONS.checked_sub(left).ok_or_else(|| {
            Stop::Unusable(format!(
                "the {name} loop counted up instead of down: the guest's registers are not kept"
            ))
        })?;
        Ok(done as f64 / elapsed.as_secs_f64())
    }

    /// Runs the loop of port outputs for [`SPAN`] and gives its exits per second.
    fn exits_per_s(&mut self, kick: &Kick) -> Result<f64, Stop> {
        self.load(EXITS)?;
        let (exits, elapsed) = self.run(kick, "exit")?;
        Ok(exits as f64 / elapsed.as_secs_f64())
    }

    /// Runs until kicked; counts the port outputs.
    fn run(&mut self, kick: &Kick, name: &str) -> Result<(u64, Duration), Stop> {
        let timer =
            |error: std::io::Error| Stop::Unusable(format!("no timer for the probe: {error}"));
        kick.arm(SPAN).map_err(timer)?;
        let started = Instant::now();
        let mut exits = 0;
        let outcome = loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(0x3f8, _)) => exits += 1,
                Ok(VcpuExit::Intr) => break Ok(()),
                Ok(exit) => break Err(format!("the {name} loop ended by itself: {exit:?}")),
                Err(errno) if errno.errno() == libc::EINTR => break Ok(()),
                // The kernel asks to be called again; the clock below ends a kernel that asks for ever.
                Err(errno) if errno.errno() == libc::EAGAIN => {}
                Err(errno) => {
                    break Err(format!(
                        "the kernel cannot run the {name} loop: {}",
                        words(&errno)
                    ));
                }
            }
            if started.elapsed() > SPAN * 4 {
                break Ok(());
            }
        };
        let elapsed = started.elapsed();
        kick.disarm().map_err(timer)?;
        outcome.map(|()| (exits, elapsed)).map_err(Stop::Unusable)
    }
}

/// Puts the vCPU into 64-bit mode, ring 0, with the first 2 MiB mapped one to one.
fn long_mode(vcpu: &VcpuFd) -> Result<(), Stop> {
    let mut sregs = vcpu
        .get_sregs()
        .map_err(refused("read a vCPU's registers"))?;
    let data = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: 16,
        type_: 3,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: 8,
        type_: 11,
        db: 0,
        l: 1,
        ..data
    };
    for segment in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *segment = data;
    }
    sregs.cr3 = PML4;
    sregs.cr4 = 1 << 5; // PAE
    sregs.efer = 1 << 8 | 1 << 10; // LME, LMA
    sregs.cr0 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
    vcpu.set_sregs(&sregs)
        .map_err(refused("put a vCPU into 64-bit mode"))
}

/// The host's speed in the plain loop, in million instructions per second: the fastest of three.
fn native_mips() -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        let started = Instant::now();
        let mut rounds = 0_u64;
        while started.elapsed() < NATIVE_SPAN {
            plain_loop(100_000);
            rounds += 100_000;
        }
        best = best.max(rounds as f64 * 2.0 / started.elapsed().as_secs_f64() / 1e6);
    }
    best
}

/// The same two instructions as the guest's plain loop.
fn plain_loop(rounds: u64) {
    // SAFETY: touches one register of its own choice and the flags, no memory and no stack; ends since the register counts down from
    // a number above 0 to 0.
    unsafe {
        std::arch::asm!(
            "2: dec {0}",
            "jnz 2b",
            inout(reg) rounds.max(1) => _,
            options(nomem, nostack),
        );
    }
}
