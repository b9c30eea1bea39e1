//! Registries over HTTP: manifests and blobs with checked digests, bounded sizes, deadlines and retries.
//!
//! References, manifests and media types are `oci-client`'s; the requests are our own. Its client, in the version used here, reads manifests
//! and token answers without a size limit and follows redirects to any address, and this runs in a root process. What is asked for is small:
//! `GET` of a manifest, `GET` of a blob, and the token dance in [`token`].

mod client;
mod guard;
mod token;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci_client::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use crate::auth::{AuthFiles, Credential, PullAuth, credentials};
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::layout::{BlobFile, mismatch};
use crate::limits::Limits;
use crate::manifest::{ACCEPTED, Blob};
use client::{chain, client, speaks_plain_http};
use guard::Origin;

/// Host of images that are in layouts only. Who answers to such a name (RFC 6762) is any neighbour.
const LOCAL_HOST: &str = "catamaran.local";

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Registries (`host` or `host:port`) that are spoken to without TLS. Loopback addresses are tried without TLS first, without being listed.
    pub plain_http: Vec<String>,
    /// PEM files with further trusted authorities. The system's, `SSL_CERT_FILE` and `SSL_CERT_DIR` are always trusted.
    pub ca_files: Vec<PathBuf>,
    /// Folders: their `*.crt` and `*.pem` are trusted for all registries, those in `<host[:port]>/` for that registry.
    pub ca_folders: Vec<PathBuf>,
    /// Authentication files, tried after the image pull secrets.
    pub auth_files: AuthFiles,
    /// Proxy for all requests, instead of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, which are obeyed otherwise.
    pub proxy: Option<String>,
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest silence in an answer.
    pub idle_timeout: Duration,
    /// Longest request for a manifest, config or token.
    pub request_timeout: Duration,
    /// Slowest acceptable download of a layer, bytes per second on average.
    pub min_rate: u64,
    /// How often a request is tried in all when the failure may pass.
    pub attempts: u32,
    /// Pause after the first failure; doubles each time.
    pub backoff: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            ca_files: Vec::new(),
            ca_folders: vec![
                "/etc/containers/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
            auth_files: AuthFiles::from_environment(),
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            min_rate: 64 << 10,
            attempts: 4,
            backoff: Duration::from_millis(500),
        }
    }
}

/// What became of one attempt.
enum Fault {
    /// May pass: worth another attempt. A server's own pause, if it gave one.
    Transient(String, Option<Duration>),
    /// Will not pass.
    Final(ImageError),
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        Self::Final(error)
    }
}

/// The longest pause between two attempts, also when a registry asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// One image in a registry.
#[derive(Debug)]
pub(crate) struct RegistrySource {
    http: Client,
    origin: Origin,
    reference: Reference,
    shown: String,
    config: RegistryConfig,
    manifest_limit: u64,
    credentials: Vec<Credential>,
    login: Mutex<Login>,
}

/// What requests are sent with.
#[derive(Debug, Default)]
struct Login {
    header: Option<HeaderValue>,
    /// The next of `credentials` to try; one past the end stands for no credentials.
    next: usize,
    /// The header was accepted; when it is refused later, it has only expired.
    worked: bool,
}

impl RegistrySource {
    pub(crate) async fn connect(
        reference: &Reference,
        auth: &PullAuth,
        config: &RegistryConfig,
        limits: &Limits,
    ) -> Result<Self> {
        let host = reference.resolve_registry().to_owned();
        let shown = reference.whole();
        if host == LOCAL_HOST {
            return Err(ImageError::NotFound {
                reference: shown,
                place: format!("any local OCI layout, and {LOCAL_HOST} is never a registry"),
            });
        }
        let origin = |scheme: &str| {
            Origin::new(scheme, &host).ok_or_else(|| ImageError::InvalidReference {
                reference: shown.clone(),
                reason: format!("{host:?} is not a registry host"),
            })
        };
        let plain = origin("http")?;
        let listed = config.plain_http.contains(&host);
        let without_tls = listed
            || (plain.is_loopback()
                && speaks_plain_http(&client(config, &plain)?, &plain, config).await);
        let origin = if without_tls { plain } else { origin("https")? };
        Ok(Self {
            http: client(config, &origin)?,
            credentials: credentials(&host, reference.repository(), auth, &config.auth_files),
            origin,
            reference: reference.clone(),
            shown,
            config: config.clone(),
            manifest_limit: limits.manifest_size,
            login: Mutex::default(),
        })
    }

    /// Host and port.
    pub(crate) fn place(&self) -> String {
        format!("registry {}", self.origin.host_port())
    }

    /// The manifest of the reference and its digest.
    pub(crate) async fn root(&self) -> Result<(Vec<u8>, Digest)> {
        let expected = match self.reference.digest() {
            Some(digest) => Some(
                digest
                    .parse::<Digest>()
                    .map_err(|e| ImageError::unsupported(&self.shown, e))?,
            ),
            None => None,
        };
        let name = self
            .reference
            .digest()
            .or(self.reference.tag())
            .unwrap_or("latest")
            .to_owned();
        self.document(
            "the manifest",
            &format!("manifests/{name}"),
            &ACCEPTED.join(", "),
            expected.as_ref(),
        )
        .await
    }

    /// A manifest that an index names.
    pub(crate) async fn manifest(&self, blob: &Blob) -> Result<Vec<u8>> {
        let accept = ACCEPTED.join(", ");
        let (bytes, _) = self
            .document(
                "the manifest",
                &format!("manifests/{}", blob.digest),
                &accept,
                Some(&blob.digest),
            )
            .await?;
        Ok(bytes)
    }

    /// A config.
    pub(crate) async fn blob_bytes(&self, what: &str, blob: &Blob) -> Result<Vec<u8>> {
        let (bytes, _) = self
            .document(
                what,
                &format!("blobs/{}", blob.digest),
                "*/*",
                Some(&blob.digest),
            )
            .await?;
        Ok(bytes)
    }

    async fn document(
        &self,
        what: &str,
        path: &str,
        accept: &str,
        expected: Option<&Digest>,
    ) -> Result<(Vec<u8>, Digest)> {
        let mut attempts = Attempts::new(&self.config);
        loop {
            let outcome = tokio::time::timeout(
                self.config.request_timeout,
                self.document_once(what, path, accept, expected),
            )
            .await;
            let fault = match outcome {
                Ok(Ok(document)) => return Ok(document),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Transient(
                    format!(
                        "{what} did not arrive within {} s",
                        self.config.request_timeout.as_secs()
                    ),
                    None,
                ),
            };
            self.after(fault, &mut attempts).await?;
        }
    }

    async fn document_once(
        &self,
        what: &str,
        path: &str,
        accept: &str,
        expected: Option<&Digest>,
    ) -> std::result::Result<(Vec<u8>, Digest), Fault> {
        let response = self.get(path, accept).await?;
        let said = response
            .headers()
            .get("docker-content-digest")
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let bytes = self.bounded(response, what).await?;
        let actual = Digest::of(&bytes);
        // Where nothing is expected, the registry's own word is; another algorithm cannot be compared.
        let said = said.and_then(|s| s.parse::<Digest>().ok());
        match expected.or(said.as_ref()) {
            Some(expected) if *expected != actual => {
                Err(mismatch(what, &self.shown, expected, &actual).into())
            }
            _ => Ok((bytes, actual)),
        }
    }

    async fn bounded(
        &self,
        mut response: Response,
        what: &str,
    ) -> std::result::Result<Vec<u8>, Fault> {
        let too_large = || {
            Fault::Final(ImageError::limit(
                &self.shown,
                format!("{what} has more than {} bytes", self.manifest_limit),
            ))
        };
        if response
            .content_length()
            .is_some_and(|n| n > self.manifest_limit)
        {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.fault(&e))? {
            if (bytes.len() + chunk.len()) as u64 > self.manifest_limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Downloads a layer into a file in `folder` that has no name, and checks its digest.
    pub(crate) async fn blob_file(
        &self,
        blob: &Blob,
        folder: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BlobFile> {
        let deadline = self.config.request_timeout
            + Duration::from_secs(blob.size / self.config.min_rate.max(1));
        let mut attempts = Attempts::new(&self.config);
        loop {
            let fault =
                match tokio::time::timeout(deadline, self.download(blob, folder, progress)).await {
                    Ok(Ok(file)) => return Ok(file),
                    Ok(Err(fault)) => fault,
                    Err(_) => {
                        let text = format!(
                            "a layer of {} bytes did not arrive within {} s",
                            blob.size,
                            deadline.as_secs()
                        );
                        Fault::Transient(text, None)
                    }
                };
            self.after(fault, &mut attempts).await?;
        }
    }

    async fn download(
        &self,
        blob: &Blob,
        folder: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> std::result::Result<BlobFile, Fault> {
        let wrong_size = |n: &dyn std::fmt::Display| {
            let expected = format_args!("{} with {} bytes", blob.digest, blob.size);
            Fault::Final(mismatch(
                "a layer",
                &self.shown,
                &expected,
                &format_args!("{n} bytes"),
            ))
        };
        let mut response = self.get(&format!("blobs/{}", blob.digest), "*/*").await?;
        if let Some(n) = response.content_length().filter(|n| *n != blob.size) {
            return Err(wrong_size(&n));
        }
        let folder_path = folder.to_owned();
        let write_failed = |error: std::io::Error| {
            Fault::Final(ImageError::io("write a layer into", folder_path.clone())(
                error,
            ))
        };
        let file = tempfile::tempfile_in(folder).map_err(write_failed)?;
        let mut writer =
            tokio::io::BufWriter::with_capacity(1 << 20, tokio::fs::File::from_std(file));
        let (mut hasher, mut done) = (Sha256::new(), 0u64);
        while let Some(chunk) = response.chunk().await.map_err(|e| self.fault(&e))? {
            done += chunk.len() as u64;
            if done > blob.size {
                return Err(wrong_size(&format_args!("more than {}", blob.size)));
            }
            hasher.update(&chunk);
            writer.write_all(&chunk).await.map_err(write_failed)?;
            progress(done);
        }
        writer.flush().await.map_err(write_failed)?;
        if done != blob.size {
            return Err(wrong_size(&done));
        }
        let actual = Digest::from_hasher(hasher);
        if actual != blob.digest {
            return Err(mismatch("a layer", &self.shown, &blob.digest, &actual).into());
        }
        let file: File = writer.into_inner().into_std().await;
        Ok(BlobFile {
            file,
            offset: 0,
            length: blob.size,
        })
    }

    /// One `GET` below `/v2/<repository>/`, logging in where the registry asks for it.
    async fn get(&self, path: &str, accept: &str) -> std::result::Result<Response, Fault> {
        let url = format!(
            "{}/v2/{}/{path}",
            self.origin.base(),
            self.reference.repository()
        );
        loop {
            let header = self
                .login
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .header
                .clone();
            let mut request = self.http.get(&url).header(ACCEPT, accept);
            if let Some(header) = &header {
                request = request.header(AUTHORIZATION, header.clone());
            }
            let response = request.send().await.map_err(|e| self.fault(&e))?;
            match response.status() {
                StatusCode::OK => {
                    self.login
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .worked = header.is_some();
                    return Ok(response);
                }
                StatusCode::UNAUTHORIZED => {
                    let challenge = response
                        .headers()
                        .get_all(WWW_AUTHENTICATE)
                        .iter()
                        .filter_map(|v| v.to_str().ok());
                    let challenge = challenge.collect::<Vec<_>>().join(", ");
                    self.log_in(&challenge).await?;
                }
                StatusCode::FORBIDDEN => {
                    return Err(Fault::Final(self.unauthorized("it answered 403 Forbidden")));
                }
                StatusCode::NOT_FOUND => {
                    return Err(Fault::Final(ImageError::NotFound {
                        reference: self.shown.clone(),
                        place: format!("{} ({path})", self.place()),
                    }));
                }
                status if transient(status) => {
                    return Err(Fault::Transient(
                        format!("it answered {status}"),
                        retry_after(&response),
                    ));
                }
                status => {
                    return Err(Fault::Final(self.failed(
                        format!("it answered {status} to {path}"),
                        1,
                        false,
                    )));
                }
            }
        }
    }

    /// Gets a header from the next credential; ends when there is none left.
    async fn log_in(&self, challenge: &str) -> std::result::Result<(), Fault> {
        let credential = {
            let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut login.worked) {
                login.next = login.next.saturating_sub(1);
            }
            let index = login.next;
            login.next += 1;
            login.header = None;
            match self.credentials.get(index) {
                Some(credential) => Some(credential.clone()),
                // Anonymous tokens are a thing, but only where there is nothing better.
                None if index == 0 => None,
                None => return Err(Fault::Final(self.unauthorized(&self.tried()))),
            }
        };
        let asked = token::header(
            &self.http,
            &self.origin,
            self.reference.repository(),
            challenge,
            credential.as_ref(),
        );
        let header = match tokio::time::timeout(self.config.request_timeout, asked).await {
            Ok(Ok(header)) => header,
            Ok(Err(token::TokenError::Refused)) => return Ok(()),
            Ok(Err(token::TokenError::Transient(text))) => {
                let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
                login.next = login.next.saturating_sub(1);
                return Err(Fault::Transient(text, None));
            }
            Ok(Err(token::TokenError::Final(text))) => {
                return Err(Fault::Final(self.failed(text, 1, false)));
            }
            Err(_) => {
                return Err(Fault::Transient(
                    "its token server does not answer".to_owned(),
                    None,
                ));
            }
        };
        if header.is_none() && self.credentials.is_empty() {
            return Err(Fault::Final(self.unauthorized(&self.tried())));
        }
        self.login
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .header = header;
        Ok(())
    }

    fn tried(&self) -> String {
        if self.credentials.is_empty() {
            return format!(
                "it asks for credentials and there are none for it (no image pull secret; looked into {})",
                self.config.auth_files.places()
            );
        }
        let origins: Vec<_> = self.credentials.iter().map(|c| c.origin.as_str()).collect();
        format!(
            "the credentials from {} were not accepted",
            origins.join(", ")
        )
    }

    fn unauthorized(&self, reason: &str) -> ImageError {
        ImageError::Unauthorized {
            registry: self.origin.host_port(),
            reference: self.shown.clone(),
            reason: reason.to_owned(),
        }
    }

    fn failed(&self, reason: String, attempts: u32, transient: bool) -> ImageError {
        ImageError::Registry {
            registry: self.origin.host_port(),
            reason,
            attempts,
            transient,
        }
    }

    fn fault(&self, error: &reqwest::Error) -> Fault {
        let text = chain(error);
        if error.is_redirect() || error.is_builder() || text.contains("certificate") {
            Fault::Final(self.failed(text, 1, false))
        } else {
            Fault::Transient(text, None)
        }
    }

    /// Waits before the next attempt, or ends with the error where there is none.
    async fn after(&self, fault: Fault, attempts: &mut Attempts) -> Result<()> {
        let (text, asked) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Transient(text, asked) => (text, asked),
        };
        attempts.done += 1;
        if attempts.done >= self.config.attempts {
            return Err(self.failed(text, attempts.done, true));
        }
        tracing::debug!(image = %self.shown, reason = %text, attempt = attempts.done, "registry request failed, trying again");
        tokio::time::sleep(asked.unwrap_or(attempts.pause).min(MAX_PAUSE)).await;
        attempts.pause *= 2;
        Ok(())
    }
}

/// Attempts at one request.
struct Attempts {
    done: u32,
    pause: Duration,
}

impl Attempts {
    fn new(config: &RegistryConfig) -> Self {
        Self {
            done: 0,
            pause: config.backoff,
        }
    }
}

fn transient(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get("retry-after")?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// For the submodules: host and port of a URL, lower case.
fn host_port(url: &Url) -> Option<(String, u16)> {
    Some((
        url.host_str()?.to_ascii_lowercase(),
        url.port_or_known_default()?,
    ))
}
