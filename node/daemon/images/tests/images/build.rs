//! Builds layers and OCI layouts byte by byte, also ones that no tool would build.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use catamaran_images::Digest;
use serde_json::{Value, json};

/// One tar entry, name as raw bytes.
pub(crate) struct Entry<'e> {
    pub(crate) name: &'e str,
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) content: &'e [u8],
    pub(crate) link: &'e str,
}

pub(crate) fn file<'e>(name: &'e str, content: &'e [u8]) -> Entry<'e> {
    Entry {
        name,
        kind: tar::EntryType::Regular,
        mode: 0o644,
        content,
        link: "",
    }
}

pub(crate) fn special<'e>(name: &'e str, kind: tar::EntryType, link: &'e str) -> Entry<'e> {
    Entry {
        name,
        kind,
        mode: 0o644,
        content: &[],
        link,
    }
}

/// An uncompressed layer.
pub(crate) fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        // Written directly: the library refuses names that a hostile author would use.
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        builder.append(&header, entry.content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A layer with one disk at /disk/disk.img.
pub(crate) fn disk_layer(content: &[u8]) -> Vec<u8> {
    layer(&[
        special("disk/", tar::EntryType::Directory, ""),
        file("disk/disk.img", content),
    ])
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// A disk that is not all zeros: 1 MiB with a mark, a hole and a tail.
pub(crate) fn disk(mark: &str) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..mark.len()].copy_from_slice(mark.as_bytes());
    let tail = bytes.len() - 5000;
    bytes[tail..].fill(0xa5);
    bytes
}

/// Writes blobs and the index of a layout.
pub(crate) struct Layout {
    folder: PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self {
            folder: folder.to_owned(),
            entries: Vec::new(),
        }
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    }

    /// Adds an image with these layers (bottom first) under `name`; gives its manifest digest.
    pub(crate) fn image(&mut self, name: &str, layers: &[Vec<u8>]) -> Digest {
        let (digest, size) = self.manifest(layers, "amd64");
        self.name(
            name,
            &digest,
            size,
            "application/vnd.oci.image.manifest.v1+json",
        );
        digest
    }

    pub(crate) fn manifest(&self, layers: &[Vec<u8>], architecture: &str) -> (Digest, usize) {
        let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}}).to_string();
        let config_digest = self.blob(config.as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|bytes| {
                let kind = match bytes.get(..4) {
                    Some([0x1f, 0x8b, ..]) => "application/vnd.oci.image.layer.v1.tar+gzip",
                    Some([0x28, 0xb5, 0x2f, 0xfd]) => "application/vnd.oci.image.layer.v1.tar+zstd",
                    _ => "application/vnd.oci.image.layer.v1.tar",
                };
                json!({"mediaType": kind, "digest": self.blob(bytes), "size": bytes.len()})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
            "layers": layers,
        })
        .to_string();
        (self.blob(manifest.as_bytes()), manifest.len())
    }

    pub(crate) fn name(&mut self, name: &str, digest: &Digest, size: usize, kind: &str) {
        self.entries.push(json!({
            "mediaType": kind, "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": name},
        }));
        let index = json!({"schemaVersion": 2, "manifests": self.entries}).to_string();
        fs::write(self.folder.join("index.json"), index).unwrap();
    }
}

/// A layout with one image named `x:1` made of these layers.
pub(crate) fn layout_with(folder: &Path, layers: &[Vec<u8>]) -> String {
    Layout::new(folder).image("x:1", layers);
    format!("oci:{}:x:1", folder.display())
}
