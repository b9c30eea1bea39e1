//! Local OCI layouts and archives: finds an image by its reference and packs it for an import.
//!
//! A layout is a folder or a `.tar` of the OCI image layout. An image's reference is the annotation
//! `io.containerd.image.name`, or `org.opencontainers.image.ref.name` where that is a whole reference; where it is a tag
//! only, the layout's own name is the image's: `…/busybox/` with tag `dev` is `catamaran.local/busybox:dev`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Host part of references that are never in a registry.
const LOCAL_HOST: &str = "catamaran.local";
/// Manifests and indexes larger than this are refused.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Indexes in indexes, at most.
const MAX_DEPTH: u32 = 4;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default, skip_serializing)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// An image in a local layout.
#[derive(Debug)]
pub(crate) struct LocalImage {
    /// The layout.
    pub(crate) path: PathBuf,
    /// `sha256:…` of the image's configuration: what runtimes call the image's id.
    pub(crate) config_digest: String,
    manifest: Descriptor,
    blobs: Vec<Descriptor>,
}

impl LocalImage {
    /// The image, if one of the layouts has it. Layouts that cannot be read are errors only when they should have it.
    pub(crate) fn find(places: &[PathBuf], image: &str) -> Result<Option<Self>, Error> {
        for place in places {
            for layout in layouts_in(place) {
                let Ok(index) = read_json::<Index>(&layout, "index.json", None) else {
                    continue;
                };
                let name = layout
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if let Some(descriptor) = index
                    .manifests
                    .into_iter()
                    .find(|descriptor| is_named(descriptor, &name, image))
                {
                    let open = |why: io::Error| Error::Image {
                        image: image.to_owned(),
                        message: format!("in the OCI layout {}: {why}", layout.display()),
                    };
                    return Self::open(&layout, descriptor, 0).map(Some).map_err(open);
                }
            }
        }
        Ok(None)
    }

    fn open(layout: &Path, descriptor: Descriptor, depth: u32) -> io::Result<Self> {
        let value: Value = read_json(
            layout,
            &blob_path(&descriptor.digest)?,
            Some(&descriptor.digest),
        )?;
        if value.get("manifests").is_some() {
            let index: Index = serde_json::from_value(value)?;
            let arch = match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            };
            let fits = |descriptor: &Descriptor| {
                descriptor
                    .platform
                    .as_ref()
                    .is_none_or(|platform| platform.os == "linux" && platform.architecture == arch)
            };
            let next = index
                .manifests
                .into_iter()
                .find(fits)
                .filter(|_| depth < MAX_DEPTH);
            let next = next.ok_or_else(|| {
                io::Error::other(format!(
                    "index {} has no image for linux/{arch}",
                    descriptor.digest
                ))
            })?;
            return Self::open(layout, next, depth + 1);
        }
        let manifest: Manifest = serde_json::from_value(value)?;
        let config_digest = manifest.config.digest.clone();
        let mut blobs = vec![descriptor.clone(), manifest.config];
        blobs.extend(manifest.layers);
        Ok(Self {
            path: layout.to_owned(),
            config_digest,
            manifest: descriptor,
            blobs,
        })
    }

    /// Writes an archive with this image alone, named `image`, and verifies every blob's digest.
    pub(crate) fn pack(&self, image: &str, out: &mut dyn Write) -> io::Result<()> {
        let mut manifest = serde_json::to_value(&self.manifest)?;
        if self.manifest.media_type.is_empty() {
            manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
        }
        manifest["annotations"] =
            json!({"io.containerd.image.name": image, "org.opencontainers.image.ref.name": image});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        let mut tar = tar::Builder::new(out);
        let add = |tar: &mut tar::Builder<&mut dyn Write>,
                   name: &str,
                   size: u64,
                   content: &mut dyn Read| {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content)
        };
        let text = br#"{"imageLayoutVersion":"1.0.0"}"#;
        add(
            &mut tar,
            "oci-layout",
            text.len() as u64,
            &mut text.as_slice(),
        )?;
        let text = serde_json::to_vec(&index)?;
        add(
            &mut tar,
            "index.json",
            text.len() as u64,
            &mut text.as_slice(),
        )?;
        let mut done = std::collections::BTreeSet::new();
        for blob in &self.blobs {
            if !done.insert(&blob.digest) {
                continue;
            }
            let path = blob_path(&blob.digest)?;
            let mut packed = Ok(());
            read_entry(&self.path, &path, |size, content| {
                packed = (|| {
                    if size != blob.size {
                        return Err(io::Error::other(format!(
                            "blob {} has {size} bytes, its descriptor says {}",
                            blob.digest, blob.size
                        )));
                    }
                    let mut hashing = Hashing {
                        content,
                        hash: Sha256::new(),
                    };
                    add(&mut tar, &path, size, &mut hashing)?;
                    verify(&blob.digest, hashing.hash)
                })();
                Ok(())
            })?;
            packed?;
        }
        tar.into_inner()?.flush()
    }
}

struct Hashing<'a> {
    content: &'a mut dyn Read,
    hash: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

fn verify(digest: &str, hash: Sha256) -> io::Result<()> {
    let found = format!("sha256:{}", hex::encode(hash.finalize()));
    if found == digest {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "digest mismatch: blob {digest} has the content of {found}"
        )))
    }
}

/// The reference can be in no registry.
pub(super) fn is_local(image: &str) -> bool {
    image
        .strip_prefix(LOCAL_HOST)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The place itself if it is a layout, else the layouts in it, in the order of their names.
fn layouts_in(place: &Path) -> Vec<PathBuf> {
    if is_layout(place) {
        return vec![place.to_owned()];
    }
    let mut found: Vec<_> = std::fs::read_dir(place)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_layout(path))
        .collect();
    found.sort();
    found
}

fn is_layout(path: &Path) -> bool {
    if path.is_dir() {
        path.join("oci-layout").is_file()
    } else {
        path.extension().is_some_and(|extension| extension == "tar") && path.is_file()
    }
}

fn is_named(descriptor: &Descriptor, layout: &str, image: &str) -> bool {
    if descriptor
        .annotations
        .get("io.containerd.image.name")
        .is_some_and(|name| name == image)
    {
        return true;
    }
    let Some(name) = descriptor
        .annotations
        .get("org.opencontainers.image.ref.name")
    else {
        return false;
    };
    let stem = layout.trim_end_matches(".tar").trim_end_matches(".oci");
    name == image
        || format!("{LOCAL_HOST}/{stem}:{name}") == image
        || format!("{LOCAL_HOST}/{name}") == image
}

fn blob_path(digest: &str) -> io::Result<String> {
    match digest.strip_prefix("sha256:") {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(format!("blobs/sha256/{hash}"))
        }
        _ => Err(io::Error::other(format!(
            "digest {digest:?} is not sha256:<64 hexadecimal digits>"
        ))),
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(
    layout: &Path,
    name: &str,
    digest: Option<&str>,
) -> io::Result<T> {
    let mut text = Vec::new();
    read_entry(layout, name, |size, content| {
        if size > MAX_DOCUMENT {
            return Err(io::Error::other(format!(
                "{name} has {size} bytes, at most {MAX_DOCUMENT} are read"
            )));
        }
        content.read_to_end(&mut text).map(|_| ())
    })?;
    if let Some(digest) = digest {
        verify(digest, Sha256::new_with_prefix(&text))?;
    }
    serde_json::from_slice(&text).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

/// Calls `use_it` with size and content of one file of a layout.
fn read_entry(
    layout: &Path,
    name: &str,
    mut use_it: impl FnMut(u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let absent = || io::Error::other(format!("{name} is missing"));
    if layout.is_dir() {
        let mut file = File::open(layout.join(name)).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                absent()
            } else {
                error
            }
        })?;
        let size = file.metadata()?.len();
        return use_it(size, &mut file);
    }
    let mut archive = tar::Archive::new(File::open(layout)?);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        if entry.path()?.strip_prefix("./").unwrap_or(&entry.path()?) == Path::new(name) {
            let size = entry.size();
            return use_it(size, &mut entry);
        }
    }
    Err(absent())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_layout(folder: &Path, annotation: &str) -> String {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let blob = |content: &[u8]| {
            let hash = hex::encode(Sha256::digest(content));
            std::fs::write(blobs.join(&hash), content).unwrap();
            json!({"digest": format!("sha256:{hash}"), "size": content.len()})
        };
        let manifest =
            json!({"schemaVersion": 2, "config": blob(b"{}"), "layers": [blob(b"layer")]});
        let mut manifest = blob(manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": annotation});
        std::fs::write(
            folder.join("index.json"),
            json!({"manifests": [manifest]}).to_string(),
        )
        .unwrap();
        std::fs::write(folder.join("oci-layout"), "{}").unwrap();
        hex::encode(Sha256::digest(b"layer"))
    }

    #[test]
    fn an_image_is_found_by_its_whole_name_or_by_the_name_of_its_layout() {
        let place = tempfile::tempdir().unwrap();
        write_layout(&place.path().join("busybox"), "dev");
        write_layout(&place.path().join("x"), "reg.test/app:1");
        let places = [place.path().to_owned()];
        for (image, found) in [
            ("catamaran.local/busybox:dev", true),
            ("reg.test/app:1", true),
            ("catamaran.local/busybox:2", false),
            ("busybox:dev", false),
        ] {
            assert_eq!(
                LocalImage::find(&places, image).unwrap().is_some(),
                found,
                "{image}"
            );
        }
    }

    #[test]
    fn an_archive_of_an_archive_is_the_same_image() {
        let place = tempfile::tempdir().unwrap();
        write_layout(&place.path().join("busybox"), "dev");
        let image = LocalImage::find(&[place.path().to_owned()], "catamaran.local/busybox:dev")
            .unwrap()
            .unwrap();
        let copy = tempfile::tempdir().unwrap();
        let mut file = File::create(copy.path().join("any.tar")).unwrap();
        image
            .pack("catamaran.local/busybox:dev", &mut file)
            .unwrap();
        let again = LocalImage::find(&[copy.path().to_owned()], "catamaran.local/busybox:dev")
            .unwrap()
            .unwrap();
        assert_eq!(again.config_digest, image.config_digest);
        again.pack("x", &mut io::sink()).unwrap();
    }

    #[test]
    fn a_changed_blob_is_a_digest_mismatch() {
        let place = tempfile::tempdir().unwrap();
        let layout = place.path().join("busybox");
        let layer = write_layout(&layout, "dev");
        std::fs::write(layout.join("blobs/sha256").join(layer), b"LAYER").unwrap();
        let image = LocalImage::find(&[place.path().to_owned()], "catamaran.local/busybox:dev")
            .unwrap()
            .unwrap();
        let message = image
            .pack("catamaran.local/busybox:dev", &mut io::sink())
            .unwrap_err()
            .to_string();
        assert!(message.contains("digest mismatch"), "{message}");
    }
}
