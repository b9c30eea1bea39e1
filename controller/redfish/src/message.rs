//! What a BMC says when it refuses: the messages in an error's body, in the several shapes in use.

use serde_json::Value;

/// One message of a BMC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Registry key, such as `Base.1.8.ResourceInUse` or `IDRAC.2.8.SYS518`; empty where there is none.
    pub id: String,
    /// The text for people.
    pub text: String,
}

/// Longest text that is taken over from a BMC, in characters.
const LONGEST: usize = 400;

impl Message {
    /// Whether the id ends in `key`, whatever registry and version stand before it.
    #[must_use]
    pub fn is(&self, key: &str) -> bool {
        self.id == key
            || self
                .id
                .strip_suffix(key)
                .is_some_and(|before| before.ends_with('.'))
    }
}

/// The messages in the body of an answer; a body that is no JSON gives one message without an id.
pub(crate) fn messages(body: &Value, text: &str) -> Vec<Message> {
    let error = &body["error"];
    let mut found: Vec<Message> = Vec::new();
    for list in [
        &error["@Message.ExtendedInfo"],
        &body["@Message.ExtendedInfo"],
        &body["Messages"],
    ] {
        for entry in list.as_array().into_iter().flatten() {
            let message = Message {
                id: string(&entry["MessageId"]),
                text: string(&entry["Message"]),
            };
            let says_something = !message.id.is_empty() || !message.text.is_empty();
            if says_something && !found.contains(&message) {
                found.push(message);
            }
        }
    }
    if found.is_empty() && error.is_object() {
        found.push(Message {
            id: string(&error["code"]),
            text: string(&error["message"]),
        });
    }
    if found.is_empty() && body.is_null() && !text.trim().is_empty() {
        found.push(Message {
            id: String::new(),
            text: shortened(text),
        });
    }
    found
}

fn string(value: &Value) -> String {
    shortened(value.as_str().unwrap_or_default())
}

/// On one line, without control characters, and not longer than [`LONGEST`].
pub(crate) fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// All messages on one line: texts where there are any, else ids.
pub(crate) fn line(messages: &[Message]) -> String {
    let said = |message: &Message| match (message.text.as_str(), message.id.as_str()) {
        ("", id) => id.to_owned(),
        (text, "") => text.to_owned(),
        (text, id) => format!("{text} ({})", id.rsplit('.').next().unwrap_or(id)),
    };
    messages.iter().map(said).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn extended_information_is_preferred_and_keys_match_without_version() {
        let body = json!({"error": {"code": "Base.1.8.GeneralError", "message": "See ExtendedInfo", "@Message.ExtendedInfo": [
            {"MessageId": "IDRAC.2.8.SYS518", "Message": "iDRAC is not ready."},
        ]}});
        let found = messages(&body, "");
        assert_eq!(found.len(), 1);
        assert!(found[0].is("SYS518") && !found[0].is("YS518"));
        assert_eq!(line(&found), "iDRAC is not ready. (SYS518)");
    }

    #[test]
    fn plain_text_and_bare_errors_are_shown_on_one_line() {
        assert_eq!(
            line(&messages(&Value::Null, "<h1>Busy</h1>\n try  later")),
            "<h1>Busy</h1> try later"
        );
        let body = json!({"error": {"code": "Base.1.0.GeneralError", "message": "no"}});
        assert_eq!(line(&messages(&body, "")), "no (GeneralError)");
        assert!(messages(&json!({}), "{}").is_empty());
    }
}
