//! What flags become, and what is said about those that can't be.

use catamaran_client::Format;

use super::*;
use crate::args::{HostName, Making, Waiting};
use crate::host::golden;

fn args() -> Enroll {
    Enroll {
        host: HostName {
            name: "rack1".to_owned(),
        },
        bmc: "redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1".to_owned(),
        mac: None,
        user: Some("root".to_owned()),
        password_stdin: true,
        password_file: None,
        credentials: None,
        fingerprint: None,
        ca: None,
        insecure: false,
        offline: false,
        boot_mode: None,
        inspection: None,
        externally_provisioned: false,
        description: None,
        labels: Vec::new(),
        making: Making {
            dry_run: None,
            output: Some(Format::Yaml),
        },
        waiting: Waiting {
            wait: false,
            timeout: 1,
        },
    }
}

fn objects(args: &Enroll) -> Result<Vec<Value>, String> {
    let wanted = Wanting {
        args,
        namespace: Some("metal"),
        password: args.password_stdin.then(|| "calvin".to_owned()),
        authority: None,
    };
    wanted.objects()
}

#[test]
fn flags_become_a_secret_and_a_host() {
    let mut args = args();
    args.mac = Some("52:54:00:AA:BB:01".to_owned());
    args.boot_mode = Some("UEFISecureBoot".to_owned());
    args.labels = vec!["row=3".to_owned()];
    args.description = Some("third row".to_owned());
    args.insecure = true;
    let objects = objects(&args).unwrap();
    let documents: Vec<String> = objects
        .iter()
        .map(|object| serde_yaml_ng::to_string(object).unwrap())
        .collect();
    golden("enroll.yaml", &documents.join("---\n"));
}

#[test]
fn a_secret_that_is_there_is_used() {
    let mut args = args();
    (args.user, args.password_stdin) = (None, false);
    args.credentials = Some("all-bmcs".to_owned());
    let objects = objects(&args).unwrap();
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0]["spec"]["bmc"]["credentialsName"], "all-bmcs");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut args = args();
    args.host.name = "Rack_1".to_owned();
    args.bmc = "ipmi://192.0.2.7".to_owned();
    args.mac = Some("52:54".to_owned());
    args.fingerprint = Some("ab".to_owned());
    args.labels = vec!["x".to_owned()];
    let why = objects(&args).unwrap_err();
    for said in [
        "name \"Rack_1\"",
        "--bmc \"ipmi://192.0.2.7\": BMC address: scheme 'ipmi' is not supported",
        "--mac \"52:54\"",
        "--fingerprint: ",
        "--label \"x\": must be KEY=VALUE",
    ] {
        assert!(why.contains(said), "{said:?} is not in {why}");
    }
}
