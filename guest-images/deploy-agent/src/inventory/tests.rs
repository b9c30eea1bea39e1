//! Recorded trees of `/sys` and `/proc` give the inventories that stand beside them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::read;

/// Unfolds a recorded tree.
fn unfold(recorded: &str, top: &Path) {
    for line in recorded
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let mut words = line.splitn(3, ' ');
        let (name, kind, rest) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap_or_default(),
        );
        let path = top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "=" => fs::write(path, rest.replace("\\n", "\n")).unwrap(),
            "<" => fs::write(path, hex::decode(rest).unwrap()).unwrap(),
            "->" => symlink(rest, path).unwrap(),
            other => panic!("{other} in {line}"),
        }
    }
}

#[test]
fn a_server_with_every_kind_of_disk_is_read() {
    let top = tempfile::tempdir().unwrap();
    unfold(include_str!("trees/r640.txt"), top.path());
    let address: IpAddr = "192.0.2.17".parse().unwrap();
    let addresses = [
        ("eth1".to_owned(), "fe80::1".parse().unwrap()),
        ("eth1".to_owned(), address),
    ];
    let inventory = read(top.path(), &addresses, Some(address));
    let written = serde_json::to_string_pretty(&inventory).unwrap() + "\n";
    let golden = include_str!("trees/r640.json");
    assert_eq!(written, golden, "{written}");
}

#[test]
fn an_empty_tree_gives_an_empty_inventory() {
    let top = tempfile::tempdir().unwrap();
    let inventory = read(top.path(), &[], None);
    assert_eq!((inventory.storage.len(), inventory.ram_mebibytes), (0, 0));
}
