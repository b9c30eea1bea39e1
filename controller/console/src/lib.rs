//! The web console: static files, logins, and requests made in the name of who has logged in.
//!
//! ```text
//!  browser ──(cookie)──▶ Console ─▶ Sessions ─▶ Backend ──(the session's own token)──▶ API server
//!                           └─▶ Files
//! ```
//!
//! Architecture invariant: the console holds no privilege. Whoever asks without a session gets static files and a login, whatever headers
//! or certificates he shows; with one, everything is asked of the backend as that user. A token is never logged, never in a URL, and
//! never sent back.

mod backend;
mod files;
mod guard;
mod kubernetes;
mod requests;
mod sessions;

pub use backend::{Backend, Failure, Kind, Name, User, Verb};
pub use kubernetes::Kubernetes;
pub use requests::Console;
