//! What the scheduler says of a pod that no node takes. Pure.
//!
//! It counts nodes, and says it anew whenever a count has changed: in a large cluster that is all the time, and a machine that can't be scheduled
//! would be written to each time.

use std::collections::BTreeSet;

/// What stands before the reasons; `0/3` comes before that.
const BEFORE: &str = "nodes are available: ";
/// What stands after them: why nobody would make room, with other counts of the same nodes.
const AFTER: &str = "preemption:";

/// Whether two messages give the same reasons, of however many nodes.
pub(super) fn same(one: &str, other: &str) -> bool {
    one == other || reasons(one) == reasons(other)
}

fn reasons(words: &str) -> BTreeSet<&str> {
    let words = words.split_once(BEFORE).map_or(words, |(_, after)| after);
    let words = words.split_once(AFTER).map_or(words, |(before, _)| before);
    words
        .split(", ")
        .flat_map(|words| words.split(". "))
        .map(|reason| {
            let reason = reason.trim_end().trim_end_matches(['.', ',']);
            let count = reason.split_once(' ');
            let count = count.filter(|(count, _)| count.bytes().all(|byte| byte.is_ascii_digit()));
            count.map_or(reason, |(_, reason)| reason)
        })
        .filter(|reason| !reason.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::same;

    const FULL: &str = "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint {a: b}. \
                        no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";

    #[test]
    fn other_counts_are_the_same_reasons() {
        for other in [
            FULL,
            "0/9 nodes are available: 4 node(s) had untolerated taint {a: b}, 5 Insufficient memory. \
             no new claims to deallocate, preemption: 0/9 nodes are available: 4 Preemption is not helpful for scheduling, \
             5 No preemption victims found for incoming pod.",
        ] {
            assert!(same(FULL, other), "{other}");
        }
        let without = "0/3 nodes are available: 1 Insufficient memory.";
        assert!(same(
            without,
            "0/2 nodes are available: 2 Insufficient memory."
        ));
    }

    #[test]
    fn another_reason_is_told() {
        for (one, other) in [
            (FULL, "0/3 nodes are available: 3 Insufficient memory."),
            (
                "0/3 nodes are available: 3 Insufficient memory.",
                "0/3 nodes are available: 3 Insufficient cpu.",
            ),
            (
                "0/3 nodes are available: 3 node(s) had untolerated taint {a: b}.",
                "0/3 nodes are available: 3 node(s) had untolerated taint {a: c}.",
            ),
            (
                "persistentvolumeclaim \"a\" not found",
                "persistentvolumeclaim \"b\" not found",
            ),
            (FULL, ""),
        ] {
            assert!(!same(one, other), "{one} and {other}");
        }
    }
}
