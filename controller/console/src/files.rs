//! The web files, embedded and compressed once.

use std::collections::HashMap;
use std::io::Write as _;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;
use sha2::{Digest as _, Sha256};

/// What `npm run build` has made; nothing where it has not run.
#[derive(RustEmbed)]
#[folder = "dist/site"]
#[allow_missing = true]
struct Built;

/// The page of a console whose web files were not built.
const NOT_BUILT: &str = include_str!("not_built.html");
/// Below this, compressing does not pay, bytes.
const SMALL: usize = 512;

struct File {
    kind: &'static str,
    cache: &'static str,
    tag: String,
    plain: Bytes,
    gzip: Option<Bytes>,
}

/// The files by their paths below `/console/`.
pub(crate) struct Files(HashMap<String, File>);

impl Files {
    pub(crate) fn embedded() -> Self {
        let built = Built::iter().filter_map(|path| {
            let content = Built::get(&path)?.data.into_owned();
            Some((path.into_owned(), content))
        });
        Self::new(built)
    }

    fn new(built: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        let mut files: HashMap<_, _> = built
            .map(|(path, content)| (path.clone(), File::new(&path, content)))
            .collect();
        files
            .entry("index.html".to_owned())
            .or_insert_with(|| File::new("index.html", NOT_BUILT.as_bytes().to_vec()));
        Self(files)
    }

    /// The file at a path, as the client can take it: nothing if it has it already.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let path = if path.is_empty() { "index.html" } else { path };
        let file = self.0.get(path)?;
        let gzip = file.gzip.as_ref().filter(|_| takes_gzip(headers));
        let tag = match gzip {
            Some(_) => format!("\"{}-gz\"", file.tag),
            None => format!("\"{}\"", file.tag),
        };
        let known = has(headers, IF_NONE_MATCH.as_str(), |word| {
            word.trim_start_matches("W/") == tag
        });
        let mut response = if known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Body::from(gzip.unwrap_or(&file.plain).clone()))
        };
        let answer = response.headers_mut();
        answer.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
        answer.insert(CACHE_CONTROL, HeaderValue::from_static(file.cache));
        answer.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            answer.insert(ETAG, tag);
        }
        if gzip.is_some() && !known {
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Some(response)
    }
}

impl File {
    fn new(path: &str, content: Vec<u8>) -> Self {
        let cache = if path.starts_with("assets/") {
            // Their names have a digest of what is in them.
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        Self {
            kind: kind(path),
            cache,
            tag: hex::encode(&Sha256::digest(&content)[..16]),
            gzip: gzip(&content),
            plain: content.into(),
        }
    }
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn gzip(content: &[u8]) -> Option<Bytes> {
    if content.len() < SMALL {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < content.len()).then(|| packed.into())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    has(headers, ACCEPT_ENCODING.as_str(), |word| {
        let (coding, weight) = word.split_once(';').unwrap_or((word, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        coding.trim() == "gzip" && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

/// Whether one word of a header that is a list fits.
fn has(headers: &HeaderMap, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| fits(word.trim()))
}

#[cfg(test)]
mod tests {
    use axum::http::header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH,
    };
    use axum::http::{HeaderMap, HeaderName, StatusCode};

    use super::Files;

    fn files() -> Files {
        let script = "let a = 1;\n".repeat(200);
        let built = [
            ("index.html", "<!doctype html>".to_owned()),
            ("assets/index-1a2b.js", script),
        ];
        Files::new(
            built
                .into_iter()
                .map(|(path, text)| (path.to_owned(), text.into_bytes())),
        )
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_console_that_was_not_built_says_how_to_build_it() {
        assert!(super::NOT_BUILT.contains("npm run build"));
        let files = Files::new(std::iter::empty());
        let answer = files.answer("", &HeaderMap::new()).unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let path = "assets/index-1a2b.js";
        let packed = |value| {
            let answer = files().answer(path, &headers(ACCEPT_ENCODING, value));
            answer.unwrap().headers().contains_key(CONTENT_ENCODING)
        };
        assert!(packed("br, gzip;q=0.8"));
        assert!(!packed("br"));
        assert!(!packed("gzip;q=0"));
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = files().answer("", &HeaderMap::new()).unwrap();
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let again = files().answer("", &headers(IF_NONE_MATCH, &tag)).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = files()
            .answer("", &headers(IF_NONE_MATCH, "\"x\""))
            .unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn only_files_whose_names_change_with_them_are_kept_for_long() {
        let cache = |path| {
            let answer = files().answer(path, &HeaderMap::new()).unwrap();
            answer.headers()[CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        assert_eq!(cache(""), "no-cache");
        assert!(cache("assets/index-1a2b.js").contains("immutable"));
    }
}
