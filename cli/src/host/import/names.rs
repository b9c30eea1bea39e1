//! Names of nodes as names of hosts: valid, and each only once. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::node::Node;

/// Longest name: it becomes a label and a host name.
const LONGEST: usize = 63;

/// Names by UUID, none of which is taken yet; they are then. A node whose name is valid keeps it if it can.
pub(super) fn all<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    taken: &mut BTreeSet<String>,
) -> BTreeMap<String, String> {
    let is_valid = |node: &&Node| node.name.as_deref().is_some_and(|name| valid(name) == name);
    let (first, then): (Vec<_>, Vec<_>) = nodes.partition(is_valid);
    let named = first.into_iter().chain(then);
    named
        .map(|node| (node.uuid.clone(), take(node, taken)))
        .collect()
}

fn take(node: &Node, taken: &mut BTreeSet<String>) -> String {
    let plain = match node.name.as_deref().map(valid) {
        Some(name) if !name.is_empty() => name,
        _ => valid(&format!("node-{}", node.uuid)),
    };
    let mut name = plain.clone();
    if taken.contains(&name) {
        let suffix = valid(node.uuid.split('-').next().unwrap_or_default());
        name = with_suffix(&plain, &suffix);
    }
    let mut number = 2;
    while taken.contains(&name) {
        name = with_suffix(&plain, &number.to_string());
        number += 1;
    }
    taken.insert(name.clone());
    name
}

fn with_suffix(plain: &str, suffix: &str) -> String {
    let room = LONGEST.saturating_sub(suffix.len() + 1);
    let begin: String = plain.chars().take(room).collect();
    format!("{}-{suffix}", begin.trim_end_matches(['-', '.']))
}

/// The name with everything else made a dash: RFC 1123.
fn valid(name: &str) -> String {
    let parts = name.to_lowercase();
    let parts = parts.split('.').map(|part| {
        let clean: String = part
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        clean.trim_matches('-').to_owned()
    });
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    let short: String = parts.join(".").chars().take(LONGEST).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_valid_name_keeps_it() {
        let node = |name: &str, uuid: &str| Node {
            name: Some(name.to_owned()),
            uuid: uuid.to_owned(),
            ..Node::default()
        };
        let nodes = [node("Rack_1", "a-1"), node("rack-1", "b-1")];
        let names = all(nodes.iter(), &mut BTreeSet::new());
        assert_eq!(names["b-1"], "rack-1");
        assert_eq!(names["a-1"], "rack-1-a");
    }

    #[test]
    fn names_become_valid_and_unique() {
        let mut taken = BTreeSet::from(["taken".to_owned()]);
        let mut named = |name: Option<&str>, uuid: &str| {
            let node = Node {
                name: name.map(str::to_owned),
                uuid: uuid.to_owned(),
                ..Node::default()
            };
            take(&node, &mut taken)
        };
        assert_eq!(named(Some("Rack_1~a.Lab."), "1-2"), "rack-1-a.lab");
        assert_eq!(named(Some("rack-1-A.lab"), "9f-2"), "rack-1-a.lab-9f");
        assert_eq!(named(Some("rack-1.a.lab"), "9f-2"), "rack-1.a.lab");
        assert_eq!(named(Some("taken"), "77-1"), "taken-77");
        assert_eq!(named(Some("taken"), "77-2"), "taken-2");
        assert_eq!(named(None, "11-22"), "node-11-22");
        assert_eq!(named(Some("___"), "11-23"), "node-11-23");
        let long = named(Some(&"x".repeat(80)), "1");
        assert_eq!(long.len(), 63);
        let other = named(Some(&"x".repeat(90)), "5c2f-1");
        assert!(other.len() <= 63 && other.ends_with("-5c2f"), "{other}");
    }
}
