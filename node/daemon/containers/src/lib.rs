//! Pods through the container runtime interface (CRI).
//!
//! The node daemon calls this crate: [`Runtime::connect`] finds a container runtime or runs a private containerd,
//! [`PodSpec::parse`] validates a manifest, and [`Pods`] brings Pods to what their manifests say. Containers never
//! depend on this process: they live on when it is killed, and the next one adopts them from the runtime's own lists.
//!
//! ```text
//! manifest ─ PodSpec::parse ─> PodSpec ─┐
//! runtime's lists ─ observe ─> Observed ┴─ decide() pure ─> actions ─ execute ─> CRI
//!                                       └─ summarize() pure ─> PodStatusSummary
//! ```

mod containerd;
mod cri;
mod decide;
mod environment;
mod error;
mod images;
mod logs;
mod objects;
mod observed;
pub mod pod;
mod pods;
mod probes;
mod requests;
mod runtime;
mod status;
mod volumes;

pub use containerd::{PAUSE_IMAGE, PrivateOptions};
pub use error::Error;
pub use images::ImageSources;
pub use logs::{LogLine, LogOptions};
pub use objects::{NoObjects, Objects};
pub use pod::{InvalidPod, PodKey, PodSpec, Warning};
pub use pods::{Pods, PodsOptions};
pub use requests::NodeDns;
pub use runtime::{KNOWN_SOCKETS, Runtime, RuntimeOptions};
pub use status::{ContainerState, ContainerSummary, Phase, PodStatusSummary, Termination};
