//! The web console's pages in Chromium, served by the installed controller, with real machines behind them. What is done on the pages is in
//! `controller/console/web/real/cluster`.

use anyhow::Result;
use catamaran_tests::BOOT;
use catamaran_tests::cluster::chromium::User;
use catamaran_tests::cluster::{self, machine};
use serde_json::json;

const USERS: [User<'_>; 9] = [
    ("viewer", "view", true),
    ("viewer-here", "view", false),
    ("operator", "edit", true),
    ("operator-here", "edit", false),
    ("admin", "admin", true),
    ("admin-here", "admin", false),
    // Nodes, servers and others' sessions.
    ("root", "cluster-admin", true),
    // Whose session is ended.
    ("visitor", "view", true),
    // Whose right is taken away.
    ("leaving", "edit", false),
];

#[test]
fn people_use_the_pages_with_real_machines() -> Result<()> {
    cluster::run(1, |cluster| {
        let mut idle = machine("idle");
        idle["spec"]["runStrategy"] = "Manual".into();
        cluster.apply(&[&machine("web"), &idle])?;
        let bmc = cluster.bmc()?;
        cluster.enrol("rack-1", &bmc, json!({"online": false}))?;
        let state = "/status/provisioning/state";
        cluster.wait_field("bmh/rack-1", state, "available", BOOT)?;
        cluster.wait_field("vmi/web", "/status/phase", "Running", BOOT)?;
        let said = cluster.pages("cluster", &USERS);
        // As long as its BMC answers: it is turned off.
        cluster.kubectl(["delete", "bmh/rack-1"])?;
        eprintln!("{}", said?);
        Ok(())
    })
}
