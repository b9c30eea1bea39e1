//! Addresses of BMCs as `BareMetalHost` resources write them: `idrac-virtualmedia+https://192.0.2.7/redfish/v1/Systems/System.Embedded.1`.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// How a host gets what it boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// `redfish-virtualmedia`, `idrac-virtualmedia`, `ilo5-virtualmedia`: the BMC shows the host a CD.
    VirtualMedia,
    /// `redfish`, `idrac-redfish`, `ilo5-redfish`: by the network, PXE.
    Network,
    /// `redfish-uefihttp`: the firmware fetches it by HTTP.
    UefiHttp,
}

/// Where a BMC is, and which of its systems is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Scheme, host and port, path `/`.
    pub(crate) base: Url,
    /// Path of the system, such as `/redfish/v1/Systems/1`; none means the only one there is.
    pub system: Option<String>,
    /// What the scheme says about booting.
    pub delivery: Delivery,
}

/// Why an address can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is none of Redfish's.
    #[error(
        "BMC address: scheme '{0}' is not supported; redfish, redfish-virtualmedia, redfish-uefihttp, idrac-redfish, idrac-virtualmedia, \
         ilo5-redfish and ilo5-virtualmedia are, each also with +http or +https"
    )]
    Scheme(String),
    /// User name or password stand in the address.
    #[error("BMC address: credentials do not belong there; give them by the Secret")]
    Credentials,
    /// The rest is no URL.
    #[error("BMC address: {0}")]
    Url(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| AddressError::Url(format!("'{text}' has no scheme")))?;
        let (driver, transport) = match scheme.split_once('+') {
            Some((driver, transport @ ("http" | "https"))) => (driver, transport),
            None => match scheme {
                "http" | "https" => ("redfish-virtualmedia", scheme),
                driver => (driver, "https"),
            },
            Some(_) => return Err(AddressError::Scheme(scheme.to_owned())),
        };
        let delivery = match driver {
            "redfish" | "idrac-redfish" | "ilo5-redfish" => Delivery::Network,
            "redfish-virtualmedia" | "idrac-virtualmedia" | "ilo5-virtualmedia" => {
                Delivery::VirtualMedia
            }
            "redfish-uefihttp" => Delivery::UefiHttp,
            _ => return Err(AddressError::Scheme(scheme.to_owned())),
        };
        let mut base = Url::parse(&format!("{transport}://{rest}"))
            .map_err(|error| AddressError::Url(error.to_string()))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(AddressError::Credentials);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(AddressError::Url(
                "a query or fragment has no meaning there".to_owned(),
            ));
        }
        // `/`, `/redfish/v1` and `/redfish/v1/Systems` name no system.
        let path = base.path().trim_end_matches('/');
        let system = (!path.is_empty()
            && path != "/redfish"
            && path != "/redfish/v1"
            && !path.ends_with("/Systems"))
        .then(|| path.to_owned());
        base.set_path("/");
        Ok(Self {
            base,
            system,
            delivery,
        })
    }
}

impl fmt::Display for Address {
    /// `https://192.0.2.7:8443`, with the path of the system where one is named.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.as_str().trim_end_matches('/');
        write!(
            formatter,
            "{base}{}",
            self.system.as_deref().unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn schemes_say_how_to_boot_and_https_is_the_default() {
        let address = parsed("idrac-virtualmedia://192.0.2.7/redfish/v1/Systems/System.Embedded.1");
        assert_eq!(address.delivery, Delivery::VirtualMedia);
        assert_eq!(
            address.system.as_deref(),
            Some("/redfish/v1/Systems/System.Embedded.1")
        );
        assert_eq!(
            address.to_string(),
            "https://192.0.2.7/redfish/v1/Systems/System.Embedded.1"
        );
        assert_eq!(
            parsed("redfish+http://[2001:db8::1]:8000/").to_string(),
            "http://[2001:db8::1]:8000"
        );
        assert_eq!(parsed("redfish+http://bmc").delivery, Delivery::Network);
        assert_eq!(
            parsed("redfish-uefihttp://bmc").delivery,
            Delivery::UefiHttp
        );
    }

    #[test]
    fn collection_or_root_name_no_system() {
        for text in [
            "redfish://bmc",
            "redfish://bmc/",
            "redfish://bmc/redfish/v1/",
            "redfish://bmc/redfish/v1/Systems/",
        ] {
            assert_eq!(parsed(text).system, None, "{text}");
        }
    }

    #[test]
    fn other_schemes_and_credentials_are_refused_by_name() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error("ipmi://bmc"), AddressError::Scheme("ipmi".to_owned()));
        assert_eq!(
            error("redfish+ftp://bmc"),
            AddressError::Scheme("redfish+ftp".to_owned())
        );
        assert_eq!(
            error("redfish://root:calvin@bmc"),
            AddressError::Credentials
        );
        assert!(
            !error("redfish://root:calvin@bmc")
                .to_string()
                .contains("calvin")
        );
        assert!(matches!(error("192.0.2.7"), AddressError::Url(_)));
        assert!(matches!(error("redfish://"), AddressError::Url(_)));
    }
}
