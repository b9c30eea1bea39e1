//! Where pages link to for more than the last quarter of an hour.

use std::str::FromStr;

use axum::http::Uri;
use serde::Serialize;

/// Address of a Grafana that has the project's dashboards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Grafana(String);

impl FromStr for Grafana {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("must be an address such as https://grafana.example.org/monitoring: {what}")
        };
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err(wrong("it begins with neither https:// nor http://"));
        }
        if uri.authority().is_some_and(|at| at.as_str().contains('@')) {
            return Err(wrong("it has a user, whom everybody would see"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("it has a query or a fragment"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Grafana;

    #[test]
    fn only_an_address_of_a_site_is_taken() {
        let taken = |text: &str| text.parse().map(|Grafana(address)| address);
        assert_eq!(
            taken("https://g.example/x/").as_deref(),
            Ok("https://g.example/x")
        );
        for wrong in [
            "",
            "g.example",
            "javascript:alert(1)",
            "ftp://g.example",
            "https://g.example/?a=b",
            "https://g.example/#a",
            "https://g example",
            "https://me:secret@g.example",
        ] {
            assert!(taken(wrong).is_err(), "{wrong}");
        }
    }
}
