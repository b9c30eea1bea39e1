//! Completion scripts, man pages, and the candidates that kubectl's own completion asks for.

use std::path::Path;

use catamaran_client::{say, say_bytes};
use clap::Command;
use clap_complete::Shell;

use crate::args;
use crate::error::Error;

/// Name of the program's file.
const PROGRAM: &str = "kubectl-catamaran";
/// cobra's directive: no file names.
const NO_FILES: &str = ":4";

/// `completion`.
pub(crate) fn script(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    let mut command = args::command().bin_name(PROGRAM);
    clap_complete::generate(shell, &mut command, PROGRAM, &mut script);
    say_bytes(&script).map_err(Error::io("standard output"))
}

/// `man`: a page for the program and one for each verb.
pub(crate) fn man(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder)
        .and_then(|()| {
            clap_mangen::generate_to(args::command().disable_help_subcommand(true), folder)
        })
        .map_err(Error::io(folder.display().to_string()))
}

/// `__complete`: one candidate a line with its description, then a directive (cobra's protocol, which kubectl speaks to
/// `kubectl_complete-catamaran`).
pub(crate) fn candidates(words: &[String]) -> Result<(), Error> {
    let mut lines = fitting(&args::command(), words).join("\n");
    if !lines.is_empty() {
        lines.push('\n');
    }
    say(&format!("{lines}{NO_FILES}\n")).map_err(Error::io("standard output"))
}

/// Verbs or flags that the last word may become. Pure.
fn fitting(root: &Command, words: &[String]) -> Vec<String> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let mut command = root;
    for word in before.iter().filter(|word| !word.starts_with('-')) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let line = |name: String, about: Option<String>| match about {
        Some(about) => format!("{name}\t{about}"),
        None => name,
    };
    if last.starts_with('-') {
        let own = command.get_arguments();
        let global = root
            .get_arguments()
            .filter(|_| !std::ptr::eq(root, command));
        let flags = own.chain(global).filter(|flag| !flag.is_hide_set());
        return flags
            .filter_map(|flag| {
                let name = format!("--{}", flag.get_long()?);
                let about = flag.get_help().map(ToString::to_string);
                name.starts_with(last).then(|| line(name, about))
            })
            .collect();
    }
    command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name().starts_with(last))
        .map(|verb| {
            let about = verb.get_about().map(ToString::to_string);
            line(verb.get_name().to_owned(), about)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let lines = fitting(&args::command(), &words);
        lines
            .iter()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn verbs_and_flags_are_completed() {
        assert_eq!(names(&["un"]), ["unpause"]);
        assert_eq!(names(&["stop", "--f"]), ["--force"]);
        assert_eq!(names(&["stop", "demo", "--name"]), ["--namespace"]);
        assert_eq!(names(&["guest", ""]), ["info"]);
        assert!(names(&["__"]).is_empty(), "hidden verbs stay hidden");
    }

    #[test]
    fn every_verb_has_a_man_page() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        for page in ["", "-create", "-why", "-port-forward", "-guest-info"] {
            let page = folder.path().join(format!("{PROGRAM}{page}.1"));
            assert!(page.exists(), "{}", page.display());
        }
    }

    #[test]
    fn scripts_name_the_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::command(), PROGRAM, &mut script);
            assert!(String::from_utf8(script).unwrap().contains("soft-reboot"));
        }
    }
}
