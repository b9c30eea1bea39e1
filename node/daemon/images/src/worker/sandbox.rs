//! How the worker shuts itself in: no network, an empty root, another user, no capabilities, small limits, a short list of system calls.
//!
//! Order matters: namespaces and chroot need root, everything after them is a step down that cannot be undone. The system call filter also
//! keeps the worker from signalling or tracing other processes of its user, such as a VM's launcher.

use std::collections::BTreeMap;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, geteuid, getresuid, setgroups, setresgid, setresuid};
use rustix::thread::set_no_new_privs;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::Confine;

/// What the worker may still do: work on the descriptors it has, manage its memory, end.
const SYSTEM_CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// # Errors
/// The step that failed. Nothing may be read from the blob then.
pub(super) fn enter(confine: &Confine) -> Result<(), String> {
    let failed = |step: &'static str| move |error: nix::Error| format!("{step}: {error}");
    if geteuid().is_root() {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
            .map_err(failed("unshare"))?;
        chroot(&confine.root).map_err(failed("chroot"))?;
        chdir("/").map_err(failed("chdir"))?;
        let (uid, gid) = (Uid::from_raw(confine.uid), Gid::from_raw(confine.gid));
        if uid.is_root() {
            return Err("the worker's user must not be root".to_owned());
        }
        setgroups(&[]).map_err(failed("setgroups"))?;
        setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
        setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
        let now = getresuid().map_err(failed("getresuid"))?;
        if now.real != uid || now.effective != uid || now.saved != uid {
            return Err(format!("user is {now:?} instead of {uid}"));
        }
        let held =
            rustix::thread::capabilities(None).map_err(|error| format!("capget: {error}"))?;
        if !held.effective.is_empty() || !held.permitted.is_empty() {
            return Err(format!("capabilities are left: {held:?}"));
        }
    }
    set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, confine.memory),
        (Resource::RLIMIT_CPU, confine.cpu_seconds),
        (Resource::RLIMIT_FSIZE, confine.file_size),
        (Resource::RLIMIT_NOFILE, 16),
    ] {
        setrlimit(resource, limit, limit).map_err(failed("setrlimit"))?;
    }
    filter_system_calls()
}

fn filter_system_calls() -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(|error| failed(&error))?;
    let rules: BTreeMap<_, _> = SYSTEM_CALLS
        .iter()
        .map(|call| (*call, Vec::new()))
        .collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )
    .map_err(|error| failed(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}
