//! One viewer of the guest's screen: a connection of its own to QEMU (which shares its screen among them), and for
//! viewers who may only look, a filter that lets no key and no click through.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Connects to QEMU's screen.
///
/// # Errors
/// When QEMU is not there or has none.
pub async fn connect(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket).await
}

/// Joins a viewer and QEMU until one of them goes away.
pub async fn serve(
    mut viewer: UnixStream,
    early: Vec<u8>,
    mut screen: UnixStream,
    read_only: bool,
) {
    if !read_only {
        if screen.write_all(&early).await.is_ok() {
            let _ =
                tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut screen, 4096, 32 << 10)
                    .await;
        }
        return;
    }
    let (from_viewer, mut to_viewer) = viewer.into_split();
    let (mut from_screen, mut to_screen) = screen.into_split();
    let pictures = tokio::io::copy(&mut from_screen, &mut to_viewer);
    let requests = look_only(io::Cursor::new(early).chain(from_viewer), &mut to_screen);
    tokio::select! { _ = pictures => {}, _ = requests => {} }
}

/// Longest message of a viewer that is read, bytes (encodings are 4 bytes each, clipboards are thrown away).
const MESSAGE_MAX: usize = 1 << 20;

/// Passes on what asks for pictures, and drops keys, clicks, clipboards and sizes. RFC 6143, 7.5, and QEMU's message 255.
async fn look_only<R, W>(mut viewer: R, screen: &mut W) -> io::Result<()>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    // Version (12 bytes), security type (1; QEMU's socket offers None alone), ClientInit (1).
    let mut hello = [0; 14];
    viewer.read_exact(&mut hello[..12]).await?;
    screen.write_all(&hello[..12]).await?;
    if &hello[..12] != b"RFB 003.003\n" {
        viewer.read_exact(&mut hello[12..13]).await?;
        screen.write_all(&hello[12..13]).await?;
    }
    viewer.read_exact(&mut hello[13..]).await?;
    screen.write_all(&[1]).await?;
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

async fn more<R: tokio::io::AsyncRead + Unpin>(
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

    #[test]
    fn a_looker_asks_for_pictures_and_presses_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let picture = [3, 0, 0, 0, 0, 0, 2, 0, 1, 0];
        let mut said = b"RFB 003.008\n\x01\x00".to_vec();
        said.extend([4, 1, 0, 0, 0, 0, 0, 65]);
        said.extend([5, 1, 0, 10, 0, 10]);
        said.extend([6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
        said.extend([255, 0, 0, 1, 0, 0, 0, 65, 0, 0, 0, 30]);
        said.extend(picture);
        let mut passed = Vec::new();
        let end = runtime
            .block_on(look_only(said.as_slice(), &mut passed))
            .unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        // It joins as a viewer who shares, whatever it asked for.
        assert_eq!(
            passed,
            [b"RFB 003.008\n\x01\x01".as_slice(), &picture].concat()
        );
    }

    #[test]
    fn an_unknown_message_ends_the_connection() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let said = b"RFB 003.008\n\x01\x01\x63".as_slice();
        let error = runtime
            .block_on(look_only(said, &mut Vec::new()))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
