//! What may be typed, and what is said about what may not.

use super::*;

fn parse(words: &[&str]) -> Result<Invocation, clap::Error> {
    Invocation::parse(words.iter().map(OsString::from))
}

#[track_caller]
fn refused(words: &[&str], wanted: &str) {
    let error = parse(words).unwrap_err().to_string();
    assert!(error.contains(wanted), "{wanted:?} is not in {error}");
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
    CreateCli::command().debug_assert();
}

#[test]
fn one_program_answers_to_three_names() {
    for (words, wanted) in [
        (
            &["kubectl-catamaran", "create", "vm", "a"][..],
            &["vm", "a"][..],
        ),
        (&["/usr/bin/kubectl-create-vm", "a"], &["a"]),
        (&["kubectl-create-virtualmachine", "a"], &["a"]),
    ] {
        let words = [words, &["--image", "i", "-n", "shop"]].concat();
        let invocation = parse(&words).unwrap();
        assert_eq!(invocation.globals.namespace.as_deref(), Some("shop"));
        let Command::Create(create) = invocation.command else {
            panic!("{words:?} is not create");
        };
        assert_eq!(create.words, wanted);
        assert_eq!(create.image.as_deref(), Some("i"));
    }
}

#[test]
fn usage_shows_what_was_typed() {
    refused(
        &["kubectl-create-vm", "a", "--no-such-flag"],
        "Usage: kubectl create vm",
    );
    refused(
        &["kubectl-catamaran", "stop"],
        "Usage: kubectl catamaran stop",
    );
}

#[test]
fn a_machine_in_two_words_is_refused_with_the_one_word() {
    refused(
        &["kubectl-catamaran", "stop", "vm", "demo"],
        "a machine is named in one word: vm/demo",
    );
}

#[test]
fn global_flags_stand_before_and_after_the_verb() {
    for words in [
        ["kubectl-catamaran", "--context", "lab", "list"],
        ["kubectl-catamaran", "list", "--context", "lab"],
    ] {
        let invocation = parse(&words).unwrap();
        assert_eq!(invocation.globals.context.as_deref(), Some("lab"));
    }
    let words = [
        "kubectl-catamaran",
        "list",
        "--as",
        "eve",
        "--as-group",
        "a",
        "--as-group",
        "b",
    ];
    assert_eq!(parse(&words).unwrap().globals.as_groups, ["a", "b"]);
}

#[test]
fn wrong_words_are_named_with_what_is_allowed() {
    let program = "kubectl-catamaran";
    refused(
        &[program, "start", "pod/a"],
        "unknown kind \"pod\": allowed are vm and vmi",
    );
    refused(
        &[program, "list", "-o", "xml"],
        "unknown output format \"xml\"",
    );
    refused(
        &[program, "create", "a", "--run-strategy", "Sometimes"],
        "RerunOnFailure",
    );
    refused(
        &[program, "create", "a", "--network", "slirp"],
        "possible values: masquerade, bridge",
    );
    refused(&[program, "create", "a", "--cpu", "0"], "0 is not in 1..");
    refused(
        &[program, "create", "a", "--dry-run=maybe"],
        "possible values: client, server",
    );
    refused(
        &[program, "stop", "a", "--force", "--grace-period", "3"],
        "cannot be used with",
    );
    refused(
        &[
            program,
            "create",
            "a",
            "--instancetype",
            "u1",
            "--memory",
            "1Gi",
        ],
        "cannot be used with",
    );
}

#[test]
fn dry_run_alone_is_that_of_the_client() {
    let dry_run = |word| match parse(&["kubectl-create-vm", "a", word]).unwrap().command {
        Command::Create(create) => create.making.dry_run,
        _ => None,
    };
    assert_eq!(dry_run("--dry-run"), Some(DryRun::Client));
    assert_eq!(dry_run("--dry-run=server"), Some(DryRun::Server));
}
