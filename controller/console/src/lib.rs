//! The web console: static files, logins, and requests made in the name of who has logged in.
//!
//! ```text
//!  browser ──(sealed cookie)──▶ Console ─▶ Sessions ─▶ Backend ──(the session's own token)──▶ API server, or this machine's daemon
//!     └──(ticket, websocket)──────┘│           └─▶ Vault (key and list of sessions, shared by all replicas)
//!                                  └─▶ Files
//! ```
//!
//! Architecture invariant: the console holds no privilege. Whoever asks without a session gets static files and a login, whatever headers
//! or certificates he shows; with one, everything is asked of the backend as that user, but for the lists that all look at (see `shared`). A
//! token is never logged, never in a URL that is sent to a server, and never sent back but sealed, in a cookie that no script can read.

mod asked;
mod backend;
mod deeds;
mod files;
mod grafana;
mod guard;
mod kind;
mod kubernetes;
mod limit;
mod logins;
mod oidc;
mod open;
mod requests;
mod rights;
mod seal;
mod sessions;
mod streams;
mod tickets;
mod vault;
mod viewing;
mod words;

pub use backend::{Access, Backend, Cause, Duplex, Failure, Name, Place, User};
pub use grafana::Grafana;
pub use guard::Site;
pub use kind::{Deed, Kind};
pub use kubernetes::Kubernetes;
pub use oidc::{Oidc, OidcConfig, OidcError};
pub use requests::{Console, Peer, Settings, WATCHES, owns};
pub use seal::{Key, NoRandom};
pub use vault::{Entry, Kept, Memory, Vault, nobody};
pub use words::{HostQuestion, Keyboard, Look, NodeVerb, Question, StreamKind, Verb};
