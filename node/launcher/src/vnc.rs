//! One viewer of the guest's screen: a connection of its own to QEMU, which shares its screen among them and closes on who wants it alone, as most
//! viewers say they do; so that word is not passed on. For viewers who may only look, a filter lets no key and no click through.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Connects to QEMU's screen.
///
/// # Errors
/// When QEMU is not there or has none.
pub async fn connect(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket).await
}

/// Joins a viewer and QEMU until one of them goes away.
pub async fn serve(viewer: UnixStream, early: Vec<u8>, screen: UnixStream, read_only: bool) {
    let (from_viewer, mut to_viewer) = viewer.into_split();
    let (from_screen, mut to_screen) = screen.into_split();
    let mut from_screen = BufReader::with_capacity(PICTURES, from_screen);
    let pictures = tokio::io::copy_buf(&mut from_screen, &mut to_viewer);
    let requests = async {
        let mut from_viewer = io::Cursor::new(early).chain(from_viewer);
        join(&mut from_viewer, &mut to_screen).await?;
        if read_only {
            look_only(from_viewer, &mut to_screen).await
        } else {
            let passed = tokio::io::copy(&mut from_viewer, &mut to_screen).await;
            passed.map(drop)
        }
    };
    tokio::select! { _ = pictures => {}, _ = requests => {} }
}

/// Bytes of pictures that are read at once.
const PICTURES: usize = 32 << 10;

/// Passes on what a viewer begins with, with the word that it shares the screen: RFC 6143, 7.1 to 7.3.
async fn join<R, W>(viewer: &mut R, screen: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Version (12 bytes), security type (1; QEMU's socket offers None alone), ClientInit (1).
    let mut version = [0; 12];
    viewer.read_exact(&mut version).await?;
    screen.write_all(&version).await?;
    if !OLD.contains(&&version) {
        let security = viewer.read_u8().await?;
        screen.write_all(&[security]).await?;
    }
    viewer.read_u8().await?;
    screen.write_all(&[1]).await
}

/// Versions in which a viewer chooses no security type; QEMU takes all of them for the first.
const OLD: [&[u8; 12]; 3] = [b"RFB 003.003\n", b"RFB 003.004\n", b"RFB 003.005\n"];

/// Longest message of a viewer that is read, bytes (encodings are 4 bytes each, clipboards are thrown away).
const MESSAGE_MAX: usize = 1 << 20;

/// Passes on what asks for pictures, and drops keys, clicks, clipboards and sizes. RFC 6143, 7.5, and QEMU's message 255.
async fn look_only<R, W>(mut viewer: R, screen: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let kind = viewer.read_u8().await?;
        let mut message = vec![kind];
        let pass = match kind {
            0 => more(&mut viewer, &mut message, 19).await.map(|()| true)?,
            2 => {
                more(&mut viewer, &mut message, 3).await?;
                let count = usize::from(u16::from_be_bytes([message[2], message[3]]));
                more(&mut viewer, &mut message, 4 * count).await?;
                true
            }
            3 => more(&mut viewer, &mut message, 9).await.map(|()| true)?,
            4 => more(&mut viewer, &mut message, 7).await.map(|()| false)?,
            5 => more(&mut viewer, &mut message, 5).await.map(|()| false)?,
            6 => {
                more(&mut viewer, &mut message, 7).await?;
                // A negative length is the extended clipboard's.
                let length = i32::from_be_bytes([message[4], message[5], message[6], message[7]])
                    .unsigned_abs();
                more(
                    &mut viewer,
                    &mut message,
                    usize::try_from(length).unwrap_or(usize::MAX),
                )
                .await?;
                false
            }
            255 => {
                more(&mut viewer, &mut message, 1).await?;
                // 0: a key with its scan code. 1: audio; with sub-message 2 its format follows.
                if message[1] == 0 {
                    more(&mut viewer, &mut message, 10).await?;
                } else {
                    more(&mut viewer, &mut message, 2).await?;
                    if message[3] == 2 {
                        more(&mut viewer, &mut message, 6).await?;
                    }
                }
                false
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("unknown RFB message {kind}"),
                ));
            }
        };
        if pass {
            screen.write_all(&message).await?;
        }
    }
}

async fn more<R: AsyncRead + Unpin>(
    reader: &mut R,
    message: &mut Vec<u8>,
    count: usize,
) -> io::Result<()> {
    if count > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an RFB message of {count} bytes"),
        ));
    }
    let start = message.len();
    message.resize(start + count, 0);
    reader.read_exact(&mut message[start..]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reaches the screen of what a viewer says, until it is silent or wrong.
    fn passed(said: &[u8], read_only: bool) -> (Vec<u8>, io::ErrorKind) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (mut said, mut passed) = (said, Vec::new());
        let end: io::Result<()> = runtime.block_on(async {
            join(&mut said, &mut passed).await?;
            if read_only {
                look_only(said, &mut passed).await?;
            }
            Err(io::ErrorKind::Other.into())
        });
        (passed, end.unwrap_err().kind())
    }

    #[test]
    fn whoever_wants_the_screen_alone_shares_it() {
        for (said, expected) in [
            (
                b"RFB 003.008\n\x01\x00".as_slice(),
                b"RFB 003.008\n\x01\x01".as_slice(),
            ),
            (b"RFB 003.007\n\x01\x01", b"RFB 003.007\n\x01\x01"),
            (b"RFB 003.003\n\x00", b"RFB 003.003\n\x01"),
            (b"RFB 003.005\n\x00", b"RFB 003.005\n\x01"),
        ] {
            assert_eq!(passed(said, false).0, expected);
        }
    }

    #[test]
    fn a_looker_asks_for_pictures_and_presses_nothing() {
        let picture = [3, 0, 0, 0, 0, 0, 2, 0, 1, 0];
        let mut said = b"RFB 003.008\n\x01\x00".to_vec();
        said.extend([4, 1, 0, 0, 0, 0, 0, 65]);
        said.extend([5, 1, 0, 10, 0, 10]);
        said.extend([6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
        said.extend([255, 0, 0, 1, 0, 0, 0, 65, 0, 0, 0, 30]);
        said.extend(picture);
        let (passed, end) = passed(&said, true);
        assert_eq!(end, io::ErrorKind::UnexpectedEof);
        assert_eq!(
            passed,
            [b"RFB 003.008\n\x01\x01".as_slice(), &picture].concat()
        );
    }

    #[test]
    fn an_unknown_message_ends_the_connection() {
        let (_, end) = passed(b"RFB 003.008\n\x01\x01\x63", true);
        assert_eq!(end, io::ErrorKind::InvalidData);
    }
}
