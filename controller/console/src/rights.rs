//! What a caller may do, so that the page can say beforehand what is refused. The API server decides all the same.

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use crate::backend::{Access, Backend, Failure, Name};
use crate::words::{HostQuestion, NodeVerb, Question, StreamKind, Verb};

/// Reviews that are under way at once.
const AT_ONCE: usize = 8;
const SUBRESOURCES: &str = "subresources.kubevirt.io";

/// A word of the answer and the rights that it needs, all of them.
struct Row {
    thing: &'static str,
    word: &'static str,
    needs: Vec<[&'static str; 4]>,
}

fn row(thing: &'static str, word: &'static str, needs: &[[&'static str; 4]]) -> Row {
    Row {
        thing,
        word,
        needs: needs.to_vec(),
    }
}

/// Everything that the page asks about. A right is verb, group, resource, subresource.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (thing, group, words) in [
        (
            "virtualmachines",
            "kubevirt.io",
            &["list", "watch", "create", "update", "delete"][..],
        ),
        (
            "virtualmachineinstances",
            "kubevirt.io",
            &["list", "watch", "delete"],
        ),
        ("pods", "", &["list"]),
        ("events", "", &["list"]),
        ("namespaces", "", &["list"]),
        ("secrets", "", &["create"]),
        ("persistentvolumeclaims", "", &["list"]),
        ("nodes", "", &["list", "watch"]),
        (
            "baremetalhosts",
            "metal3.io",
            &["list", "watch", "create", "update", "patch", "delete"],
        ),
        ("dataimages", "metal3.io", &["list", "create", "delete"]),
    ] {
        for word in words {
            rows.push(row(thing, word, &[[word, group, thing, ""]]));
        }
    }
    for verb in Verb::ALL {
        let need = ["update", SUBRESOURCES, verb.resource(), verb.word()];
        rows.push(row("machines", verb.word(), &[need]));
    }
    let instances = "virtualmachineinstances";
    for question in Question::ALL {
        let need = ["get", SUBRESOURCES, instances, question.subresource()];
        rows.push(row("machines", question.word(), &[need]));
    }
    for stream in [StreamKind::Console, StreamKind::Vnc] {
        let need = ["get", SUBRESOURCES, instances, stream.word()];
        rows.push(row("machines", stream.word(), &[need]));
    }
    let hand = ["update", SUBRESOURCES, instances, "viewers"];
    rows.push(row("machines", "hand", &[hand]));
    for question in [HostQuestion::Sensors, HostQuestion::Events(0)] {
        let word = question.subresource();
        let need = ["get", SUBRESOURCES, "baremetalhosts", word];
        rows.push(row("hosts", word, &[need]));
    }
    let cordon = ["patch", "", "nodes", ""];
    rows.push(row("nodes", NodeVerb::Cordon.word(), &[cordon]));
    rows.push(row("nodes", NodeVerb::Uncordon.word(), &[cordon]));
    let (list, evict) = (["list", "", "pods", ""], ["create", "", "pods", "eviction"]);
    rows.push(row("nodes", NodeVerb::Drain.word(), &[cordon, list, evict]));
    rows
}

/// The rights that are not within a namespace.
fn everywhere(thing: &str) -> bool {
    matches!(thing, "nodes" | "namespaces")
}

/// What the caller may do, in one namespace or all: words by the thing they are about.
pub(crate) async fn of<B: Backend>(
    backend: &B,
    caller: &B::Caller,
    namespace: Option<&Name>,
) -> Result<Value, Failure> {
    let asked = rows().into_iter().map(|row| async move {
        let namespace = namespace.filter(|_| !everywhere(row.thing));
        for [verb, group, resource, subresource] in &row.needs {
            let access = Access {
                verb,
                group,
                resource,
                subresource,
                namespace,
                name: None,
            };
            if !backend.may(caller, access).await? {
                return Ok((row, false));
            }
        }
        Ok::<_, Failure>((row, true))
    });
    let answers: Vec<_> = futures::stream::iter(asked)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut allowed = Map::new();
    for (row, may) in answers {
        let words = allowed
            .entry(row.thing)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let (true, Value::Array(words)) = (may, words) {
            words.push(row.word.into());
        }
    }
    Ok(serde_json::json!({"allowed": allowed}))
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn each_verb_is_asked_about_where_its_subresource_is() {
        let needs = |thing, word| {
            let found = rows()
                .into_iter()
                .find(|row| row.thing == thing && row.word == word);
            found.unwrap().needs
        };
        assert_eq!(
            needs("machines", "pause"),
            [[
                "update",
                "subresources.kubevirt.io",
                "virtualmachineinstances",
                "pause"
            ]]
        );
        assert_eq!(
            needs("machines", "screenshot"),
            [[
                "get",
                "subresources.kubevirt.io",
                "virtualmachineinstances",
                "vnc/screenshot"
            ]]
        );
        assert_eq!(needs("nodes", "drain").len(), 3);
    }
}
