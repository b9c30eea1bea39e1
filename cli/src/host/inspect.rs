//! `host inspect`: a new inspection, or what the last one found.

use catamaran_api::metal3::annotations::{INSPECT, PAUSED};
use catamaran_api::metal3::{BareMetalHost, HardwareData};
use catamaran_client::{Format, say};
use serde_json::json;

use super::wait::{Wanted, wait};
use super::{GROUP, hardware, view};
use crate::args::Inspect;
use crate::connection::Connection;
use crate::error::Error;
use crate::target::object;

/// `host inspect`.
pub(super) async fn run(connection: &Connection, args: &Inspect) -> Result<(), Error> {
    let name = &args.host.name;
    let output = args.output.unwrap_or_default();
    if matches!(output, Format::Wide | Format::Name) {
        return Err(Error::Usage(
            "unknown output format of inspect: allowed are json and yaml".to_owned(),
        ));
    }
    if args.show {
        return show(connection, name, output).await;
    }
    if args.output.is_some() && !args.waiting.wait {
        return Err(Error::Usage(
            "--output shows an inventory: it goes with --show or --wait".to_owned(),
        ));
    }
    let host = super::host(connection, name).await?;
    refusal(&host).map_or(Ok(()), Err).map_err(Error::Usage)?;
    let ask = json!({"metadata": {"annotations": {INSPECT: ""}}});
    super::patch(connection, name, &ask).await?;
    if !args.waiting.wait {
        let line = format!("baremetalhost.metal3.io/{name} will be inspected\n");
        return say(&line).map_err(Error::io("standard output"));
    }
    let history = host.status.and_then(|status| status.operation_history);
    let before = history.and_then(|history| history.inspect?.start);
    wait(connection, name, args.waiting, &Wanted::Inspected(before)).await?;
    show(connection, name, output).await
}

/// Why it can't be inspected now, if it can't. Pure.
fn refusal(host: &BareMetalHost) -> Option<String> {
    let name = host.metadata.name.as_deref().unwrap_or_default();
    if view::annotation(host, PAUSED).is_some() {
        return Some(format!(
            "{name} is left alone: it has the annotation {PAUSED}"
        ));
    }
    if host.spec.inspection_mode.as_deref() == Some("disabled") {
        return Some(format!(
            "{name} is never inspected: spec.inspectionMode is disabled; fast and agent are possible"
        ));
    }
    match view::state(host) {
        "available" => None,
        state => Some(format!(
            "{name} is {state} and can't be inspected: only hosts that are available can; --show shows what the last inspection found"
        )),
    }
}

async fn show(connection: &Connection, name: &str, output: Format) -> Result<(), Error> {
    let path = object(GROUP, connection.namespace(), "hardwaredata", name);
    let value = connection.get(&path).await?;
    let said = match output.print(&value)? {
        Some(said) => said,
        None => {
            let data: HardwareData = serde_json::from_value(value)?;
            hardware::text(&data.spec.hardware.unwrap_or_default(), "")
        }
    };
    say(&said).map_err(Error::io("standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::view::tests::host;

    #[test]
    fn only_a_host_that_would_be_inspected_is_asked_for() {
        assert_eq!(refusal(&host("a", "available", &json!({}))), None);
        let used = refusal(&host("a", "provisioned", &json!({}))).unwrap();
        assert!(used.starts_with("a is provisioned"), "{used}");
        let disabled = json!({"spec": {"inspectionMode": "disabled"}});
        let why = refusal(&host("a", "available", &disabled)).unwrap();
        assert!(why.contains("fast and agent"), "{why}");
    }
}
