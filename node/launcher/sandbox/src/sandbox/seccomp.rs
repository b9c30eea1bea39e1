//! The system-call filter of everything in a sandbox.
//!
//! A list of what is refused, not of what is allowed: libvirt, QEMU, swtpm and qemu-img change, and QEMU has its own,
//! tighter filter on top. Refused are the ways into the kernel that none of them needs.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch,
};

use super::{SandboxError, Step};

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

/// Answered as if the kernel were too old: callers then take another way (glibc calls `clone`, QEMU calls `epoll`).
const MISSING: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Bit of system-call numbers of the x32 interface, which reaches the same calls by other numbers.
#[cfg(target_arch = "x86_64")]
const X32: Option<i64> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<i64> = None;

/// Installs the filter for this thread and everything it starts.
///
/// # Errors
/// When the kernel refuses it.
pub fn install() -> Result<(), SandboxError> {
    for (rules, errno) in [(refused()?, libc::EPERM), (missing(), libc::ENOSYS)] {
        let program = compile(rules, errno)?;
        seccompiler::apply_filter(&program)
            .map_err(std::io::Error::other)
            .step(|| "install the seccomp filter".into())?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<Rule>>;

fn refused() -> Result<Rules, SandboxError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // One bit at a time: a masked comparison with the bit itself.
    let namespaces = (0..64)
        .map(|bit| 1_u64 << bit)
        .filter(|bit| NAMESPACES & bit != 0)
        .map(|bit| rule(&[(0, Width::Qword, Compare::MaskedEq(bit), bit)]))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, namespaces);
    let family = |family: libc::c_int| u64::from(family.unsigned_abs());
    let differs = |number: libc::c_int| (0, Width::Dword, Compare::Ne, family(number));
    let kind = |of: libc::c_int, kind: libc::c_int| {
        [
            (0, Width::Dword, Compare::Eq, family(of)),
            (1, Width::Dword, Compare::MaskedEq(0xf), family(kind)),
        ]
    };
    let netlink = [
        (0, Width::Dword, Compare::Eq, family(libc::AF_NETLINK)),
        (2, Width::Dword, Compare::Ne, family(libc::NETLINK_ROUTE)),
        (
            2,
            Width::Dword,
            Compare::Ne,
            family(libc::NETLINK_KOBJECT_UEVENT),
        ),
        (2, Width::Dword, Compare::Ne, family(libc::NETLINK_GENERIC)),
    ];
    rules.insert(
        libc::SYS_socket,
        vec![
            // Any family but these four …
            rule(&[
                differs(libc::AF_UNIX),
                differs(libc::AF_INET),
                differs(libc::AF_INET6),
                differs(libc::AF_NETLINK),
            ])?,
            // … and of these, nothing raw and no netlink but what asks about interfaces.
            rule(&kind(libc::AF_INET, libc::SOCK_RAW))?,
            rule(&kind(libc::AF_INET6, libc::SOCK_RAW))?,
            rule(&netlink)?,
        ],
    );
    // Typing into the terminal of someone else (none is here, but the call is never needed).
    rules.insert(
        libc::SYS_ioctl,
        vec![rule(&[(1, Width::Dword, Compare::Eq, libc::TIOCSTI)])?],
    );
    if let Some(bit) = X32 {
        let others: Rules = rules.keys().map(|call| (call | bit, Vec::new())).collect();
        rules.extend(others);
    }
    Ok(rules)
}

fn missing() -> Rules {
    let plain = MISSING.iter().copied();
    let x32 = MISSING.iter().filter_map(|call| X32.map(|bit| call | bit));
    plain.chain(x32).map(|call| (call, Vec::new())).collect()
}

fn rule(conditions: &[(u8, Width, Compare, u64)]) -> Result<Rule, SandboxError> {
    conditions
        .iter()
        .map(|(argument, width, compare, value)| {
            Condition::new(*argument, width.clone(), compare.clone(), *value)
        })
        .collect::<Result<Vec<_>, _>>()
        .and_then(Rule::new)
        .map_err(std::io::Error::other)
        .step(|| "write a seccomp rule".into())
}

fn compile(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, SandboxError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(std::io::Error::other)
        .step(|| "know this processor".into())?;
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        arch,
    )
    .and_then(BpfProgram::try_from)
    .map_err(std::io::Error::other)
    .step(|| "compile the seccomp filter".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, since a filter cannot be taken away.
    #[test]
    fn raw_sockets_and_namespaces_are_refused_and_files_are_not() {
        std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            install().unwrap();
            let raw = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Packet,
                nix::sys::socket::SockType::Raw,
                nix::sys::socket::SockFlag::empty(),
                None,
            );
            assert_eq!(raw.unwrap_err(), nix::errno::Errno::EPERM);
            let unshare = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER);
            assert_eq!(unshare.unwrap_err(), nix::errno::Errno::EPERM);
            std::fs::read("/proc/self/stat").unwrap();
            std::os::unix::net::UnixStream::pair().unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::thread::spawn(|| ()).join().unwrap();
        })
        .join()
        .unwrap();
    }
}
