//! Gets a thread out of `KVM_RUN` after a given time, without a signal handler.
//!
//! The probing thread blocks every signal for good. For the time inside `KVM_RUN` alone, `KVM_SET_SIGNAL_MASK` lets one real-time
//! signal through; a timer sends it to this very thread, `KVM_RUN` returns `EINTR`, and the signal, blocked again, stays pending until
//! it is taken off the queue. No handler runs, and no other thread or part of the process can notice.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`, where the struct counts as its 4 bytes of header.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// `struct kvm_signal_mask` with the kernel's own 8-byte signal set behind it.
#[repr(C)]
struct KvmSignalMask {
    len: u32,
    /// The blocked signals; signal `n` is bit `n - 1`.
    sigset: [u8; 8],
}

/// The signal used, far from what programs use.
fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN() + 11
}

/// A one-shot timer aimed at the thread that made it. Lives and dies on that thread.
#[derive(Debug)]
pub(super) struct Kick {
    timer: libc::timer_t,
    signal: libc::c_int,
}

impl Kick {
    /// Blocks all signals of the calling thread for good and makes the timer.
    pub(super) fn for_this_thread() -> io::Result<Kick> {
        let signal = kick_signal();
        // SAFETY: `set` is a plain signal set that `sigfillset` initialises before it is read, and `pthread_sigmask` only reads it;
        // the old mask is not asked for.
        let blocked = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
        };
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: all-zero bytes are a valid `sigevent`; it and `timer` outlive the call, and the thread named is the caller.
        let made = unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = libc::gettid();
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
        };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Kick { timer, signal })
    }

    /// Lets the signal through while this vCPU runs.
    pub(super) fn let_through(&self, vcpu: &impl AsRawFd) -> io::Result<()> {
        let number = u32::try_from(self.signal).map_err(io::Error::other)?;
        let allowed = 1_u64
            .checked_shl(number.saturating_sub(1))
            .unwrap_or_default();
        let mask = KvmSignalMask {
            len: 8,
            sigset: (!allowed).to_ne_bytes(),
        };
        // SAFETY: the descriptor is a vCPU's, and the kernel reads 4 + `len` bytes, which is the whole of `mask`.
        let set = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) };
        if set == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Kicks once, after `delay`.
    pub(super) fn arm(&self, delay: Duration) -> io::Result<()> {
        self.set(delay)
    }

    /// Stops the timer and takes a signal that it has already sent off the queue, so that the next run is not cut short.
    pub(super) fn disarm(&self) -> io::Result<()> {
        self.set(Duration::ZERO)?;
        // SAFETY: `set` is initialised by `sigemptyset` before use; a zero timeout makes the call return at once; no `siginfo` is
        // asked for.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, self.signal);
            let now = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now);
        }
        Ok(())
    }

    fn set(&self, delay: Duration) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(delay.as_secs()).map_err(io::Error::other)?,
            tv_nsec: libc::c_long::from(
                i32::try_from(delay.subsec_nanos()).map_err(io::Error::other)?,
            ),
        };
        let spec = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        // SAFETY: the timer lives as long as `self`, `spec` outlives the call, and the old value is not asked for.
        let set =
            unsafe { libc::timer_settime(self.timer, 0, &raw const spec, std::ptr::null_mut()) };
        if set == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `for_this_thread` and is deleted only here.
        unsafe {
            libc::timer_delete(self.timer);
        }
    }
}
