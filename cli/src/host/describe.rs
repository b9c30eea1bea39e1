//! `host describe`: all of one server, for people.

use catamaran_api::metal3::{BareMetalHost, OperationTime};
use catamaran_client::table::printable;
use catamaran_client::{Table, say, text};
use jiff::Timestamp;
use serde_json::Value;

use super::{hardware, list, view};
use crate::args::HostName;
use crate::connection::{Connection, Seen};
use crate::error::Error;
use crate::list::{age_of, items};
use crate::target::objects;

/// `host describe`.
pub(super) async fn run(connection: &Connection, args: &HostName) -> Result<(), Error> {
    let host = super::host(connection, &args.name).await?;
    let selector = format!(
        "involvedObject.kind=BareMetalHost,involvedObject.name={}",
        args.name
    );
    let path = objects("v1", Some(connection.namespace()), "events")
        + "?fieldSelector="
        + &catamaran_client::segment(&selector);
    let events = match connection.look(&path).await? {
        Seen::There(found) => Some(items(found)),
        Seen::Missing | Seen::Hidden => None,
    };
    let said = told(&host, events, Timestamp::now());
    say(&said).map_err(Error::io("standard output"))
}

/// Everything in words; events are none where they may not be read. Pure.
fn told(host: &BareMetalHost, events: Option<Vec<Value>>, now: Timestamp) -> String {
    let mut said = String::new();
    let mut line = |head: &str, words: &str| {
        if !words.is_empty() {
            said.push_str(&format!("{head:<13} {}\n", printable(words)));
        }
    };
    let word = |text: &Option<String>| text.clone().unwrap_or_default();
    line("Name:", &word(&host.metadata.name));
    line("Namespace:", &word(&host.metadata.namespace));
    line(
        "Age:",
        &view::ago(host.metadata.creation_timestamp.as_ref(), now),
    );
    line("Description:", &word(&host.spec.description));
    let since = match view::in_state(host, now) {
        since if since.is_empty() => since,
        since => format!(", since {since}"),
    };
    line("State:", &format!("{}{since}", view::state(host)));
    if let Some(kind) = host
        .status
        .as_ref()
        .and_then(|status| status.error_type.as_deref())
    {
        line("Error:", kind);
    }
    line("Reason:", &view::reason(host).unwrap_or_default());
    line("Power:", &view::power(host));
    if let Some(bmc) = &host.spec.bmc {
        line("BMC:", &bmc.address);
        line("Credentials:", &format!("Secret {}", bmc.credentials_name));
        line("Certificate:", &trust(host));
    }
    line("Boot MAC:", &word(&host.spec.boot_mac_address));
    line("Boot mode:", &word(&host.spec.boot_mode));
    line("Consumer:", &view::consumer(host));
    if let Some(image) = &host.spec.image {
        let format = image.format.as_ref().map(|format| format!(" ({format})"));
        line(
            "Image:",
            &format!("{}{}", image.url, format.unwrap_or_default()),
        );
    }
    line("Model:", &list::model(host));
    if let Some(status) = &host.status {
        if let Some(hardware) = &status.hardware {
            said.push_str("Hardware:\n");
            said.push_str(&hardware::text(hardware, "  "));
        }
        if let Some(history) = &status.operation_history {
            let mut table = Table::new(&["OPERATION", "BEGAN", "TOOK"]);
            for (what, time) in [
                ("register", &history.register),
                ("inspect", &history.inspect),
                ("provision", &history.provision),
                ("deprovision", &history.deprovision),
            ] {
                if let Some(time) = time {
                    table.row(operation(what, time, now));
                }
            }
            section(&mut said, "History", &table);
        }
        let mut table = Table::new(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]);
        for one in &status.conditions {
            table.row([
                one.type_.clone(),
                one.status.clone(),
                one.reason.clone(),
                view::ago(Some(&one.last_transition_time), now),
                one.message.clone(),
            ]);
        }
        section(&mut said, "Conditions", &table);
    }
    match events {
        None => said.push_str("Events: may not be read\n"),
        Some(events) => section(&mut said, "Events", &table_of(events, now)),
    }
    said
}

fn section(said: &mut String, head: &str, table: &Table) {
    if table.is_empty() {
        return;
    }
    said.push_str(&format!("{head}:\n"));
    for line in table.to_string().lines() {
        said.push_str(&format!("  {line}\n"));
    }
}

fn trust(host: &BareMetalHost) -> String {
    let Some(bmc) = &host.spec.bmc else {
        return String::new();
    };
    match (
        &bmc.certificate_fingerprint,
        bmc.disable_certificate_verification,
    ) {
        (Some(fingerprint), _) => format!("only that with SHA-256 {fingerprint}"),
        (None, Some(true)) => "any is accepted".to_owned(),
        (None, _) => "of the Secret's ca.crt, or a public authority".to_owned(),
    }
}

fn operation(what: &str, time: &OperationTime, now: Timestamp) -> [String; 3] {
    let took = match (&time.start, &time.end) {
        (Some(_), None) => "goes on".to_owned(),
        (Some(start), end) => view::ago(Some(start), end.as_ref().map_or(now, |end| end.0)),
        _ => String::new(),
    };
    let began = match view::ago(time.start.as_ref(), now) {
        ago if ago.is_empty() => ago,
        ago => format!("{ago} ago"),
    };
    [what.to_owned(), began, took]
}

/// Newest last, as they are read.
fn table_of(mut events: Vec<Value>, now: Timestamp) -> Table {
    let when = |event: &Value| {
        let fields = ["lastTimestamp", "eventTime", "firstTimestamp"];
        let known = fields.into_iter().map(|field| &event[field]);
        known.into_iter().find(|time| time.is_string()).cloned()
    };
    events.sort_by_key(|event| when(event).map(|time| text(&time)));
    let mut table = Table::new(&["AGE", "TYPE", "REASON", "MESSAGE"]);
    for event in &events {
        table.row([
            age_of(&when(event).unwrap_or_default(), now),
            text(&event["type"]),
            text(&event["reason"]),
            text(&event["message"]),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::golden;
    use crate::host::hardware::tests::server;
    use crate::host::view::tests::{host, now};

    #[test]
    fn a_server_is_told_from_its_state_to_its_events() {
        let host = host(
            "rack1",
            "provisioned",
            &json!({
                "spec": {"consumerRef": {"name": "machine-1"}, "image": {"url": "http://192.0.2.1/a.qcow2", "format": "qcow2"},
                         "bootMACAddress": "02:00:00:00:00:01", "online": false},
                "status": {
                    "hardware": server(), "errorType": "power management error", "errorMessage": "the BMC may hang",
                    "operationHistory": {"register": {"start": "2026-01-01T00:00:10Z", "end": "2026-01-01T00:00:12Z"},
                                         "provision": {"start": "2026-01-01T00:04:00Z"}},
                    "conditions": [{"type": "Ready", "status": "False", "reason": "Provisioned", "message": "the BMC may hang",
                                    "lastTransitionTime": "2026-01-01T00:03:00Z"}],
                },
            }),
        );
        let events = vec![
            json!({"type": "Warning", "reason": "PowerManagementError", "message": "the BMC may hang", "lastTimestamp": "2026-01-01T00:04:59Z"}),
            json!({"type": "Normal", "reason": "PowerOn", "message": "Host turned on", "lastTimestamp": "2026-01-01T00:03:00Z"}),
        ];
        golden("host.txt", &told(&host, Some(events), now()));
    }

    #[test]
    fn events_that_may_not_be_read_are_said_to_be_so() {
        let said = told(&host("a", "available", &json!({})), None, now());
        assert!(said.ends_with("Events: may not be read\n"), "{said}");
    }
}
