//! Conversations of each version of the protocol are still understood, and still written in the same way.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use catamaran_deploy_wire::{
    Action, Command, Directive, Failure, Hello, Inventory, Outcome, Progress, Reason, Result,
    Welcome,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a message and writes it again.
fn again<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let message: T = serde_json::from_value(value.clone()).unwrap();
    serde_json::to_value(message).unwrap()
}

#[test]
fn every_message_of_version_1_is_understood_and_written_alike() {
    let mut seen = 0;
    for line in include_str!("transcripts/v1.jsonl").lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        for (part, message) in exchange.as_object().unwrap() {
            let first = exchange.as_object().unwrap().keys().next().unwrap();
            let written = match part.as_str() {
                "POST session" => again::<Hello>(message),
                "POST inventory" => again::<Inventory>(message),
                "GET command" => again::<Command>(message),
                "POST progress" => again::<Progress>(message),
                "POST outcome" => again::<Outcome>(message),
                "answer" if message.is_object() => again::<Welcome>(message),
                "answer" => again::<Directive>(message),
                other => panic!("{other} after {first}"),
            };
            assert_eq!(&written, message, "{line}");
            seen += 1;
        }
    }
    assert_eq!(seen, 20);
}

#[test]
fn an_unknown_action_is_understood_as_unknown() {
    let command: Command =
        serde_json::from_str(r#"{"id":9,"action":"shred","passes":3,"new":true}"#).unwrap();
    assert_eq!(
        command,
        Command {
            id: 9,
            action: Action::Unknown
        }
    );
}

#[test]
fn an_unknown_reason_keeps_its_message() {
    let outcome: Outcome = serde_json::from_str(
        r#"{"id":9,"result":{"failed":{"reason":"moon-phase","message":"wait"}}}"#,
    )
    .unwrap();
    let failure = Failure {
        reason: Reason::Other,
        message: "wait".into(),
    };
    assert_eq!(outcome.result, Result::Failed(failure));
}

#[test]
fn a_command_without_an_id_is_refused() {
    assert!(serde_json::from_str::<Command>(r#"{"action":"inspect"}"#).is_err());
}
