//! Fetches an image: from its beginning to its end with connections that may break, and parts of it.

use std::time::Duration;

use bytes::Bytes;
use catamaran_deploy_wire::Image;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};

use crate::text::chain;
use crate::tls::{self, TlsError};

/// The image can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connections at all.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server does not want to.
    #[error("{url}: the server answers {status}")]
    Status {
        /// Where.
        url: String,
        /// Status code.
        status: u16,
    },
    /// The connection broke too often.
    #[error("{url}: {said}")]
    Transport {
        /// Where.
        url: String,
        /// Why, with causes.
        said: String,
    },
    /// The server does not know ranges.
    #[error(
        "{0}: the server does not answer ranges, which a qcow2 image needs: use another server, or format raw"
    )]
    NoRanges(String),
    /// It does not say how long the image is.
    #[error("{0}: the server does not tell its size")]
    NoSize(String),
    /// A file with checksums, and surely none.
    #[error(
        "{url}: it has {size} bytes or more; a file with checksums of at most {most} is allowed"
    )]
    Large {
        /// Where.
        url: String,
        /// Bytes of it that are known of.
        size: u64,
        /// Bytes that are allowed.
        most: u64,
    },
    /// The image is another one now.
    #[error("{0}: it was changed while it was read")]
    Changed(String),
}

/// Breaks in a row without a byte between them, until it is given up.
const BREAKS: u32 = 8;
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// An image on a server.
pub struct Source {
    client: Client,
    url: String,
    /// Bytes of the file.
    size: u64,
    /// What tells versions of the file apart.
    validator: Option<String>,
    /// The next byte that is given out.
    offset: u64,
    /// The connection under way.
    answer: Option<Response>,
    breaks: u32,
    /// The last break, until it is asked for.
    trouble: Option<String>,
}

impl Source {
    /// One that was not asked yet.
    fn new(image: &Image, controller_ca: &str) -> Result<Self, SourceError> {
        let cas: Vec<&str> = std::iter::once(controller_ca)
            .chain(image.ca.as_deref())
            .collect();
        Ok(Self {
            client: tls::client(&cas, true)?,
            url: image.url.clone(),
            size: 0,
            validator: None,
            offset: 0,
            answer: None,
            breaks: 0,
            trouble: None,
        })
    }

    /// Asks for an image's size; trusts the controller's CA and the image's own.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn open(image: &Image, controller_ca: &str) -> Result<Self, SourceError> {
        let mut source = Self::new(image, controller_ca)?;
        loop {
            match source.connect(0).await {
                Ok(answer) => {
                    source.size = whole_size(&answer)
                        .ok_or_else(|| SourceError::NoSize(source.url.clone()))?;
                    source.validator = validator(answer.headers());
                    source.answer = Some(answer);
                    return Ok(source);
                }
                Err(error) => source.broken(error).await?,
            }
        }
    }

    /// All of a small file, as text. Its server need not tell its size.
    ///
    /// # Errors
    /// It has more bytes than `most`; see [`SourceError`] for the rest.
    pub async fn text(file: &Image, controller_ca: &str, most: u64) -> Result<String, SourceError> {
        let mut source = Self::new(file, controller_ca)?;
        loop {
            match source.all(most).await {
                Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) => source.broken(error).await?,
            }
        }
    }

    async fn all(&self, most: u64) -> Result<Vec<u8>, SourceError> {
        let allow = |size: u64| {
            let url = self.url.clone();
            (size <= most)
                .then_some(())
                .ok_or(SourceError::Large { url, size, most })
        };
        let mut answer = self.connect(0).await?;
        allow(whole_size(&answer).unwrap_or(0))?;
        let mut bytes = Vec::new();
        while let Some(more) = answer
            .chunk()
            .await
            .map_err(|error| self.transport(&error))?
        {
            bytes.extend_from_slice(&more);
            allow(bytes.len() as u64)?;
        }
        Ok(bytes)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What went wrong since this was last asked.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// Too many breaks in a row, or another image.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if self.offset == self.size {
                return Ok(None);
            }
            match self.piece().await {
                Ok(bytes) => {
                    self.breaks = 0;
                    return Ok(Some(bytes));
                }
                Err(error) => self.broken(error).await?,
            }
        }
    }

    /// Some bytes, without moving.
    ///
    /// # Errors
    /// The server does not know ranges, or see [`SourceError`].
    pub async fn part(&mut self, from: u64, length: u64) -> Result<Vec<u8>, SourceError> {
        // Nobody reads the connection under way meanwhile.
        self.answer = None;
        loop {
            match self.range(from, length).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.broken(error).await?,
            }
        }
    }

    async fn range(&self, from: u64, length: u64) -> Result<Vec<u8>, SourceError> {
        let last = (from + length).min(self.size).saturating_sub(1);
        let answer = self
            .client
            .get(&self.url)
            .header(RANGE, format!("bytes={from}-{last}"))
            .send()
            .await
            .map_err(|error| self.transport(&error))?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(SourceError::NoRanges(self.url.clone()));
            }
            status => return Err(self.status(status)),
        }
        if validator(answer.headers()) != self.validator {
            return Err(SourceError::Changed(self.url.clone()));
        }
        let bytes = answer
            .bytes()
            .await
            .map_err(|error| self.transport(&error))?;
        Ok(bytes.into())
    }

    /// The next bytes of the connection under way, or of a new one.
    async fn piece(&mut self) -> Result<Bytes, SourceError> {
        let (mut answer, left) = match self.answer.take() {
            Some(answer) => (answer, None),
            None => self.resume().await?,
        };
        let bytes = match left {
            Some(bytes) => Some(bytes),
            None => answer
                .chunk()
                .await
                .map_err(|error| self.transport(&error))?,
        };
        let Some(bytes) = bytes else {
            return Err(SourceError::Transport {
                url: self.url.clone(),
                said: format!(
                    "the connection ended at byte {} of {}",
                    self.offset, self.size
                ),
            });
        };
        self.offset += bytes.len() as u64;
        if self.offset > self.size {
            return Err(SourceError::Changed(self.url.clone()));
        }
        self.answer = Some(answer);
        Ok(bytes)
    }

    /// Goes on where it was; a server that does not know ranges is listened to from the beginning again.
    /// What of its first pieces is new comes with it.
    async fn resume(&self) -> Result<(Response, Option<Bytes>), SourceError> {
        let mut answer = self.connect(self.offset).await?;
        let changed = || SourceError::Changed(self.url.clone());
        if whole_size(&answer) != Some(self.size) || validator(answer.headers()) != self.validator {
            return Err(changed());
        }
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            return Ok((answer, None));
        }
        let mut passed = 0;
        while passed < self.offset {
            let mut bytes = answer
                .chunk()
                .await
                .map_err(|error| self.transport(&error))?
                .ok_or_else(changed)?;
            passed += bytes.len() as u64;
            if passed > self.offset {
                let new = usize::try_from(passed - self.offset).unwrap_or(0);
                return Ok((answer, Some(bytes.split_off(bytes.len() - new))));
            }
        }
        Ok((answer, None))
    }

    async fn connect(&self, from: u64) -> Result<Response, SourceError> {
        let mut request = self.client.get(&self.url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
            // A weak one is not allowed there.
            if let Some(validator) = self.validator.as_ref().filter(|v| !v.starts_with("W/")) {
                request = request.header(IF_RANGE, validator);
            }
        }
        let answer = request
            .send()
            .await
            .map_err(|error| self.transport(&error))?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            status => Err(self.status(status)),
        }
    }

    /// Waits after a break, or gives up.
    async fn broken(&mut self, error: SourceError) -> Result<(), SourceError> {
        self.answer = None;
        let again = match &error {
            SourceError::Transport { .. } => true,
            SourceError::Status { status, .. } => {
                *status >= 500 || [408, 425, 429].contains(status)
            }
            _ => false,
        };
        self.breaks += 1;
        if !again || self.breaks >= BREAKS {
            return Err(error);
        }
        let pause = PAUSE_MAX.min(Duration::from_millis(500 << self.breaks.min(10)));
        tracing::warn!("{error}; again in {} s", pause.as_secs());
        self.trouble = Some(format!("{error}; tried again from byte {}", self.offset));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn status(&self, status: StatusCode) -> SourceError {
        SourceError::Status {
            url: self.url.clone(),
            status: status.as_u16(),
        }
    }

    fn transport(&self, error: &reqwest::Error) -> SourceError {
        SourceError::Transport {
            url: self.url.clone(),
            said: chain(error),
        }
    }
}

/// Bytes of the whole file, of an answer with all or the rest of it.
fn whole_size(answer: &Response) -> Option<u64> {
    match answer.headers().get(CONTENT_RANGE) {
        Some(range) => range.to_str().ok()?.rsplit_once('/')?.1.parse().ok(),
        None => answer.content_length(),
    }
}

fn validator(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(ETAG).or_else(|| headers.get(LAST_MODIFIED))?;
    value.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use catamaran_deploy_wire::{Checksum, Format};

    use super::*;

    /// A file on a server that answers each request with the next of these, and ends the connection.
    fn served(answers: Vec<String>) -> Image {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/SUMS", listener.local_addr().unwrap());
        thread::spawn(move || {
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).unwrap();
                connection.write_all(answer.as_bytes()).unwrap();
            }
        });
        Image {
            url,
            format: Format::Raw,
            checksum: Checksum {
                kind: None,
                value: String::new(),
            },
            ca: None,
        }
    }

    fn answer(headers: &str, body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\n{headers}connection: close\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn a_small_file_needs_no_size() {
        for (headers, body) in [
            ("", "aaa  disk.img\n"),
            ("content-length: 14\r\n", "aaa  disk.img\n"),
            (
                "transfer-encoding: chunked\r\n",
                "5\r\naaa  \r\n9\r\ndisk.img\n\r\n0\r\n\r\n",
            ),
        ] {
            let file = served(vec![answer(headers, body)]);
            let text = Source::text(&file, "", 14).await.unwrap();
            assert_eq!(text, "aaa  disk.img\n", "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_large_file_is_refused_whether_its_size_is_told_or_not() {
        for headers in ["", "content-length: 20\r\n"] {
            let file = served(vec![answer(headers, &"a".repeat(20))]);
            let error = Source::text(&file, "", 14).await.unwrap_err();
            assert!(
                matches!(error, SourceError::Large { most: 14, .. }),
                "{headers:?}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_small_file_is_fetched_again_after_a_break() {
        let broken = answer("content-length: 14\r\n", "aaa");
        let file = served(vec![broken, answer("", "bbb")]);
        assert_eq!(Source::text(&file, "", 14).await.unwrap(), "bbb");
    }
}
