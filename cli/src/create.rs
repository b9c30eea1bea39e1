//! `create`: a machine from flags. Reads the files that the flags name, builds the manifest (pure, `manifest`), and sends or prints it.

use std::io::Read as _;
use std::path::Path;

use catamaran_client::say;
use hyper::Method;

use crate::args::{Create, DryRun, Globals};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::objects;

mod manifest;
mod user_data;

use manifest::Wanted;
pub(crate) use manifest::label;

/// Words that may stand before the name.
const KINDS: [&str; 4] = ["vm", "vms", "virtualmachine", "virtualmachines"];

/// `create`.
pub(crate) async fn run(globals: &Globals, args: &Create) -> Result<(), Error> {
    let format = args.making.format()?;
    let wanted = wanted(globals, args)?;
    let machine = manifest::machine(&wanted).map_err(Error::Usage)?;
    let mut value = serde_json::to_value(&machine)?;
    if args.making.dry_run != Some(DryRun::Client) {
        let connection = Connection::open(globals).await?;
        let mut path = objects(
            catamaran_api::API_VERSION,
            Some(connection.namespace()),
            "virtualmachines",
        ) + "?fieldManager=kubectl-catamaran&fieldValidation=Strict";
        if args.making.dry_run == Some(DryRun::Server) {
            path.push_str("&dryRun=All");
        }
        value = connection.json(Method::POST, &path, Some(&value)).await?;
    }
    let said = format.print(&value)?.unwrap_or_else(|| {
        let name = machine.metadata.name.as_deref().unwrap_or_default();
        let object = format!("virtualmachine.kubevirt.io/{name}");
        args.making.line(&object)
    });
    say(&said).map_err(Error::io("standard output"))
}

/// What is wanted, with the files read.
fn wanted(globals: &Globals, args: &Create) -> Result<Wanted, Error> {
    let user_data = match &args.cloud_init {
        None => None,
        Some(file) => Some(read(file)?),
    };
    let mut keys = Vec::new();
    for key in &args.ssh_keys {
        keys.extend(user_data::keys(key, |file| read(Path::new(file)))?);
    }
    Ok(Wanted {
        name: name(&args.words, args.name.as_deref()).map_err(Error::Usage)?,
        namespace: globals.namespace.clone(),
        user_data: user_data::with_keys(user_data, &keys).map_err(Error::Usage)?,
        args: args.clone(),
    })
}

/// The name among the words: `NAME`, `vm NAME`, or `--name NAME`.
fn name(words: &[String], flag: Option<&str>) -> Result<String, String> {
    let is_kind = |word: &String| KINDS.contains(&word.as_str());
    match (words, flag) {
        ([], Some(name)) => Ok(name.to_owned()),
        ([kind], Some(name)) if is_kind(kind) => Ok(name.to_owned()),
        ([name], Some(flag)) | ([_, name], Some(flag)) => Err(format!(
            "a name is given twice: {name:?} and --name {flag:?}"
        )),
        ([kind, name], None) if is_kind(kind) => Ok(name.clone()),
        ([kind, _], None) => Err(format!(
            "{kind:?} can't be created: only vm or virtualmachine may stand before the name"
        )),
        ([name], None) if !is_kind(name) => Ok(name.clone()),
        _ => Err("the name of the virtual machine is missing".to_owned()),
    }
}

/// A text file, or (`-`) standard input.
pub(crate) fn read(file: &Path) -> Result<String, Error> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(Error::io("standard input"));
    }
    std::fs::read_to_string(file).map_err(Error::io(file.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn the_name_stands_where_any_kubectl_puts_it() {
        let read = |words: &[&str], flag| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            name(&words, flag)
        };
        let a = Ok("a".to_owned());
        assert_eq!(read(&["a"], None), a);
        assert_eq!(read(&["vm", "a"], None), a);
        assert_eq!(read(&["virtualmachine", "a"], None), a);
        assert_eq!(read(&[], Some("a")), a);
        assert_eq!(read(&["vm"], Some("a")), a);
        assert!(read(&["vm"], None).unwrap_err().contains("missing"));
        assert!(read(&["pod", "a"], None).unwrap_err().contains("\"pod\""));
        assert!(read(&["a"], Some("b")).unwrap_err().contains("twice"));
    }
}
