//! The HTTP client for one registry: trusted authorities, proxy, timeouts, and whether it is spoken to with TLS.

use std::sync::Arc;

use reqwest::{Certificate, Client, Proxy, StatusCode};

use super::RegistryConfig;
use super::guard::{self, Origin};
use crate::error::{ImageError, Result};

/// An error and its causes in one line, without the URL's query (which may carry a signature).
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut text = match error.url() {
        Some(url) => format!(
            "{}://{}{}: ",
            url.scheme(),
            url.host_str().unwrap_or(""),
            url.port().map(|p| format!(":{p}")).unwrap_or_default()
        ),
        None => String::new(),
    };
    let mut source = std::error::Error::source(error);
    let mut parts = Vec::new();
    while let Some(cause) = source {
        parts.push(cause.to_string());
        source = cause.source();
    }
    match parts.last() {
        Some(last) if parts.len() > 1 => text.push_str(&format!("{} ({last})", parts[0])),
        Some(last) => text.push_str(last),
        None if error.is_timeout() => text.push_str("timed out"),
        None => text.push_str("the request failed"),
    }
    text
}

/// Whether a registry on a loopback address is one without TLS. A server with TLS answers 400 or hangs up.
pub(super) async fn speaks_plain_http(
    http: &Client,
    origin: &Origin,
    config: &RegistryConfig,
) -> bool {
    let request = http.get(format!("{}/v2/", origin.base())).send();
    match tokio::time::timeout(config.connect_timeout, request).await {
        Ok(Ok(response)) => response.status() != StatusCode::BAD_REQUEST,
        // Nobody there: http, so that the message is about the connection and not about TLS. A refused redirect was HTTP, too.
        Ok(Err(error)) => error.is_connect() || error.is_redirect(),
        Err(_) => false,
    }
}

pub(super) fn client(config: &RegistryConfig, origin: &Origin) -> Result<Client> {
    let setup = |reason: String| ImageError::Setup { reason };
    let authorities = authorities(config, origin)?;
    let proxies = match &config.proxy {
        Some(proxy) => vec![proxy.clone()],
        None => proxies_of_environment(),
    };
    let build = |system_roots: bool| {
        let mut builder = Client::builder()
            .user_agent(concat!("catamaran/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.idle_timeout)
            .redirect(guard::redirects(origin.clone()))
            .dns_resolver(Arc::new(guard::Resolver::new(origin, &proxies)))
            .referer(false);
        builder = if system_roots {
            builder.tls_certs_merge(authorities.clone())
        } else {
            builder.tls_certs_only(authorities.clone())
        };
        if let Some(proxy) = &config.proxy {
            builder = builder.proxy(
                Proxy::all(proxy).map_err(|_| setup(format!("proxy {proxy:?} is not a URL")))?,
            );
        }
        builder.build().map_err(|error| setup(chain(&error)))
    };
    // A machine without any CA certificates can still use a registry without TLS.
    build(true).or_else(|error| {
        if origin.is_plain() {
            build(false)
        } else {
            Err(error)
        }
    })
}

fn proxies_of_environment() -> Vec<String> {
    [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ]
    .iter()
    .filter_map(|name| std::env::var(name).ok())
    .collect()
}

fn authorities(config: &RegistryConfig, origin: &Origin) -> Result<Vec<Certificate>> {
    let mut files = config.ca_files.clone();
    for folder in &config.ca_folders {
        for folder in [folder.clone(), folder.join(origin.host_port())] {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            let paths = entries.filter_map(|e| Some(e.ok()?.path()));
            files.extend(paths.filter(|p| p.extension().is_some_and(|x| x == "crt" || x == "pem")));
        }
    }
    let mut found = Vec::new();
    for path in files {
        let setup = |reason: String| ImageError::Setup {
            reason: format!("CA file {} {reason}", path.display()),
        };
        let bytes =
            std::fs::read(&path).map_err(|error| setup(format!("cannot be read: {error}")))?;
        let certificates =
            Certificate::from_pem_bundle(&bytes).map_err(|_| setup("is not PEM".to_owned()))?;
        if certificates.is_empty() {
            return Err(setup("holds no certificate".to_owned()));
        }
        found.extend(certificates);
    }
    Ok(found)
}
