//! A moment in which the processes of a control group may open one block device more.
//!
//! In control groups of version 2 the devices of a container are ruled by programs in the kernel, which its runtime has attached and nobody can
//! change. They can be taken off and put back, though, and who has a device open keeps it. So for the moment in which somebody opens the device, a
//! program of ours takes their place; it is there before they go and goes after they are back, so that at no time nothing rules.
//!
//! Should this process be killed meanwhile, ours stays: it lets nobody open another block device.

use std::ffi::c_long;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

/// Commands and words of bpf(2), as in `linux/bpf.h`.
const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const PROG_DETACH: c_long = 9;
const PROG_GET_FD_BY_ID: c_long = 13;
const PROG_QUERY: c_long = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// Programs that one group can have.
const MOST: usize = 64;
/// Kind of device in the program's context.
const CHARACTER: i32 = 2;

/// The moment; it ends with the value.
#[derive(Debug)]
pub struct Window {
    group: OwnedFd,
    ours: OwnedFd,
    /// What ruled before, in its order.
    theirs: Vec<OwnedFd>,
}

impl Window {
    /// Opens it. `group`: the folder of the group; (major, minor): the device. `None`: nothing rules there, so nothing is to be done.
    ///
    /// # Errors
    /// The kernel's, which knows no such programs or lets this process attach none.
    pub fn open(group: OwnedFd, device: (u32, u32)) -> io::Result<Option<Self>> {
        let theirs = attached(&group)?;
        if theirs.is_empty() {
            return Ok(None);
        }
        let ours = load(device)?;
        attach(&group, &ours)?;
        let window = Self {
            group,
            ours,
            theirs,
        };
        for program in &window.theirs {
            // What fails here leaves both, and the value's end puts everything back.
            detach(&window.group, program)?;
        }
        Ok(Some(window))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut back = true;
        for program in &self.theirs {
            back &= match attach(&self.group, program) {
                Ok(()) => true,
                // It was never taken off.
                Err(error) => error.kind() == io::ErrorKind::InvalidInput,
            };
        }
        // Ours rules on rather than nothing, in a group that is there.
        if back {
            let _ = detach(&self.group, &self.ours);
        }
    }
}

/// The attributes of each command begin like these; the kernel takes what is left out for zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    first: u64,
    license: u64,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// bpf(2).
///
/// `T`: the attributes of the command; pointers in them lead to memory that lives as long as the call and is as large as the attributes say.
fn bpf<T>(command: c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes at `attributes`, which is borrowed exclusively; the callers in this module keep
    // what the pointers in it lead to alive and of the size that they name.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    match i32::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn number(descriptor: &impl AsFd) -> u32 {
    descriptor.as_fd().as_raw_fd().unsigned_abs()
}

fn attached(group: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST];
    let mut query = Query {
        target: number(group),
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    ids.iter()
        .take(query.count as usize)
        .map(|id| {
            let mut by_id = ById {
                id: *id,
                ..ById::default()
            };
            bpf(PROG_GET_FD_BY_ID, &mut by_id).map(owned)
        })
        .collect()
}

fn load((major, minor): (u32, u32)) -> io::Result<OwnedFd> {
    let program = program(major, minor);
    let mut load = Load {
        kind: TYPE_CGROUP_DEVICE,
        instructions: program.len() as u32,
        first: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    bpf(PROG_LOAD, &mut load).map(owned)
}

fn attach(group: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    bpf(PROG_ATTACH, &mut one(group, program, ALLOW_MULTI)).map(drop)
}

fn detach(group: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    bpf(PROG_DETACH, &mut one(group, program, 0)).map(drop)
}

fn one(group: &OwnedFd, program: &OwnedFd, flags: u32) -> Attach {
    Attach {
        target: number(group),
        program: number(program),
        kind: CGROUP_DEVICE,
        flags,
    }
}

/// Every character device, since the ones of a container are few and not worth a list; of the block devices, that one.
fn program(major: u32, minor: u32) -> [u64; 11] {
    /// Loads a word of the context, `struct bpf_cgroup_dev_ctx`, whose address is in register 1.
    const LOAD: u8 = 0x61;
    const AND: u8 = 0x54;
    const EQUAL: u8 = 0x16;
    const NOT_EQUAL: u8 = 0x56;
    const SET: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let word = |offset| code(LOAD, 2, 1, offset, 0);
    let number = |value: u32| value.cast_signed();
    [
        word(0),
        // The kind is the lower half; the upper one says what is wanted of it.
        code(AND, 2, 0, 0, 0xffff),
        code(EQUAL, 2, 0, 4, CHARACTER),
        word(4),
        code(NOT_EQUAL, 2, 0, 4, number(major)),
        word(8),
        code(NOT_EQUAL, 2, 0, 2, number(minor)),
        code(SET, 0, 0, 0, 1),
        code(EXIT, 0, 0, 0, 0),
        code(SET, 0, 0, 0, 0),
        code(EXIT, 0, 0, 0, 0),
    ]
}

/// One instruction: what, its two registers, how far it jumps or where it reads, a number.
fn code(what: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    u64::from(what)
        | u64::from(to | from << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(number.cast_unsigned()) << 32
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// A group of the unified hierarchy; it goes with the value.
    struct Group(PathBuf);

    impl Group {
        /// `None`, and why, where this machine or user can have none.
        fn make(name: &str) -> Option<Self> {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
            let Some(unified) = unified.and_then(|line| line.split(' ').nth(4)) else {
                eprintln!("skipped: no unified hierarchy of control groups");
                return None;
            };
            let name = format!("device-window-{name}-{}", std::process::id());
            let path = Path::new(unified).join(name);
            match fs::create_dir(&path) {
                Ok(()) => Some(Self(path)),
                Err(error) => {
                    eprintln!("skipped: {}: {error}", path.display());
                    None
                }
            }
        }

        fn folder(&self) -> OwnedFd {
            File::open(&self.0).unwrap().into()
        }

        /// Whether a process in it can open a device.
        fn opens(&self, device: &str) -> bool {
            let script = "echo $$ > $0/cgroup.procs && exec 3< $1";
            let mut shell = Command::new("sh");
            let shell = shell.args(["-c", script]).arg(&self.0).arg(device);
            shell.output().unwrap().status.success()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    const LOOP: u32 = 7;

    #[test]
    fn a_device_can_be_opened_as_long_as_the_window_is_open() {
        let Some(group) = Group::make("open") else {
            return;
        };
        if !group.opens("/dev/loop0") {
            eprintln!("skipped: there is no /dev/loop0");
            return;
        }
        // As a runtime does: no block device at all.
        let theirs = load((u32::MAX, 0)).unwrap();
        attach(&group.folder(), &theirs).unwrap();
        assert!(!group.opens("/dev/loop0") && group.opens("/dev/null"));
        let window = Window::open(group.folder(), (LOOP, 0)).unwrap();
        assert!(window.is_some());
        assert!(group.opens("/dev/loop0") && group.opens("/dev/null"));
        assert!(!group.opens("/dev/loop1"), "only that one");
        drop(window);
        assert!(!group.opens("/dev/loop0") && group.opens("/dev/null"));
        assert_eq!(attached(&group.folder()).unwrap().len(), 1);
    }

    #[test]
    fn where_nothing_rules_nothing_is_changed() {
        let Some(group) = Group::make("second") else {
            return;
        };
        assert!(Window::open(group.folder(), (LOOP, 0)).unwrap().is_none());
        assert!(attached(&group.folder()).unwrap().is_empty());
    }

    #[test]
    fn an_instruction_is_as_the_kernel_reads_it() {
        // `if w2 != 7 goto +2`: code, registers, jump, number.
        assert_eq!(code(0x56, 2, 0, 2, 7), 0x0000_0007_0002_0256);
        assert_eq!(code(0x61, 2, 1, 8, 0), 0x0008_1261);
    }
}
