//! `host import`: the nodes of an Ironic as hosts, all of them or none.
//!
//! ```text
//!  Ironic ─▶ Found { nodes, ports, inventories } ─┐
//!  credentials file ──────────────────────────────┼─▶ plan (pure) ─▶ all that is wrong, or objects ─▶ rehearsed, then made
//!  hosts of the namespace ────────────────────────┘
//! ```

mod address;
mod credentials;
mod hints;
mod inventory;
mod ironic;
mod names;
mod node;
mod plan;

use catamaran_api::metal3::BareMetalHost;
use catamaran_api::metal3::annotations::PAUSED;
use catamaran_client::say;
use catamaran_client::table::printable;

use super::enroll::secret_in;
use super::{GROUP, HOSTS, make};
use crate::args::{DryRun, Globals, Import};
use crate::connection::Connection;
use crate::create::read;
use crate::error::Error;
use crate::list::items;
use crate::target::objects;

use credentials::Credentials;
pub(crate) use ironic::IronicError;
use ironic::{Ironic, Login};
use plan::{Found, Setting};

/// `host import`.
pub(super) async fn run(globals: &Globals, args: &Import) -> Result<(), Error> {
    args.making.format()?;
    let credentials = match &args.credentials {
        Some(file) => Credentials::parse(&read(file)?).map_err(Error::Usage)?,
        None => Credentials::default(),
    };
    let login = login(args)?;
    let authority = match &args.ironic_ca {
        Some(file) => Some(read(file)?),
        None => None,
    };
    let asks_nobody = args.print_credentials || args.making.dry_run == Some(DryRun::Client);
    let connection = match asks_nobody {
        true => None,
        false => Some(Connection::open(globals).await?),
    };
    let existing = match &connection {
        Some(connection) => existing(connection).await?,
        None => Vec::new(),
    };
    let ironic = Ironic::open(&args.from_ironic, &login, authority.as_deref()).await?;
    let found = found(&ironic, args, &existing).await?;
    if args.print_credentials {
        let (fit, left_out) = plan::sort(&found.nodes, &existing);
        tell("left out: ", &left_out);
        return say(&credentials::form(&fit)).map_err(Error::io("standard output"));
    }
    let setting = Setting {
        namespace: globals.namespace.as_deref(),
        credentials: &credentials,
        existing: &existing,
        unpaused: args.unpaused,
    };
    let plan = plan::plan(&found, setting).map_err(|wrong| {
        Error::Usage(format!(
            "nothing was imported:\n  {}",
            printable_lines(&wrong).join("\n  ")
        ))
    })?;
    tell("left out: ", &plan.left_out);
    tell("Warning: ", &plan.notes);
    tell("", &plan.hosts);
    if plan.objects.is_empty() {
        eprintln!("There is nothing to import.");
        return Ok(());
    }
    if let Some(connection) = &connection {
        make::rehearse(connection, &plan.objects).await?;
    }
    make::all(connection.as_ref(), &plan.objects, &args.making).await?;
    if args.making.dry_run.is_none() {
        advise(args.unpaused);
    }
    Ok(())
}

/// Two that switch the same servers would fight.
fn advise(unpaused: bool) {
    eprintln!(
        "Ironic manages these servers still: take its hands off them (`openstack baremetal node maintenance set NODE`, or stop it)."
    );
    if !unpaused {
        eprintln!("Then let them be managed here: `kubectl annotate bmh NAME {PAUSED}-`");
    }
}

fn login(args: &Import) -> Result<Login, Error> {
    if let (Some(user), Some(file)) = (&args.ironic_user, &args.ironic_password_file) {
        return Ok(Login::Basic {
            user: user.clone(),
            password: secret_in(file)?,
        });
    }
    Ok(match &args.ironic_token_file {
        Some(file) => Login::Token(secret_in(file)?),
        None => Login::Nobody,
    })
}

async fn existing(connection: &Connection) -> Result<Vec<BareMetalHost>, Error> {
    let path = objects(GROUP, Some(connection.namespace()), HOSTS);
    let found = items(connection.get(&path).await?);
    let read = found.into_iter().map(serde_json::from_value);
    Ok(read.collect::<Result<_, _>>()?)
}

/// What Ironic tells of the nodes that are wanted.
async fn found(ironic: &Ironic, args: &Import, existing: &[BareMetalHost]) -> Result<Found, Error> {
    let nodes = ironic.nodes().await?;
    let is =
        |node: &node::Node, word: &String| node.uuid == *word || node.name.as_ref() == Some(word);
    let missing = |word: &&String| !nodes.iter().any(|node| is(node, word));
    if let Some(word) = args.nodes.iter().find(missing) {
        return Err(Error::Usage(format!(
            "--node {word:?}: Ironic has no such node"
        )));
    }
    let (nodes, unwanted) = nodes
        .into_iter()
        .partition(|node| args.nodes.is_empty() || args.nodes.iter().any(|word| is(node, word)));
    let mut found = Found {
        nodes,
        unwanted,
        ..Found::default()
    };
    if args.print_credentials {
        return Ok(found);
    }
    found.ports = ironic.ports().await?;
    for (node, _) in plan::sort(&found.nodes, existing).0 {
        if let Some(inventory) = ironic.inventory(&node.uuid).await? {
            found.inventories.insert(node.uuid.clone(), inventory);
        }
    }
    Ok(found)
}

fn printable_lines(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| printable(line)).collect()
}

fn tell(head: &str, lines: &[String]) {
    for line in printable_lines(lines) {
        eprintln!("{head}{line}");
    }
}
