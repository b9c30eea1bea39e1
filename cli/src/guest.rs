//! What a guest shows and says: screenshot, dmesg, guest info; and the versions of both sides.

use std::path::Path;

use catamaran_client::{Format, Table, say, say_bytes, say_guest, text};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::{Dmesg, Globals, Guest, GuestInfo, Question, Screenshot};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::Kind;

/// `screenshot`.
pub(crate) async fn screenshot(connection: &Connection, args: &Screenshot) -> Result<(), Error> {
    let word = format!("vnc/screenshot?moveCursor={}", args.move_cursor);
    let path = connection.path(Kind::Instance, &args.vm.target, &word);
    let png = connection.bytes(Method::GET, &path, None).await?;
    if args.file == Path::new("-") {
        return say_bytes(&png).map_err(Error::io("standard output"));
    }
    std::fs::write(&args.file, &png).map_err(Error::io(args.file.display().to_string()))
}

/// `dmesg`.
pub(crate) async fn dmesg(connection: &Connection, args: &Dmesg) -> Result<(), Error> {
    let word = match args.tail {
        Some(bytes) => format!("dmesg?tail={bytes}"),
        None => "dmesg".to_owned(),
    };
    let path = connection.path(Kind::Instance, &args.vm.target, &word);
    let log = connection.bytes(Method::GET, &path, None).await?;
    say_guest(&log).map_err(Error::io("standard output"))
}

/// `guest`.
pub(crate) async fn info(connection: &Connection, args: &Guest) -> Result<(), Error> {
    let Question::Info(GuestInfo { vm, output }) = &args.question;
    let ask = async |word| {
        let path = connection.path(Kind::Instance, &vm.target, word);
        connection.get(&path).await
    };
    let system = ask("guestosinfo").await?;
    let users = ask("userlist").await?;
    let disks = ask("filesystemlist").await?;
    let all = json!({
        "guestOSInfo": system,
        "users": users["items"],
        "fileSystems": disks["items"],
    });
    let said = match output.unwrap_or_default().print(&all)? {
        Some(said) => said,
        None if output.is_some_and(|format| format != Format::Table) => {
            return Err(Error::Usage(
                "unknown output format of guest info: allowed are json and yaml".to_owned(),
            ));
        }
        None => tables(&all),
    };
    say(&said).map_err(Error::io("standard output"))
}

/// What the agent said, for people.
fn tables(all: &Value) -> String {
    let system = &all["guestOSInfo"];
    let mut said = String::new();
    for (label, value) in [
        ("Agent", &system["guestAgentVersion"]),
        ("Host name", &system["hostname"]),
        ("System", &system["os"]["prettyName"]),
        ("Kernel", &system["os"]["kernelRelease"]),
        ("Time zone", &system["timezone"]),
    ] {
        if !value.is_null() {
            said.push_str(&format!("{:<12}{}\n", format!("{label}:"), text(value)));
        }
    }
    let mut users = Table::new(&["USER", "DOMAIN", "SINCE"]);
    for user in all["users"].as_array().into_iter().flatten() {
        users.row([
            text(&user["userName"]),
            text(&user["domain"]),
            time(&user["loginTime"]),
        ]);
    }
    let mut disks = Table::new(&["MOUNT", "DISK", "TYPE", "USED", "TOTAL"]);
    for disk in all["fileSystems"].as_array().into_iter().flatten() {
        let mut row = ["mountPoint", "diskName", "fileSystemType"]
            .map(|field| text(&disk[field]))
            .to_vec();
        row.extend(["usedBytes", "totalBytes"].map(|field| size(&disk[field])));
        disks.row(row);
    }
    for table in [users, disks] {
        if !table.is_empty() {
            said.push_str(&format!("\n{table}"));
        }
    }
    said
}

/// Seconds since 1970, which the agent gives with a fraction.
fn time(value: &Value) -> String {
    let whole = text(value);
    let whole = whole
        .split('.')
        .next()
        .and_then(|seconds| seconds.parse().ok());
    let time = whole.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| time.to_string())
}

/// Bytes in the largest unit that leaves something before the point.
fn size(value: &Value) -> String {
    let Some(bytes) = value.as_u64() else {
        return String::new();
    };
    let units = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut rest = bytes;
    let mut unit = "";
    for next in units {
        if rest < 10 * 1024 {
            break;
        }
        rest /= 1024;
        unit = next;
    }
    format!("{rest}{unit}")
}

/// `version`.
pub(crate) async fn version(globals: &Globals, client_only: bool) -> Result<(), Error> {
    let mut said = format!("Plugin:  {}\n", env!("CARGO_PKG_VERSION"));
    if !client_only {
        let connection = Connection::open(globals).await?;
        let path = "/apis/subresources.kubevirt.io/v1/version";
        let server = connection.get(path).await?;
        said.push_str(&format!(
            "Server:  {} (like KubeVirt {})\n",
            text(&server["catamaranVersion"]),
            text(&server["gitVersion"])
        ));
    }
    say(&said).map_err(Error::io("standard output"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{size, tables};

    #[test]
    fn the_agents_words_become_tables() {
        let said = tables(&json!({
            "guestOSInfo": {"guestAgentVersion": "9.0", "hostname": "demo",
                "os": {"prettyName": "Debian 13", "kernelRelease": "6.12"}},
            "users": [{"userName": "root", "loginTime": 1_767_225_600.25}],
            "fileSystems": [{"mountPoint": "/", "diskName": "vda1", "fileSystemType": "ext4",
                "usedBytes": 1_288_490_188_u64, "totalBytes": 21_474_836_480_u64}],
        }));
        assert_eq!(said, include_str!("../tests/golden/guest-info.txt"));
    }

    #[test]
    fn sizes_keep_two_digits() {
        assert_eq!(size(&json!(512)), "512");
        assert_eq!(size(&json!(20_480)), "20Ki");
        assert_eq!(size(&json!(null)), "");
    }
}
