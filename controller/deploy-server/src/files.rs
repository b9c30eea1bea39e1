//! Files over HTTP, whole or in part.

use std::io::SeekFrom;
use std::path::Path;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, RANGE,
};
use axum::http::{Method, Response, StatusCode};
use bytes::BytesMut;
use futures::stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::template::Overlay;

/// A file is read in pieces of so many bytes.
const PIECE: u64 = 256 << 10;

/// Answers a GET or HEAD of a file, with `overlay` laid over it. `version` tells versions of the file apart.
pub(crate) async fn answer(
    method: &Method,
    headers: &HeaderMap,
    path: &Path,
    overlay: Option<Overlay>,
    version: &str,
) -> std::io::Result<Response<Body>> {
    let file = File::open(path).await?;
    let size = file.metadata().await?.len();
    let etag = format!("\"{version}\"");
    let (status, from, to) = match part(headers, size, &etag) {
        Part::All => (StatusCode::OK, 0, size),
        Part::Some(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
        Part::None => {
            return Ok(build(
                Response::builder()
                    .status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .header(CONTENT_RANGE, format!("bytes */{size}")),
                Body::empty(),
            ));
        }
    };
    let mut builder = Response::builder()
        .status(status)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, to - from)
        .header(ETAG, etag);
    if status == StatusCode::PARTIAL_CONTENT {
        builder = builder.header(CONTENT_RANGE, format!("bytes {from}-{}/{size}", to - 1));
    }
    if method == Method::HEAD {
        return Ok(build(builder, Body::empty()));
    }
    let body = body(file, from, to, overlay).await?;
    Ok(build(builder, body))
}

fn build(builder: axum::http::response::Builder, body: Body) -> Response<Body> {
    builder.body(body).expect("these headers are valid")
}

async fn body(
    mut file: File,
    from: u64,
    to: u64,
    overlay: Option<Overlay>,
) -> std::io::Result<Body> {
    file.seek(SeekFrom::Start(from)).await?;
    let pieces = stream::try_unfold(
        (file, from, overlay),
        move |(mut file, at, overlay)| async move {
            if at >= to {
                return Ok::<_, std::io::Error>(None);
            }
            let length = usize::try_from(PIECE.min(to - at)).unwrap_or(0);
            let mut piece = BytesMut::zeroed(length);
            file.read_exact(&mut piece).await?;
            if let Some(overlay) = &overlay {
                overlay.apply(at, &mut piece);
            }
            Ok(Some((piece.freeze(), (file, at + length as u64, overlay))))
        },
    );
    Ok(Body::from_stream(pieces))
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    All,
    /// From, and to (without it).
    Some(u64, u64),
    /// Beyond the end.
    None,
}

/// What of a file is wanted. Several ranges at once are answered with all of it, which is allowed.
fn part(headers: &HeaderMap, size: u64, etag: &str) -> Part {
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Part::All;
    };
    if headers
        .get(IF_RANGE)
        .is_some_and(|wanted| wanted.as_bytes() != etag.as_bytes())
    {
        return Part::All;
    }
    let Ok(parsed) = http_range_header::parse_range_header(range) else {
        return Part::All;
    };
    match parsed.validate(size).as_deref() {
        Ok([one]) => Part::Some(*one.start(), one.end() + 1),
        Ok(_) => Part::All,
        Err(_) => Part::None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::{IF_RANGE, RANGE};

    use super::{Part, part};

    #[test]
    fn ranges_are_understood() {
        for (range, wanted) in [
            ("bytes=0-0", Part::Some(0, 1)),
            ("bytes=10-", Part::Some(10, 100)),
            ("bytes=-10", Part::Some(90, 100)),
            ("bytes=90-500", Part::Some(90, 100)),
            ("bytes=100-", Part::None),
            ("bytes=0-1,5-6", Part::All),
            ("lines=1-2", Part::All),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
            assert_eq!(part(&headers, 100, "\"v\""), wanted, "{range}");
        }
    }

    #[test]
    fn a_part_of_another_version_is_not_sent() {
        let mut headers = HeaderMap::from_iter([(RANGE, "bytes=10-".parse().unwrap())]);
        headers.insert(IF_RANGE, "\"old\"".parse().unwrap());
        assert_eq!(part(&headers, 100, "\"v\""), Part::All);
        headers.insert(IF_RANGE, "\"v\"".parse().unwrap());
        assert_eq!(part(&headers, 100, "\"v\""), Part::Some(10, 100));
    }
}
