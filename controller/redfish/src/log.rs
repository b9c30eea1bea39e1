//! The event log of a host: what its BMC has noticed of the hardware.
//!
//! BMCs keep several logs, of which one is meant: that of events of the system. Audit trails, dumps and POST codes are never read. A log is
//! a sequence: its order is kept, whatever the clock was when an entry was written, and told newest first.

use serde_json::Value;

use crate::bmc::Bmc;
use crate::error::{Error, Kind};
use crate::inventory::{gap, name};
use crate::message::shortened;
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
/// Pages of a log that are followed, where single entries can't be asked for.
const MOST_PAGES: usize = 100;
/// The newest entries of a log, which alone are told.
const MOST_ENTRIES: usize = 2000;

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
    /// Why there are no more of them, where more were asked for and are there.
    pub gap: Option<String>,
}

/// What a page of the log says of one entry.
#[derive(Debug, Clone)]
struct Member {
    path: String,
    created: Option<String>,
    /// None where the page only links to it.
    entry: Option<LogEntry>,
}

/// Members in the order of the log, and where it goes on.
#[derive(Debug, Default)]
struct Pages {
    found: Vec<Member>,
    /// Members that were there, kept or not.
    seen: usize,
    next: Option<String>,
}

/// Where the entries are, and how they are asked for.
struct Book<'a> {
    path: &'a str,
    /// A query by which links come as entries.
    expand: Option<String>,
}

impl Bmc {
    /// Reads `most` entries of the event log, newest first, after the `skip` newest; none where the BMC shows no such log. What was read
    /// by the deadline is told, with a gap.
    ///
    /// # Errors
    /// All that a request can meet before there is anything to tell.
    pub async fn event_log(&self, skip: usize, most: usize) -> Result<Option<EventLog>, Error> {
        let bmc = self.reading();
        let Some((name, path)) = bmc.find_log().await? else {
            return Ok(None);
        };
        let most = most.min(MOST_ENTRIES.saturating_sub(skip));
        let (total, part, mut gap) = bmc.part_of(&path, skip, most).await?;
        let mut entries = Vec::new();
        for member in part {
            if let Some(entry) = member.entry {
                entries.push(entry);
                continue;
            }
            match bmc.read(&member.path).await {
                Ok(read) => entries.push(LogEntry::of(&read.body)),
                // The log went on meanwhile.
                Err(error) if error.status() == Some(404) => {}
                Err(error) if !entries.is_empty() && bmc.is_enough(&error) => {
                    gap = Some(error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if skip.saturating_add(most) >= MOST_ENTRIES && total > MOST_ENTRIES {
            gap.get_or_insert(format!("only the newest {MOST_ENTRIES} entries are read"));
        }
        Ok(Some(EventLog {
            name: shortened(&name),
            total,
            entries,
            gap: gap.as_deref().map(shortened),
        }))
    }

    /// Whether an error ends a reading, of which a part is there: the deadline, or a refusal; not the loss of the BMC.
    fn is_enough(&self, error: &Error) -> bool {
        let lost = matches!(
            error.kind(),
            Kind::Credentials | Kind::Trust | Kind::Unreachable
        );
        self.remaining().is_zero() || !lost && !matches!(error, Error::Closed { .. })
    }

    /// Name of the event log, and the path of its entries.
    async fn find_log(&self) -> Result<Option<(String, String)>, Error> {
        let system = self.system_resource().await?;
        let mut refused = None;
        let mut services = self.log_services(&system, &mut refused).await?;
        for manager in system.links("/Links/ManagedBy") {
            // One that can't be read shows no log; the others may.
            let read = self.read(&manager).await.map(Some);
            if let Some(manager) = gap(read, "manager", &mut Vec::new())? {
                services.extend(self.log_services(&manager, &mut refused).await?);
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
        match refused {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// The logs of the system or a manager. Those of the other may be shown where these are `refused`.
    async fn log_services(
        &self,
        of: &Resource,
        refused: &mut Option<Error>,
    ) -> Result<Vec<String>, Error> {
        let Some(collection) = of.link("/LogServices") else {
            return Ok(Vec::new());
        };
        match self.members(collection).await {
            Err(error) if error.kind() == Kind::Unsupported => Ok(Vec::new()),
            Err(
                error @ Error::Refused {
                    status: 401 | 403, ..
                },
            ) => {
                *refused = Some(error);
                Ok(Vec::new())
            }
            members => members,
        }
    }

    /// How many entries there are, those that are asked for, and why they are not all.
    async fn part_of(
        &self,
        path: &str,
        skip: usize,
        most: usize,
    ) -> Result<(usize, Vec<Member>, Option<String>), Error> {
        let known = self.discover().await?;
        let mut first = self.read(path).await?;
        let mut book = Book { path, expand: None };
        let are_links = first.page().iter().any(|member| !is_whole(member));
        if let (Some(expand), true) = (known.expand, are_links) {
            let expand = format!("$expand={expand}");
            // One that says it could, and can't, is asked for each.
            let read = self.read(&format!("{path}?{expand}")).await.map(Some);
            if let Some(whole) = gap(read, "", &mut Vec::new())? {
                first = whole;
                book.expand = Some(expand);
            }
        }
        let counted = first.body["Members@odata.count"].as_u64();
        let counted = counted.and_then(|count| usize::try_from(count).ok());
        let mut pages = Pages::default();
        pages.add(&first, usize::MAX);
        if let (1, Some(next)) = (pages.found.len(), pages.next.clone()) {
            // One entry has no order.
            pages.add(&self.read(&next).await?, usize::MAX);
        }
        let oldest_first = is_oldest_first(&pages.found);
        let end = skip.saturating_add(most);
        if let (Some(total), Some(_), true) = (counted, &pages.next, known.top_skip) {
            let wanted = most.min(total.saturating_sub(skip));
            let from = if oldest_first {
                total.saturating_sub(skip + wanted)
            } else {
                skip
            };
            if wanted == 0 {
                return Ok((total, Vec::new(), None));
            }
            if let Some(mut part) = self.asked_for(&book, &pages, from, wanted).await? {
                if oldest_first {
                    part.reverse();
                }
                let gap = (part.len() < wanted).then(|| "the BMC gave fewer entries".to_owned());
                return Ok((total, part, gap));
            }
        }
        let mut gap = None;
        if oldest_first {
            // The newest are at the end, and all that is kept.
            self.follow(&mut pages, usize::MAX, end).await?;
            pages.found.reverse();
        } else if let Err(error) = self.follow(&mut pages, end, usize::MAX).await {
            if pages.found.len() <= skip || !self.is_enough(&error) {
                return Err(error);
            }
            gap = Some(error.to_string());
        }
        let total = counted.unwrap_or_default().max(pages.seen);
        let part = pages.found.into_iter().skip(skip).take(most).collect();
        Ok((total, part, gap))
    }

    /// `wanted` members after `from`, where a BMC says that it gives such parts; none where it does not do it.
    async fn asked_for(
        &self,
        book: &Book<'_>,
        start: &Pages,
        from: usize,
        wanted: usize,
    ) -> Result<Option<Vec<Member>>, Error> {
        let mut link = format!("{}?$skip={from}&$top={wanted}", book.path);
        if let Some(expand) = &book.expand {
            link = format!("{link}&{expand}");
        }
        let mut pages = Pages::default();
        pages.add(&self.read(&link).await?, usize::MAX);
        let first = |pages: &Pages| pages.found.first().map(|member| member.path.clone());
        // The beginning once more: it does not know `$skip`.
        if from > 0 && first(&pages) == first(start) {
            return Ok(None);
        }
        self.follow(&mut pages, wanted, usize::MAX).await?;
        pages.found.truncate(wanted);
        Ok(Some(pages.found))
    }

    /// Reads the pages that follow until there are `enough` members, of which the last `kept` are kept.
    async fn follow(&self, pages: &mut Pages, enough: usize, kept: usize) -> Result<(), Error> {
        pages.keep(kept);
        for _ in 1..MOST_PAGES {
            let Some(path) = pages.next.clone().filter(|_| pages.seen < enough) else {
                return Ok(());
            };
            pages.add(&self.read(&path).await?, kept);
        }
        match &pages.next {
            // Old entries must not be taken for the newest.
            Some(path) if pages.seen < enough => Err(Error::Unexpected {
                bmc: self.name().to_owned(),
                path: path.clone(),
                what: format!("the log has more than {MOST_PAGES} pages"),
            }),
            _ => Ok(()),
        }
    }
}

impl Pages {
    /// Adds a page; the last `kept` members are kept.
    fn add(&mut self, page: &Resource, kept: usize) {
        self.found.extend(page.page().iter().filter_map(Member::of));
        self.seen += page.page().len();
        self.next = page.next();
        self.keep(kept);
    }

    fn keep(&mut self, kept: usize) {
        let most = kept.min(MOST_ENTRIES);
        self.found.drain(..self.found.len().saturating_sub(most));
    }
}

impl Member {
    fn of(body: &Value) -> Option<Self> {
        let entry = is_whole(body).then(|| LogEntry::of(body));
        let path = body["@odata.id"].as_str().map(str::to_owned);
        Some(Self {
            // One without a link is known by its id.
            path: path.or_else(|| Some(entry.as_ref()?.id.clone()))?,
            created: entry.as_ref().and_then(|entry| entry.created.clone()),
            entry,
        })
    }

    fn number(&self) -> Option<u64> {
        let id = self.path.trim_end_matches('/').rsplit('/').next()?;
        id.parse().ok()
    }
}

/// Whether a page has the entry itself. Some give entries whole, some links to them.
fn is_whole(member: &Value) -> bool {
    member.as_object().is_some_and(|entry| entry.len() > 1)
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
fn is_oldest_first(members: &[Member]) -> bool {
    let (Some(first), Some(last)) = (members.first(), members.last()) else {
        return true;
    };
    match (first.number(), last.number()) {
        (Some(first), Some(last)) if first != last => first < last,
        _ => match (&first.created, &last.created) {
            (Some(first), Some(last)) => first <= last,
            _ => true,
        },
    }
}

impl LogEntry {
    fn of(entry: &Value) -> Self {
        let text = |name: &str| {
            let short = shortened(entry[name].as_str()?);
            (!short.is_empty()).then_some(short)
        };
        let origin = || {
            let path = entry["Links"]["OriginOfCondition"]["@odata.id"].as_str()?;
            let id = path.trim_end_matches('/').rsplit('/').next()?;
            Some(shortened(id))
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

    fn member(id: &str, created: &str) -> Member {
        Member::of(&json!({"@odata.id": format!("/l/{id}"), "Created": created})).unwrap()
    }

    #[test]
    fn order_is_that_of_the_ids_and_not_of_a_clock_that_was_wrong() {
        let (early, late) = ("1970-01-01T00:00:09Z", "2026-01-01T00:00:00Z");
        assert!(is_oldest_first(&[member("1", late), member("2", early)]));
        assert!(!is_oldest_first(&[member("2", early), member("1", late)]));
        assert!(!is_oldest_first(&[member("b", late), member("a", early)]));
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
        assert!(long.message.len() < 500, "{}", long.message.len());
    }
}
