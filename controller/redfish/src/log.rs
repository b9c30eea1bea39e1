//! The event log of a host: what its BMC has noticed of the hardware.
//!
//! BMCs keep several logs, of which one is meant: that of events of the system. Audit trails, dumps and POST codes are never read. A log is
//! a sequence: its order is kept, whatever the clock was when an entry was written, and told newest first.

use std::sync::Arc;

use serde_json::Value;

use crate::bmc::Bmc;
use crate::discovery::Discovered;
use crate::error::{Error, Kind};
use crate::inventory::{gap, name};
use crate::resource::Resource;

/// Names of logs of events, best first, in lower case: usual; HPE; OpenBMC; Supermicro; Lenovo.
const EVENT_LOGS: [&str; 6] = [
    "sel",
    "iml",
    "eventlog",
    "log1",
    "platformlog",
    "standardlog",
];
/// Characters of a text that are kept.
const MOST_CHARACTERS: usize = 1000;
/// Pages of a log that are followed, where single entries can't be asked for.
const MOST_PAGES: usize = 100;

/// An entry of an event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The BMC's id of it.
    pub id: String,
    /// When, as the BMC writes it (ISO 8601); by its clock, which may be wrong.
    pub created: Option<String>,
    /// `OK`, `Warning` or `Critical`.
    pub severity: Option<String>,
    /// What happened.
    pub message: String,
    /// What it is about: a kind of sensor, or a part.
    pub about: Option<String>,
}

/// A part of an event log, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog {
    /// The BMC's name for the log, such as `Sel`.
    pub name: String,
    /// Entries of the whole log.
    pub total: usize,
    /// The entries that were asked for.
    pub entries: Vec<LogEntry>,
}

impl Bmc {
    /// Reads `most` entries of the event log, newest first, after the `skip` newest; none where the BMC shows no such log.
    ///
    /// # Errors
    /// All that a request can meet.
    pub async fn event_log(&self, skip: usize, most: usize) -> Result<Option<EventLog>, Error> {
        let bmc = self.bounded();
        let Some((name, entries)) = bmc.find_log().await? else {
            return Ok(None);
        };
        let known = bmc.discover().await?;
        let (total, part) = bmc.part_of(&entries, &known, skip, most).await?;
        let mut found = Vec::new();
        for member in part {
            // Some give entries whole, some links to them.
            let whole = member.as_object().is_some_and(|entry| entry.len() > 1);
            let entry = match (whole, member["@odata.id"].as_str()) {
                (true, _) => member,
                (false, Some(path)) => match bmc.read(path).await {
                    Ok(read) => read.body,
                    // The log went on meanwhile.
                    Err(error) if error.status() == Some(404) => continue,
                    Err(error) => return Err(error),
                },
                (false, None) => continue,
            };
            found.push(LogEntry::of(&entry));
        }
        Ok(Some(EventLog {
            name,
            total,
            entries: found,
        }))
    }

    /// Name of the event log, and the path of its entries.
    async fn find_log(&self) -> Result<Option<(String, String)>, Error> {
        let system = self.system_resource().await?;
        let mut services = self.log_services(&system).await?;
        for manager in system.links("/Links/ManagedBy") {
            // One that can't be read shows no log; the others may.
            let read = self.read(&manager).await.map(Some);
            if let Some(manager) = gap(read, "manager", &mut Vec::new())? {
                services.extend(self.log_services(&manager).await?);
            }
        }
        services.sort_by_key(|path| rank(path));
        for path in services {
            let service = match self.read(&path).await {
                Ok(service) => service,
                Err(error) if error.kind() == Kind::Unsupported => continue,
                Err(error) => return Err(error),
            };
            let of_events = matches!(service.text("/LogEntryType"), Some("SEL" | "Event"));
            if rank(&path) == EVENT_LOGS.len() && !of_events {
                continue;
            }
            if let Some(entries) = service.link("/Entries") {
                return Ok(Some((name(&service), entries.to_owned())));
            }
        }
        Ok(None)
    }

    async fn log_services(&self, of: &Resource) -> Result<Vec<String>, Error> {
        let Some(collection) = of.link("/LogServices") else {
            return Ok(Vec::new());
        };
        match self.members(collection).await {
            Err(error) if error.kind() == Kind::Unsupported => Ok(Vec::new()),
            members => members,
        }
    }

    /// How many entries there are, and those that are asked for.
    async fn part_of(
        &self,
        path: &str,
        known: &Arc<Discovered>,
        skip: usize,
        most: usize,
    ) -> Result<(usize, Vec<Value>), Error> {
        let first = self.read(path).await?;
        let counted = first.body["Members@odata.count"].as_u64();
        let counted = counted.and_then(|count| usize::try_from(count).ok());
        let oldest_first = is_oldest_first(members(&first));
        let more = next(&first);
        if let (Some(total), Some(_), true) = (counted, &more, known.top_skip) {
            let from = if oldest_first {
                total.saturating_sub(skip.saturating_add(most))
            } else {
                skip
            };
            let wanted = most.min(total.saturating_sub(skip));
            if wanted == 0 {
                return Ok((total, Vec::new()));
            }
            let link = format!("{path}?$skip={from}&$top={wanted}");
            let page = self.read(&link).await?;
            let mut part = self.with_following(page, wanted).await?;
            part.truncate(wanted);
            if oldest_first {
                part.reverse();
            }
            return Ok((total, part));
        }
        let enough = if oldest_first {
            usize::MAX
        } else {
            skip.saturating_add(most)
        };
        let mut all = self.with_following(first, enough).await?;
        if oldest_first {
            all.reverse();
        }
        let total = counted.unwrap_or_default().max(all.len());
        Ok((total, all.into_iter().skip(skip).take(most).collect()))
    }

    /// The members of a page and those that follow it, until there are enough.
    async fn with_following(&self, page: Resource, enough: usize) -> Result<Vec<Value>, Error> {
        let mut link = next(&page);
        let mut found = members(&page).to_vec();
        for _ in 1..MOST_PAGES {
            let Some(path) = link.take().filter(|_| found.len() < enough) else {
                return Ok(found);
            };
            let page = self.read(&path).await?;
            found.extend_from_slice(members(&page));
            link = next(&page);
        }
        match link {
            // Old entries must not be taken for the newest.
            Some(_) if found.len() < enough => Err(Error::Unexpected {
                bmc: self.name().to_owned(),
                path: page.path,
                what: format!("the log has more than {MOST_PAGES} pages"),
            }),
            _ => Ok(found),
        }
    }
}

fn members(page: &Resource) -> &[Value] {
    page.body["Members"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn next(page: &Resource) -> Option<String> {
    page.link("/Members@odata.nextLink")
        .or_else(|| page.link("/@odata.nextLink"))
        .map(str::to_owned)
}

/// Place of a log among those of events; their number for one that is none by its name.
fn rank(path: &str) -> usize {
    let id = path.trim_end_matches('/').rsplit('/').next();
    let id = id.unwrap_or_default().to_lowercase();
    EVENT_LOGS
        .iter()
        .position(|known| *known == id)
        .unwrap_or(EVENT_LOGS.len())
}

/// Whether a log begins with its oldest entry: by its ids where they are counted, else by its times, else as is usual.
fn is_oldest_first(members: &[Value]) -> bool {
    let (Some(first), Some(last)) = (members.first(), members.last()) else {
        return true;
    };
    let number = |entry: &Value| -> Option<u64> {
        let path = entry["@odata.id"].as_str()?;
        path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
    };
    let time = |entry: &Value| Some(entry["Created"].as_str()?.to_owned());
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first != last => first < last,
        _ => match (time(first), time(last)) {
            (Some(first), Some(last)) => first <= last,
            _ => true,
        },
    }
}

impl LogEntry {
    fn of(entry: &Value) -> Self {
        let text = |name: &str| {
            let text = entry[name].as_str()?.trim();
            let short: String = text.chars().take(MOST_CHARACTERS).collect();
            (!short.is_empty()).then_some(short)
        };
        let origin = || {
            let path = entry["Links"]["OriginOfCondition"]["@odata.id"].as_str()?;
            let id = path.trim_end_matches('/').rsplit('/').next()?;
            Some(id.to_owned())
        };
        let mut message = text("Message")
            .or_else(|| text("MessageId"))
            .unwrap_or_default();
        if entry["EntryCode"] == "Deassert" {
            message.push_str(" (no longer)");
        }
        Self {
            id: text("Id").unwrap_or_default(),
            created: text("Created").or_else(|| text("EventTimestamp")),
            severity: text("Severity"),
            message,
            about: text("SensorType").or_else(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries(made: &[(u64, &str)]) -> Vec<Value> {
        let entry = |(id, created): &(u64, &str)| json!({"@odata.id": format!("/redfish/v1/Log/Entries/{id}"), "Created": created});
        made.iter().map(entry).collect()
    }

    #[test]
    fn order_is_that_of_the_ids_and_not_of_a_clock_that_was_wrong() {
        let (early, late) = ("1970-01-01T00:00:09Z", "2026-01-01T00:00:00Z");
        assert!(is_oldest_first(&entries(&[(1, late), (2, early)])));
        assert!(!is_oldest_first(&entries(&[(2, early), (1, late)])));
        let named = |id: &str, at: &str| json!({"@odata.id": format!("/l/{id}"), "Created": at});
        assert!(!is_oldest_first(&[named("b", late), named("a", early)]));
        assert!(is_oldest_first(&[]));
    }

    #[test]
    fn logs_of_events_come_before_all_others() {
        let mut found = ["/l/Audit", "/l/Lclog", "/l/Sel/", "/l/EventLog"];
        found.sort_by_key(|path| rank(path));
        assert_eq!(found, ["/l/Sel/", "/l/EventLog", "/l/Audit", "/l/Lclog"]);
    }

    #[test]
    fn entries_are_what_is_there() {
        let entry = LogEntry::of(&json!({
            "Id": "7", "Severity": "Critical", "MessageId": "PSU0003", "EntryCode": "Deassert",
            "Links": {"OriginOfCondition": {"@odata.id": "/redfish/v1/Chassis/1/PowerSupplies/PSU.2"}},
        }));
        assert_eq!(entry.message, "PSU0003 (no longer)");
        assert_eq!(entry.about.as_deref(), Some("PSU.2"));
        assert_eq!(entry.created, None);
        let long = LogEntry::of(&json!({"Message": "x".repeat(5000)}));
        assert_eq!(long.message.len(), MOST_CHARACTERS);
    }
}
