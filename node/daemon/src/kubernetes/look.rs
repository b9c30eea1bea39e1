//! What a launcher finds in its pod, asked for at the start of a guest and for each volume that comes later.

use catamaran_plan::GivenDisk;
use catamaran_plan::pod::Look;
use catamaran_wire::{Inspected, InspectedDisk, Verb};

use crate::machine::error::StartError;
use crate::machine::launcher::Launcher;

/// Asks a launcher to look for disks, for files, and for what is in folders.
///
/// # Errors
/// It does not answer, or what it answers can't be read.
pub async fn inspect(
    launcher: &Launcher,
    disks: Vec<Look>,
    files: Vec<String>,
    folders: Vec<String>,
) -> Result<Inspected, StartError> {
    let verb = Verb::Inspect {
        disks,
        files,
        folders,
    };
    let answer = launcher.ask(verb).await?;
    serde_json::from_value(answer)
        .map_err(|error| StartError::Plan(format!("the launcher's answer: {error}")))
}

/// A disk of a plan.
///
/// # Errors
/// Why it can't be used, in the launcher's words.
pub fn given(disk: &InspectedDisk) -> Result<GivenDisk, StartError> {
    let found = disk.found.as_ref().ok_or_else(|| StartError::Volume {
        volume: disk.volume.clone(),
        message: disk.error.clone().unwrap_or_default(),
    })?;
    Ok(GivenDisk {
        host_path: found.path.clone(),
        inside: true,
        block: found.block,
        format: found.format,
        virtual_size: found.virtual_size,
        direct_io: found.direct_io,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_disk_that_can_not_be_used_says_why() {
        let disk = json!({"volume": "d", "error": "it is a qcow2"});
        let refused = given(&serde_json::from_value(disk).unwrap()).unwrap_err();
        assert_eq!(refused.to_string(), "volume d: it is a qcow2");
    }

    #[test]
    fn a_disk_that_was_found_is_in_the_pod() {
        let found = json!({"path": "/disks/d/disk.img", "format": "raw", "virtualSize": 7, "directIo": true});
        let disk = json!({"volume": "d", "found": found});
        let disk = given(&serde_json::from_value(disk).unwrap()).unwrap();
        assert_eq!(
            (disk.host_path.as_str(), disk.virtual_size),
            ("/disks/d/disk.img", 7)
        );
        assert!(disk.inside && disk.direct_io && !disk.block);
    }
}
