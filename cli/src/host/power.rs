//! `host power`: what a server's power is to be.

use catamaran_api::metal3::BareMetalHost;
use catamaran_api::metal3::annotations::{BOOT_ONCE, PAUSED, REBOOT};
use catamaran_client::say;
use serde_json::{Value, json};

use super::view;
use super::wait::{Wanted, wait};
use crate::args::PowerVerb;
use crate::connection::Connection;
use crate::error::Error;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    On,
    Off { hard: bool },
    Reboot { hard: bool },
}

/// `host power`.
pub(super) async fn run(connection: &Connection, verb: &PowerVerb) -> Result<(), Error> {
    let (order, name, waiting, device) = match verb {
        PowerVerb::On(args) => {
            let device = args.boot.boot_once.as_deref();
            (Order::On, &args.host.name, args.waiting, device)
        }
        PowerVerb::Off(args) => {
            let order = Order::Off { hard: args.hard };
            (order, &args.host.name, args.waiting, None)
        }
        PowerVerb::Reboot(args) => {
            let (off, device) = (&args.off, args.boot.boot_once.as_deref());
            let order = Order::Reboot { hard: off.hard };
            (order, &off.host.name, off.waiting, device)
        }
    };
    let host = super::host(connection, name).await?;
    let mut patch = order.patch(&host).map_err(Error::Usage)?;
    let mut from = String::new();
    if let Some(device) = device {
        boot_once(&host, order).map_err(Error::Usage)?;
        patch["metadata"]["annotations"][BOOT_ONCE] = json!(device);
        from = format!(" and boots once from: {device}");
    }
    super::patch(connection, name, &patch).await?;
    let line = format!("baremetalhost.metal3.io/{name} {}{from}\n", order.said());
    say(&line).map_err(Error::io("standard output"))?;
    if let Some(held) = view::held_off(&host).filter(|_| order != Order::Off { hard: false }) {
        eprintln!("Warning: it is held off while it has the annotation {held}");
    }
    wait(connection, name, waiting, &order.wanted())
        .await
        .map(drop)
}

/// Whether a server takes an order where to boot from; in words why not. Pure.
fn boot_once(host: &BareMetalHost, order: Order) -> Result<(), String> {
    let name = host.metadata.name.as_deref().unwrap_or_default();
    let state = view::state(host);
    if !view::is_powered(host) {
        return Err(format!(
            "{name} is {state}, where it is decided for it what it boots from: a server that is available, provisioned or externally provisioned can be asked"
        ));
    }
    let is_on = host.status.as_ref().is_some_and(|status| status.powered_on);
    if order == Order::On && is_on {
        return Err(format!(
            "{name} is still on; `kubectl catamaran host power reboot {name} --boot-once DEVICE` starts it anew"
        ));
    }
    Ok(())
}

impl Order {
    fn said(self) -> &'static str {
        match self {
            Self::On => "will be turned on",
            Self::Off { hard: false } => "will be shut down",
            Self::Off { hard: true } => "will be cut off",
            Self::Reboot { .. } => "will be rebooted",
        }
    }

    fn wanted(self) -> Wanted {
        match self {
            Self::On => Wanted::Power(true),
            Self::Off { .. } => Wanted::Power(false),
            Self::Reboot { .. } => Wanted::Rebooted,
        }
    }

    /// The change of the host that leads there; in words why there is none. Pure.
    fn patch(self, host: &BareMetalHost) -> Result<Value, String> {
        let name = host.metadata.name.as_deref().unwrap_or_default();
        let state = view::state(host);
        if view::annotation(host, PAUSED).is_some() {
            return Err(format!(
                "{name} is left alone: it has the annotation {PAUSED}; `kubectl annotate bmh {name} {PAUSED}-` takes that away"
            ));
        }
        if self != Self::On && host.spec.disable_power_off == Some(true) {
            return Err(format!(
                "{name} is never turned off: spec.disablePowerOff is true"
            ));
        }
        let mode = |hard: bool| {
            // Hosts that nobody uses are rebooted by force only.
            let mode = if hard { "hard" } else { "soft" };
            json!({"mode": mode, "force": !view::is_in_use(host)}).to_string()
        };
        match self {
            Self::On => Ok(json!({"spec": {"online": true}})),
            Self::Off { hard: false } => Ok(json!({"spec": {"online": false}})),
            Self::Off { hard: true } => Ok(json!({
                "spec": {"online": false}, "metadata": {"annotations": {REBOOT: mode(true)}},
            })),
            Self::Reboot { .. } if !view::is_powered(host) => Err(format!(
                "{name} is {state} and can't be rebooted: hosts that are available, provisioned or externally provisioned can"
            )),
            Self::Reboot { .. } if !host.spec.online => Err(format!(
                "{name} is to be off; `kubectl catamaran host power on {name}` turns it on"
            )),
            Self::Reboot { hard } => Ok(json!({"metadata": {"annotations": {REBOOT: mode(hard)}}})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::view::tests::host;

    #[test]
    fn orders_are_changes_of_spec_and_annotations() {
        let used = host("a", "provisioned", &json!({}));
        assert_eq!(
            Order::On.patch(&used),
            Ok(json!({"spec": {"online": true}}))
        );
        assert_eq!(
            Order::Reboot { hard: false }.patch(&used),
            Ok(
                json!({"metadata": {"annotations": {"reboot.metal3.io": r#"{"force":false,"mode":"soft"}"#}}})
            )
        );
        let free = host("a", "available", &json!({}));
        assert_eq!(
            Order::Off { hard: true }.patch(&free),
            Ok(json!({"spec": {"online": false},
                      "metadata": {"annotations": {"reboot.metal3.io": r#"{"force":true,"mode":"hard"}"#}}}))
        );
    }

    #[test]
    fn where_to_boot_from_is_asked_of_servers_that_start() {
        let used = host("a", "provisioned", &json!({}));
        assert_eq!(boot_once(&used, Order::Reboot { hard: true }), Ok(()));
        let why = boot_once(&host("a", "inspecting", &json!({})), Order::On).unwrap_err();
        assert!(why.contains("a is inspecting"), "{why}");
        let off = json!({"spec": {"online": false}, "status": {"poweredOn": false}});
        let off = host("a", "available", &off);
        assert_eq!(boot_once(&off, Order::On), Ok(()));
        let leaving = json!({"spec": {"online": false}, "status": {"poweredOn": true}});
        let why = boot_once(&host("a", "available", &leaving), Order::On).unwrap_err();
        assert!(why.contains("a is still on"), "{why}");
    }

    #[test]
    fn what_nothing_would_come_of_is_refused_in_words() {
        let reboot = Order::Reboot { hard: false };
        for (state, more, said) in [
            (
                "inspecting",
                json!({}),
                "a is inspecting and can't be rebooted",
            ),
            (
                "available",
                json!({"spec": {"online": false}}),
                "host power on a",
            ),
            (
                "available",
                json!({"spec": {"disablePowerOff": true}}),
                "spec.disablePowerOff",
            ),
            ("available", json!({"annotations": {PAUSED: ""}}), "paused-"),
        ] {
            let why = reboot.patch(&host("a", state, &more)).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        let paused = host("a", "available", &json!({"annotations": {PAUSED: ""}}));
        assert!(Order::On.patch(&paused).is_err());
    }
}
