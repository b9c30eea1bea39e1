//! What Catamaran learns by looking at memory: whether this machine's KVM is real (`kvm_probe`, a guest of a few bytes), and what a
//! Linux guest's kernel last said (`dmesg`, read from the guest's RAM without an agent). Beside that, for the daemon: how a container opens a block
//! device that came after its start (`device_window`).
//!
//! One of the two crates that may hold `unsafe` code: the probe hands memory and a signal mask to the kernel, and the window a program. The reader of guest
//! memory uses none, since it only ever calls `pread` on the RAM's file: whatever the guest or QEMU does to that file, there is no
//! mapping that could fault.
//!
//! Only x86-64 hosts and guests are known here.

pub mod device_window;
pub mod dmesg;
pub mod guest_ram;
pub mod kvm_probe;
