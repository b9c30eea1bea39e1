//! Images: fetching one, and putting what is in it onto a disk while it passes by.
//!
//! An image is read once, from its beginning to its end, and its checksum is made of the very bytes that are written. A qcow2 has its tables
//! anywhere, so they are fetched before, by ranges; what they say, and their own bytes, are looked at again as they pass by ([`Scatter`]).

mod digest;
mod qcow2;
mod scatter;
mod source;
pub mod sums;
mod target;

pub use digest::{ChecksumError, Digest};
pub use qcow2::{Extent, Header, Kind, Layout, Qcow2Error, l2_places};
pub use scatter::{Scatter, ScatterError};
pub use source::{Source, SourceError};
pub use target::{DiskTarget, HEAD, Held, Target};
