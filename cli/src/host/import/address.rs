//! From a node's driver to the address of its BMC. Pure.

use super::node::Node;

/// A BMC that can be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bmc {
    /// How the driver's settings begin.
    pub(super) prefix: &'static str,
    /// Its URL, as hosts name it.
    pub(super) address: String,
}

/// Drivers that speak Redfish: name, scheme of the address, how their settings begin.
const DRIVERS: [(&str, &str, &str); 3] = [
    ("redfish", "redfish-virtualmedia", "redfish"),
    ("idrac", "idrac-virtualmedia", "redfish"),
    ("ilo5", "ilo5-virtualmedia", "ilo"),
];

impl Bmc {
    /// The node's BMC; or why there is none to be spoken to.
    pub(super) fn of(node: &Node) -> Result<Self, String> {
        let driver = DRIVERS.iter().find(|(name, ..)| *name == node.driver);
        let Some((name, scheme, prefix)) = driver else {
            return Err(format!(
                "its driver '{}' does not speak Redfish; redfish, idrac and ilo5 do",
                node.driver
            ));
        };
        let field = format!("{prefix}_address");
        let Some(text) = node.driver_text(&field) else {
            return Err(format!(
                "driver_info.{field} is not set: its driver '{name}' does not speak Redfish that way"
            ));
        };
        let (transport, rest) = match text.split_once("://") {
            Some(("https", rest)) => ("", rest),
            Some(("http", rest)) => ("+http", rest),
            Some((other, _)) => {
                return Err(format!(
                    "driver_info.{field}: scheme '{other}' is not supported; http and https are"
                ));
            }
            None => ("", text),
        };
        let system = match node.driver_text("redfish_system_id") {
            None => String::new(),
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(id) => format!("/redfish/v1/Systems/{id}"),
        };
        let address = format!(
            "{scheme}{transport}://{}{system}",
            rest.trim_end_matches('/')
        );
        match address.parse::<catamaran_redfish::Address>() {
            Ok(_) => Ok(Self { prefix, address }),
            Err(error) => Err(format!("driver_info.{field}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(driver: &str, info: &Value) -> Result<String, String> {
        let node = json!({"uuid": "u", "driver": driver, "driver_info": info});
        let node: Node = serde_json::from_value(node).unwrap();
        Bmc::of(&node).map(|bmc| bmc.address)
    }

    #[test]
    fn drivers_that_speak_redfish_become_addresses() {
        let system = "/redfish/v1/Systems/1";
        for (driver, info, address) in [
            (
                "redfish",
                json!({"redfish_address": "https://bmc:8443/", "redfish_system_id": system}),
                "redfish-virtualmedia://bmc:8443/redfish/v1/Systems/1",
            ),
            (
                "redfish",
                json!({"redfish_address": "http://192.0.2.7"}),
                "redfish-virtualmedia+http://192.0.2.7",
            ),
            (
                "idrac",
                json!({"redfish_address": "192.0.2.8", "redfish_system_id": "System.Embedded.1"}),
                "idrac-virtualmedia://192.0.2.8/redfish/v1/Systems/System.Embedded.1",
            ),
            (
                "ilo5",
                json!({"ilo_address": "[2001:db8::7]"}),
                "ilo5-virtualmedia://[2001:db8::7]",
            ),
        ] {
            assert_eq!(of(driver, &info).as_deref(), Ok(address));
        }
    }

    #[test]
    fn others_are_named() {
        let why = of("ipmi", &json!({"ipmi_address": "192.0.2.9"})).unwrap_err();
        assert!(why.contains("'ipmi'"), "{why}");
        let why = of("idrac", &json!({"drac_address": "192.0.2.9"})).unwrap_err();
        assert!(why.contains("driver_info.redfish_address"), "{why}");
        let why = of("redfish", &json!({"redfish_address": "ftp://a"})).unwrap_err();
        assert!(why.contains("'ftp'"), "{why}");
    }
}
