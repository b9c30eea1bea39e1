//! The config drive's file system: ISO 9660 with the label `config-2` and OpenStack's layout in it, made by `xorrisofs`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use catamaran_deploy_wire::ConfigDrive;

use crate::error::DeployError;

/// What a config drive has in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDriveFiles {
    /// `meta_data.json`; `uuid` and `hostname` at least.
    pub meta_data: serde_json::Map<String, serde_json::Value>,
    /// `user_data`
    pub user_data: Option<Vec<u8>>,
    /// `network_data.json`
    pub network_data: Option<serde_json::Value>,
}

const LABEL: &str = "config-2";
/// Folders of which cloud-init takes the newest that it knows.
const VERSION: &str = "openstack/latest";
/// Every time stamp in it, so that the same files give the same bytes, and asking for them again is the same command.
const EPOCH: &str = "1704067200";

/// Makes a config drive.
///
/// # Errors
/// `xorrisofs` is not there or fails, or the drive is larger than 64 MiB.
pub fn config_drive(files: &ConfigDriveFiles) -> Result<Bytes, DeployError> {
    let folder = tempfile::tempdir().map_err(|error| failed("a folder for it", &error))?;
    let (tree, iso) = (folder.path().join("tree"), folder.path().join("iso"));
    write(files, &tree).map_err(|error| failed("its files", &error))?;
    let done = Command::new("xorrisofs")
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .args(["-quiet", "-volid", LABEL, "-joliet", "-rational-rock"])
        .args([
            "--set_all_file_dates",
            "2024010100000000",
            "-uid",
            "0",
            "-gid",
            "0",
        ])
        .args(["-dir-mode", "0755", "-file-mode", "0644", "-output"])
        .args([&iso, &tree])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed("xorrisofs (Debian's package xorriso)", &error))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(DeployError::ConfigDrive(format!(
            "xorrisofs ended with {}: {}",
            done.status,
            said.trim()
        )));
    }
    let bytes = fs::read(&iso).map_err(|error| failed("its file", &error))?;
    let size = bytes.len() as u64;
    if size > ConfigDrive::MAX {
        return Err(DeployError::ConfigDriveSize {
            size,
            max: ConfigDrive::MAX,
        });
    }
    Ok(bytes.into())
}

fn write(files: &ConfigDriveFiles, tree: &Path) -> std::io::Result<()> {
    let ConfigDriveFiles {
        meta_data,
        user_data,
        network_data,
    } = files;
    let folder = tree.join(VERSION);
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("meta_data.json"),
        serde_json::to_vec(meta_data)?,
    )?;
    if let Some(user_data) = user_data {
        fs::write(folder.join("user_data"), user_data)?;
    }
    if let Some(network_data) = network_data {
        fs::write(
            folder.join("network_data.json"),
            serde_json::to_vec(network_data)?,
        )?;
    }
    Ok(())
}

fn failed(what: &str, error: &std::io::Error) -> DeployError {
    DeployError::ConfigDrive(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{ConfigDriveFiles, config_drive};

    #[test]
    fn the_same_files_give_the_same_drive_with_the_label_and_all_files() {
        let files = ConfigDriveFiles {
            meta_data: serde_json::from_str(r#"{"uuid":"u","hostname":"metal-1"}"#).unwrap(),
            user_data: Some(b"#cloud-config\n".to_vec()),
            network_data: Some(serde_json::json!({"links": []})),
        };
        let drive = config_drive(&files).unwrap();
        assert_eq!(&drive[32768 + 40..][..9], b"config-2 ");
        for text in [
            "#cloud-config\n",
            "\"hostname\":\"metal-1\"",
            "{\"links\":[]}",
        ] {
            let found = drive
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(found, "{text}");
        }
        assert!(drive == config_drive(&files).unwrap());
    }
}
