//! `host sensors`, `host events`: what a server's BMC shows right now. The controller asks it; this command needs no way to the BMC.

use catamaran_api::metal3::{HostEvents, HostSensor, HostSensors, SensorBounds};
use catamaran_client::table::printable;
use catamaran_client::{Format, Table, say};
use serde::de::DeserializeOwned;

use super::HOSTS;
use crate::args::{HostLog, HostReadings};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::object;

/// Group and version of what is asked of servers.
const SUBRESOURCES: &str = "subresources.kubevirt.io/v1";

/// `host sensors`.
pub(super) async fn sensors(connection: &Connection, args: &HostReadings) -> Result<(), Error> {
    let path = path(connection, &args.host.name, "sensors");
    tell(connection, &path, args.output, sensors_text).await
}

/// `host events`.
pub(super) async fn events(connection: &Connection, args: &HostLog) -> Result<(), Error> {
    let path = format!(
        "{}?skip={}&limit={}",
        path(connection, &args.readings.host.name, "events"),
        args.skip,
        args.limit
    );
    tell(connection, &path, args.readings.output, events_text).await
}

fn path(connection: &Connection, name: &str, word: &str) -> String {
    let host = object(SUBRESOURCES, connection.namespace(), HOSTS, name);
    format!("{host}/{word}")
}

async fn tell<T: DeserializeOwned>(
    connection: &Connection,
    path: &str,
    output: Option<Format>,
    text: fn(&T) -> String,
) -> Result<(), Error> {
    let output = output.unwrap_or_default();
    if matches!(output, Format::Wide | Format::Name) {
        return Err(Error::Usage(
            "unknown output format: allowed are json and yaml".to_owned(),
        ));
    }
    let value = connection.get(path).await?;
    let said = match output.print(&value)? {
        Some(said) => said,
        None => text(&serde_json::from_value(value)?),
    };
    say(&said).map_err(Error::io("standard output"))
}

/// Pure.
fn sensors_text(read: &HostSensors) -> String {
    let mut said = String::new();
    if let Some(health) = &read.health {
        said.push_str(&format!("Health: {}\n", printable(health)));
    }
    let mut table = Table::new(&["SENSOR", "TYPE", "READING", "HEALTH", "CAUTION", "CRITICAL"]);
    for sensor in &read.sensors {
        table.row([
            sensor.name.clone(),
            sensor.type_.clone(),
            reading(sensor),
            sensor.health.clone().unwrap_or_default(),
            bounds(sensor.caution),
            bounds(sensor.critical),
        ]);
    }
    if !table.is_empty() {
        said.push_str(&table.to_string());
    }
    for gap in &read.gaps {
        said.push_str(&format!("Not read: {}\n", printable(gap)));
    }
    said
}

fn reading(sensor: &HostSensor) -> String {
    sensor
        .reading
        .map(|reading| format!("{reading} {}", sensor.unit))
        .unwrap_or_default()
}

fn bounds(bounds: SensorBounds) -> String {
    match (bounds.low, bounds.high) {
        (Some(low), Some(high)) => format!("<{low} >{high}"),
        (Some(low), None) => format!("<{low}"),
        (None, Some(high)) => format!(">{high}"),
        (None, None) => String::new(),
    }
}

/// Pure.
fn events_text(read: &HostEvents) -> String {
    let Some(log) = &read.log else {
        return "The BMC shows no event log.\n".to_owned();
    };
    let mut table = Table::new(&["TIME", "SEVERITY", "ABOUT", "MESSAGE"]);
    for entry in &read.entries {
        table.row([
            entry.created.clone().unwrap_or_default(),
            entry.severity.clone().unwrap_or_default(),
            entry.about.clone().unwrap_or_default(),
            entry.message.clone(),
        ]);
    }
    let mut count = format!(
        "{} of {} entries of {}\n",
        read.entries.len(),
        read.total,
        printable(log)
    );
    for gap in &read.gaps {
        count.push_str(&format!("Not read: {}\n", printable(gap)));
    }
    if table.is_empty() {
        count
    } else {
        format!("{table}{count}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::golden;

    #[test]
    fn sensors_are_a_table_with_units_bounds_and_gaps() {
        let read = serde_json::from_value(json!({
            "readAt": "2026-03-01T08:00:00Z", "health": "Warning", "gaps": ["power: status 500\u{1b}[2J"],
            "sensors": [
                {"name": "Inlet Temp", "type": "temperature", "reading": 43.5, "unit": "°C", "health": "Warning", "caution": {"high": 42.0}, "critical": {"low": -7.0, "high": 47.0}},
                {"name": "Fan1A", "type": "fan", "reading": 7320.0, "unit": "RPM", "health": "OK"},
                {"name": "CPU1 Temp", "type": "temperature", "unit": "°C"},
            ],
        }));
        golden("host-sensors.txt", &sensors_text(&read.unwrap()));
    }

    #[test]
    fn events_are_a_table_and_how_many_there_are() {
        let read = serde_json::from_value(json!({
            "readAt": "2026-03-01T08:00:00Z", "log": "Sel", "total": 104,
            "entries": [
                {"id": "4", "created": "2026-03-02T09:41:00Z", "severity": "Warning", "message": "inlet\u{7} hot", "about": "Temperature"},
                {"id": "3", "message": "Power supply 2 has lost its input."},
            ],
        }));
        golden("host-events.txt", &events_text(&read.unwrap()));
        let none = serde_json::from_value(
            json!({"readAt": "2026-03-01T08:00:00Z", "total": 0, "entries": []}),
        );
        assert!(events_text(&none.unwrap()).contains("no event log"));
    }
}
