//! Puts a qcow2 file that passes by onto a disk, cluster by cluster.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::qcow2::{Extent, Kind, Layout};
use super::target::Target;

/// What passes by is not what its tables said, or the disk fails.
#[derive(Debug, thiserror::Error)]
pub enum ScatterError {
    /// Header or tables are others than before.
    #[error(
        "the image was changed while it was read: its tables at byte {0} are others than before"
    )]
    Changed(u64),
    /// A compressed cluster that is broken.
    #[error("the compressed cluster at byte {host} of the image can't be unpacked")]
    Unpack {
        /// Where.
        host: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk.
    #[error("the disk can't be written")]
    Disk(#[from] io::Error),
}

/// Takes a file in pieces, in order.
pub struct Scatter {
    layout: Layout,
    /// The next extent.
    next: usize,
    /// Bytes of the next extent that were done already; plain ones are done in parts.
    done: u64,
    /// Bytes of the file from `begin` on that are still needed.
    window: Vec<u8>,
    begin: u64,
}

impl Scatter {
    /// Begins; makes the parts of the disk zeros that are so.
    ///
    /// # Errors
    /// The disk can't be written.
    pub fn start(layout: Layout, target: &mut impl Target) -> io::Result<Self> {
        for (begin, length) in &layout.zeros {
            target.zero(*begin, *length)?;
        }
        Ok(Self {
            layout,
            next: 0,
            done: 0,
            window: Vec::new(),
            begin: 0,
        })
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// See [`ScatterError`].
    pub fn feed(&mut self, bytes: &[u8], target: &mut impl Target) -> Result<(), ScatterError> {
        self.window.extend_from_slice(bytes);
        self.work(false, target)
    }

    /// Ends: what the file does not have any more is zeros.
    ///
    /// # Errors
    /// See [`ScatterError`].
    pub fn finish(mut self, target: &mut impl Target) -> Result<(), ScatterError> {
        self.work(true, target)
    }

    fn work(&mut self, ended: bool, target: &mut impl Target) -> Result<(), ScatterError> {
        while let Some(extent) = self.layout.extents.get(self.next) {
            let end = self.begin + self.window.len() as u64;
            let whole = ended || extent.host + extent.length <= end;
            match &extent.kind {
                Kind::Plain => {
                    let from = extent.host + self.done;
                    let part = slice(&self.window, self.begin, from, extent.length - self.done);
                    target.write(extent.guest + self.done, part)?;
                    self.done += part.len() as u64;
                    if ended && self.done < extent.length {
                        target.zero(extent.guest + self.done, extent.length - self.done)?;
                        self.done = extent.length;
                    }
                    if self.done < extent.length {
                        break;
                    }
                }
                _ if !whole => break,
                Kind::Compressed => {
                    let packed = slice(&self.window, self.begin, extent.host, extent.length);
                    self.unpack(extent, packed, target)?;
                }
                Kind::Known(wanted) => {
                    let part = slice(&self.window, self.begin, extent.host, extent.length);
                    if Sha256::digest(part).as_slice() != wanted {
                        return Err(ScatterError::Changed(extent.host));
                    }
                }
            }
            self.next += 1;
            self.done = 0;
        }
        self.forget();
        Ok(())
    }

    fn unpack(
        &self,
        extent: &Extent,
        packed: &[u8],
        target: &mut impl Target,
    ) -> Result<(), ScatterError> {
        let header = &self.layout.header;
        let broken = |source| ScatterError::Unpack {
            host: extent.host,
            source,
        };
        // Nobody says how long the packed bytes are; what stands behind them is not looked at.
        let mut cluster = vec![0; usize::try_from(header.cluster()).unwrap_or(0)];
        if header.zstd {
            zstd::stream::read::Decoder::new(packed)
                .and_then(|decoder| decoder.single_frame().read_exact(&mut cluster))
        } else {
            flate2::read::DeflateDecoder::new(packed).read_exact(&mut cluster)
        }
        .map_err(broken)?;
        let length = header.cluster().min(header.size - extent.guest);
        cluster.truncate(usize::try_from(length).unwrap_or(0));
        Ok(target.write(extent.guest, &cluster)?)
    }

    /// Drops what no extent needs any more.
    fn forget(&mut self) {
        let end = self.begin + self.window.len() as u64;
        let needed = match self.layout.extents.get(self.next) {
            Some(extent) => (extent.host + self.done).min(end),
            None => end,
        };
        if needed > self.begin {
            let gone = usize::try_from(needed - self.begin).unwrap_or(usize::MAX);
            self.window.drain(..gone.min(self.window.len()));
            self.begin = needed;
        }
    }
}

/// The part of a window, which begins at `begin`, that has these bytes of the file.
fn slice(window: &[u8], begin: u64, from: u64, length: u64) -> &[u8] {
    let at = |place: u64| {
        let inner = place.saturating_sub(begin);
        usize::try_from(inner)
            .unwrap_or(usize::MAX)
            .min(window.len())
    };
    &window[at(from)..at(from + length)]
}

#[cfg(test)]
mod tests;
