//! Settings of a system's firmware ("BIOS attributes").

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::bmc::Bmc;
use crate::error::Error;
use crate::resource::Resource;

/// The firmware's settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bios {
    /// What holds now: texts, numbers, booleans or null.
    pub attributes: BTreeMap<String, Value>,
    /// What will hold after the next start, where the BMC shows it.
    pub pending: BTreeMap<String, Value>,
    /// The registry that describes the attributes.
    pub registry: Option<String>,
}

/// What a setting may be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// `Enumeration`, `Integer`, `String`, `Boolean` or `Password`.
    pub kind: String,
    /// The values of an enumeration.
    pub allowable: Vec<String>,
    /// Least value of a number.
    pub lower_bound: Option<i64>,
    /// Greatest value of a number.
    pub upper_bound: Option<i64>,
    /// Least length of a text.
    pub min_length: Option<i64>,
    /// Greatest length of a text.
    pub max_length: Option<i64>,
    /// It can't be changed.
    pub read_only: bool,
    /// It can be changed once.
    pub unique: bool,
    /// A change needs a restart.
    pub reset_required: Option<bool>,
}

/// What became of a change of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// All was so already.
    None,
    /// It holds after the next start of the system.
    AtReset,
}

impl Attribute {
    fn of(entry: &Value) -> Option<Self> {
        let values = entry["Value"].as_array();
        let number = |name: &str| entry[name].as_i64();
        Some(Self {
            name: entry["AttributeName"].as_str()?.to_owned(),
            kind: entry["Type"].as_str().unwrap_or_default().to_owned(),
            allowable: values
                .into_iter()
                .flatten()
                .filter_map(|value| Some(value["ValueName"].as_str()?.to_owned()))
                .collect(),
            lower_bound: number("LowerBound"),
            upper_bound: number("UpperBound"),
            min_length: number("MinLength"),
            max_length: number("MaxLength"),
            read_only: entry["ReadOnly"] == json!(true),
            unique: entry["IsSystemUniqueProperty"] == json!(true),
            reset_required: entry["ResetRequired"].as_bool(),
        })
    }

    /// What the value may be, if it may not be `value`.
    #[must_use]
    pub fn objection(&self, value: &Value) -> Option<Vec<String>> {
        if self.read_only {
            return Some(vec!["nothing: it is read-only".to_owned()]);
        }
        let range = |from: Option<i64>, to: Option<i64>, unit: &str| {
            let show =
                |bound: Option<i64>| bound.map_or("…".to_owned(), |bound| bound.to_string());
            Some(vec![format!("{} to {}{unit}", show(from), show(to))])
        };
        let outside = |value: i64, from: Option<i64>, to: Option<i64>| {
            from.is_some_and(|from| value < from) || to.is_some_and(|to| value > to)
        };
        match self.kind.as_str() {
            "Enumeration" if !self.allowable.is_empty() => {
                let fits = value
                    .as_str()
                    .is_some_and(|value| self.allowable.iter().any(|allowed| allowed == value));
                (!fits).then(|| self.allowable.clone())
            }
            "Integer" => match value.as_i64() {
                Some(value) if !outside(value, self.lower_bound, self.upper_bound) => None,
                _ => range(self.lower_bound, self.upper_bound, ""),
            },
            "Boolean" => (!value.is_boolean()).then(|| vec!["true".to_owned(), "false".to_owned()]),
            "String" | "Password" => match value
                .as_str()
                .and_then(|text| i64::try_from(text.chars().count()).ok())
            {
                Some(length) if !outside(length, self.min_length, self.max_length) => None,
                _ => range(self.min_length, self.max_length, " characters"),
            },
            _ => None,
        }
    }
}

impl Bmc {
    /// The firmware's settings.
    ///
    /// # Errors
    /// [`Error::Missing`] when the BMC does not show any.
    pub async fn bios(&self) -> Result<Bios, Error> {
        let bmc = self.bounded();
        let bios = bmc.bios_resource().await?;
        let pending = match bios.link("/@Redfish.Settings/SettingsObject") {
            Some(settings) => attributes(&bmc.read(settings).await?),
            None => BTreeMap::new(),
        };
        Ok(Bios {
            attributes: attributes(&bios),
            pending,
            registry: bios.text("/AttributeRegistry").map(str::to_owned),
        })
    }

    /// What these settings may be, from their registry; empty where the BMC has none.
    ///
    /// # Errors
    /// All that a request can meet.
    pub async fn bios_schema(&self, bios: &Bios) -> Result<Vec<Attribute>, Error> {
        let Some(wanted) = bios.registry.as_deref() else {
            return Ok(Vec::new());
        };
        let bmc = self.bounded();
        let root = bmc.read("/redfish/v1/").await?;
        let Some(registries) = root.link("/Registries") else {
            return Ok(Vec::new());
        };
        // The collection's members are named after the registries, some without the version.
        let stem = wanted.split('.').next().unwrap_or(wanted);
        let members = bmc.members(registries).await?;
        let member = members.iter().find(|member| {
            let id = member
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default();
            id == wanted || id.split('.').next() == Some(stem)
        });
        let Some(member) = member else {
            return Ok(Vec::new());
        };
        let file = bmc.read(member).await?;
        let locations = file.body["Location"].as_array();
        let english = |location: &&Value| {
            location["Language"]
                .as_str()
                .is_none_or(|language| language.starts_with("en"))
        };
        let uri = locations
            .into_iter()
            .flatten()
            .filter(english)
            .find_map(|location| location["Uri"].as_str());
        let Some(uri) = uri else {
            return Ok(Vec::new());
        };
        let registry = bmc.read(uri).await?;
        let entries = registry.body["RegistryEntries"]["Attributes"].as_array();
        Ok(entries
            .into_iter()
            .flatten()
            .filter_map(Attribute::of)
            .collect())
    }

    /// Orders settings, which take effect when the system starts next. Those that hold already are left out.
    ///
    /// # Errors
    /// [`Error::Missing`] for a setting there is not; [`Error::NotAllowed`] for a value that `schema` (from [`Bmc::bios_schema`]; may be empty)
    /// does not allow.
    pub async fn set_bios(
        &self,
        wanted: &BTreeMap<String, Value>,
        schema: &[Attribute],
    ) -> Result<Change, Error> {
        let bmc = self.bounded();
        let bios = bmc.bios_resource().await?;
        let present = attributes(&bios);
        let mut changes = Map::new();
        for (name, value) in wanted {
            let Some(now) = present.get(name) else {
                return Err(bmc.missing(&bios.path, &format!("the setting '{name}'")));
            };
            if now == value {
                continue;
            }
            let described = schema.iter().find(|attribute| attribute.name == *name);
            if let Some(allowed) = described.and_then(|attribute| attribute.objection(value)) {
                return Err(Error::NotAllowed {
                    bmc: bmc.name().to_owned(),
                    what: format!("BIOS setting {name}"),
                    value: value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned),
                    allowed,
                });
            }
            changes.insert(name.clone(), value.clone());
        }
        if changes.is_empty() {
            return Ok(Change::None);
        }
        let mut body = json!({"Attributes": changes});
        let target = match bios.link("/@Redfish.Settings/SettingsObject") {
            Some(settings) => bmc.read(settings).await?,
            None => bios.clone(),
        };
        let times = bios.body.pointer("/@Redfish.Settings/SupportedApplyTimes");
        let at_reset = times
            .and_then(Value::as_array)
            .is_some_and(|times| times.iter().any(|time| time == "OnReset"));
        if at_reset {
            body["@Redfish.SettingsApplyTime"] = json!({"ApplyTime": "OnReset"});
        }
        // A 202 here names the job that the next start runs: it can't be waited for.
        bmc.patch_without_waiting(&target, &body).await?;
        Ok(Change::AtReset)
    }

    /// Orders the factory's settings from the next start on.
    ///
    /// # Errors
    /// [`Error::Missing`] when the BMC can't.
    pub async fn reset_bios(&self) -> Result<(), Error> {
        let bmc = self.bounded();
        let bios = bmc.bios_resource().await?;
        let action = bios
            .action("#Bios.ResetBios")
            .ok_or_else(|| bmc.missing(&bios.path, "a reset of the settings (#Bios.ResetBios)"))?;
        bmc.change(reqwest::Method::POST, &action.target, json!({}))
            .await
            .map(drop)
    }

    async fn bios_resource(&self) -> Result<Resource, Error> {
        let system = self.system_resource().await?;
        match system.link("/Bios") {
            Some(bios) => self.read(bios).await,
            None => Err(self.missing(&system.path, "BIOS settings")),
        }
    }
}

fn attributes(resource: &Resource) -> BTreeMap<String, Value> {
    let attributes = resource.body["Attributes"].as_object();
    attributes
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_of_what_the_registry_says_are_objected_to() {
        let attribute = |body: Value| Attribute::of(&body).unwrap();
        let mode = attribute(json!({"AttributeName": "BootMode", "Type": "Enumeration",
            "Value": [{"ValueName": "Uefi"}, {"ValueName": "Bios"}]}));
        assert_eq!(mode.objection(&json!("Uefi")), None);
        assert_eq!(mode.objection(&json!("uefi")).unwrap(), ["Uefi", "Bios"]);
        let cores = attribute(
            json!({"AttributeName": "Cores", "Type": "Integer", "LowerBound": 0, "UpperBound": 8}),
        );
        assert_eq!(cores.objection(&json!(8)), None);
        assert_eq!(cores.objection(&json!(9)).unwrap(), ["0 to 8"]);
        assert!(cores.objection(&json!("8")).is_some());
        let fixed =
            attribute(json!({"AttributeName": "Serial", "Type": "String", "ReadOnly": true}));
        assert!(fixed.objection(&json!("x")).is_some());
    }
}
