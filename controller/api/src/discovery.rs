//! Discovery: what clients and the API server's aggregator ask before anything else. Made from the table of routes.

use serde_json::{Value, json};

use crate::route::{On, ROWS, Row};
use crate::{GROUP, PEER_VERSION, VERSIONS};

/// Versions of the aggregated discovery document that are spoken, best first.
const AGGREGATED: [&str; 2] = ["v2", "v2beta1"];

/// `/apis`: (content type, document).
pub(crate) fn groups(accept: &str) -> (String, Value) {
    match aggregated_version(accept) {
        Some(version) => (
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"),
            aggregated(version),
        ),
        None => (
            "application/json".to_owned(),
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}),
        ),
    }
}

/// The first aggregated version in an `Accept` header that is spoken here.
fn aggregated_version(accept: &str) -> Option<&'static str> {
    accept.split(',').find_map(|range| {
        let parameters: Vec<&str> = range.split(';').map(str::trim).collect();
        let wanted = parameters.contains(&"as=APIGroupDiscoveryList")
            && parameters.contains(&"g=apidiscovery.k8s.io");
        AGGREGATED
            .into_iter()
            .find(|v| wanted && parameters.contains(&format!("v={v}").as_str()))
    })
}

/// `/apis/GROUP`.
pub(crate) fn group() -> Value {
    let version = |v: &str| json!({"groupVersion": format!("{GROUP}/{v}"), "version": v});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "versions": VERSIONS.map(version),
        "preferredVersion": version(VERSIONS[0]),
    })
}

/// The table as discovery shows it: rows that differ in arguments only are one.
fn distinct() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().enumerate().filter_map(|(at, row)| {
        let same = |other: &Row| other.on == row.on && other.subresource() == row.subresource();
        (!ROWS[..at].iter().any(same)).then_some(row)
    })
}

/// `/apis/GROUP/VERSION`.
pub(crate) fn resources(version: usize) -> Value {
    let resources: Vec<Value> = distinct()
        .map(|row| {
            let (name, kind) = match row.on {
                On::Manifest => (row.on.plural().to_owned(), "ExpandVMSpec"),
                _ => (format!("{}/{}", row.on.plural(), row.subresource()), ""),
            };
            json!({
                "name": name, "singularName": "", "namespaced": true, "kind": kind,
                "verbs": [row.method.verb()],
            })
        })
        .collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{}", VERSIONS[version]),
        "resources": resources,
    })
}

fn aggregated(version: &str) -> Value {
    let versions = VERSIONS.map(
        |v| json!({"version": v, "freshness": "Current", "resources": aggregated_resources(v)}),
    );
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": versions}],
    })
}

fn aggregated_resources(version: &str) -> Vec<Value> {
    let kind = |kind: &str| json!({"group": GROUP, "version": version, "kind": kind});
    [On::Machine, On::Instance, On::Host, On::Manifest]
        .into_iter()
        .map(|on| {
            if on == On::Manifest {
                return json!({
                    "resource": on.plural(), "singularResource": "", "scope": "Namespaced",
                    "responseKind": kind("ExpandVMSpec"), "verbs": ["update"],
                });
            }
            let subresources: Vec<Value> = distinct()
                .filter(|row| row.on == on)
                .map(|row| {
                    json!({
                        "subresource": row.subresource(), "responseKind": kind(""),
                        "verbs": [row.method.verb()],
                    })
                })
                .collect();
            json!({
                "resource": on.plural(), "singularResource": "", "scope": "Namespaced",
                "verbs": [], "subresources": subresources,
            })
        })
        .collect()
}

/// `…/version`: the version of the peer whose API this is, as its clients compare it with their own, and ours beside it.
pub(crate) fn version() -> Value {
    json!({
        "gitVersion": PEER_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": format!("linux/{}", platform()),
        "catamaranVersion": env!("CARGO_PKG_VERSION"),
    })
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{group, groups, resources, version};

    #[test]
    fn the_aggregator_gets_the_document_that_it_asks_for() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let (kind, document) = groups(accept);
        assert_eq!(
            kind,
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        assert_eq!(document["kind"], "APIGroupDiscoveryList");
        let instances = &document["items"][0]["versions"][0]["resources"][1];
        assert_eq!(instances["resource"], "virtualmachineinstances");
        let console = json!({
            "subresource": "console", "verbs": ["get"],
            "responseKind": {"group": "subresources.kubevirt.io", "version": "v1", "kind": ""},
        });
        assert!(
            instances["subresources"]
                .as_array()
                .unwrap()
                .contains(&console)
        );
    }

    #[test]
    fn older_clients_get_the_plain_list() {
        let (kind, document) = groups("application/json");
        assert_eq!(kind, "application/json");
        assert_eq!(document["groups"][0], group());
        assert_eq!(group()["preferredVersion"]["version"], "v1");
    }

    #[test]
    fn every_subresource_is_listed_once() {
        let list = resources(1);
        assert_eq!(list["groupVersion"], "subresources.kubevirt.io/v1alpha3");
        let mut names: Vec<_> = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["name"].as_str().unwrap())
            .collect();
        for name in [
            "virtualmachineinstances/vnc/screenshot",
            "virtualmachines/portforward",
            "expand-vm-spec",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_version_is_one_that_clients_of_the_peer_compare() {
        assert_eq!(version()["gitVersion"], "v1.9.0");
    }
}
