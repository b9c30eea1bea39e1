//! `host list`: servers, and the reason of what is not as it should be.

use catamaran_api::metal3::BareMetalHost;
use catamaran_client::{Format, Table, say, text};
use jiff::Timestamp;
use serde_json::json;

use super::{GROUP, HOSTS, view};
use crate::args::List;
use crate::connection::Connection;
use crate::error::Error;
use crate::list::{items, short};
use crate::target::objects;

/// `host list`.
pub(super) async fn run(connection: &Connection, args: &List) -> Result<(), Error> {
    let namespace = (!args.all_namespaces).then(|| connection.namespace());
    let mut path = objects(GROUP, namespace, HOSTS);
    if let Some(selector) = &args.selector {
        path.push_str("?labelSelector=");
        path.push_str(&catamaran_client::segment(selector));
    }
    let found = items(connection.get(&path).await?);
    let format = args.output.unwrap_or_default();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": found});
    let said = match (format.print(&list)?, format) {
        (Some(said), _) => said,
        (None, Format::Name) => found
            .iter()
            .map(|host| {
                format!(
                    "baremetalhost.metal3.io/{}\n",
                    text(&host["metadata"]["name"])
                )
            })
            .collect(),
        (None, _) if found.is_empty() => {
            match namespace {
                Some(namespace) => eprintln!("No servers found in namespace {namespace}."),
                None => eprintln!("No servers found."),
            }
            return Ok(());
        }
        (None, _) => {
            let read = found.into_iter().map(serde_json::from_value);
            let hosts: Vec<BareMetalHost> = read.collect::<Result<_, _>>()?;
            let wide = format == Format::Wide;
            table(&hosts, args.all_namespaces, wide, Timestamp::now()).to_string()
        }
    };
    say(&said).map_err(Error::io("standard output"))
}

/// The table. Pure.
fn table(hosts: &[BareMetalHost], namespaces: bool, wide: bool, now: Timestamp) -> Table {
    let mut heads = Vec::new();
    if namespaces {
        heads.push("NAMESPACE");
    }
    heads.extend(["NAME", "STATE", "SINCE", "POWER", "CONSUMER", "AGE"]);
    if wide {
        heads.extend(["BMC", "MODEL", "BOOT-MAC", "IMAGE"]);
    }
    heads.push("REASON");
    let mut table = Table::new(&heads);
    for host in hosts {
        let mut row = Vec::new();
        if namespaces {
            row.push(host.metadata.namespace.clone().unwrap_or_default());
        }
        row.extend([
            host.metadata.name.clone().unwrap_or_default(),
            view::state(host).to_owned(),
            view::in_state(host, now),
            view::power(host),
            view::consumer(host),
            view::ago(host.metadata.creation_timestamp.as_ref(), now),
        ]);
        if wide {
            let bmc = host.spec.bmc.as_ref();
            let image = host.spec.image.as_ref();
            row.extend([
                bmc.map(|bmc| bmc.address.clone()).unwrap_or_default(),
                model(host),
                host.spec.boot_mac_address.clone().unwrap_or_default(),
                image.map(|image| image.url.clone()).unwrap_or_default(),
            ]);
        }
        let reason = view::reason(host).unwrap_or_default();
        row.push(if wide { reason } else { short(gist(&reason)) });
        table.row(row);
    }
    table
}

/// A reason without where it happened, which a narrow table has no room for: what the client of a BMC says begins with that
/// (`http://192.0.2.7: GET /redfish/v1/Systems/1: no answer …`).
fn gist(reason: &str) -> &str {
    let Some((begin, rest)) = reason.split_once(": ") else {
        return reason;
    };
    if !begin.starts_with("http://") && !begin.starts_with("https://") {
        return reason;
    }
    match rest.split_once(": ") {
        Some((path, rest)) if path.contains('/') => rest,
        _ => rest,
    }
}

/// Maker and product, as far as they are known.
pub(super) fn model(host: &BareMetalHost) -> String {
    let hardware = host
        .status
        .as_ref()
        .and_then(|status| status.hardware.as_ref());
    let Some(vendor) = hardware.and_then(|hardware| hardware.system_vendor.as_ref()) else {
        return String::new();
    };
    let parts = [&vendor.manufacturer, &vendor.product_name];
    let parts: Vec<&str> = parts
        .into_iter()
        .filter_map(|part| part.as_deref())
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::golden;
    use crate::host::view::tests::{host, now};

    fn rack() -> Vec<BareMetalHost> {
        vec![
            host(
                "rack1",
                "provisioned",
                &json!({
                    "spec": {"consumerRef": {"name": "machine-1"}, "bootMACAddress": "02:00:00:00:00:01",
                             "image": {"url": "http://192.0.2.1/debian.qcow2"}},
                    "status": {"hardware": {"systemVendor": {"manufacturer": "Dell Inc.", "productName": "R650"}}},
                }),
            ),
            host(
                "rack2",
                "registering",
                &json!({"status": {
                    "operationalStatus": "error", "errorType": "registration error", "errorCount": 2, "goodCredentials": null,
                    "errorMessage": "https://192.0.2.8: /redfish/v1/SessionService/Sessions: user name or password refused (status 401)",
                }}),
            ),
            host("rack3", "available", &json!({"spec": {"online": false}})),
        ]
    }

    #[test]
    fn a_table_says_how_far_servers_are_and_why() {
        let table = table(&rack(), false, false, now());
        golden("hosts.txt", &table.to_string());
    }

    #[test]
    fn a_narrow_reason_leaves_out_where_it_happened() {
        for (reason, said) in [
            (
                "http://bmc: GET /redfish/v1/Systems/1: no answer within 60 s: the BMC may hang",
                "no answer within 60 s: the BMC may hang",
            ),
            (
                "https://bmc: TLS: the certificate is another",
                "TLS: the certificate is another",
            ),
            (
                "spec.bmc.credentialsName: there is no Secret 'a'",
                "spec.bmc.credentialsName: there is no Secret 'a'",
            ),
        ] {
            assert_eq!(gist(reason), said);
        }
    }

    #[test]
    fn a_wide_table_says_all() {
        let table = table(&rack(), true, true, now());
        golden("hosts-wide.txt", &table.to_string());
    }
}
