//! The program: BMCs on ports of their own, the interface for scripts, the command at power changes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(20);

struct Program {
    child: Child,
    bmcs: Vec<Value>,
    admin: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(count: usize, words: &[&str]) -> Self {
        let admin = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_catamaran-redfish-mock"))
            .args([
                "--count",
                &count.to_string(),
                "--admin",
                &admin,
                "--power-ms",
                "20",
            ])
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let bmcs = lines
            .take(count)
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect();
        let program = Self { child, bmcs, admin };
        until("the interface listens", || {
            TcpStream::connect(&program.admin).is_ok()
        });
        program
    }

    fn address(&self, bmc: usize) -> String {
        let url = self.bmcs[bmc]["url"].as_str().unwrap();
        url.strip_prefix("http://").unwrap().to_owned()
    }

    /// What the machine really is.
    fn is_on(&self, name: &str) -> bool {
        ask(&self.admin, "GET", &format!("/bmcs/{name}"), None).1["power"] == true
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request by hand; status 0 when the connection ends without an answer.
fn ask(address: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    // admin:password
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\nAuthorization: Basic YWRtaW46cGFzc3dvcmQ=\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    // A connection that is cut off is an answer too.
    let _ = stream.read_to_string(&mut answer);
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let content = answer
        .split_once("\r\n\r\n")
        .map(|(_, content)| content)
        .unwrap_or_default();
    (status, serde_json::from_str(content).unwrap_or_default())
}

const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";

#[test]
fn power_changes_run_a_command_that_knows_what_to_boot() {
    let folder = std::env::temp_dir().join(format!("redfish-mock-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (script, log, fail) = (
        folder.join("power"),
        folder.join("log"),
        folder.join("fail"),
    );
    let text = format!(
        "#!/bin/sh\n[ ! -e {} ] || exit 1\necho \"$1 $REDFISH_MOCK_NAME $REDFISH_MOCK_BOOT $REDFISH_MOCK_IMAGE\" >> {}\n",
        fail.display(),
        log.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let program = Program::start(1, &["--command", script.to_str().unwrap()]);
    let bmc = program.address(0);
    let insert = "/redfish/v1/Systems/1/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia";
    assert_eq!(
        ask(
            &bmc,
            "POST",
            insert,
            Some(&json!({"Image": "http://x/a.iso"}))
        )
        .0,
        204
    );
    let boot =
        json!({"Boot": {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}});
    assert_eq!(
        ask(&bmc, "PATCH", "/redfish/v1/Systems/1", Some(&boot)).0,
        204
    );
    assert_eq!(
        ask(&bmc, "POST", RESET, Some(&json!({"ResetType": "On"}))).0,
        204
    );
    until("it is on", || program.is_on("bmc0"));
    assert_eq!(
        ask(
            &bmc,
            "POST",
            RESET,
            Some(&json!({"ResetType": "ForceRestart"}))
        )
        .0,
        204
    );
    until("it was restarted", || {
        fs::read_to_string(&log).unwrap().lines().count() == 3
    });
    let lines = fs::read_to_string(&log).unwrap();
    assert_eq!(
        lines,
        "on bmc0 Cd http://x/a.iso\noff bmc0 Hdd \non bmc0 Hdd \n"
    );
    until("it is on again", || program.is_on("bmc0"));

    // A command that fails leaves the machine, and what the BMC says, as it was.
    fs::write(&fail, "").unwrap();
    assert_eq!(
        ask(&bmc, "POST", RESET, Some(&json!({"ResetType": "ForceOff"}))).0,
        204
    );
    until("the failure is told", || {
        ask(&program.admin, "GET", "/bmcs/bmc0", None).1["command_error"].is_string()
    });
    assert!(program.is_on("bmc0"));
    until("it says On", || {
        ask(&bmc, "GET", "/redfish/v1/Systems/1", None).1["PowerState"] == "On"
    });
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn scripts_make_faults_and_see_what_really_is() {
    let program = Program::start(3, &["--personality", "standard,dell", "--name", "host"]);
    let admin = &program.admin;
    let (_, all) = ask(admin, "GET", "/bmcs", None);
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|bmc| bmc["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["host0", "host1", "host2"]);
    assert!(
        all[1]["system"]
            .as_str()
            .unwrap()
            .ends_with("System.Embedded.1")
    );
    assert_ne!(all[0]["uuid"], all[2]["uuid"]);

    let bmc = program.address(0);
    let fault = json!({"method": "POST", "path": "Reset", "times": 1, "effect": {"status": {"status": 503, "id": "IDRAC.2.8.SYS518"}}});
    assert_eq!(
        ask(admin, "POST", "/bmcs/host0/faults", Some(&fault)).0,
        204
    );
    let on = json!({"ResetType": "On"});
    assert_eq!(ask(&bmc, "POST", RESET, Some(&on)).0, 503);
    assert_eq!(
        ask(
            admin,
            "PATCH",
            "/bmcs/host0",
            Some(&json!({"lie": "ignores-orders"}))
        )
        .0,
        200
    );
    assert_eq!(ask(&bmc, "POST", RESET, Some(&on)).0, 204);
    assert!(!program.is_on("host0"));
    assert_eq!(
        ask(
            admin,
            "PATCH",
            "/bmcs/host0",
            Some(&json!({"lie": "none", "power": true}))
        )
        .0,
        200
    );
    assert_eq!(
        ask(&bmc, "GET", "/redfish/v1/Systems/1", None).1["PowerState"],
        "On"
    );

    assert_eq!(
        ask(
            admin,
            "PATCH",
            "/bmcs/host0",
            Some(&json!({"password": "other"}))
        )
        .0,
        200
    );
    assert_eq!(ask(&bmc, "GET", "/redfish/v1/Systems", None).0, 401);
    assert_eq!(
        ask(&bmc, "GET", "/redfish/v1", None).0,
        200,
        "the root is open"
    );
    assert_eq!(
        ask(
            admin,
            "PATCH",
            "/bmcs/host0",
            Some(&json!({"availability": "gone"}))
        )
        .0,
        200
    );
    until("nothing listens", || TcpStream::connect(&bmc).is_err());
    assert_eq!(
        ask(
            admin,
            "PATCH",
            "/bmcs/host0",
            Some(&json!({"availability": "up"}))
        )
        .0,
        200
    );
    until("it listens", || TcpStream::connect(&bmc).is_ok());

    let (_, requests) = ask(admin, "GET", "/bmcs/host0/requests", None);
    let requests = requests.as_array().unwrap();
    assert_eq!(requests[0]["number"], 1);
    assert_eq!(requests[0]["status"], 503);
    assert_eq!(ask(admin, "GET", "/bmcs/other", None).0, 404);
    assert_eq!(
        ask(
            admin,
            "PATCH",
            "/bmcs/host0",
            Some(&json!({"colour": "red"}))
        )
        .0,
        422
    );
}
