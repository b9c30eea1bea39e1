//! Brings the network up: as the parameters say, by MAC address, or else by DHCPv4 on every card.

mod plan;

pub use plan::{Card, Plan, PlanError, Step, plan};

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use catamaran_deploy_wire::NetworkData;

use crate::program;

/// DHCP clients, which go on renewing as long as this lives.
#[derive(Debug, Default)]
pub struct Network {
    clients: Vec<Child>,
}

impl Network {
    /// Does what the network data say; without any, asks DHCP on every card. Says what did not work; the rest is done all the same.
    pub fn start(&mut self, data: Option<&NetworkData>) -> Vec<String> {
        self.stop();
        let mut problems = dissolve();
        let cards = cards(Path::new("/sys"));
        let plan = match data {
            None => Plan::dhcp_on_all(&cards),
            Some(data) => plan(data, &cards).unwrap_or_else(|errors| {
                problems.extend(errors.iter().map(ToString::to_string));
                problems.push("DHCP is tried on every card instead".to_owned());
                Plan::dhcp_on_all(&cards)
            }),
        };
        if cards.is_empty() {
            problems.push("the host has no network card that this kernel has a driver for".into());
        }
        problems.extend(plan.steps.iter().filter_map(|step| carry_out(step).err()));
        if !plan.dns.is_empty() {
            let lines: String = plan
                .dns
                .iter()
                .map(|server| format!("nameserver {server}\n"))
                .collect();
            if let Err(error) = fs::write("/etc/resolv.conf", lines) {
                problems.push(format!("/etc/resolv.conf can't be written: {error}"));
            }
        }
        for card in &plan.dhcp {
            let client = Command::new("udhcpc")
                .args([
                    "-f",
                    "-i",
                    card,
                    "-s",
                    "/etc/udhcpc/script",
                    "-t",
                    "8",
                    "-T",
                    "2",
                    "-A",
                    "5",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            match client {
                Ok(client) => self.clients.push(client),
                Err(error) => problems.push(format!("udhcpc on {card}: {error}")),
            }
        }
        problems
    }

    fn stop(&mut self) {
        for mut client in self.clients.drain(..) {
            // It has ended already, or ends now.
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Does one thing, or says why not.
fn carry_out(step: &Step) -> Result<(), String> {
    let run = |program: &str, words: &[&str]| {
        let ran = program::run(program, words, "");
        ran.map(drop).map_err(|error| error.to_string())
    };
    match step {
        Step::Ip(words) => run("ip", &words.iter().map(String::as_str).collect::<Vec<_>>()),
        Step::LoadBonding => run("modprobe", &["bonding", "max_bonds=0"]),
        Step::SetBond {
            bond,
            option,
            value,
        } => {
            let file = format!("/sys/class/net/{bond}/bonding/{option}");
            fs::write(&file, value).map_err(|error| format!("{file} can't be {value:?}: {error}"))
        }
    }
}

/// Takes bonds away: their cards have no MAC addresses of their own as long as they are there.
fn dissolve() -> Vec<String> {
    const BONDS: &str = "/sys/class/net/bonding_masters";
    let bonds = fs::read_to_string(BONDS).unwrap_or_default();
    let dissolved = bonds.split_whitespace().map(|bond| {
        fs::write(BONDS, format!("-{bond}"))
            .map_err(|error| format!("{bond} can't be taken away: {error}"))
    });
    dissolved.filter_map(Result::err).collect()
}

/// The network cards of this host: what has a device behind it.
fn cards(sys: &Path) -> Vec<Card> {
    let mut cards: Vec<Card> = fs::read_dir(sys.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| {
            let mac = fs::read_to_string(entry.path().join("address")).ok()?;
            Some(Card {
                name: entry.file_name().into_string().ok()?,
                mac: mac.trim().to_ascii_lowercase(),
            })
        })
        .collect();
    cards.sort_by(|a, b| a.name.cmp(&b.name));
    cards
}
