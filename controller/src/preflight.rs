//! Whether Catamaran may be installed, and run, in a cluster: not beside a KubeVirt, nor beside another Catamaran.
//!
//! Both define the same kinds and serve the same API group; each would undo what the other writes. The Job of the installation asks before
//! anything is made, and each replica of the controller asks before it reconciles.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::client::Client;

use crate::error::{Error, chain};
use crate::kubevirt;

/// Services of the aggregated API, one for each version.
pub const API_SERVICES: [&str; 2] = [
    "v1.subresources.kubevirt.io",
    "v1alpha3.subresources.kubevirt.io",
];
/// The Service behind them.
const SERVICE: &str = "catamaran-api";
/// Definitions without which nothing works, here and with the peer.
const DEFINITIONS: [&str; 4] = [
    "kubevirts.kubevirt.io",
    "virtualmachineinstancereplicasets.kubevirt.io",
    "virtualmachineinstances.kubevirt.io",
    "virtualmachines.kubevirt.io",
];
/// Label of everything that belongs to an installation of ours, with [`OURS`] as its value.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Value of [`PART_OF`].
pub const OURS: &str = "catamaran";
/// Who made an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The peer's own programs.
const PROGRAMS: &str = "kubevirt.io in (virt-operator, virt-api, virt-controller, virt-handler)";
/// Pause between two looks at an installation that is in the way.
const LOOK: Duration = Duration::from_secs(30);

/// What there is in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Services of the aggregated API: name, and the namespace and name of the Service that answers.
    pub services: Vec<(String, Option<(String, String)>)>,
    /// Definitions and their labels.
    pub definitions: Vec<(String, BTreeMap<String, String>)>,
    /// Pods of programs that do our work: namespace, name and labels.
    pub programs: Vec<(String, String, BTreeMap<String, String>)>,
}

/// What is in the way of an installation in that namespace: a sentence for each thing.
#[must_use]
pub fn in_the_way(found: &Found, namespace: &str) -> Vec<String> {
    let services = found.services.iter().filter_map(|(name, service)| {
        let Some((of, service)) = service else {
            return Some(format!(
                "APIService {name} is served by the API server itself"
            ));
        };
        let ours = of == namespace && service == SERVICE;
        (!ours).then(|| format!("APIService {name} is served by {of}/{service}"))
    });
    let definitions = found.definitions.iter().filter_map(|(name, labels)| {
        let owner = labels.get(MANAGED_BY).map(String::as_str);
        match owner {
            // Whoever applies our manifest over the peer's definitions adds our label and leaves the peer's.
            Some(owner) if owner != "Helm" => Some(format!(
                "CustomResourceDefinition {name} is managed by {owner}"
            )),
            _ if !is_ours(labels) => Some(format!(
                "CustomResourceDefinition {name} lacks the label {PART_OF}={OURS}, so somebody else has made it"
            )),
            _ => None,
        }
    });
    let theirs = |(of, _, labels): &&(String, String, BTreeMap<String, String>)| {
        !is_ours(labels) || of != namespace
    };
    let programs = found.programs.iter().filter(theirs);
    let programs = programs.map(|(of, name, _)| format!("pod {of}/{name} is there"));
    services.chain(definitions).chain(programs).collect()
}

fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.get(PART_OF).is_some_and(|of| of == OURS)
}

/// The sentence that refuses.
#[must_use]
pub fn refusal(in_the_way: &[String]) -> String {
    format!(
        "KubeVirt, or another Catamaran, is in this cluster, and both would answer for the same objects: {}. Remove it first",
        in_the_way.join("; ")
    )
}

/// Looks at a cluster.
///
/// # Errors
/// What the API server says.
pub async fn look(client: &Client) -> Result<Found, Error> {
    let mut found = Found::default();
    let services: Api<APIService> = Api::all(client.clone());
    for name in API_SERVICES {
        let service = services.get_opt(name).await;
        let Some(service) = service.map_err(Error::api(format!("read APIService {name}")))? else {
            continue;
        };
        let behind = service.spec.and_then(|spec| spec.service);
        let behind = behind.map(|service| {
            (
                service.namespace.unwrap_or_default(),
                service.name.unwrap_or_default(),
            )
        });
        found.services.push((name.to_owned(), behind));
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in DEFINITIONS {
        let definition = definitions.get_metadata_opt(name).await;
        let what = format!("read CustomResourceDefinition {name}");
        if let Some(definition) = definition.map_err(Error::api(what))? {
            let labels = definition.labels().clone();
            found.definitions.push((name.to_owned(), labels));
        }
    }
    let pods: Api<Pod> = Api::all(client.clone());
    let programs = ListParams::default().labels(PROGRAMS);
    let pods = pods.list_metadata(&programs).await;
    let pods = pods.map_err(Error::api("list the peer's pods"))?;
    found.programs = pods
        .items
        .iter()
        .map(|pod| {
            (
                pod.namespace().unwrap_or_default(),
                pod.name_any(),
                pod.labels().clone(),
            )
        })
        .collect();
    Ok(found)
}

/// The command `preflight`: what is in the way, as an error.
///
/// # Errors
/// When something is in the way, or the API server can't be asked.
pub async fn run(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let in_the_way = in_the_way(&look(client).await?, namespace);
    anyhow::ensure!(in_the_way.is_empty(), refusal(&in_the_way));
    tracing::info!("nothing is in the way of an installation");
    Ok(())
}

/// Waits until nothing is in the way, and says meanwhile what is.
pub async fn alone(client: &Client, namespace: &str) {
    let mut said = Vec::new();
    loop {
        match look(client)
            .await
            .map(|found| in_the_way(&found, namespace))
        {
            Ok(none) if none.is_empty() => return,
            Ok(now) => {
                if now != said {
                    let words = refusal(&now);
                    tracing::error!("{words}; nothing is reconciled until then");
                    kubevirt::refuse(client, namespace, &words).await;
                    said = now;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "it is not known whether a KubeVirt is in the way"
                );
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn service(namespace: &str, name: &str) -> Found {
        let behind = (namespace.to_owned(), name.to_owned());
        Found {
            services: vec![(API_SERVICES[0].to_owned(), Some(behind))],
            ..Found::default()
        }
    }

    fn definition(pairs: &[(&str, &str)]) -> Found {
        Found {
            definitions: vec![(DEFINITIONS[3].to_owned(), labels(pairs))],
            ..Found::default()
        }
    }

    fn program(namespace: &str, pairs: &[(&str, &str)]) -> Found {
        Found {
            programs: vec![(
                namespace.to_owned(),
                "virt-handler-1".to_owned(),
                labels(pairs),
            )],
            ..Found::default()
        }
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let ours = (PART_OF, OURS);
        let table = [
            (Found::default(), None),
            (service("here", SERVICE), None),
            (
                service("kubevirt", "virt-api"),
                Some("APIService v1.subresources.kubevirt.io is served by kubevirt/virt-api"),
            ),
            (
                service("there", SERVICE),
                Some("APIService v1.subresources.kubevirt.io is served by there/catamaran-api"),
            ),
            (definition(&[ours]), None),
            (definition(&[ours, (MANAGED_BY, "Helm")]), None),
            (
                definition(&[ours, (MANAGED_BY, "virt-operator")]),
                Some(
                    "CustomResourceDefinition virtualmachines.kubevirt.io is managed by virt-operator",
                ),
            ),
            (
                definition(&[]),
                Some(
                    "CustomResourceDefinition virtualmachines.kubevirt.io lacks the label app.kubernetes.io/part-of=catamaran, \
                     so somebody else has made it",
                ),
            ),
            (program("here", &[ours]), None),
            (
                program("kubevirt", &[]),
                Some("pod kubevirt/virt-handler-1 is there"),
            ),
            (
                program("there", &[ours]),
                Some("pod there/virt-handler-1 is there"),
            ),
        ];
        for (found, wanted) in table {
            let said = in_the_way(&found, "here");
            assert_eq!(said.first().map(String::as_str), wanted, "{found:?}");
        }
    }

    #[test]
    fn everything_that_is_in_the_way_is_said_at_once() {
        let found = Found {
            definitions: definition(&[]).definitions,
            ..service("kubevirt", "virt-api")
        };
        let words = refusal(&in_the_way(&found, "here"));
        assert!(
            words.contains("APIService") && words.contains("; CustomResourceDefinition"),
            "{words}"
        );
    }
}
