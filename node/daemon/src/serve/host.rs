//! What this machine can do, found out once at the start of the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use catamaran_guest_memory::kvm_probe::{self, KvmVerdict};
use catamaran_plan::{Accelerator, HostFacts, OvmfFiles};
use serde_json::{Value, json};

/// Where OVMF lies: Debian, then Fedora.
const OVMF: [(&str, &str, &str, &str); 2] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd",
    ),
];

/// The emulator.
pub const EMULATOR: &str = "/usr/bin/qemu-system-x86_64";

/// What libvirt loads to run QEMU, below the folder of its libraries.
const DRIVER: &str = "libvirt/connection-driver/libvirt_driver_qemu.so";
/// Where libraries lie: Debian, then Fedora, then others.
const LIBRARIES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];

/// Guests can't run here.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A program is missing.
    #[error("{program} is not installed: {what} needs it (Debian package {package})")]
    Missing {
        /// Which.
        program: String,
        /// For what.
        what: &'static str,
        /// Where it is from.
        package: &'static str,
    },
    /// A program did not say what it should.
    #[error("{program} did not answer as expected: {said:?}")]
    Unexpected {
        /// Which.
        program: String,
        /// What it said.
        said: String,
    },
}

/// Facts with the verdict behind the accelerator.
#[derive(Debug, Clone)]
pub struct Host {
    /// Facts for plans.
    pub facts: HostFacts,
    /// What the probe said.
    pub kvm: KvmVerdict,
}

/// Finds out everything. `emulation` forbids KVM.
///
/// # Errors
/// When QEMU or libvirt is missing, or QEMU not understood.
pub fn find(emulation: bool) -> Result<Host, HostError> {
    let kvm = kvm_probe::probe(Path::new("/dev/kvm"));
    let accelerator = if kvm.is_usable() && !emulation {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    };
    let said = output(
        EMULATOR,
        &["--version"],
        "running virtual machines",
        "qemu-system-x86",
    )?;
    let qemu_version = version(&said).ok_or_else(|| HostError::Unexpected {
        program: EMULATOR.to_owned(),
        said: said.clone(),
    })?;
    let libvirt_version = libvirt_version().ok_or_else(|| missing("libvirt", "libvirt0"))?;
    if !LIBRARIES
        .iter()
        .any(|folder| Path::new(folder).join(DRIVER).is_file())
    {
        return Err(missing(
            "libvirt's driver for QEMU",
            "libvirt-daemon-driver-qemu",
        ));
    }
    let machines = output(
        EMULATOR,
        &["-machine", "help"],
        "running virtual machines",
        "qemu-system-x86",
    )?;
    let models = cpu_models(&output(
        EMULATOR,
        &["-cpu", "help"],
        "running virtual machines",
        "qemu-system-x86",
    )?);
    let facts = HostFacts {
        accelerator,
        emulator: EMULATOR.to_owned(),
        qemu_version,
        libvirt_version,
        machine_types: machine_types(&machines),
        usable_cpu_models: models.clone(),
        cpu_models: models,
        host_cpu_features: Vec::new(),
        host_cpu_model: host_cpu_model(accelerator),
        ovmf: ovmf(),
        swtpm: Path::new("/usr/bin/swtpm").exists(),
        hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
        vhost_net: Path::new("/dev/vhost-net").exists(),
    };
    Ok(Host { facts, kvm })
}

/// What `catamaran host` prints: one line for each ability, with the reason.
#[must_use]
pub fn report(host: Option<&Host>) -> Value {
    let (host, error) = match host {
        Some(host) => (Some(host.clone()), None),
        None => match find(false) {
            Ok(host) => (Some(host), None),
            Err(error) => (None, Some(error)),
        },
    };
    let mut lines = Vec::new();
    let mut line =
        |what: &str, ok: bool, why: String| lines.push(json!({"what": what, "ok": ok, "why": why}));
    if let Some(error) = error {
        line("virtual machines", false, error.to_string());
    }
    if let Some(Host { facts, kvm }) = &host {
        let (major, minor, micro) = facts.qemu_version;
        let runs_by = match facts.accelerator {
            Accelerator::Kvm => "guests run under KVM",
            Accelerator::Tcg => "guests are emulated (TCG): correct, and about ten times slower",
        };
        line(
            "virtual machines",
            true,
            format!("QEMU {major}.{minor}.{micro}; {runs_by}"),
        );
        line("kvm", kvm.is_usable(), kvm.to_string());
        line(
            "machine type",
            !facts.machine_types.is_empty(),
            facts
                .machine_types
                .first()
                .cloned()
                .unwrap_or_else(|| "no q35 machine type".to_owned()),
        );
        let found = |file: &Option<String>| {
            file.clone().unwrap_or_else(|| {
                "no firmware with enrolled keys (Debian package ovmf)".to_owned()
            })
        };
        match &facts.ovmf {
            Some(ovmf) => {
                line("uefi", true, ovmf.code.clone());
                line(
                    "secure boot",
                    ovmf.secure_code.is_some() && ovmf.secure_vars.is_some(),
                    found(&ovmf.secure_vars),
                );
            }
            None => line(
                "uefi",
                false,
                "no OVMF firmware (Debian package ovmf)".to_owned(),
            ),
        }
        line(
            "tpm",
            facts.swtpm,
            if facts.swtpm {
                "swtpm".to_owned()
            } else {
                "swtpm is not installed (Debian packages swtpm, swtpm-tools)".to_owned()
            },
        );
        let pages: Vec<_> = facts
            .hugepages
            .iter()
            .filter(|(_, free)| *free > 0)
            .map(|(size, free)| format!("{free} free of {} KiB", size / 1024))
            .collect();
        line(
            "hugepages",
            !pages.is_empty(),
            if pages.is_empty() {
                "none reserved".to_owned()
            } else {
                pages.join(", ")
            },
        );
        line(
            "vhost-net",
            facts.vhost_net,
            if facts.vhost_net {
                "/dev/vhost-net".to_owned()
            } else {
                "/dev/vhost-net is not there; QEMU moves packets itself".to_owned()
            },
        );
    }
    let shmem =
        fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let chosen = shmem
        .split(['[', ']'])
        .nth(1)
        .unwrap_or("not offered by this kernel")
        .to_owned();
    line(
        "huge guest memory",
        ["always", "advise", "within_size"].contains(&chosen.as_str()),
        format!("transparent_hugepage/shmem_enabled is {chosen}; `advise` is recommended"),
    );
    for (what, program, package) in [
        ("containers", "containerd", "containerd"),
        ("containers' starter", "runc", "runc"),
        ("firewall", "nft", "nftables"),
        ("seeds", "xorriso", "xorriso"),
    ] {
        let found = which(program);
        line(
            what,
            found.is_some(),
            found.map_or_else(
                || format!("{program} is not installed (Debian package {package})"),
                |path| path.display().to_string(),
            ),
        );
    }
    json!({"lines": lines, "facts": host.as_ref().map(|host| &host.facts), "kvm": host.as_ref().map(|host| &host.kvm)})
}

fn output(
    program: &str,
    arguments: &[&str],
    what: &'static str,
    package: &'static str,
) -> Result<String, HostError> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => Err(HostError::Missing {
            program: program.to_owned(),
            what,
            package,
        }),
    }
}

/// A program on the PATH or where system programs lie.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/bin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// `QEMU emulator version 10.0.2 (…)`.
fn version(said: &str) -> Option<(u32, u32, u32)> {
    let word = said
        .split_once("version ")?
        .1
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    let mut numbers = word.split('.').map(|number| number.parse().ok());
    Some((
        numbers.next()??,
        numbers.next()??,
        numbers.next().flatten().unwrap_or(0),
    ))
}

/// Something of libvirt's that is not there.
fn missing(what: &str, package: &'static str) -> HostError {
    HostError::Missing {
        program: what.to_owned(),
        what: "running virtual machines",
        package,
    }
}

/// The libvirt that launchers will load, by the name of its library file.
fn libvirt_version() -> Option<(u32, u32, u32)> {
    let files = LIBRARIES
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    // libvirt.so.0.<1000 * major + minor>.<micro>
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let (number, micro) = name.strip_prefix("libvirt.so.0.")?.split_once('.')?;
            let number: u32 = number.parse().ok()?;
            Some((number / 1000, number % 1000, micro.parse().ok()?))
        })
        .max()
}

/// Versioned q35 machine types, newest first.
fn machine_types(help: &str) -> Vec<String> {
    let mut types: Vec<(Vec<u32>, String)> = help
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| {
            Some((
                name.strip_prefix("pc-q35-")?
                    .split('.')
                    .map(|part| part.parse().unwrap_or(0))
                    .collect(),
                name.to_owned(),
            ))
        })
        .collect();
    types.sort();
    types.into_iter().rev().map(|(_, name)| name).collect()
}

/// Named models of QEMU.
fn cpu_models(help: &str) -> Vec<String> {
    let models = help
        .lines()
        .skip_while(|line| !line.starts_with("Available CPUs"))
        .skip(1)
        .take_while(|line| !line.trim().is_empty());
    let mut models: Vec<String> = models
        .filter_map(|line| {
            line.trim()
                .strip_prefix("x86 ")
                .unwrap_or(line.trim())
                .split_whitespace()
                .next()
        })
        .map(str::to_owned)
        .collect();
    models.sort();
    models.dedup();
    models
}

/// The closest named model. Emulated guests get `maximum`; with KVM the generations of x86-64 are models that every such host has.
fn host_cpu_model(accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Tcg => "maximum".to_owned(),
        Accelerator::Kvm => {
            generation(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()).to_owned()
        }
    }
}

/// Newest named QEMU model whose features this processor has.
fn generation(cpuinfo: &str) -> &'static str {
    let flags: Vec<&str> = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let has = |wanted: &[&str]| wanted.iter().all(|flag| flags.contains(flag));
    let amd = cpuinfo.contains("AuthenticAMD");
    let avx2 = has(&["avx", "avx2", "bmi1", "bmi2", "fma", "movbe"]);
    let avx512 = has(&["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]);
    match (amd, avx2, avx512) {
        (true, true, _) => "EPYC",
        (true, false, _) => "Opteron_G3",
        (false, _, true) if avx2 => "Skylake-Server-noTSX-IBRS",
        (false, true, _) => "Haswell-noTSX",
        (false, false, _) => "Westmere",
    }
}

fn ovmf() -> Option<OvmfFiles> {
    let there = |path: &str| Path::new(path).exists().then(|| path.to_owned());
    OVMF.iter()
        .find_map(|(code, vars, secure_code, secure_vars)| {
            Some(OvmfFiles {
                code: there(code)?,
                vars: there(vars)?,
                secure_code: there(secure_code),
                secure_vars: there(secure_vars),
            })
        })
}

fn hugepages(folder: &Path) -> Vec<(u64, u64)> {
    let mut pages: Vec<(u64, u64)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let kib: u64 = entry
                .file_name()
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let free = fs::read_to_string(entry.path().join("free_hugepages"))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            Some((kib * 1024, free))
        })
        .collect();
    pages.sort_unstable();
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_qemu_are_read() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"),
            Some((10, 0, 2))
        );
        assert_eq!(version("QEMU emulator version 7.2.17"), Some((7, 2, 17)));
        assert_eq!(version("sh: not found"), None);
    }

    #[test]
    fn newest_machine_type_comes_first() {
        let help = "pc-q35-9.2  Standard PC\npc-q35-10.0  Standard PC\nq35  Standard PC (alias of pc-q35-10.0)\npc-i440fx-10.0 x\n";
        assert_eq!(machine_types(help), ["pc-q35-10.0", "pc-q35-9.2"]);
    }

    #[test]
    fn cpu_models_are_read_from_both_forms_of_help() {
        let help = "Available CPUs:\n  486                   (alias configured by machine type)\n  x86 EPYC   AMD\n\nRecognized CPUID flags:\n  3dnow\n";
        assert_eq!(cpu_models(help), ["486", "EPYC"]);
    }

    #[test]
    fn model_of_a_host_is_one_whose_features_it_has() {
        assert_eq!(
            generation("vendor_id : GenuineIntel\nflags : sse4_2 avx"),
            "Westmere"
        );
        assert_eq!(
            generation("flags : avx avx2 bmi1 bmi2 fma movbe"),
            "Haswell-noTSX"
        );
    }
}
