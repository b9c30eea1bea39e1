//! What a host's BMC measures: temperatures, fans, power, voltages.
//!
//! BMCs show it in two ways. `Sensors` is a collection of single resources, of which large servers have hundreds: it is read where the BMC
//! gives it in one answer (`$expand`), or where there is nothing else. `Thermal` and `Power` are older and have all in two answers.
//! As with the inventory a part that can't be read is a gap with a reason.

use std::collections::HashSet;

use serde_json::Value;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::inventory::gap;
use crate::message::shortened;
use crate::resource::Resource;

/// Chassis of one system that are looked at: the server, its enclosure, some shelves.
const MOST_CHASSIS: usize = 8;
/// Single sensors of a chassis that are read one by one.
const MOST_SINGLE: usize = 64;
/// Sensors that are kept.
const MOST_SENSORS: usize = 512;
/// Pages of a chassis' sensors that are followed.
const MOST_PAGES: usize = 20;
/// Gaps that are told.
const MOST_GAPS: usize = 32;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SensorKind {
    /// How warm it is.
    Temperature,
    /// How fast it turns.
    Fan,
    /// How much it draws, or gives.
    Power,
    /// Voltage.
    Voltage,
    /// Current.
    Current,
    /// Something else.
    Other,
}

/// From where on a reading is no longer usual.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// It should not be lower.
    pub low: Option<f64>,
    /// It should not be higher.
    pub high: Option<f64>,
}

/// A sensor as its BMC shows it right now.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// The BMC's name for it.
    pub name: String,
    /// What it measures.
    pub kind: SensorKind,
    /// What it says; none where it says nothing, such as that of a host that is off.
    pub reading: Option<f64>,
    /// Unit of the reading and the bounds: `°C`, `RPM`, `%`, `W`, `V`, `A`, or the BMC's own word.
    pub unit: String,
    /// `OK`, `Warning` or `Critical`, by the BMC's word, else by the bounds; none where neither tells.
    pub health: Option<String>,
    /// Where it becomes worth a look.
    pub caution: Bounds,
    /// Where something breaks.
    pub critical: Bounds,
}

/// All sensors of a host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sensors {
    /// The system's health with all its parts: `OK`, `Warning` or `Critical`.
    pub health: Option<String>,
    /// The sensors, by kind, then as the BMC orders them.
    pub sensors: Vec<Sensor>,
    /// What could not be read, and why.
    pub gaps: Vec<String>,
}

impl Bounds {
    fn of(part: &Value, low: &str, high: &str) -> Self {
        Self {
            low: bound(&part[low]),
            high: bound(&part[high]),
        }
    }

    fn is_left(self, reading: f64) -> bool {
        self.low.is_some_and(|low| reading < low) || self.high.is_some_and(|high| reading > high)
    }
}

impl Bmc {
    /// Reads what is measured.
    ///
    /// # Errors
    /// All that reading the system can meet, and any loss of the BMC on the way; other failures become gaps.
    pub async fn sensors(&self) -> Result<Sensors, Error> {
        let bmc = self.reading();
        let system = bmc.system_resource().await?;
        let mut found = Sensors {
            health: system
                .text("/Status/HealthRollup")
                .or_else(|| system.text("/Status/Health"))
                .map(shortened),
            ..Sensors::default()
        };
        let mut known = HashSet::new();
        let mut chassis = system.links("/Links/Chassis");
        chassis.retain(|path| known.insert(path.clone()));
        for path in chassis.iter().take(MOST_CHASSIS) {
            let read = gap(bmc.read(path).await.map(Some), "chassis", &mut found.gaps)?;
            if let Some(chassis) = read {
                bmc.sensors_of(&chassis, &mut found).await?;
            }
        }
        if found.sensors.is_empty() && found.gaps.is_empty() {
            found.gaps.push("the BMC shows no sensors".to_owned());
        }
        found.bound();
        Ok(found)
    }

    async fn sensors_of(&self, chassis: &Resource, found: &mut Sensors) -> Result<(), Error> {
        let collection = chassis.link("/Sensors");
        if let (Some(collection), Some(expand)) = (collection, self.discover().await?.expand) {
            let before = found.sensors.len();
            let mut next = Some(format!("{collection}?$expand={expand}"));
            for _ in 0..MOST_PAGES {
                let Some(path) = next.take().filter(|_| found.sensors.len() <= MOST_SENSORS) else {
                    break;
                };
                // One that says it could, and can't, is asked in the other ways.
                let read = self.read(&path).await.map(Some);
                let Some(page) = gap(read, "", &mut Vec::new())? else {
                    break;
                };
                found.sensors.extend(page.page().iter().filter_map(single));
                next = page.next();
            }
            if found.sensors.len() > before {
                return Ok(());
            }
        }
        let mut older = false;
        for (link, what, read_out) in [
            (
                "/Thermal",
                "temperatures and fans",
                thermal as fn(&Value) -> Vec<Sensor>,
            ),
            ("/Power", "power", power),
        ] {
            let Some(path) = chassis.link(link) else {
                continue;
            };
            let read = gap(self.read(path).await.map(Some), what, &mut found.gaps)?;
            found
                .sensors
                .extend(read.iter().flat_map(|read| read_out(&read.body)));
            older = true;
        }
        if let (Some(collection), false) = (collection, older) {
            let members = gap(self.members(collection).await, "sensors", &mut found.gaps)?;
            for path in members.iter().take(MOST_SINGLE) {
                let read = self.read(path).await.map(Some);
                let overdue = matches!(read, Err(Error::Overdue { .. }));
                let read = gap(read, "a sensor", &mut found.gaps)?;
                if overdue {
                    break;
                }
                found
                    .sensors
                    .extend(read.and_then(|read| single(&read.body)));
            }
            if members.len() > MOST_SINGLE {
                let left = members.len() - MOST_SINGLE;
                found
                    .gaps
                    .push(format!("sensors: {left} more were not read"));
            }
        }
        Ok(())
    }
}

impl Sensors {
    /// By kind, and not more than anybody looks at.
    fn bound(&mut self) {
        let sensors = self.sensors.len();
        if sensors > MOST_SENSORS {
            self.sensors.truncate(MOST_SENSORS);
            let left = sensors - MOST_SENSORS;
            self.gaps
                .insert(0, format!("sensors: {left} more were left out"));
        }
        self.sensors.sort_by_key(|sensor| sensor.kind);
        self.gaps.truncate(MOST_GAPS);
        for gap in &mut self.gaps {
            *gap = shortened(gap);
        }
    }
}

/// A `Sensor`; none of what is only a link, or not there.
fn single(body: &Value) -> Option<Sensor> {
    let name = text(body, "Name").or_else(|| text(body, "Id"))?;
    let fan = text(body, "PhysicalContext").as_deref() == Some("Fan");
    let kind = match text(body, "ReadingType").as_deref() {
        Some("Temperature") => SensorKind::Temperature,
        Some("Rotational") => SensorKind::Fan,
        Some("Percent") if fan => SensorKind::Fan,
        Some("Power") => SensorKind::Power,
        Some("Voltage") => SensorKind::Voltage,
        Some("Current") => SensorKind::Current,
        _ => SensorKind::Other,
    };
    let limit = |name: &str| bound(&body["Thresholds"][name]["Reading"]);
    let bounds = |low: &str, high: &str| Bounds {
        low: limit(low),
        high: limit(high),
    };
    let sensor = Sensor {
        name,
        kind,
        reading: number(&body["Reading"]),
        unit: unit(&text(body, "ReadingUnits").unwrap_or_default()),
        health: None,
        caution: bounds("LowerCaution", "UpperCaution"),
        critical: bounds("LowerCritical", "UpperCritical"),
    };
    judged(sensor, body)
}

/// `Thermal`: temperatures and fans.
fn thermal(body: &Value) -> Vec<Sensor> {
    let temperatures = parts(body, "Temperatures").filter_map(|part| {
        let sensor = old(part, SensorKind::Temperature, &["ReadingCelsius"], "°C");
        judged(sensor, part)
    });
    let fans = parts(body, "Fans").filter_map(|part| {
        let mut sensor = old(part, SensorKind::Fan, &["Reading", "CurrentReading"], "");
        sensor.unit = unit(&text(part, "ReadingUnits").unwrap_or_else(|| "RPM".to_owned()));
        judged(sensor, part)
    });
    temperatures.chain(fans).collect()
}

/// `Power`: what the system draws, its supplies, voltages.
fn power(body: &Value) -> Vec<Sensor> {
    let drawn = parts(body, "PowerControl").filter_map(|part| {
        let sensor = old(part, SensorKind::Power, &["PowerConsumedWatts"], "W");
        // Some list domains that they do not measure.
        judged(sensor, part).filter(|sensor| sensor.reading.is_some())
    });
    let supplies = parts(body, "PowerSupplies").filter_map(|part| {
        let readings = [
            "PowerOutputWatts",
            "LastPowerOutputWatts",
            "PowerInputWatts",
        ];
        judged(old(part, SensorKind::Power, &readings, "W"), part)
    });
    let voltages = parts(body, "Voltages")
        .filter_map(|part| judged(old(part, SensorKind::Voltage, &["ReadingVolts"], "V"), part));
    drawn.chain(supplies).chain(voltages).collect()
}

fn old(part: &Value, kind: SensorKind, readings: &[&str], unit: &str) -> Sensor {
    let name = ["Name", "FanName", "MemberId"]
        .into_iter()
        .find_map(|name| text(part, name));
    Sensor {
        name: name.unwrap_or_default(),
        kind,
        reading: readings.iter().find_map(|name| number(&part[name])),
        unit: unit.to_owned(),
        health: None,
        caution: Bounds::of(
            part,
            "LowerThresholdNonCritical",
            "UpperThresholdNonCritical",
        ),
        critical: Bounds::of(part, "LowerThresholdCritical", "UpperThresholdCritical"),
    }
}

/// With its health; none where the part is not there.
fn judged(mut sensor: Sensor, body: &Value) -> Option<Sensor> {
    let status = &body["Status"];
    let state = text(status, "State");
    if state.as_deref() == Some("Absent") {
        return None;
    }
    let by_bounds = sensor.reading.and_then(|reading| {
        let (caution, critical) = (sensor.caution, sensor.critical);
        let known = caution != Bounds::default() || critical != Bounds::default();
        match (critical.is_left(reading), caution.is_left(reading)) {
            (true, _) => Some("Critical"),
            (_, true) => Some("Warning"),
            _ if known => Some("OK"),
            _ => None,
        }
    });
    sensor.health = text(status, "Health").or_else(|| by_bounds.map(str::to_owned));
    Some(sensor)
}

fn parts<'a>(body: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    body[name].as_array().into_iter().flatten()
}

fn text(body: &Value, name: &str) -> Option<String> {
    let text = shortened(body[name].as_str()?);
    (!text.is_empty()).then_some(text)
}

/// A bound; one of 0 is how many BMCs say that there is none.
fn bound(value: &Value) -> Option<f64> {
    number(value).filter(|bound| *bound != 0.0)
}

/// A number, which some write as a text.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_f64()?,
    };
    number.is_finite().then_some(number)
}

/// The usual sign of a unit of UCUM.
fn unit(word: &str) -> String {
    match word {
        "Cel" => "°C",
        "Percent" => "%",
        "{rev}/min" => "RPM",
        word => word,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn health_is_the_bmcs_word_and_else_what_the_bounds_say() {
        let of = |reading: f64, status: Value| {
            let found = single(&json!({
                "Name": "Inlet", "ReadingType": "Temperature", "Reading": reading, "ReadingUnits": "Cel", "Status": status,
                "Thresholds": {"UpperCaution": {"Reading": 40}, "UpperCritical": {"Reading": 45}},
            }));
            found.map(|sensor| sensor.health.unwrap_or_default())
        };
        assert_eq!(of(23.0, json!({})).as_deref(), Some("OK"));
        assert_eq!(of(41.0, json!({})).as_deref(), Some("Warning"));
        assert_eq!(of(46.0, json!({})).as_deref(), Some("Critical"));
        let said = of(46.0, json!({"Health": "OK"}));
        assert_eq!(said.as_deref(), Some("OK"));
        assert_eq!(of(23.0, json!({"State": "Absent"})), None);
    }

    #[test]
    fn texts_and_numbers_of_sensors_are_bounded_and_a_bound_of_0_is_none() {
        let one = json!({"Name": "x".repeat(9000), "ReadingUnits": "y".repeat(9000), "Reading": 5,
            "Thresholds": {"LowerCritical": {"Reading": 0}, "UpperCritical": {"Reading": 0}}});
        let sensor = single(&one).unwrap();
        assert!(sensor.name.len() < 500 && sensor.unit.len() < 500);
        assert_eq!(
            (sensor.critical, sensor.health.as_deref()),
            (Bounds::default(), None)
        );
        let mut all = Sensors {
            sensors: vec![sensor; 600],
            gaps: vec!["gone".repeat(900); 600],
            ..Sensors::default()
        };
        all.bound();
        assert_eq!((all.sensors.len(), all.gaps.len()), (512, MOST_GAPS));
        assert!(all.gaps[1].len() < 500);
        assert_eq!(all.gaps[0], "sensors: 88 more were left out");
    }

    #[test]
    fn odd_readings_are_read_or_left_out() {
        let fan = json!({"Fans": [
            {"FanName": "Fan 1", "CurrentReading": 31, "ReadingUnits": "Percent"},
            {"Name": "Fan 2", "Reading": "7200", "Status": {"State": "Enabled"}},
            {"Name": "Fan 3", "Reading": null, "Status": {"State": "Absent"}},
            {"Name": "Fan 4", "Reading": null},
        ]});
        let found: Vec<_> = thermal(&fan)
            .into_iter()
            .map(|fan| (fan.name, fan.reading, fan.unit))
            .collect();
        let row = |name: &str, reading, unit: &str| (name.to_owned(), reading, unit.to_owned());
        assert_eq!(
            found,
            [
                row("Fan 1", Some(31.0), "%"),
                row("Fan 2", Some(7200.0), "RPM"),
                row("Fan 4", None, "RPM"),
            ]
        );
        assert_eq!(power(&json!({"PowerControl": [{"Name": "None"}]})), []);
        assert_eq!(thermal(&json!({"Temperatures": "none"})), []);
    }
}
