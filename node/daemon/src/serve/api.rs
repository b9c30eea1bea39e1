//! The daemon's socket: HTTP for its own client verbs. Root and the group `catamaran` may connect; the kernel says who it is.

pub mod answer;
mod machines;
mod objects;
mod pods;
pub(crate) mod streams;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::serve::daemon::Daemon;
use crate::serve::manifest::MAX_TEXT;

/// All routes.
fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/apply", post(objects::apply))
        .route("/v1/keys", post(objects::keys))
        .route("/v1/objects", get(objects::list))
        .route(
            "/v1/objects/{kind}/{namespace}/{name}",
            get(objects::get).delete(objects::delete),
        )
        .route("/v1/events/{kind}/{namespace}/{name}", get(objects::events))
        .route("/v1/host", get(objects::host))
        .route("/v1/down", post(objects::down))
        .route(
            "/v1/machines/{namespace}/{name}/console",
            get(streams::console),
        )
        .route("/v1/machines/{namespace}/{name}/vnc", get(streams::vnc))
        .route(
            "/v1/machines/{namespace}/{name}/portforward/{port}",
            get(streams::machine_port),
        )
        .route(
            "/v1/machines/{namespace}/{name}/screenshot",
            get(machines::screenshot),
        )
        .route(
            "/v1/machines/{namespace}/{name}/dmesg",
            get(machines::dmesg),
        )
        .route("/v1/machines/{namespace}/{name}/logs", get(machines::logs))
        .route(
            "/v1/machines/{namespace}/{name}/{verb}",
            put(machines::verb),
        )
        .route(
            "/v1/pods/{namespace}/{name}/portforward/{port}",
            get(streams::pod_port),
        )
        .route("/v1/pods/{namespace}/{name}/logs", get(pods::logs))
        .fallback(answer::no_route)
        // Manifests travel as JSON, in which a text may be twice as long.
        .layer(DefaultBodyLimit::max(2 * MAX_TEXT))
        .with_state(daemon)
}

/// Makes the socket. One that is left over from a killed daemon is replaced: the state folder's lock says that nobody serves it.
///
/// # Errors
/// When the path is taken by something else or too long.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "is there and is no socket",
            ));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // The folder above lets anybody pass; this decides who may connect.
    let group = nix::unistd::Group::from_name("catamaran").ok().flatten();
    chown(
        path,
        Some(0),
        group.as_ref().map(|group| group.gid.as_raw()),
    )?;
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }),
    )?;
    Ok(listener)
}

/// Serves until it is cancelled.
pub async fn serve(daemon: Arc<Daemon>, listener: UnixListener, cancel: CancellationToken) {
    let router = router(daemon);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if allowed(&stream) => {
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    if let Err(error) = server
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await
                    {
                        tracing::debug!(error, "client connection ended");
                    }
                });
            }
            Ok(_) => {}
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(error = %error, "could not accept a client");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Root, and members of the group `catamaran`.
fn allowed(stream: &UnixStream) -> bool {
    let Ok(peer) = stream.peer_cred() else {
        return false;
    };
    if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() {
        return true;
    }
    let Ok(Some(group)) = nix::unistd::Group::from_name("catamaran") else {
        return false;
    };
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(peer.uid()))
        .ok()
        .flatten();
    peer.gid() == group.gid.as_raw() || user.is_some_and(|user| group.mem.contains(&user.name))
}
