//! Where a registry may send us: redirects and token servers must not reach the host itself or its metadata service.
//!
//! The registry's own address is what the user asked for and is always allowed; private addresses are allowed, too, since that is where the
//! storage behind an internal registry is. The digest pins what comes back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use super::host_port;

/// More redirects than this are not followed.
const MAX_REDIRECTS: usize = 5;

/// Scheme, host and port of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    base: Url,
    shown: String,
}

impl Origin {
    /// From a reference's `host[:port]`.
    pub(super) fn new(scheme: &str, host: &str) -> Option<Self> {
        let base = Url::parse(&format!("{scheme}://{host}/")).ok()?;
        let clean = base.path() == "/"
            && base.query().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        (clean && base.host_str().is_some()).then(|| Self {
            base,
            shown: host.to_owned(),
        })
    }

    /// As in the reference.
    pub(super) fn host_port(&self) -> String {
        self.shown.clone()
    }

    /// `scheme://host:port` without trailing slash.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.base.host_str().is_some_and(|host| {
            host == "localhost" || literal(host).is_some_and(|ip| ip.is_loopback())
        })
    }

    /// # Errors
    /// Why `target` is not acceptable as a redirect or token server of this registry.
    pub(super) fn check(&self, target: &Url) -> Result<(), String> {
        let shown = format!("{}://{}", target.scheme(), target.host_str().unwrap_or(""));
        match target.scheme() {
            "https" => {}
            "http" if self.is_plain() => {}
            _ => {
                return Err(format!(
                    "registry {} sends us to {shown}; only https is allowed",
                    self.shown
                ));
            }
        }
        if host_port(target).is_some() && host_port(target) == host_port(&self.base) {
            return Ok(());
        }
        let host = target.host_str().unwrap_or("").to_ascii_lowercase();
        let name = host.trim_end_matches('.');
        let local_name = name == "localhost" || name.ends_with(".localhost");
        if local_name || literal(&host).is_some_and(forbidden) {
            return Err(format!(
                "registry {} sends us to {shown}, an address of this host or link",
                self.shown
            ));
        }
        Ok(())
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// Addresses that only this host or its link has: loopback, metadata services, multicast.
fn forbidden(ip: IpAddr) -> bool {
    /// Metadata service of a large cloud over IPv6.
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let v4 = |ip: Ipv4Addr| {
        ip.is_loopback()
            || ip.is_link_local()
            || ip.is_unspecified()
            || ip.is_multicast()
            || ip.is_broadcast()
            || ip.octets()[0] == 0
    };
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => v4(ip),
            None => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unicast_link_local()
                    || ip == METADATA_V6
            }
        },
    }
}

pub(super) fn redirects(origin: Origin) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        match origin.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(reason) => attempt.error(reason),
        }
    })
}

/// Resolves names; those that are not the registry's or a proxy's must not lead to forbidden addresses.
#[derive(Debug)]
pub(super) struct Resolver {
    trusted: Vec<String>,
}

impl Resolver {
    pub(super) fn new(origin: &Origin, proxies: &[String]) -> Self {
        let proxies = proxies.iter().filter_map(|proxy| {
            let proxy = if proxy.contains("://") {
                proxy.clone()
            } else {
                format!("http://{proxy}")
            };
            Some(Url::parse(&proxy).ok()?.host_str()?.to_ascii_lowercase())
        });
        Self {
            trusted: origin
                .base
                .host_str()
                .map(str::to_ascii_lowercase)
                .into_iter()
                .chain(proxies)
                .collect(),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let trusted = self
            .trusted
            .iter()
            .any(|host| host.eq_ignore_ascii_case(name.as_str()));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| trusted || !forbidden(address.ip()))
                .collect();
            if found.is_empty() {
                return Err(
                    format!("{} has no address that may be used here", name.as_str()).into(),
                );
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(registry: &str, target: &str) -> Result<(), String> {
        let (scheme, host) = registry.split_once("://").unwrap();
        Origin::new(scheme, host)
            .unwrap()
            .check(&Url::parse(target).unwrap())
    }

    #[test]
    fn redirects_to_storage_elsewhere_are_followed() {
        assert_eq!(
            check("https://r.example", "https://storage.example/x?sig=1"),
            Ok(())
        );
        assert_eq!(check("https://r.example", "https://10.0.0.7/x"), Ok(()));
        assert_eq!(
            check("http://127.0.0.1:5000", "http://127.0.0.1:5000/other"),
            Ok(())
        );
    }

    #[test]
    fn redirects_to_the_host_itself_its_link_or_without_tls_are_not() {
        for target in [
            "http://storage.example/x",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://localhost/",
            "https://a.localhost./",
            "https://0.0.0.0/",
            "https://2130706433/",
            "file:///etc/shadow",
            "ftp://r.example/",
        ] {
            assert!(check("https://r.example", target).is_err(), "{target}");
        }
        assert!(check("http://127.0.0.1:5000", "http://127.0.0.1:22/").is_err());
    }

    #[test]
    fn a_reference_host_cannot_smuggle_a_url() {
        for bad in ["user@host", "host/path", "host?x", "", "host:port"] {
            assert!(Origin::new("https", bad).is_none(), "{bad}");
        }
        assert!(Origin::new("http", "127.0.0.1:5000").unwrap().is_loopback());
        assert!(!Origin::new("http", "r.example").unwrap().is_loopback());
    }
}
