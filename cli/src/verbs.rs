//! start, stop, restart, pause, unpause, soft-reboot, reset: one request each.

use catamaran_api::{PauseOptions, RestartOptions, StartOptions, StopOptions};
use catamaran_client::say;
use hyper::Method;
use serde::Serialize;

use crate::args::{Name, Restart, Start, Stop, Verb};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::{Kind, Target};

/// `start`.
pub(crate) async fn start(connection: &Connection, args: &Start) -> Result<(), Error> {
    let options = StartOptions {
        paused: args.paused.then_some(true),
        dry_run: dry_run(args.dry_run),
    };
    let order = Order::new(Kind::Machine, "start", "will start", args.dry_run);
    order.send(connection, &args.vm.target, &options).await
}

/// `stop`.
pub(crate) async fn stop(connection: &Connection, args: &Stop) -> Result<(), Error> {
    let grace = args.grace_period.map(i64::from);
    let options = StopOptions {
        grace_period: if args.force { Some(0) } else { grace },
        dry_run: dry_run(args.dry_run),
    };
    let order = Order::new(Kind::Machine, "stop", "will stop", args.dry_run);
    order.send(connection, &args.vm.target, &options).await
}

/// `restart`.
pub(crate) async fn restart(connection: &Connection, args: &Restart) -> Result<(), Error> {
    let options = RestartOptions {
        grace_period_seconds: args.force.then_some(0),
        dry_run: dry_run(args.dry_run),
    };
    let order = Order::new(Kind::Machine, "restart", "will restart", args.dry_run);
    order.send(connection, &args.vm.target, &options).await
}

/// `pause` and `unpause`.
pub(crate) async fn pause(connection: &Connection, args: &Verb, pause: bool) -> Result<(), Error> {
    // Both have the same body.
    let options = PauseOptions {
        dry_run: dry_run(args.dry_run),
    };
    let (word, said) = if pause {
        ("pause", "paused")
    } else {
        ("unpause", "unpaused")
    };
    let order = Order::new(Kind::Instance, word, said, args.dry_run);
    order.send(connection, &args.vm.target, &options).await
}

/// `soft-reboot`.
pub(crate) async fn soft_reboot(connection: &Connection, args: &Name) -> Result<(), Error> {
    let said = "was asked to reboot";
    let order = Order::new(Kind::Instance, "softreboot", said, false);
    order.send(connection, &args.target, &()).await
}

/// `reset`.
pub(crate) async fn reset(connection: &Connection, args: &Name) -> Result<(), Error> {
    let order = Order::new(Kind::Instance, "reset", "was reset", false);
    order.send(connection, &args.target, &()).await
}

fn dry_run(wanted: bool) -> Vec<String> {
    wanted.then(|| "All".to_owned()).into_iter().collect()
}

/// A verb.
struct Order {
    on: Kind,
    word: &'static str,
    said: &'static str,
    note: &'static str,
}

impl Order {
    fn new(on: Kind, word: &'static str, said: &'static str, dry_run: bool) -> Self {
        Self {
            on,
            word,
            said,
            note: if dry_run { " (server dry run)" } else { "" },
        }
    }

    async fn send<T: Serialize>(
        &self,
        connection: &Connection,
        target: &Target,
        options: &T,
    ) -> Result<(), Error> {
        let body = serde_json::to_value(options)?;
        let body = Some(&body).filter(|body| !body.is_null());
        let path = connection.path(self.on, target, self.word);
        connection.bytes(Method::PUT, &path, body).await?;
        let kind = match self.on {
            Kind::Machine => "virtualmachine",
            Kind::Instance => "virtualmachineinstance",
        };
        let Self { said, note, .. } = self;
        let line = format!("{kind}.kubevirt.io/{} {said}{note}\n", target.name);
        say(&line).map_err(Error::io("standard output"))
    }
}
