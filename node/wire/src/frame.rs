//! Framing and descriptor passing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Largest frame in bytes. A screenshot of a large screen fits.
pub const MAX_FRAME: usize = 16 << 20;
/// Most descriptors that may come with one frame, and that may wait for the frame they belong to.
const MAX_FDS: usize = 16;
/// Bytes before the JSON: length and number of descriptors.
const HEAD: usize = 5;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("launcher connection")]
    Io(#[from] io::Error),
    /// The other side closed the stream.
    #[error("the other side closed the connection")]
    Closed,
    /// A frame above [`MAX_FRAME`].
    #[error("a frame of {0} bytes is above the limit of {MAX_FRAME}")]
    TooLarge(usize),
    /// More descriptors than frames have named.
    #[error("more than {MAX_FDS} descriptors came with frames that do not name them")]
    TooManyDescriptors,
    /// Not the JSON that was expected.
    #[error("frame is not understood")]
    Json(#[from] serde_json::Error),
}

/// One end of the wire.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Speaks frames on that stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            fds: Vec::new(),
        }
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When the stream fails or the message is above [`MAX_FRAME`].
    pub async fn send<T: Serialize>(&self, message: &T) -> Result<(), FrameError> {
        self.send_with_fds(message, &[]).await
    }

    /// Sends one frame with descriptors.
    ///
    /// # Errors
    /// When the stream fails or the message is above [`MAX_FRAME`].
    pub async fn send_with_fds<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), FrameError> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MAX_FRAME {
            return Err(FrameError::TooLarge(body.len()));
        }
        let mut bytes = Vec::with_capacity(body.len() + HEAD);
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.push(u8::try_from(fds.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&body);
        let mut sent = 0;
        while sent < bytes.len() {
            // Descriptors travel with the first byte.
            let with = if sent == 0 { fds } else { &[] };
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    send_some(self.stream.as_fd(), &bytes[sent..], with)
                })
                .await?;
        }
        Ok(())
    }

    /// Receives one frame and the descriptors that came with it. Safe to cancel: a half frame stays in the buffer.
    ///
    /// # Errors
    /// When the stream fails or ends, the frame is above [`MAX_FRAME`] or is not a `T`.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), FrameError> {
        loop {
            if let Some((end, fds)) = self.frame_end()? {
                let message = serde_json::from_slice(&self.buffer[HEAD..end])?;
                self.buffer.drain(..end);
                let fds = self.fds.drain(..fds.min(self.fds.len())).collect();
                return Ok((message, fds));
            }
            let (stream, buffer, fds) = (&self.stream, &mut self.buffer, &mut self.fds);
            let read = stream
                .async_io(Interest::READABLE, || {
                    receive_some(stream.as_fd(), buffer, fds)
                })
                .await?;
            if read == 0 {
                return Err(FrameError::Closed);
            }
            // Else the other side could use up all that this process may have open.
            if self.fds.len() > MAX_FDS {
                self.fds.clear();
                return Err(FrameError::TooManyDescriptors);
            }
        }
    }

    /// Gives the stream back for raw bytes, with what was read too much.
    #[must_use]
    pub fn into_stream(self) -> (UnixStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    /// The stream, to ask for its peer.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Where the first frame ends and how many descriptors are its own: one read may bring the bytes of several frames.
    fn frame_end(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let Some(&[a, b, c, d, fds]) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        Ok((self.buffer.len() >= length + HEAD).then_some((length + HEAD, usize::from(fds))))
    }
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} descriptors in one frame, at most {MAX_FDS}", fds.len()),
        ));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

fn receive_some(
    socket: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut chunk = [0; 16 << 10];
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut chunk)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    buffer.extend_from_slice(&chunk[..received.bytes]);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn frames_and_descriptors_arrive_in_order() {
        runtime().block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            let (a, mut b) = (Connection::new(a), Connection::new(b));
            let file = std::fs::File::open("/dev/null").unwrap();
            let big = "x".repeat(3 << 20);
            let sender = async {
                a.send(&"one").await.unwrap();
                a.send_with_fds(&big, &[file.as_fd()]).await.unwrap();
            };
            let receiver = async {
                let (first, fds) = b.receive::<String>().await.unwrap();
                assert_eq!((first.as_str(), fds.len()), ("one", 0));
                let (second, fds) = b.receive::<String>().await.unwrap();
                assert_eq!((second.len(), fds.len()), (3 << 20, 1));
            };
            tokio::join!(sender, receiver);
        });
    }

    #[test]
    fn oversized_frame_is_refused_before_it_is_read() {
        runtime().block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            let mut b = Connection::new(b);
            a.writable().await.unwrap();
            a.try_write(&[u8::MAX; HEAD]).unwrap();
            assert!(matches!(
                b.receive::<String>().await,
                Err(FrameError::TooLarge(_))
            ));
        });
    }

    #[test]
    fn descriptors_that_no_frame_names_end_the_connection() {
        runtime().block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            let mut b = Connection::new(b);
            let file = std::fs::File::open("/dev/null").unwrap();
            // A frame that is never complete, and descriptors with each of its bytes.
            let frame = [0, 0, 1, 0, 0, b' ', b' '];
            for byte in frame.chunks(1) {
                a.writable().await.unwrap();
                send_some(a.as_fd(), byte, &[file.as_fd(); 12]).unwrap();
            }
            assert!(matches!(
                b.receive::<String>().await,
                Err(FrameError::TooManyDescriptors)
            ));
        });
    }

    #[test]
    fn closed_stream_is_told() {
        runtime().block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            drop(a);
            assert!(matches!(
                Connection::new(b).receive::<String>().await,
                Err(FrameError::Closed)
            ));
        });
    }
}
