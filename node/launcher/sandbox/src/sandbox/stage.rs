//! The two steps between the daemon and a sandbox's init, both of `catamaran-init` and both single-threaded.
//!
//! `sandbox` joins and unshares, and starts `enter` as the first process of the new pid namespace; `enter` builds the
//! root, gives every privilege away and becomes init. Until then `enter` holds a pipe to `sandbox`: text on it is the
//! error, its end without text is success.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use catamaran_host::process::Stat;
use catamaran_plan::paths;
use nix::sched::CloneFlags;
use rustix::fd::AsFd;
use rustix::fs::{Gid, Uid};

use super::{Answer, LOG, SandboxError, SandboxSpec, Step, TASK_OUTPUT, privileges, root, seccomp};

/// `catamaran-init sandbox`: reads a [`SandboxSpec`] from standard input, starts it and prints an [`Answer`]. With a
/// task in the spec it waits for the task instead.
///
/// # Errors
/// The first step that failed.
pub fn sandbox() -> Result<ExitCode, SandboxError> {
    // It fails for a process group's leader, which is fine: init makes its own session.
    let _ = rustix::process::setsid();
    let spec = read_spec()?;
    for folder in [&spec.run, &spec.state] {
        own_folder(folder)?;
    }
    for cgroup in &spec.cgroups {
        let file = cgroup.join("cgroup.procs");
        std::fs::write(&file, "0").step(|| format!("join the cgroup {}", file.display()))?;
    }
    // The mount namespace is made by `enter`: pivoting in a shared one would move this process, too.
    let mut unshared = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if let Some(netns) = &spec.netns {
        let file = std::fs::File::open(netns)
            .step(|| format!("open the network namespace {}", netns.display()))?;
        nix::sched::setns(file, CloneFlags::CLONE_NEWNET)
            .step(|| format!("join the network namespace {}", netns.display()))?;
    } else {
        unshared |= CloneFlags::CLONE_NEWNET;
    }
    nix::sched::unshare(unshared).step(|| "make the namespaces".into())?;

    let mut enter = Command::new("/proc/self/exe")
        .arg0("catamaran-init")
        .arg("enter")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .step(|| "start the first process of the pid namespace".into())?;
    // Before the new init pivots: that moves this process to the new root too, whose /proc shows the new pid namespace only.
    let pid = i32::try_from(enter.id()).unwrap_or_default();
    let Some(stat) = Stat::of(pid) else {
        let _ = enter.kill();
        return Err(SandboxError::Gone { vm: spec.vm, pid });
    };
    if let Some(mut stdin) = enter.stdin.take() {
        let text = serde_json::to_vec(&spec)
            .map_err(std::io::Error::other)
            .step(|| "pass the spec on".into())?;
        let _ = stdin.write_all(&text);
    }
    let mut said = String::new();
    if let Some(stdout) = enter.stdout.take() {
        stdout
            .take(4096)
            .read_to_string(&mut said)
            .step(|| "listen to the new init".into())?;
    }
    if !said.is_empty() {
        let _ = enter.wait();
        return Err(SandboxError::Stage {
            vm: spec.vm,
            message: said,
        });
    }
    if spec.task.is_some() {
        let status = enter.wait().step(|| "wait for the task".into())?;
        if !status.success() {
            return Err(SandboxError::Stage {
                vm: spec.vm.clone(),
                message: last_words(&spec, status),
            });
        }
        return Ok(ExitCode::SUCCESS);
    }
    let answer = serde_json::to_vec(&Answer {
        pid,
        start_time: stat.start_time,
    })
    .map_err(std::io::Error::other)
    .step(|| "answer".into())?;
    std::io::stdout()
        .write_all(&answer)
        .step(|| "answer".into())?;
    Ok(ExitCode::SUCCESS)
}

/// `catamaran-init enter`: never returns when all goes well.
#[must_use]
pub fn enter() -> ExitCode {
    // The pipe to the stage must close by itself when init is executed, and not before.
    let Ok(pipe) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3) else {
        return ExitCode::FAILURE;
    };
    let Err(error) = become_init();
    let _ = std::fs::File::from(pipe).write_all(error.to_string().as_bytes());
    ExitCode::FAILURE
}

fn become_init() -> Result<std::convert::Infallible, SandboxError> {
    let spec = read_spec()?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).step(|| "make the mount namespace".into())?;
    root::build(&spec)?;
    nix::unistd::sethostname(&spec.hostname)
        .step(|| format!("set the host name {}", spec.hostname))?;
    let run = Path::new(paths::RUN);
    let log = append(&run.join(LOG))?;
    let null = std::fs::File::open("/dev/null").step(|| "open /dev/null".into())?;
    rustix::stdio::dup2_stdin(null.as_fd()).step(|| "replace standard input".into())?;
    let mut argv = vec!["run".to_owned()];
    if let Some(task) = &spec.task {
        let output = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o640)
            .open(run.join(TASK_OUTPUT))
            .step(|| format!("open /vm/{TASK_OUTPUT}"))?;
        rustix::stdio::dup2_stdout(output.as_fd()).step(|| "replace standard output".into())?;
        argv = vec!["task".to_owned()];
        argv.extend(task.iter().cloned());
    } else {
        rustix::stdio::dup2_stdout(log.as_fd()).step(|| "replace standard output".into())?;
    }
    rustix::stdio::dup2_stderr(log.as_fd()).step(|| "replace standard error".into())?;
    privileges::set_limits(&spec.limits)?;
    privileges::drop_all()?;
    seccomp::install()?;
    let init = format!("{}/current/catamaran-init", paths::CODE);
    let error = Command::new(&init)
        .args(argv)
        .current_dir("/")
        .env_clear()
        .envs(environment())
        .exec();
    Err(error).step(|| format!("execute {init} (a file of the code folder)"))
}

/// Where programs inside look for their settings.
pub(crate) const CONFIG_HOME: &str = "/vm/home/config";

/// The environment of everything inside. libvirt wants the three folders to be writable.
pub(crate) fn environment() -> [(&'static str, &'static str); 7] {
    [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LANG", "C.UTF-8"),
        ("HOME", "/vm/home"),
        ("TMPDIR", "/tmp"),
        ("XDG_RUNTIME_DIR", "/vm/home/run"),
        ("XDG_CACHE_HOME", "/vm/home/cache"),
        ("XDG_CONFIG_HOME", CONFIG_HOME),
    ]
}

fn read_spec() -> Result<SandboxSpec, SandboxError> {
    let mut text = Vec::new();
    std::io::stdin()
        .take(4 << 20)
        .read_to_end(&mut text)
        .step(|| "read the sandbox spec".into())?;
    serde_json::from_slice(&text)
        .map_err(std::io::Error::other)
        .step(|| "understand the sandbox spec".into())
}

fn append(path: &Path) -> Result<std::fs::File, SandboxError> {
    // Opened as root in a folder that uid 107 can write to: a link there must not be followed.
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
        .step(|| format!("open {}", path.display()))?;
    rustix::fs::fchown(
        &file,
        Some(Uid::from_raw(paths::UID)),
        Some(Gid::from_raw(paths::GID)),
    )
    .step(|| format!("give {} to uid {}", path.display(), paths::UID))?;
    Ok(file)
}

/// Makes a folder that uid 107 owns; one that is there keeps its owner and mode, but must be usable.
fn own_folder(path: &Path) -> Result<(), SandboxError> {
    let missing = !path.exists();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .step(|| format!("make the folder {}", path.display()))?;
    if missing {
        std::os::unix::fs::chown(path, Some(paths::UID), Some(paths::GID))
            .step(|| format!("give {} to uid {}", path.display(), paths::UID))?;
    }
    Ok(())
}

/// The end of the log, for a task that failed.
fn last_words(spec: &SandboxSpec, status: std::process::ExitStatus) -> String {
    let text = std::fs::read(spec.run.join(LOG)).unwrap_or_default();
    let tail = &text[text.len().saturating_sub(2000)..];
    format!(
        "the task ended with {status}: {}",
        String::from_utf8_lossy(tail).trim()
    )
}
