//! Network namespaces: made, entered, removed.
//!
//! A namespace of ours is kept alive by a bind mount of its `/proc` file, as `ip netns` does it. Work inside one is done
//! by a thread of its own that enters it for good and ends: a thread of the runtime must never change its namespace.

use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::netlink::Netlink;

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Runs `work` on a new thread inside `netns`, or inside the caller's own namespace when there is none.
///
/// When the caller is dropped, the work still runs to its end.
pub(crate) async fn inside<T, F>(netns: Option<&Path>, action: &str, work: F) -> Result<T, Error>
where
    F: AsyncFnOnce(&Netlink) -> Result<T, Error> + Send + 'static,
    T: Send + 'static,
{
    let namespace = netns
        .map(|path| File::open(path).map_err(Error::file("open the network namespace", path)))
        .transpose()?;
    let (answer, result) = oneshot::channel();
    thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // The receiver is gone when the caller was dropped: nobody to tell.
            let _ = answer.send(enter_and_run(namespace, work));
        })
        .map_err(Error::system("start a thread"))?;
    result.await.map_err(|_| Error::Thread {
        action: action.to_owned(),
    })?
}

fn enter_and_run<T, F>(namespace: Option<File>, work: F) -> Result<T, Error>
where
    F: AsyncFnOnce(&Netlink) -> Result<T, Error>,
{
    if let Some(namespace) = namespace {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(Error::system("enter the network namespace"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start a runtime"))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::system("open a netlink socket"))?;
        let netlink = Netlink::new(handle);
        let connection = pin!(connection);
        let work = pin!(work(&netlink));
        match futures::future::select(work, connection).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right(((), _)) => Err(Error::System {
                action: "talk to the kernel over netlink".to_owned(),
                source: io::ErrorKind::ConnectionReset.into(),
            }),
        }
    })
}

/// Whether a namespace is mounted at `path`.
pub(crate) fn is_mounted(path: &Path) -> Result<bool, Error> {
    match rustix::fs::statfs(path) {
        Ok(status) => Ok(u64::try_from(status.f_type).is_ok_and(|kind| kind == NSFS_MAGIC)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::file("examine", path)(error.into())),
    }
}

/// Makes a namespace at `path`, unless there is one. Says whether it is new.
pub(crate) async fn ensure(path: &Path) -> Result<bool, Error> {
    if is_mounted(path)? {
        return Ok(false);
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(Error::file("make", path))?;
    let target = path.to_owned();
    inside(None, "make a network namespace", async move |_| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(Error::system("make a network namespace"))?;
        let none: Option<&str> = None;
        mount(
            Some("/proc/thread-self/ns/net"),
            &target,
            none,
            MsFlags::MS_BIND,
            none,
        )
        .map_err(|errno| Error::file("mount a network namespace at", &target)(errno.into()))
    })
    .await?;
    Ok(true)
}

/// Unmounts and removes the namespace at `path`; it ends when its last process has ended. None there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    // Two daemons that raced may have mounted one over the other.
    while is_mounted(path)? {
        umount2(path, MntFlags::MNT_DETACH)
            .map_err(|errno| Error::file("unmount", path)(errno.into()))?;
    }
    crate::files::remove_file(path)
}
