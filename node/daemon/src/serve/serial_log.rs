//! The serial log of a machine: written by QEMU in a folder that the sandbox owns, read here with its content passed on as it is.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::machine::beneath;

/// Bytes looked at from the end to find the last lines.
const TAIL: u64 = 1 << 20;

/// Opens the log beneath the run folder, following no link.
///
/// # Errors
/// When it is not there or no file.
pub fn open(run: &Path) -> io::Result<tokio::fs::File> {
    let file = beneath::read(run, "serial.log")?;
    // The place of what is not kept any more is a hole. An empty log has no data at all.
    let _ = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0));
    Ok(tokio::fs::File::from_std(file))
}

/// The last lines (or all), then what is said later.
pub fn stream(
    file: tokio::fs::File,
    tail: Option<usize>,
    follow: bool,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::unfold(
        (file, tail, true),
        move |(mut file, tail, first)| async move {
            match next(&mut file, tail, first, follow).await {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), (file, tail, false))),
                Err(error) => Some((Err(error), (file, tail, false))),
            }
        },
    )
}

async fn next(
    file: &mut tokio::fs::File,
    tail: Option<usize>,
    first: bool,
    follow: bool,
) -> io::Result<Option<Bytes>> {
    if first && let Some(lines) = tail {
        let length = file.metadata().await?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(TAIL)))
            .await?;
        let mut end = Vec::new();
        file.take(TAIL).read_to_end(&mut end).await?;
        return Ok(Some(Bytes::copy_from_slice(last_lines(&end, lines))));
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer).await?;
        if read > 0 {
            buffer.truncate(read);
            return Ok(Some(buffer.into()));
        }
        if !follow {
            return Ok(None);
        }
        // The log is cut when it is too long: go on at its new end.
        let (position, length) = (file.stream_position().await?, file.metadata().await?.len());
        if length < position {
            file.seek(io::SeekFrom::Start(0)).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let start = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(lines.saturating_sub(1))
        .map_or(0, |(at, _)| at + 1);
    if lines == 0 { &[] } else { &text[start..] }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn last_lines_are_whole() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb", 1), b"b");
        assert_eq!(last_lines(b"a\n", 5), b"a\n");
        assert_eq!(last_lines(b"a\n", 0), b"");
    }
}
