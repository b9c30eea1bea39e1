//! The server's process: started, found again, ended by the daemon; and its `main`.
//!
//! The record of a server is written before it gets its sockets, and a server that never gets them ends: so there is
//! none that no daemon knows of.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use catamaran_host::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::serve::{DnsSockets, serve};
use super::zone::{self, ZoneFolder};
use crate::config::NetworkConfig;
use crate::error::Error;
use crate::files;

/// The user `nobody`: owns nothing.
const NOBODY: u32 = 65534;
/// How long a server may take to end.
const END: Duration = Duration::from_secs(5);
/// File descriptors in one message: two for each gateway address, and the folder.
const MAX_FDS: usize = 8;

/// A DNS server that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsServer {
    #[serde(flatten)]
    process: Process,
    listen: Vec<IpAddr>,
    program: Program,
}

/// What a server runs: an updated program is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Program {
    path: PathBuf,
    args: Vec<String>,
    inode: u64,
    modified: i64,
}

/// What is said to the child together with the file descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    udp: usize,
    tcp: usize,
}

impl DnsServer {
    /// Finds the server that runs, or starts one: `program` with `args` must call [`child_main`]. Cheap when it runs, so
    /// it may be called again and again to replace one that died. A server for other addresses or of another program is
    /// replaced.
    ///
    /// # Errors
    /// A gateway address is not there ([`crate::HostNetwork::ensure`] first), port 53 is taken, or the program failed.
    pub async fn spawn(
        config: &NetworkConfig,
        program: &Path,
        args: &[&str],
    ) -> Result<DnsServer, Error> {
        let (config, program) = (config.clone(), program.to_owned());
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        crate::netns::inside(None, "start the DNS server", async move |_| {
            spawn(&config, program, args)
        })
        .await
    }

    /// The server that runs, if one does.
    ///
    /// # Errors
    /// The record could not be read.
    pub fn find(config: &NetworkConfig) -> Result<Option<DnsServer>, Error> {
        let known: Option<DnsServer> = files::read_record(&record_path(config))?;
        Ok(match known {
            Some(known) if known.process.is_alive() => Some(known),
            _ => None,
        })
    }

    /// Ends the server; none there is fine.
    ///
    /// # Errors
    /// It did not end within five seconds.
    pub async fn stop(config: &NetworkConfig) -> Result<(), Error> {
        let config = config.clone();
        crate::netns::inside(None, "end the DNS server", async move |_| {
            if let Some(server) = DnsServer::find(&config)? {
                server.kill()?;
            }
            files::remove_file(&record_path(&config))
        })
        .await
    }

    /// Number of its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    fn kill(&self) -> Result<(), Error> {
        let failed = |action: &str| {
            Error::system::<rustix::io::Errno>(format!(
                "{action} the DNS server, process {}",
                self.pid()
            ))
        };
        let Some(pid) = Pid::from_raw(self.pid()) else {
            return Ok(());
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(failed("find")(error)),
        };
        // Between the look and the pidfd it may have ended and its number been given away.
        if !self.process.is_alive() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(failed("end")(error)),
        }
        let mut poll = [PollFd::new(&pidfd, PollFlags::IN)];
        let end = Timespec {
            tv_sec: END.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        match rustix::event::poll(&mut poll, Some(&end)).map_err(failed("wait for"))? {
            0 => Err(failed("end")(rustix::io::Errno::TIMEDOUT)),
            _ => Ok(()),
        }
    }
}

fn record_path(config: &NetworkConfig) -> PathBuf {
    zone::folder(config).join("server.json")
}

fn spawn(config: &NetworkConfig, path: PathBuf, args: Vec<String>) -> Result<DnsServer, Error> {
    let binary = fs::metadata(&path).map_err(Error::file("examine", &path))?;
    let program = Program {
        path,
        args,
        inode: binary.ino(),
        modified: binary.mtime(),
    };
    let listen = config.gateways();
    if let Some(known) = DnsServer::find(config)? {
        if known.listen == listen && known.program == program {
            return Ok(known);
        }
        known.kill()?;
    }
    if !zone::folder(config).join("zone.json").exists() {
        zone::publish(config, Vec::new())?;
    }
    let sockets = open_sockets(&listen)?;
    let folder = zone::open_folder(&zone::folder(config))?;
    let log_path = zone::folder(config).join("server.log");
    let log = File::create(&log_path).map_err(Error::file("make", &log_path))?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::system("make a socket pair"))?;
    let mut child = Command::new(&program.path)
        .args(&program.args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        // From its first instruction on it is nobody; groups are dropped with it.
        .gid(NOBODY)
        .uid(NOBODY)
        // Ctrl+C in the daemon's terminal is not for it.
        .process_group(0)
        .spawn()
        .map_err(Error::file("run", &program.path))?;
    let pid = child.id().cast_signed();
    // Nobody has taken its exit status yet, so its number is still its own.
    let found = Process::of(pid).map_err(Error::system("look for the DNS server"))?;
    let Some(process) = found else {
        let status = child
            .wait()
            .map_err(Error::system("wait for the DNS server"))?;
        let why = format!("it ended at once, {status}; see {}", log_path.display());
        return Err(Error::System {
            action: "start the DNS server".to_owned(),
            source: io::Error::other(why),
        });
    };
    let server = DnsServer {
        process,
        listen,
        program,
    };
    // Someone must take its exit status.
    std::thread::Builder::new()
        .name("dns-server".to_owned())
        .spawn(move || match child.wait() {
            Ok(status) => tracing::info!(pid, %status, "the DNS server ended"),
            Err(error) => tracing::warn!(pid, %error, "the DNS server could not be waited for"),
        })
        .map_err(Error::system("start a thread"))?;
    files::write_record(&record_path(config), &server)?;
    send(&ours, &sockets, &folder).map_err(Error::system("pass the sockets to the DNS server"))?;
    Ok(server)
}

fn open_sockets(addresses: &[IpAddr]) -> Result<DnsSockets, Error> {
    let mut sockets = DnsSockets::default();
    for ip in addresses {
        let address = SocketAddr::new(*ip, 53);
        sockets.udp.push(
            UdpSocket::bind(address).map_err(Error::system(format!("listen on UDP {address}")))?,
        );
        sockets.tcp.push(
            TcpListener::bind(address)
                .map_err(Error::system(format!("listen on TCP {address}")))?,
        );
    }
    Ok(sockets)
}

fn send(stream: &UnixStream, sockets: &DnsSockets, folder: &OwnedFd) -> io::Result<()> {
    let hello = serde_json::to_vec(&Hello {
        udp: sockets.udp.len(),
        tcp: sockets.tcp.len(),
    })?;
    let mut fds: Vec<BorrowedFd<'_>> = sockets.udp.iter().map(AsFd::as_fd).collect();
    fds.extend(sockets.tcp.iter().map(AsFd::as_fd));
    fds.push(folder.as_fd());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(
        stream,
        &[IoSlice::new(&hello)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(stream: BorrowedFd<'_>) -> io::Result<(DnsSockets, OwnedFd)> {
    let mut bytes = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let hello: Hello = serde_json::from_slice(&bytes[..received.bytes])?;
    let missing = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the daemon passed too few file descriptors",
        )
    };
    let folder = fds.pop().ok_or_else(missing)?;
    if fds.len() != hello.udp + hello.tcp {
        return Err(missing());
    }
    let tcp = fds
        .split_off(hello.udp)
        .into_iter()
        .map(TcpListener::from)
        .collect();
    Ok((
        DnsSockets {
            udp: fds.into_iter().map(UdpSocket::from).collect(),
            tcp,
        },
        folder,
    ))
}

/// `main` of the server: takes sockets and folder from standard input and serves. Call it before anything else, in a
/// process that [`DnsServer::spawn`] started; it refuses to serve as root.
///
/// # Errors
/// It is root, the daemon ended before it passed the sockets, or a socket failed.
pub fn child_main() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "it must not be root");
        return Err(Error::System {
            action: "serve DNS".to_owned(),
            source,
        });
    }
    rustix::thread::set_no_new_privs(true).map_err(Error::system("give up new privileges"))?;
    let (sockets, folder) =
        receive(io::stdin().as_fd()).map_err(Error::system("take the sockets from the daemon"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start a runtime"))?;
    runtime
        .block_on(serve(sockets, ZoneFolder::new(folder)))
        .map_err(Error::system("serve DNS"))
}
