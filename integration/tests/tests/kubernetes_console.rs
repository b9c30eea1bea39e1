//! The server of the web console on a real cluster, asked as a browser would.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::browser::Browser;
use catamaran_tests::cluster::{self, Cluster, SYSTEM, machine};
use catamaran_tests::{BOOT, Console, SHORT, wait::Seen, wait_for};
use serde_json::{Value, json};

/// Within this a console must close when its right is taken away.
const REVOKED: Duration = Duration::from_secs(10);

/// Waits until the rights of a role have come about.
fn wait_right(browser: &Browser, namespace: &str, thing: &str, word: &str) -> Result<()> {
    // The console keeps what was said for ten seconds.
    wait_for("the role is bound", SHORT, || {
        let rights = browser.expect("GET", &format!("rights{namespace}"), &Value::Null, 200)?;
        let words = rights["allowed"][thing].as_array().cloned();
        let found = words.unwrap_or_default().contains(&word.into());
        Ok(Seen::when(found, rights.to_string()))
    })
}

fn browsers(cluster: &Cluster, count: usize) -> Result<Vec<Browser>> {
    let pods = wait_for("the controller's replicas are ready", BOOT, || {
        let pods = cluster.controllers()?;
        Ok(if pods.len() >= count {
            Seen::Yes(pods)
        } else {
            Seen::NotYet(format!("{pods:?}"))
        })
    })?;
    pods.iter()
        .take(count)
        .map(|pod| cluster.browser(pod))
        .collect()
}

#[test]
fn each_class_of_routes_is_open_to_whom_the_roles_allow_it() -> Result<()> {
    cluster::run(1, |cluster| {
        let namespace = cluster.namespace();
        let _gone = cluster.gone_afterwards(
            ["viewer", "operator", "admin"]
                .map(|name| format!("clusterrolebinding/{namespace}-{name}")),
        );
        let mut halted = machine("a");
        halted["spec"]["runStrategy"] = "Halted".into();
        cluster.apply(&[&halted])?;
        let here = format!("?namespace={namespace}");
        let stop = format!("machines/{namespace}/a/stop");
        let ticket = format!("machines/{namespace}/a/ticket");
        let host = format!("hosts/{namespace}/none");
        let create = format!("objects/virtualmachines{here}&dryRun=true");
        let object = format!("object/virtualmachines/a{here}");
        let mut new = machine("b");
        new["metadata"]["namespace"] = namespace.into();
        let console = json!({"stream": "console"});
        let nothing = Value::Null;
        // Method, path, body, and the answers to viewer, operator, admin, each everywhere, and to an operator of this namespace only.
        let table: [(&str, &str, &Value, [u16; 4]); 13] = [
            (
                "GET",
                "list/virtualmachines",
                &nothing,
                [200, 200, 200, 403],
            ),
            (
                "GET",
                &format!("list/virtualmachines{here}"),
                &nothing,
                [200; 4],
            ),
            ("GET", &format!("list/events{here}"), &nothing, [200; 4]),
            ("GET", &format!("list/pods{here}"), &nothing, [200; 4]),
            ("GET", "list/nodes", &nothing, [403; 4]),
            ("GET", "list/baremetalhosts", &nothing, [200, 200, 200, 403]),
            ("GET", &object, &nothing, [200; 4]),
            ("POST", &create, &new, [403, 201, 201, 201]),
            // Who may is told that it does not run.
            ("POST", &stop, &nothing, [403, 409, 409, 409]),
            ("POST", &ticket, &console, [403, 404, 404, 404]),
            ("POST", "nodes/node1/cordon", &nothing, [403; 4]),
            ("PATCH", &host, &json!({"online": true}), [403; 4]),
            (
                "GET",
                "list/virtualmachines?namespace=kube-system",
                &nothing,
                [200, 200, 200, 403],
            ),
        ];
        let mut browser = browsers(cluster, 1)?.pop().context("no browser")?;
        for (place, (name, role, everywhere)) in [
            ("viewer", "view", true),
            ("operator", "edit", true),
            ("admin", "admin", true),
            ("local", "edit", false),
        ]
        .into_iter()
        .enumerate()
        {
            let user = browser.login(&cluster.user(name, role, everywhere)?)?;
            ensure!(
                user["name"] == format!("system:serviceaccount:{namespace}:{name}"),
                "{user}"
            );
            wait_right(&browser, &here, "virtualmachines", "list")?;
            for (method, path, body, codes) in &table {
                let answer = browser.ask(method, path, body)?;
                ensure!(
                    answer.code == codes[place],
                    "{name}: {method} {path}: {} instead of {}: {}",
                    answer.code,
                    codes[place],
                    String::from_utf8_lossy(&answer.body)
                );
            }
        }
        // A namespace that the caller has no right in looks the same whether it is there or not.
        let refusals = ["kube-system", "not-there"].map(|other| {
            let path = format!("machines/{other}/a/ticket");
            let answer = browser.ask("POST", &path, &console)?;
            anyhow::Ok((answer.code, answer.json().to_string().replace(other, "X")))
        });
        let [there, not_there] = refusals;
        ensure!(there? == not_there?, "refusals tell what is there");
        // A wrong field is named.
        browser.login(&cluster.token("operator")?)?;
        new["spec"]["template"]["spec"]["domain"]["cpu"] = json!({"cors": 2});
        let refused = browser.ask("POST", &create, &new)?;
        ensure!((400..500).contains(&refused.code), "{refused:?}");
        let words = refused.json().to_string();
        ensure!(words.contains("domain.cpu.cors"), "{words}");
        // Nobody of these may end the sessions of others, or see them.
        let sessions = browser.expect("GET", "sessions", &Value::Null, 200)?;
        let sessions = sessions.as_array().cloned().unwrap_or_default();
        ensure!(
            sessions.iter().all(|session| session["user"]
                .as_str()
                .is_some_and(|user| user.ends_with(":operator"))),
            "{sessions:?}"
        );
        let foreign = browser.ask("DELETE", "sessions/none", &Value::Null)?;
        ensure!(foreign.code == 403, "{foreign:?}");
        Ok(())
    })
}

#[test]
fn consoles_live_as_long_as_session_and_right_and_outlive_the_controller() -> Result<()> {
    cluster::run(1, |cluster| {
        let namespace = cluster.namespace();
        let here = format!("?namespace={namespace}");
        cluster.apply(&[&machine("a")])?;
        let token = cluster.user("operator", "edit", false)?;
        let mut pair = browsers(cluster, 2)?;
        let (mut other, mut browser) = (
            pair.pop().context("no second")?,
            pair.pop().context("no first")?,
        );
        browser.login(&token)?;
        wait_right(&browser, &here, "machines", "console")?;
        cluster.wait_field("vmi/a", "/status/phase", "Running", BOOT)?;

        // The other replica knows the session, and its tickets.
        other.as_same_browser(&browser);
        other.expect("GET", "session", &Value::Null, 200)?;
        let ticket = browser.ticket(
            namespace,
            "a",
            &json!({"stream": "console", "replay": true}),
        )?;
        let asked = Instant::now();
        let (mut output, input) = other.stream(&ticket)?;
        let mut first = [0; 1];
        output.read_exact(&mut first)?;
        eprintln!(
            "from the ticket's use to the first byte: {:?}",
            asked.elapsed()
        );
        let mut console = Console::over(output, input);
        console.type_in("\n")?;
        console.wait_for(":/root# ", BOOT)?;
        ensure!(console.shell("echo $((6*7))")?.contains("42"));
        let path = format!("machines/{namespace}/a/viewers");
        let viewers = other.expect("GET", &path, &Value::Null, 200)?;
        let seen = &viewers[0];
        ensure!(
            seen["stream"] == "console" && seen["readOnly"] == false,
            "{viewers}"
        );
        let operator = format!("system:serviceaccount:{namespace}:operator");
        ensure!(seen["user"] == operator, "{viewers}");

        // A ticket is good once, at whichever replica it comes.
        for replica in [&browser, &other] {
            let (mut again, _keep) = replica.stream(&ticket)?;
            let (code, why) = again.farewell(SHORT)?;
            ensure!(code == 4008, "{code} {why}");
        }

        // The keyboard is asked for and given, across replicas.
        let hand = |replica: &Browser, viewer: &Value, word: &str| {
            let path = format!("{path}/{}", viewer.as_str().unwrap_or_default());
            replica.expect("PUT", &path, &json!({"keyboard": word}), 200)
        };
        let ticket = browser.ticket(
            namespace,
            "a",
            &json!({"stream": "console", "readOnly": true}),
        )?;
        let (_reads, _only) = browser.stream(&ticket)?;
        let reader = |replica: &Browser| {
            wait_for("the reader", SHORT, || {
                let viewers = replica.expect("GET", &path, &Value::Null, 200)?;
                let mut all = viewers.as_array().into_iter().flatten();
                let found = all.find(|one| one["readOnly"] == true).cloned();
                Ok(found.map_or_else(|| Seen::NotYet(viewers.to_string()), Seen::Yes))
            })
        };
        let viewer = reader(&other)?["id"].clone();
        hand(&browser, &viewer, "asked")?;
        ensure!(reader(&other)?["keyboard"] == "asked");
        hand(&other, &viewer, "given")?;
        ensure!(reader(&browser)?["keyboard"] == "given");

        // The screen greets.
        let ticket = browser.ticket(namespace, "a", &json!({"stream": "vnc", "readOnly": true}))?;
        let (mut screen, _keep) = browser.stream(&ticket)?;
        let mut greeting = [0; 12];
        screen.read_exact(&mut greeting)?;
        ensure!(&greeting == b"RFB 003.008\n", "{greeting:?}");
        let path = format!("machines/{namespace}/a/screenshot");
        let picture = browser.ask("GET", &path, &Value::Null)?;
        ensure!(picture.code == 200 && picture.body.starts_with(b"\x89PNG"));
        let path = format!("machines/{namespace}/a/dmesg");
        wait_for("the kernel's log", BOOT, || {
            let log = browser.ask("GET", &path, &Value::Null)?;
            let text = String::from_utf8_lossy(&log.body).into_owned();
            Ok(Seen::when(text.contains("Linux version"), text))
        })?;

        // The right is taken away.
        let ticket = browser.ticket(namespace, "a", &json!({"stream": "console"}))?;
        let (mut output, mut input) = browser.stream(&ticket)?;
        input.write_all(b"\n")?;
        output.read_exact(&mut first)?;
        cluster.kubectl(["delete", "rolebinding/operator"])?;
        let revoked = Instant::now();
        let (code, why) = output.farewell(REVOKED)?;
        ensure!(code == 4003, "{code} {why}");
        eprintln!(
            "closed {:?} after the right was taken away",
            revoked.elapsed()
        );
        let (code, why) = screen.farewell(REVOKED)?;
        ensure!(code == 4003, "{code} {why}");
        let account = format!("--serviceaccount={namespace}:operator");
        cluster.kubectl([
            "create",
            "rolebinding",
            "operator",
            "--clusterrole=edit",
            &account,
        ])?;
        wait_right(&browser, &here, "machines", "console")?;

        // Both replicas are killed: the session lives on, and so does the way to the console.
        for pod in cluster.controllers()? {
            let name = format!("pod/{pod}");
            cluster.kubectl(["--namespace", SYSTEM, "delete", &name, "--wait=true"])?;
        }
        let mut next = browsers(cluster, 1)?.pop().context("no browser")?;
        next.as_same_browser(&browser);
        wait_for("the new controller knows the session", SHORT, || {
            let answer = next.ask("GET", "session", &Value::Null)?;
            Ok(Seen::when(answer.code == 200, format!("{answer:?}")))
        })?;
        let again = wait_for("a ticket of the new controller", SHORT, || {
            Ok(Seen::Yes(next.ticket(
                namespace,
                "a",
                &json!({"stream": "console"}),
            )?))
        })?;
        let (mut output, mut input) = next.stream(&again)?;
        input.write_all(b"\n")?;
        output.read_exact(&mut first)?;

        // Logged out: the console closes.
        next.expect("POST", "logout", &Value::Null, 200)?;
        let (code, why) = output.farewell(REVOKED)?;
        ensure!(code == 4001, "{code} {why}");
        let gone = next.ask("GET", "session", &Value::Null)?;
        ensure!(gone.code == 401, "{gone:?}");
        Ok(())
    })
}
