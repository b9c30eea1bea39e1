//! How people name objects: `NAME`, `KIND/NAME`, or `KIND NAME`, as kubectl takes them too.

use catamaran_client::Port;
use hyper::Method;
use serde_json::Value;

use crate::args::{Name, Object, PortForward};
use crate::client::http::{Client, ClientError};
use crate::client::objects::path;
use crate::serve::store::Kind;

/// What was typed: the kind, if there was one, and the name.
pub type Named<'a> = (Option<Kind>, &'a str);

/// Kinds as they are typed.
const KINDS: &str = "vm, vmi, pod, pvc, cm and secret";
/// Those of virtual machines.
const MACHINES: &str = "vm and vmi";

impl Object {
    /// Which object is meant.
    ///
    /// # Errors
    /// When the kind is not known.
    pub fn named(&self) -> Result<Named<'_>, ClientError> {
        one(&self.words, KINDS)
    }
}

impl Name {
    /// The name of the virtual machine that is meant.
    ///
    /// # Errors
    /// When something else than a virtual machine was typed.
    pub fn name(&self) -> Result<&str, ClientError> {
        match one(&self.words, MACHINES)? {
            (None | Some(Kind::VirtualMachine | Kind::VirtualMachineInstance), name) => Ok(name),
            (Some(kind), name) => Err(ClientError::Usage(no_machine_but(kind, name))),
        }
    }
}

impl PortForward {
    /// Which object is meant, and which ports.
    ///
    /// # Errors
    /// When the kind is not known or something is no port.
    pub fn named(&self) -> Result<(Named<'_>, Vec<Port>), ClientError> {
        let (object, ports) = match &self.ports[..] {
            [name, ports @ ..]
                if Port::parse(name).is_err()
                    && !ports.is_empty()
                    && Kind::parse(&self.object).is_some() =>
            {
                (two(&self.object, name, KINDS)?, ports)
            }
            ports => (parse(&self.object, KINDS)?, ports),
        };
        let ports: Result<Vec<_>, _> = ports.iter().map(|word| Port::parse(word)).collect();
        Ok((object, ports?))
    }
}

/// Several objects: `[KIND/]NAME…`, or one kind and names of that kind.
///
/// # Errors
/// When a kind is not known.
pub fn several(words: &[String]) -> Result<Vec<Named<'_>>, ClientError> {
    match words {
        [kind, names @ ..] if !names.is_empty() && Kind::parse(kind).is_some() => {
            names.iter().map(|name| two(kind, name, KINDS)).collect()
        }
        words => words.iter().map(|word| parse(word, KINDS)).collect(),
    }
}

/// A refusal, in better words where a pod of that name was meant.
pub async fn no_machine(
    client: &Client,
    error: ClientError,
    namespace: &str,
    name: &str,
) -> ClientError {
    if !matches!(error, ClientError::Refused { code: 404, .. }) {
        return error;
    }
    let pod = client
        .json::<Value>(Method::GET, &path(Kind::Pod, namespace, name), None)
        .await;
    match pod {
        Ok(_) => ClientError::Usage(no_machine_but(Kind::Pod, name)),
        Err(_) => error,
    }
}

fn no_machine_but(kind: Kind, name: &str) -> String {
    let object = format!("{}/{name}", kind.short());
    let hint = match kind {
        Kind::Pod => format!(
            "`catamaran delete {object}` stops and removes it, `catamaran logs {object}` prints its output"
        ),
        _ => format!("`catamaran get {object}` and `catamaran delete {object}` take it"),
    };
    format!("{object} is no virtual machine: {hint}")
}

/// One object; `allowed`: the kinds that an unknown one is answered with.
fn one<'a>(words: &'a [String], allowed: &str) -> Result<Named<'a>, ClientError> {
    match words {
        [word] => parse(word, allowed),
        [kind, name] => two(kind, name, allowed),
        words => Err(ClientError::Usage(format!(
            "{:?} is no object: allowed are NAME, KIND/NAME and KIND NAME",
            words.join(" ")
        ))),
    }
}

/// `KIND NAME`.
fn two<'a>(kind: &str, name: &'a str, allowed: &str) -> Result<Named<'a>, ClientError> {
    if name.contains('/') {
        return Err(ClientError::Usage(format!(
            "{name:?} after {kind:?}: a name alone is allowed there, or {name:?} without {kind:?}"
        )));
    }
    match Kind::parse(kind) {
        Some(kind) => Ok((Some(kind), name)),
        None => Err(ClientError::Usage(format!(
            "unknown kind {kind:?} in \"{kind} {name}\": allowed are {allowed}"
        ))),
    }
}

/// `[KIND/]NAME`.
fn parse<'a>(word: &'a str, allowed: &str) -> Result<Named<'a>, ClientError> {
    match word.split_once('/') {
        None => Ok((None, word)),
        Some((kind, name)) => match Kind::parse(kind) {
            Some(kind) => Ok((Some(kind), name)),
            None => Err(ClientError::Usage(format!(
                "unknown kind {kind:?} in {word:?}: allowed are {allowed}"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn command(line: &str) -> Command {
        Cli::try_parse_from(line.split(' ')).unwrap().command
    }

    fn machine(line: &str) -> Result<String, String> {
        match command(line) {
            Command::Stop(args) => args.vm.name().map(str::to_owned),
            Command::Pause(vm) => vm.name().map(str::to_owned),
            other => panic!("{other:?}"),
        }
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_object_is_named_in_one_word_or_two() {
        for (line, kind) in [
            ("catamaran get demo", None),
            ("catamaran get vm/demo", Some(Kind::VirtualMachine)),
            ("catamaran get vm demo -o json", Some(Kind::VirtualMachine)),
            ("catamaran get -n default pods demo", Some(Kind::Pod)),
        ] {
            let Command::Get(args) = command(line) else {
                panic!("{line}")
            };
            assert_eq!(args.object.named().unwrap(), (kind, "demo"), "{line}");
        }
    }

    #[test]
    fn a_machine_is_named_in_one_word_or_two() {
        for line in [
            "catamaran stop demo",
            "catamaran stop vm/demo --force",
            "catamaran pause vm demo",
            "catamaran pause vmi/demo",
        ] {
            assert_eq!(machine(line).as_deref(), Ok("demo"), "{line}");
        }
    }

    #[test]
    fn who_stops_a_pod_learns_what_ends_it() {
        let hint = "pod/web is no virtual machine: `catamaran delete pod/web` stops and removes it, \
                    `catamaran logs pod/web` prints its output";
        for line in ["catamaran stop pod/web", "catamaran stop pod web"] {
            assert_eq!(machine(line).unwrap_err(), hint, "{line}");
        }
        let said = machine("catamaran pause pvc/data").unwrap_err();
        assert!(said.contains("`catamaran delete pvc/data`"), "{said}");
    }

    #[test]
    fn two_names_and_unknown_kinds_are_refused_with_what_is_allowed() {
        for line in ["catamaran stop demo web", "catamaran stop host/demo"] {
            let said = machine(line).unwrap_err();
            assert!(said.ends_with("allowed are vm and vmi"), "{said}");
        }
        let Command::Get(args) = command("catamaran get host/demo") else {
            panic!("another command")
        };
        let said = args.object.named().unwrap_err().to_string();
        assert!(said.contains("allowed are vm, vmi, pod"), "{said}");
        let said = machine("catamaran stop vm vm/demo").unwrap_err();
        assert!(said.contains("\"vm/demo\" without \"vm\""), "{said}");
    }

    #[test]
    fn a_kind_before_names_holds_for_all_of_them() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (pod, none) = (Some(Kind::Pod), None);
        assert_eq!(
            several(&words("pod a b")).unwrap(),
            [(pod, "a"), (pod, "b")]
        );
        assert_eq!(
            several(&words("pod/a b")).unwrap(),
            [(pod, "a"), (none, "b")]
        );
        assert_eq!(several(&words("pod")).unwrap(), [(none, "pod")]);
        assert!(several(&words("pod vm/b")).is_err());
    }

    #[test]
    fn ports_follow_an_object_in_one_word_or_two() {
        for (line, kind, name) in [
            ("port-forward demo 8080:80 22", None, "demo"),
            (
                "port-forward vm demo 8080:80 22",
                Some(Kind::VirtualMachine),
                "demo",
            ),
            ("port-forward pod/web 8080:80 22", Some(Kind::Pod), "web"),
            ("port-forward vm 8080:80 22", None, "vm"),
        ] {
            let Command::PortForward(args) = command(&format!("catamaran {line}")) else {
                panic!("{line}")
            };
            let (named, ports) = args.named().unwrap();
            assert_eq!((named, ports.len()), ((kind, name), 2), "{line}");
        }
    }
}
