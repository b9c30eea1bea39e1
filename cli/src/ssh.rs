//! `ssh`: the system's own ssh, with this program as the way to the guest (`ProxyCommand`).

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::args::{Globals, Ssh};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::{Kind, Target};

/// `ssh`. Ends as ssh does.
pub(crate) async fn run(
    globals: &Globals,
    connection: &Connection,
    args: &Ssh,
) -> Result<ExitCode, Error> {
    let program = std::env::current_exe().map_err(Error::io("the plugin's own program"))?;
    let words = words(&program, globals, connection.namespace(), args)?;
    let status = tokio::process::Command::new("ssh")
        .args(words)
        .status()
        .await
        .map_err(Error::io("ssh (is an SSH client installed?)"))?;
    // Killed by a signal: as shells say it.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(255)))
}

/// The words of ssh. Pure.
fn words(
    program: &Path,
    globals: &Globals,
    namespace: &str,
    args: &Ssh,
) -> Result<Vec<OsString>, Error> {
    let (user, word) = match args.destination.split_once('@') {
        Some((user, word)) => (Some(user), word),
        None => (None, args.destination.as_str()),
    };
    if user.is_some() && args.username.is_some() {
        return Err(Error::Usage(format!(
            "a user is given twice: in {:?} and by --username",
            args.destination
        )));
    }
    let target: Target = word
        .parse()
        .map_err(|why| Error::Usage(format!("{word:?}: {why}")))?;
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    let kind = match target.kind {
        Kind::Machine => "vm",
        Kind::Instance => "vmi",
    };
    let mut proxy: Vec<String> = vec![program.display().to_string(), "port-forward".to_owned()];
    proxy.extend(flags(globals));
    proxy.extend([
        "--namespace".to_owned(),
        namespace.to_owned(),
        "--stdio".to_owned(),
        format!("{kind}/{}", target.name),
        args.port.to_string(),
    ]);
    let proxy: Vec<String> = proxy.iter().map(|word| quoted(word)).collect();
    let mut words: Vec<OsString> = vec![
        "-o".into(),
        format!("ProxyCommand={}", proxy.join(" ")).into(),
    ];
    if let Some(file) = &args.known_hosts {
        words.extend([
            "-o".into(),
            format!("UserKnownHostsFile={}", file.display()).into(),
        ]);
    }
    if let Some(file) = &args.identity_file {
        words.extend(["-i".into(), file.into()]);
    }
    if let Some(user) = user.or(args.username.as_deref()) {
        words.extend(["-l".into(), user.into()]);
    }
    words.extend(args.options.iter().cloned());
    // The name under which the guest's key is remembered.
    words.push(format!("{kind}.{}.{namespace}", target.name).into());
    words.extend(args.command.iter().map(OsString::from));
    Ok(words)
}

/// The flags that lead to the same cluster as the same user.
fn flags(globals: &Globals) -> Vec<String> {
    let file = globals.kubeconfig.as_ref();
    let file = file.map(|file| file.display().to_string());
    let mut flags = Vec::new();
    for (flag, value) in [
        ("--kubeconfig", file.as_ref()),
        ("--context", globals.context.as_ref()),
        ("--as", globals.as_user.as_ref()),
    ] {
        if let Some(value) = value {
            flags.extend([flag.to_owned(), value.clone()]);
        }
    }
    for group in &globals.as_groups {
        flags.extend(["--as-group".to_owned(), group.clone()]);
    }
    flags
}

/// A word for the shell that runs a ProxyCommand, in which ssh also expands `%`.
fn quoted(word: &str) -> String {
    let word = word.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        globals: Globals,
        #[command(flatten)]
        ssh: Ssh,
    }

    fn read(typed: &[&str]) -> Result<Vec<String>, Error> {
        let Words { globals, ssh } = Words::parse_from(["ssh"].iter().chain(typed));
        let program = Path::new("/opt/my tools/kubectl-catamaran");
        let words = words(program, &globals, "shop", &ssh)?;
        Ok(words
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect())
    }

    #[test]
    fn ssh_comes_back_to_this_program_for_its_connection() {
        assert_eq!(
            read(&[
                "root@demo",
                "-p",
                "2222",
                "-c",
                "uptime",
                "--context",
                "lab",
                "--",
                "-v"
            ])
            .unwrap(),
            [
                "-o",
                "ProxyCommand='/opt/my tools/kubectl-catamaran' port-forward --context lab --namespace shop --stdio vm/demo 2222",
                "-l",
                "root",
                "-v",
                "vm.demo.shop",
                "uptime",
            ]
        );
    }

    #[test]
    fn a_namespace_in_the_name_counts_more() {
        let words = read(&["vmi/demo/other", "-l", "me"]).unwrap();
        assert!(
            words[1].contains("--namespace other --stdio vmi/demo 22"),
            "{words:?}"
        );
        assert_eq!(words.last().unwrap(), "vmi.demo.other");
    }

    #[test]
    fn one_user_at_a_time() {
        let error = read(&["root@demo", "-l", "me"]).unwrap_err();
        assert!(error.to_string().contains("given twice"));
    }

    #[test]
    fn no_word_escapes_into_the_shell() {
        assert_eq!(quoted("a;b"), "'a;b'");
        assert_eq!(quoted("it's 5%"), r"'it'\''s 5%%'");
        assert_eq!(quoted(""), "''");
    }
}
