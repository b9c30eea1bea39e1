//! Logs, as the personality keeps them: one of events, and others that are none of it.

use serde_json::{Value, json};

use super::{ROOT, collection};
use crate::bmc::Bmc;
use crate::machine::Logged;
use crate::personality::Expand;

/// Whether logs are below the system (else below the manager).
pub(crate) fn at_system(bmc: &Bmc) -> bool {
    bmc.personality.log.at_system
}

/// What is at `rest` below `…/LogServices`; `path` is the whole path.
pub(crate) fn get(bmc: &Bmc, path: &str, query: &str, rest: &[&str]) -> Option<Value> {
    let rules = &bmc.personality.log;
    Some(match rest {
        [] => {
            let ids = rules.others.iter().chain([&rules.id]).cloned();
            collection(path, "Log Service", ids)
        }
        [id] if *id == rules.id || rules.others.iter().any(|other| other == id) => json!({
            "@odata.type": "#LogService.v1_2_0.LogService", "Id": id, "Name": format!("{id} Log"), "ServiceEnabled": true,
            "OverWritePolicy": "WrapsWhenFull", "Entries": {"@odata.id": format!("{path}/Entries")},
        }),
        [id, "Entries"] if *id == rules.id => page(bmc, path, query),
        [id, "Entries", entry] if *id == rules.id => {
            let state = bmc.state();
            let found = state
                .log
                .iter()
                .find(|logged| logged.id.to_string() == *entry)?;
            body(path.rsplit_once('/')?.0, found)
        }
        _ => return None,
    })
}

/// A page of the log, with a link to the next.
fn page(bmc: &Bmc, path: &str, query: &str) -> Value {
    let rules = &bmc.personality.log;
    let number = |name: &str| -> Option<usize> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        value.parse().ok()
    };
    let state = bmc.state();
    let mut all: Vec<&Logged> = state.log.iter().collect();
    if rules.newest_first {
        all.reverse();
    }
    let parts = bmc.personality.top_skip && !rules.ignores_skip;
    let asked = |name| number(name).filter(|_| parts);
    let expanded = query.contains("$expand=") && bmc.personality.expand != Expand::No;
    // Its own links have a word of their own where parts can't be asked for.
    let skip = asked("$skip").or_else(|| number("from")).unwrap_or(0);
    let most = asked("$top").unwrap_or(usize::MAX).min(rules.page.max(1));
    let shown: Vec<Value> = all
        .iter()
        .skip(skip)
        .take(most)
        .map(|logged| {
            if rules.links && !expanded {
                json!({"@odata.id": format!("{path}/{}", logged.id)})
            } else {
                body(path, logged)
            }
        })
        .collect();
    let end = skip + shown.len();
    let mut page = json!({"@odata.type": "#LogEntryCollection.LogEntryCollection", "Name": "Log Entries",
        "Members@odata.count": all.len(), "Members": shown});
    if end < all.len() {
        let word = if parts { "$skip" } else { "from" };
        let how = query.split('&').find(|pair| pair.starts_with("$expand="));
        let how = how.map(|how| format!("&{how}")).unwrap_or_default();
        page["Members@odata.nextLink"] = json!(format!("{path}?{word}={end}{how}"));
    }
    page
}

fn body(path: &str, logged: &Logged) -> Value {
    json!({
        "@odata.id": format!("{path}/{}", logged.id), "@odata.type": "#LogEntry.v1_9_0.LogEntry", "Id": logged.id.to_string(),
        "Name": "Log Entry", "EntryType": "SEL", "Created": logged.created, "Severity": logged.severity, "Message": logged.message,
        "SensorType": logged.about, "Links": {"OriginOfCondition": {"@odata.id": format!("{ROOT}/Chassis/1")}},
    })
}
