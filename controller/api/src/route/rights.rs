//! Golden table: who may take which route. The roles are those that the installation makes.
//!
//! The API server asks first, and knows the first part of a subresource only (`vnc` of `vnc/screenshot`); we ask again with all of it. So
//! a role must grant both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::{On, ROWS, Row, route};
use crate::GROUP;

const ROLES: [&str; 7] = [
    "kubevirt.io:admin",
    "kubevirt.io:edit",
    "kubevirt.io:view",
    "kubevirt.io:migrate",
    "kubevirt.io:default",
    "metal3.io:admin",
    "metal3.io:view",
];

#[derive(Deserialize)]
struct Role {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

impl Role {
    fn grants(&self, verb: &str, resource: &str) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|w| w == word || w == "*");
        self.rules.iter().any(|rule| {
            has(&rule.api_groups, GROUP) && has(&rule.resources, resource) && has(&rule.verbs, verb)
        })
    }
}

/// The roles, and the YAML without what Helm fills in: bindings need no reading.
fn roles() -> BTreeMap<String, Role> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart/templates/user-rbac.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n")
        .map(|document| serde_yaml_ng::from_str::<Role>(document).unwrap())
        .filter(|role| role.kind == "ClusterRole")
        .map(|role| (role.metadata.name.clone(), role))
        .collect()
}

fn path(row: &Row) -> String {
    let base = format!("/apis/{GROUP}/v1/namespaces/d");
    match row.on {
        On::Manifest => format!("{base}/expand-vm-spec"),
        on => {
            let below = row
                .path
                .replace("{port}", "22")
                .replace("{protocol}", "tcp");
            format!("{base}/{}/a/{below}", on.plural())
        }
    }
}

fn grants(role: &Role, row: &Row) -> bool {
    let found = route(row.method, &path(row)).unwrap();
    let question = found.question().unwrap();
    let whole = match question.subresource {
        "" => question.resource.to_owned(),
        below => format!("{}/{below}", question.resource),
    };
    let first = match question.subresource.split('/').next() {
        Some("") | None => question.resource.to_owned(),
        Some(below) => format!("{}/{below}", question.resource),
    };
    role.grants(question.verb, &whole) && role.grants(question.verb, &first)
}

#[test]
fn every_route_is_open_to_those_roles_only() {
    let roles = roles();
    let mut table =
        String::from("# method path: roles (kubevirt.io: where nothing else is said) that may\n");
    for row in &ROWS {
        let may: Vec<&str> = ROLES
            .into_iter()
            .filter(|name| grants(&roles[*name], row))
            .map(|name| name.strip_prefix("kubevirt.io:").unwrap_or(name))
            .collect();
        let short = path(row).replacen(&format!("/apis/{GROUP}/v1/namespaces/d"), "", 1);
        let may = if may.is_empty() {
            "-".to_owned()
        } else {
            may.join(" ")
        };
        writeln!(table, "{} {short}: {may}", row.method.as_str()).unwrap();
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rights.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(golden).unwrap(), table);
}
