//! Daemons and launchers of every release understand each other: what those of a release say is kept in a folder named after it, and read
//! with today's types. `node/launcher/tests/wire.rs` says the daemons' part to today's launcher.
//!
//! A folder holds conversations, a frame a line: who said it, how many descriptors came along, the frame. `UPDATE_GOLDEN=1 cargo test -p
//! catamaran-wire` writes the folder of the version in `Cargo.toml` anew; nothing writes that of an older one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod file;
mod spoken;

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use catamaran_wire::{
    Hello, Incoming, Inspected, Reply, Request, Statistics, Stream, Unplugged, Verb,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use file::{Line, Side};

/// What is said today, by name, written where that is asked for.
static TODAY: LazyLock<Vec<(String, Vec<Line>)>> = LazyLock::new(|| {
    let conversations = spoken::conversations().into_iter();
    let today: Vec<_> = conversations
        .map(|(name, lines)| (name.to_owned(), lines))
        .collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let folder = file::folder(&spoken::release());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, lines) in &today {
            let lines = lines
                .iter()
                .map(|line| serde_json::to_string(line).unwrap());
            let text: String = lines.map(|line| line + "\n").collect();
            fs::write(folder.join(format!("{name}.jsonl")), text).unwrap();
        }
    }
    today
});

#[test]
fn what_is_said_today_is_in_the_transcripts() {
    let today = TODAY.as_slice();
    let found = file::all().into_iter();
    let found: Vec<_> = found
        .filter(|(release, ..)| *release == spoken::release())
        .map(|(_, name, lines)| (name, lines))
        .collect();
    let differ = today.iter().filter(|talk| !found.contains(talk));
    let differ: Vec<_> = differ.map(|(name, _)| name).collect();
    assert!(
        found.len() == today.len() && differ.is_empty(),
        "tests/transcripts/{} does not hold what is said today, see {differ:?} (UPDATE_GOLDEN=1 writes it anew)",
        spoken::release()
    );
}

#[test]
fn everything_that_can_be_said_is_said() {
    let all = spoken::conversations();
    let frames = || all.iter().flat_map(|(_, lines)| lines);
    let texts = |of: &dyn Fn(&Line) -> Option<&str>| -> BTreeSet<String> {
        frames().filter_map(of).map(str::to_owned).collect()
    };
    assert_eq!(
        texts(&|line| line.frame["verb"].as_str()),
        variants::<Verb>(&json!({ "verb": "?" }))
    );
    assert_eq!(
        texts(&|line| line.frame["report"]["state"]["is"].as_str()),
        variants::<catamaran_wire::VmState>(&json!({ "is": "?" }))
    );
    let streams = frames().filter_map(|line| line.frame["body"]["stream"].as_object());
    let streams: BTreeSet<String> = streams.flat_map(|stream| stream.keys().cloned()).collect();
    assert_eq!(streams, variants::<Stream>(&json!("?")));
}

/// Names of an enum's variants, as serde tells them to who gives it a wrong one.
fn variants<T: DeserializeOwned>(wrong: &Value) -> BTreeSet<String> {
    let error = T::deserialize(wrong).err().unwrap().to_string();
    let (_, names) = error.split_once("expected ").unwrap();
    let names = names.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn every_release_is_understood() {
    LazyLock::force(&TODAY);
    let mut releases = 0;
    for (release, name, lines) in file::all() {
        releases += 1;
        let mut asked = Vec::new();
        let mut greeted = BTreeSet::new();
        for (at, line) in lines.iter().enumerate() {
            let place = format!("{release}/{name}, line {}", at + 1);
            for frame in [line.frame.clone(), file::with_unknown_fields(&line.frame)] {
                match line.from {
                    side if !greeted.contains(&side) => same::<Hello>(&place, &line.frame, &frame),
                    Side::Daemon => same::<Request>(&place, &line.frame, &frame),
                    Side::Launcher => same::<Incoming>(&place, &line.frame, &frame),
                }
            }
            if greeted.insert(line.from) {
                continue;
            }
            match line.from {
                Side::Daemon => asked.push(serde_json::from_value(line.frame.clone()).unwrap()),
                Side::Launcher => {
                    if let Ok(Incoming::Reply(reply)) = serde_json::from_value(line.frame.clone()) {
                        answer(&place, &asked, &reply);
                    }
                }
            }
        }
    }
    assert!(releases > 0, "there are no transcripts");
}

/// The answer belongs to a question and is what the daemon takes it for.
fn answer(place: &str, asked: &[Request], reply: &Reply) {
    let request = asked.iter().find(|request| request.id == reply.id);
    let request = request.unwrap_or_else(|| panic!("{place}: nobody asked {}", reply.id));
    if reply.error.is_some() {
        return;
    }
    match &request.verb {
        Verb::Statistics => same::<Statistics>(place, &reply.ok, &reply.ok),
        Verb::Inspect { .. } => same::<Inspected>(place, &reply.ok, &reply.ok),
        Verb::Unplug { .. } => same::<Unplugged>(place, &reply.ok, &reply.ok),
        Verb::Screenshot | Verb::Dmesg { .. } => assert!(reply.ok.is_string(), "{place}"),
        Verb::Agent { .. } => assert!(reply.ok.is_object(), "{place}"),
        _ => assert!(reply.ok.is_null(), "{place}"),
    }
}

/// `received` is read, and nothing of what was `said` is lost: a field that got another name would be ignored as an unknown one.
fn same<T: DeserializeOwned + Serialize>(place: &str, said: &Value, received: &Value) {
    let read: T =
        serde_json::from_value(received.clone()).unwrap_or_else(|error| panic!("{place}: {error}"));
    let mut lost = Vec::new();
    missing("", said, &serde_json::to_value(read).unwrap(), &mut lost);
    assert!(lost.is_empty(), "{place}: {lost:?} are not understood");
}

fn missing(path: &str, said: &Value, read: &Value, lost: &mut Vec<String>) {
    match (said, read) {
        (Value::Object(said), Value::Object(read)) => {
            for (name, value) in said {
                let read = read.get(name).unwrap_or(&Value::Null);
                missing(&format!("{path}.{name}"), value, read, lost);
            }
        }
        (Value::Array(said), Value::Array(read)) if said.len() == read.len() => {
            for (at, (said, read)) in said.iter().zip(read).enumerate() {
                missing(&format!("{path}[{at}]"), said, read, lost);
            }
        }
        (said, read) if said == read => {}
        _ => lost.push(path.to_owned()),
    }
}

#[test]
fn a_verb_of_the_future_is_no_request_and_its_kind_of_error_is_another_one() {
    let request = json!({ "id": 7, "verb": "teleport", "body": { "to": "moon" } });
    assert!(serde_json::from_value::<Request>(request).is_err());
    let reply = json!({ "id": 7, "error": { "kind": "moonstruck", "message": "no" } });
    let Incoming::Reply(reply) = serde_json::from_value(reply).unwrap() else {
        panic!("it is a reply");
    };
    assert_eq!(reply.error.unwrap().kind, catamaran_wire::ErrorKind::Other);
}
