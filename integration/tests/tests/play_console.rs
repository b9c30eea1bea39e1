//! The web console of one machine, asked as a browser would.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::browser::Browser;
use catamaran_tests::manifest::machine;
use catamaran_tests::{BOOT, Bench, Console, SHORT, Setting, run_in, wait::Seen, wait_for};
use serde_json::{Value, json};

const PORT: u16 = 8188;

/// The one-time token that was printed last.
fn token(bench: &Bench) -> Result<String> {
    let log = bench.daemon_log();
    let token = log.rsplit("/console/#token=").next();
    let token = token.and_then(|rest| rest.lines().next());
    token
        .filter(|token| token.len() == 64)
        .map(str::to_owned)
        .with_context(|| log.clone())
}

fn browser(bench: &Bench) -> Result<Browser> {
    let namespace = Path::new("/run/netns").join(&bench.marks().netns);
    Browser::inside(&namespace, PORT)
}

#[test]
fn one_machine_is_seen_used_and_stopped_in_a_browser() -> Result<()> {
    run_in(Setting::words(&["--console"]), |bench| {
        let mut browser = browser(bench)?;
        let mode = browser.expect("GET", "mode", &Value::Null, 200)?;
        ensure!(
            mode["mode"] == "play" && mode["login"] == json!(["one-time"]),
            "{mode}"
        );
        browser.expect("GET", "list/virtualmachines", &Value::Null, 401)?;

        // A token is good once.
        let first = token(bench)?;
        browser.login(&first)?;
        ensure!(browser.login(&first).is_err(), "a token was used twice");
        wait_for("the next token is printed", SHORT, || {
            Ok(Seen::when(token(bench)? != first, "still the first"))
        })?;
        browser.login(&token(bench)?)?;

        // A machine from the browser; what is wrong with another one lands on its field.
        let create = "objects/virtualmachines?namespace=default";
        let mut wrong = machine("web");
        wrong["spec"]["template"]["spec"]["domain"]["cpu"] = json!({"cors": 2});
        let refused = browser.expect("POST", &format!("{create}&dryRun=true"), &wrong, 422)?;
        let field = refused["causes"][0]["field"].as_str().unwrap_or_default();
        ensure!(field.contains("domain.cpu.cors"), "{refused}");
        browser.expect("POST", create, &machine("web"), 201)?;
        browser.expect("POST", create, &machine("web"), 409)?;
        wait_for("the instance runs", BOOT, || {
            let path = "object/virtualmachineinstances/web?namespace=default";
            let found = browser.ask("GET", path, &Value::Null)?.json();
            let runs = found["status"]["phase"] == "Running";
            Ok(Seen::when(runs, found["status"].to_string()))
        })?;
        let listed = browser.expect("GET", "list/virtualmachines", &Value::Null, 200)?;
        ensure!(listed["items"][0]["metadata"]["name"] == "web", "{listed}");
        let events = browser.expect("GET", "list/events?namespace=default", &Value::Null, 200)?;
        ensure!(!events["items"].as_array().context("no items")?.is_empty());
        let rights = browser.expect("GET", "rights", &Value::Null, 200)?;
        ensure!(rights["allowed"]["nodes"] == json!([]), "{rights}");

        // Its consoles.
        let ticket = browser.ticket("default", "web", &json!({"stream": "console"}))?;
        let (output, input) = browser.stream(&ticket)?;
        let mut console = Console::over(output, input);
        console.type_in("\n")?;
        console.wait_for(":/root# ", BOOT)?;
        ensure!(console.shell("echo $((6*7))")?.contains("42"));
        let (mut again, _keep) = browser.stream(&ticket)?;
        ensure!(again.farewell(SHORT)?.0 == 4008);
        let wish = json!({"stream": "console", "replay": true, "readOnly": true});
        let ticket = browser.ticket("default", "web", &wish)?;
        let (output, input) = browser.stream(&ticket)?;
        let mut looking = Console::over(output, input);
        looking.wait_for(":/root# ", SHORT)?;
        looking.type_in("echo nobody he'ars\n")?;
        console.type_in("echo every'bo'dy\n")?;
        looking.wait_for("everybody", SHORT)?;
        ensure!(!console.text().contains("nobody he"), "{console:?}");
        let ticket = browser.ticket("default", "web", &json!({"stream": "vnc"}))?;
        let (mut screen, _keep) = browser.stream(&ticket)?;
        let mut greeting = [0; 12];
        screen.read_exact(&mut greeting)?;
        ensure!(&greeting == b"RFB 003.008\n", "{greeting:?}");
        let picture = browser.ask("GET", "machines/default/web/screenshot", &Value::Null)?;
        ensure!(picture.code == 200 && picture.body.starts_with(b"\x89PNG"));

        wait_for("what it used", BOOT, || {
            let path = "machines/default/web/usage";
            let usage = browser.expect("GET", path, &Value::Null, 200)?;
            let cpu = usage["cpu"].as_array().into_iter().flatten();
            let known = cpu.filter_map(Value::as_f64).any(|busy| busy > 0.0);
            Ok(Seen::when(known, usage.to_string()))
        })?;

        // Verbs.
        browser.expect("POST", "machines/default/web/pause", &Value::Null, 200)?;
        browser.expect("POST", "machines/default/web/unpause", &Value::Null, 200)?;
        let now = json!({"gracePeriodSeconds": 0});
        browser.expect("POST", "machines/default/web/stop", &now, 200)?;
        ensure!(screen.farewell(SHORT)?.0 == 1000);
        let version = listed["metadata"]["resourceVersion"].clone();
        let path = format!(
            "watch/virtualmachines/{}",
            version.as_str().context("no version")?
        );
        let changes = browser.ask("GET", &path, &Value::Null)?;
        let changes = String::from_utf8_lossy(&changes.body).into_owned();
        ensure!(changes.contains("\"code\":410"), "an old watch: {changes}");
        let path = "object/virtualmachines/web?namespace=default";
        browser.expect("DELETE", path, &Value::Null, 200)?;
        bench.wait_gone("vm/web", SHORT)?;

        // A page of somebody else whose name leads here gets nothing, cookie or not.
        browser.rename("evil.example:8188");
        browser.expect("GET", "session", &Value::Null, 421)?;
        Ok(())
    })
}
