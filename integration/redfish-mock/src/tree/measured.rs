//! What is measured: `Thermal` and `Power`, or single `Sensors`, as the personality has it.

use serde_json::{Value, json};

use super::collection;
use crate::bmc::Bmc;
use crate::personality::Expand;

/// Id, name, kind, unit, reading when on and when off, thresholds: caution and critical.
type Measured = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    f64,
    Option<f64>,
    [f64; 2],
);

const TEMPERATURES: [Measured; 2] = [
    (
        "Inlet",
        "Inlet Temp",
        "Temperature",
        "Cel",
        24.0,
        Some(22.0),
        [42.0, 47.0],
    ),
    (
        "CPU1",
        "CPU1 Temp",
        "Temperature",
        "Cel",
        61.0,
        None,
        [88.0, 98.0],
    ),
];
const FANS: [Measured; 2] = [
    (
        "Fan1",
        "Fan1A",
        "Rotational",
        "RPM",
        7320.0,
        Some(0.0),
        [0.0, 0.0],
    ),
    (
        "Fan2",
        "Fan2A",
        "Rotational",
        "RPM",
        7200.0,
        Some(0.0),
        [0.0, 0.0],
    ),
];

/// What is at `rest` below the chassis; `path` is the whole path.
pub(crate) fn get(bmc: &Bmc, path: &str, query: &str, rest: &[&str]) -> Option<Value> {
    let rules = &bmc.personality.sensors;
    Some(match rest {
        ["Power"] if rules.older => power(bmc),
        ["Thermal"] if rules.older => thermal(bmc),
        ["Sensors"] if rules.single => {
            let all = singles(bmc, path);
            if query.contains("$expand=") && bmc.personality.expand != Expand::No {
                json!({"@odata.type": "#SensorCollection.SensorCollection", "Name": "Sensors", "Members@odata.count": all.len(), "Members": all})
            } else {
                let ids = all.iter().filter_map(|one| one["Id"].as_str());
                collection(path, "Sensor", ids.map(str::to_owned))
            }
        }
        ["Sensors", id] if rules.single => {
            let folder = path.rsplit_once('/')?.0;
            singles(bmc, folder)
                .into_iter()
                .find(|one| one["Id"] == *id)?
        }
        _ => return None,
    })
}

/// What a chassis links to.
pub(crate) fn links(bmc: &Bmc, path: &str, body: &mut Value) {
    let rules = &bmc.personality.sensors;
    for (name, is_there) in [
        ("Power", rules.older),
        ("Thermal", rules.older),
        ("Sensors", rules.single),
    ] {
        if is_there {
            body[name] = json!({"@odata.id": format!("{path}/{name}")});
        }
    }
}

fn reading(bmc: &Bmc, of: &Measured) -> Value {
    let state = bmc.state();
    match (of.0, state.on) {
        ("Inlet", _) => json!(state.inlet.unwrap_or(of.4)),
        (_, true) => json!(of.4),
        (_, false) => json!(of.5),
    }
}

fn status() -> Value {
    json!({"State": "Enabled", "Health": "OK"})
}

fn thermal(bmc: &Bmc) -> Value {
    let temperatures = TEMPERATURES.iter().map(|of| {
        // Its health is to be seen from its thresholds.
        json!({"MemberId": of.0, "Name": of.1, "ReadingCelsius": reading(bmc, of), "Status": {"State": "Enabled"},
            "UpperThresholdNonCritical": of.6[0], "UpperThresholdCritical": of.6[1]})
    });
    let fans = FANS.iter().map(|of| {
        json!({"MemberId": of.0, "Name": of.1, "Reading": reading(bmc, of), "ReadingUnits": of.3, "Status": status()})
    });
    let spare = json!({"MemberId": "Fan3", "Name": "Fan3A", "Reading": null, "ReadingUnits": "RPM", "Status": {"State": "Absent"}});
    json!({"@odata.type": "#Thermal.v1_6_2.Thermal", "Id": "Thermal", "Name": "Thermal",
        "Temperatures": temperatures.collect::<Vec<_>>(), "Fans": fans.chain([spare]).collect::<Vec<_>>()})
}

fn power(bmc: &Bmc) -> Value {
    let watts = bmc.state().watts();
    json!({"@odata.type": "#Power.v1_7_0.Power", "Id": "Power", "Name": "Power",
        "PowerControl": [{"MemberId": "0", "Name": "System Power", "PowerConsumedWatts": watts}],
        "PowerSupplies": [
            {"MemberId": "0", "Name": "PSU1", "PowerOutputWatts": watts, "PowerCapacityWatts": 1100, "Status": status()},
            {"MemberId": "1", "Name": "PSU2", "PowerOutputWatts": 0, "PowerCapacityWatts": 1100, "Status": {"State": "Enabled", "Health": "Warning"}},
        ],
        "Voltages": [{"MemberId": "0", "Name": "12V", "ReadingVolts": 12.1, "LowerThresholdCritical": 10.8, "UpperThresholdCritical": 13.2, "Status": status()}],
    })
}

fn singles(bmc: &Bmc, path: &str) -> Vec<Value> {
    let measured = TEMPERATURES.iter().chain(&FANS).map(|of| {
        let mut sensor = json!({"@odata.id": format!("{path}/{}", of.0), "@odata.type": "#Sensor.v1_2_0.Sensor",
            "Id": of.0, "Name": of.1, "ReadingType": of.2, "ReadingUnits": of.3, "Reading": reading(bmc, of), "Status": {"State": "Enabled"}});
        if of.6[0] > 0.0 {
            sensor["Thresholds"] = json!({"UpperCaution": {"Reading": of.6[0]}, "UpperCritical": {"Reading": of.6[1]}});
        } else {
            sensor["Status"] = status();
        }
        sensor
    });
    let drawn = json!({"@odata.id": format!("{path}/Power"), "@odata.type": "#Sensor.v1_2_0.Sensor", "Id": "Power", "Name": "System Power",
        "ReadingType": "Power", "ReadingUnits": "W", "Reading": bmc.state().watts(), "Status": status()});
    measured.chain([drawn]).collect()
}
