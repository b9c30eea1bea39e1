//! Credentials of BMCs, which Ironic does not tell: a YAML file that names them by node. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::address::Bmc;
use super::node::Node;

/// The entry for all nodes that have none of their own.
const ALL: &str = "*";
/// What Ironic says instead of a secret.
const MASK: &str = "******";

/// One entry.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Entry {
    /// User name; absent: the one that Ironic uses.
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// Authority that signed the BMC's certificate, in PEM.
    pub(super) ca: Option<String>,
    /// SHA-256 of the BMC's only certificate.
    pub(super) fingerprint: Option<String>,
}

/// What a BMC is logged in to with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) ca: Option<String>,
    pub(super) fingerprint: Option<String>,
}

/// All entries, by UUID or name of a node.
#[derive(Clone, Default)]
pub(super) struct Credentials(BTreeMap<String, Entry>);

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whose there are, and no more.
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { username, .. } = self;
        let mut shown = formatter.debug_struct("Login");
        shown.field("username", username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads a file. The text of an error has none of the file's own.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let all: Option<BTreeMap<String, Entry>> =
            serde_yaml_ng::from_str(text).map_err(|error| {
                let place = error.location();
                let place = place.map(|place| format!(" (line {})", place.line()));
                format!(
                    "--credentials: it is not YAML as wanted{}: NODE: {{username: NAME, password: TEXT}}, also with ca and fingerprint, one entry for each node; '*' means all others",
                    place.unwrap_or_default()
                )
            })?;
        Ok(Self(all.unwrap_or_default()))
    }

    /// Entries of none of these nodes.
    pub(super) fn strangers(&self, nodes: &[Node]) -> Vec<String> {
        let is = |key: &str, node: &Node| node.uuid == key || node.name.as_deref() == Some(key);
        let known = |key: &str| key == ALL || nodes.iter().any(|node| is(key, node));
        let unknown = self.0.keys().filter(|key| !known(key));
        unknown.map(ToString::to_string).collect()
    }

    fn entry(&self, node: &Node) -> Option<&Entry> {
        let by_name = || self.0.get(node.name.as_deref()?);
        self.0
            .get(&node.uuid)
            .or_else(by_name)
            .or_else(|| self.0.get(ALL))
    }

    /// What a node's BMC is logged in to with; or what is missing.
    pub(super) fn login(&self, node: &Node, bmc: &Bmc) -> Result<Login, &'static str> {
        let entry = self.entry(node).cloned().unwrap_or_default();
        let told = |key: &str| {
            let text = node.driver_text(&format!("{}_{key}", bmc.prefix))?;
            (text != MASK).then(|| text.to_owned())
        };
        let username = entry.username.or_else(|| told("username"));
        let password = entry.password.or_else(|| told("password"));
        Ok(Login {
            username: username.filter(|text| !text.is_empty()).ok_or("username")?,
            password: password.filter(|text| !text.is_empty()).ok_or("password")?,
            ca: entry.ca,
            fingerprint: entry.fingerprint,
        })
    }
}

/// A file to be filled in, for these nodes.
pub(super) fn form(nodes: &[(&Node, Bmc)]) -> String {
    let mut form = "# Credentials of the BMCs: fill in the passwords. '*' means all nodes that are not named.\n".to_owned();
    for (node, bmc) in nodes {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let key = match node.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => &node.uuid,
        };
        let user = node.driver_text(&format!("{}_username", bmc.prefix));
        form.push_str(&format!(
            "{}: {{username: {}, password: \"\"}} # {}\n",
            quoted(key),
            quoted(user.unwrap_or_default()),
            bmc.address
        ));
    }
    form
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Node {
        serde_json::from_value(json!({
            "uuid": format!("uuid-of-{name}"), "name": name,
            "driver_info": {"redfish_username": "root", "redfish_password": "******"},
        }))
        .unwrap()
    }

    fn bmc() -> Bmc {
        Bmc {
            prefix: "redfish",
            address: "redfish-virtualmedia://192.0.2.7".to_owned(),
        }
    }

    #[test]
    fn the_nearest_entry_counts_and_ironic_tells_the_user() {
        let all = Credentials::parse(
            "a: {password: one}\nuuid-of-b: {username: bob, password: two}\n'*': {password: all}\n",
        )
        .unwrap();
        let login = |name: &str| {
            let login = all.login(&node(name), &bmc()).unwrap();
            (login.username, login.password)
        };
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        assert_eq!(login("a"), pair("root", "one"));
        assert_eq!(login("b"), pair("bob", "two"));
        assert_eq!(login("c"), pair("root", "all"));
        assert_eq!(all.strangers(&[node("b")]), ["a"]);
    }

    #[test]
    fn a_mask_is_no_password() {
        let none = Credentials::parse("").unwrap();
        assert_eq!(none.login(&node("a"), &bmc()), Err("password"));
    }

    #[test]
    fn a_wrong_file_is_refused_without_its_secrets() {
        let error = Credentials::parse("a: {passwort: geheim}\n").unwrap_err();
        assert!(
            error.contains("line 1") && !error.contains("geheim"),
            "{error}"
        );
    }

    #[test]
    fn the_form_is_read_back() {
        let (a, b) = (node("a"), node("b: 'c'"));
        let form = form(&[(&a, bmc()), (&b, bmc())]);
        let read = Credentials::parse(&form).unwrap();
        assert!(read.strangers(&[a, b.clone()]).is_empty());
        assert_eq!(read.login(&b, &bmc()), Err("password"));
    }
}
