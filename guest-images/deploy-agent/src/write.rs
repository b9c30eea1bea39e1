//! Writes an image to the disk that the hints choose, and the config drive behind it.
//!
//! ```text
//!   choose ── refuse a disk with data ── image's size fits? ── wipe ── stream: fetch ─ checksum ─ write ── head ── config drive ── sync
//!                                                                                  └ wrong, or anything fails: both ends wiped
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use catamaran_deploy_wire::{
    Answer, Checksum, ChecksumKind, ConfigDrive, Directive, Disk, Format, Image, Progress, Reason,
    Step, WriteImage, choose,
};

use crate::Failed;
use crate::client::Controller;
use crate::disk;
use crate::image::{
    Digest, DiskTarget, HEAD, Header, Held, Layout, Scatter, Source, SourceError, Target,
    l2_places, sums,
};
use crate::{config_drive, wipe};

/// Between two reports of progress.
const REPORT: Duration = Duration::from_secs(3);

/// Bytes of a file with checksums.
const SUMS_MAX: u64 = 1 << 20;

/// What a write works with.
pub struct Write<'a> {
    /// The command's id.
    pub id: u64,
    /// What is wanted.
    pub wanted: &'a WriteImage,
    /// The disks of the host.
    pub disks: &'a [Disk],
    /// PEM of the controller's CA.
    pub ca: &'a str,
    /// Whom to tell.
    pub controller: &'a Controller,
}

impl Write<'_> {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failed`]; the disk is untouched, or its ends are wiped.
    pub async fn run(&self) -> Result<Answer, Failed> {
        let chosen = choose(self.disks, &self.wanted.hints)
            .map_err(|error| Failed::new(Reason::NoDisk, error.to_string()))?;
        let device = chosen.device();
        self.tell(Step::Examining, 0, 0, String::new()).await?;
        self.refuse_data(device)?;
        let digest = self.digest().await?;
        let drive = self.config_drive().await?;
        let mut source = Source::open(&self.wanted.image, self.ca)
            .await
            .map_err(|error| fetching("image", &error))?;
        let layout = match self.wanted.image.format {
            Format::Raw => None,
            Format::Qcow2 => Some(layout(&mut source).await?),
        };
        let bytes = layout
            .as_ref()
            .map_or(source.size(), |layout| layout.header.size);
        check_room(chosen, bytes, self.wanted.config_drive.as_ref())?;
        wipe::metadata(device).map_err(|error| Failed::because(Reason::Disk, device, &error))?;
        tracing::info!(
            "writing {bytes} bytes to {device} from {}",
            self.wanted.image.url
        );
        let written = self
            .fill(device, &mut source, layout, digest, drive.as_deref())
            .await;
        let partition = match written {
            Ok(partition) => partition,
            Err(failed) => return Err(unbootable(device, failed)),
        };
        disk::reread(device);
        Ok(Answer::Written {
            disk: chosen.name.clone(),
            device: device.to_owned(),
            bytes,
            config_drive_partition: partition,
        })
    }

    fn refuse_data(&self, device: &str) -> Result<(), Failed> {
        let contents = disk::contents(device)
            .map_err(|error| Failed::because(Reason::Disk, device, &error))?;
        if contents.is_empty() || self.wanted.overwrite {
            return Ok(());
        }
        Err(Failed::new(
            Reason::DiskHasData,
            format!(
                "{device} has data ({}): wipe it, or allow to overwrite it",
                contents.join(", ")
            ),
        ))
    }

    /// The checksum that has to come out, from a file with checksums where one is named.
    async fn digest(&self) -> Result<Digest, Failed> {
        let image = &self.wanted.image;
        let Checksum { kind, value } = &image.checksum;
        let invalid = |said: String| Failed::new(Reason::ImageInvalid, said);
        if !value.contains("://") {
            return Digest::new(*kind, value).map_err(|error| invalid(error.to_string()));
        }
        let file = Image {
            url: value.clone(),
            ..image.clone()
        };
        let text = Source::text(&file, self.ca, SUMS_MAX).await;
        let text = text.map_err(|error| fetching("checksum", &error))?;
        let name = sums::name(&image.url);
        let found = sums::find(&text, name, *kind)
            .ok_or_else(|| invalid(format!("{value}: no line of it is about {name:?}")))?;
        Digest::new(*kind, found).map_err(|error| invalid(format!("{value}: {error}")))
    }

    async fn config_drive(&self) -> Result<Option<Vec<u8>>, Failed> {
        let Some(wanted) = &self.wanted.config_drive else {
            return Ok(None);
        };
        let bytes = self
            .controller
            .config_drive(self.id)
            .await
            .map_err(|error| Failed::because(Reason::ConfigDrive, "config drive", &error))?;
        check_drive(wanted, &bytes)?;
        Ok(Some(bytes.into()))
    }

    /// All that changes the disk.
    async fn fill(
        &self,
        device: &str,
        source: &mut Source,
        layout: Option<Layout>,
        digest: Digest,
        drive: Option<&[u8]>,
    ) -> Result<Option<u32>, Failed> {
        let failed = |error: &dyn std::error::Error| Failed::because(Reason::Disk, device, error);
        let target = DiskTarget::open(Path::new(device)).map_err(|error| failed(&error))?;
        let size = target.size();
        let held = Held::new(target, size);
        let held = self.stream(source, layout, digest, held).await?;
        self.tell(Step::Syncing, 0, 0, String::new()).await?;
        held.release()
            .and_then(|target| target.sync())
            .map_err(|error| failed(&error))?;
        let Some(drive) = drive else { return Ok(None) };
        self.tell(Step::ConfigDrive, 0, drive.len() as u64, String::new())
            .await?;
        config_drive::write(device, size, drive)
            .map_err(|error| Failed::because(Reason::ConfigDrive, device, &error))
    }

    /// Fetches, digests and writes, all in one pass.
    async fn stream<T: Target>(
        &self,
        source: &mut Source,
        layout: Option<Layout>,
        mut digest: Digest,
        mut target: Held<T>,
    ) -> Result<Held<T>, Failed> {
        let disk = |error: &dyn std::error::Error| Failed::because(Reason::Disk, "writing", error);
        let image = |error: &dyn std::error::Error| {
            Failed::because(Reason::ImageInvalid, &self.wanted.image.url, error)
        };
        let mut scatter = match layout {
            Some(layout) => {
                Some(Scatter::start(layout, &mut target).map_err(|error| disk(&error))?)
            }
            None => None,
        };
        let (mut done, mut told) = (0u64, Instant::now());
        while let Some(bytes) = source
            .next()
            .await
            .map_err(|error| fetching("image", &error))?
        {
            digest.update(&bytes);
            match &mut scatter {
                Some(scatter) => scatter
                    .feed(&bytes, &mut target)
                    .map_err(|error| image(&error))?,
                None => target.write(done, &bytes).map_err(|error| disk(&error))?,
            }
            done += bytes.len() as u64;
            if told.elapsed() >= REPORT {
                told = Instant::now();
                let trouble = source.trouble().unwrap_or_default();
                self.tell(Step::Writing, done, source.size(), trouble)
                    .await?;
            }
        }
        if let Some(scatter) = scatter {
            scatter.finish(&mut target).map_err(|error| image(&error))?;
        }
        digest.finish().map_err(|error| {
            Failed::new(
                Reason::ChecksumMismatch,
                format!("{}: {error}", self.wanted.image.url),
            )
        })?;
        Ok(target)
    }

    /// Reports; a report that does not arrive is no reason to stop.
    async fn tell(&self, step: Step, done: u64, total: u64, message: String) -> Result<(), Failed> {
        tracing::info!("{step}: {done} of {total} bytes {message}");
        let progress = Progress {
            id: self.id,
            step,
            done,
            total,
            message,
        };
        match self.controller.progress(&progress).await {
            Ok(Directive::Continue) => Ok(()),
            Ok(Directive::Abort) => Err(Failed::new(
                Reason::Aborted,
                "the controller does not want it any more",
            )),
            Err(error) => {
                tracing::warn!("{error}");
                Ok(())
            }
        }
    }
}

/// `what` could not be fetched.
fn fetching(what: &str, error: &SourceError) -> Failed {
    let reason = match error {
        SourceError::Changed(_)
        | SourceError::NoRanges(_)
        | SourceError::NoSize(_)
        | SourceError::Large { .. } => Reason::ImageInvalid,
        _ => Reason::ImageUnreachable,
    };
    Failed::because(reason, what, error)
}

/// Fetches header and tables of a qcow2.
async fn layout(source: &mut Source) -> Result<Layout, Failed> {
    let invalid =
        |error: &dyn std::error::Error| Failed::because(Reason::ImageInvalid, "image", error);
    let head = source
        .part(0, Header::BYTES)
        .await
        .map_err(|error| fetching("image", &error))?;
    let header = Header::parse(&head).map_err(|error| invalid(&error))?;
    let l1 = source
        .part(header.l1_offset, header.l1_bytes())
        .await
        .map_err(|error| fetching("image", &error))?;
    let mut layout = Layout::new(header, &head, &l1);
    for (number, place) in l2_places(&header, &l1).map_err(|error| invalid(&error))? {
        let table = source
            .part(place, header.cluster())
            .await
            .map_err(|error| fetching("image", &error))?;
        layout
            .l2(number, place, &table)
            .map_err(|error| invalid(&error))?;
    }
    layout.finish().map_err(|error| invalid(&error))
}

/// Whether image and config drive fit on a disk.
fn check_room(disk: &Disk, bytes: u64, drive: Option<&ConfigDrive>) -> Result<(), Failed> {
    let drive = drive.map_or(0, |drive| config_drive::room(drive.size));
    if bytes + drive <= disk.size_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(HEAD);
    Err(Failed::new(
        Reason::DiskTooSmall,
        format!(
            "{} has {} MiB, the image needs {} MiB and the config drive {} MiB: choose another disk with rootDeviceHints",
            disk.device(),
            disk.size_bytes / HEAD,
            mib(bytes),
            mib(drive)
        ),
    ))
}

fn check_drive(wanted: &ConfigDrive, bytes: &[u8]) -> Result<(), Failed> {
    let digest = Digest::new(Some(ChecksumKind::Sha256), &wanted.sha256);
    let digest = digest.and_then(|mut digest| {
        digest.update(bytes);
        digest.finish()
    });
    let fits = bytes.len() as u64 == wanted.size && wanted.size <= ConfigDrive::MAX;
    if fits && digest.is_ok() {
        return Ok(());
    }
    Err(Failed::new(
        Reason::ConfigDrive,
        format!(
            "the config drive has {} bytes or another checksum; {} of at most {} bytes were announced",
            bytes.len(),
            wanted.size,
            ConfigDrive::MAX
        ),
    ))
}

/// Makes sure that nothing boots from a disk that was not written to the end.
fn unbootable(device: &str, failed: Failed) -> Failed {
    let wiped = DiskTarget::open(Path::new(device)).and_then(|mut target| target.wipe_ends());
    match wiped {
        Ok(()) => failed,
        Err(error) => Failed::new(
            failed.reason,
            format!("{}; and {device} can't be wiped: {error}", failed.message),
        ),
    }
}

#[cfg(test)]
mod tests {
    use catamaran_deploy_wire::{ConfigDrive, Disk};

    #[test]
    fn image_and_config_drive_have_to_fit_together() {
        let disk = Disk {
            name: "/dev/vda".into(),
            size_bytes: 44 << 20,
            ..Disk::default()
        };
        let drive = |size| ConfigDrive {
            size,
            sha256: String::new(),
        };
        assert!(super::check_room(&disk, 40 << 20, Some(&drive(3 << 20))).is_ok());
        let failed = super::check_room(&disk, 40 << 20, Some(&drive((3 << 20) + 1))).unwrap_err();
        assert_eq!(
            failed.message,
            "/dev/vda has 44 MiB, the image needs 40 MiB and the config drive 5 MiB: choose another disk with rootDeviceHints"
        );
    }

    #[test]
    fn a_config_drive_has_to_be_the_announced_one() {
        let wanted = ConfigDrive {
            size: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
        };
        assert!(super::check_drive(&wanted, b"abc").is_ok());
        assert!(super::check_drive(&wanted, b"abd").is_err());
    }
}
