//! Manifests and indexes: bounded JSON, checked before anything is fetched because of it.

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex,
    OciImageManifest,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::limits::{Limits, human};

/// What is asked for from a registry.
pub(crate) const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// A blob: digest and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A manifest after all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Config, where it has content that says something about the platform.
    pub(crate) config: Option<Blob>,
    /// Bottom layer first.
    pub(crate) layers: Vec<Blob>,
}

/// A parsed document.
#[derive(Debug)]
pub(crate) enum Document {
    Image(Image),
    Index(Vec<ImageIndexEntry>),
}

/// This machine's name in images: `amd64`, `arm64`…
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Parses a manifest or an index.
pub(crate) fn parse(reference: &str, bytes: &[u8], limits: &Limits) -> Result<Document> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: u32,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
    }
    let malformed = |error: serde_json::Error| {
        ImageError::unsupported(reference, format!("its manifest is malformed: {error}"))
    };
    let shape: Shape = serde_json::from_slice(bytes).map_err(malformed)?;
    if shape.schema_version != 2 {
        return Err(ImageError::unsupported(
            reference,
            format!(
                "its manifest has schema version {}; only 2 is supported",
                shape.schema_version
            ),
        ));
    }
    match (shape.manifests, shape.layers) {
        // The same bytes must not be an index for one reader and an image for another.
        (Some(_), Some(_)) => Err(ImageError::unsupported(
            reference,
            "its manifest has both manifests and layers",
        )),
        (Some(_), None) => {
            let index: OciImageIndex = serde_json::from_slice(bytes).map_err(malformed)?;
            Ok(Document::Index(index.manifests))
        }
        (None, _) => {
            let manifest: OciImageManifest = serde_json::from_slice(bytes).map_err(malformed)?;
            image(reference, &manifest, limits).map(Document::Image)
        }
    }
}

fn blob(reference: &str, what: &str, descriptor: &OciDescriptor) -> Result<Blob> {
    let digest = descriptor
        .digest
        .parse()
        .map_err(|error| ImageError::unsupported(reference, format!("{what}: {error}")))?;
    let size = u64::try_from(descriptor.size).map_err(|_| {
        ImageError::unsupported(reference, format!("{what} has size {}", descriptor.size))
    })?;
    Ok(Blob { digest, size })
}

fn image(reference: &str, manifest: &OciImageManifest, limits: &Limits) -> Result<Image> {
    if manifest.layers.is_empty() {
        return Err(ImageError::unsupported(reference, "it has no layers"));
    }
    if manifest.layers.len() > limits.layers {
        return Err(ImageError::limit(
            reference,
            format!(
                "it has {} layers; allowed are {}",
                manifest.layers.len(),
                limits.layers
            ),
        ));
    }
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let kind = layer.media_type.as_str();
        let tar = kind.starts_with("application/vnd.oci.image.layer.")
            || kind.starts_with("application/vnd.docker.image.rootfs.");
        let encoding = kind.rsplit_once('.').map_or("", |(_, last)| last);
        if !tar || !matches!(encoding, "tar" | "tar+gzip" | "tar+zstd" | "gzip" | "zstd") {
            let shown: String = kind.chars().take(100).collect();
            return Err(ImageError::unsupported(
                reference,
                format!(
                    "it has a layer of type {shown:?}; supported are tar layers, plain or compressed with gzip or zstd"
                ),
            ));
        }
        layers.push(blob(reference, "a layer", layer)?);
    }
    let total = layers
        .iter()
        .fold(0u64, |sum, layer| sum.saturating_add(layer.size));
    if total > limits.image_size {
        return Err(ImageError::limit(
            reference,
            format!(
                "its layers have {} in all; allowed are {}",
                human(total),
                human(limits.image_size)
            ),
        ));
    }
    let config = blob(reference, "its config", &manifest.config)?;
    if config.size > limits.manifest_size {
        return Err(ImageError::limit(
            reference,
            format!(
                "its config has {} bytes; allowed are {}",
                config.size, limits.manifest_size
            ),
        ));
    }
    let kind = manifest.config.media_type.as_str();
    let says_platform = kind == "application/vnd.oci.image.config.v1+json"
        || kind == "application/vnd.docker.container.image.v1+json";
    Ok(Image {
        config: says_platform.then_some(config),
        layers,
    })
}

/// The image of an index for this machine.
pub(crate) fn choose(reference: &str, entries: &[ImageIndexEntry]) -> Result<Blob> {
    let usable: Vec<_> = entries
        .iter()
        .filter(|e| ACCEPTED.contains(&e.media_type.as_str()) || e.media_type.is_empty())
        .collect();
    let platform = |entry: &ImageIndexEntry| {
        entry
            .platform
            .as_ref()
            .map(|p| (p.os.to_string(), p.architecture.to_string()))
    };
    let ours = ("linux".to_owned(), architecture().to_owned());
    let chosen = usable
        .iter()
        .find(|e| platform(e).as_ref() == Some(&ours))
        .or_else(|| match usable.as_slice() {
            // An index around a single image often leaves the platform to the config.
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        });
    let Some(entry) = chosen else {
        let mut there: Vec<_> = usable
            .iter()
            .filter_map(|e| platform(e))
            .map(|(os, arch)| format!("{os}/{arch}"))
            .collect();
        there.sort();
        there.dedup();
        there.truncate(20);
        let there = if there.is_empty() {
            "none".to_owned()
        } else {
            there.join(", ")
        };
        return Err(ImageError::unsupported(
            reference,
            format!(
                "it has no image for linux/{}; it has: {there}",
                architecture()
            ),
        ));
    };
    let digest = entry
        .digest
        .parse()
        .map_err(|error: String| ImageError::unsupported(reference, error))?;
    let size = u64::try_from(entry.size).map_err(|_| {
        ImageError::unsupported(reference, format!("a manifest has size {}", entry.size))
    })?;
    Ok(Blob { digest, size })
}

/// Checks that a config is for this machine.
pub(crate) fn check_config(reference: &str, bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
    }
    let config: Config = serde_json::from_slice(bytes).map_err(|error| {
        ImageError::unsupported(reference, format!("its config is malformed: {error}"))
    })?;
    let fits = (config.os.is_empty() || config.os == "linux")
        && (config.architecture.is_empty() || config.architecture == architecture());
    if fits {
        return Ok(());
    }
    let shown: String = format!("{}/{}", config.os, config.architecture)
        .chars()
        .take(60)
        .collect();
    Err(ImageError::unsupported(
        reference,
        format!(
            "it is for {shown:?}, this machine is linux/{}",
            architecture()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn manifest(layers: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{D}","size":2}},"layers":[{layers}]}}"#
        )
    }

    fn layer(kind: &str, size: i64) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{D}","size":{size}}}"#)
    }

    fn parsed(text: &str) -> Result<Document> {
        parse("x", text.as_bytes(), &Limits::default())
    }

    #[test]
    fn common_layer_types_are_accepted_and_others_refused() {
        for kind in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(
                matches!(parsed(&manifest(&layer(kind, 1))), Ok(Document::Image(_))),
                "{kind}"
            );
        }
        for kind in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.wasm.content.layer.v1+wasm",
            "text/plain",
        ] {
            assert!(parsed(&manifest(&layer(kind, 1))).is_err(), "{kind}");
        }
    }

    #[test]
    fn malformed_manifests_are_refused() {
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let many = vec![layer(tar, 1); 129].join(",");
        for bad in [
            "",
            "{}",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
            &manifest(""),
            &manifest(&layer(tar, -1)),
            &manifest(&layer(tar, i64::MAX)),
            &manifest(&many),
            &manifest(&layer(tar, 1)).replace("sha256:", "sha256:../"),
        ] {
            assert!(parsed(bad).is_err(), "{bad:.80}");
        }
    }

    #[test]
    fn the_index_entry_of_this_machine_is_chosen() {
        let entry = |platform: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{D}","size":7{platform}}}"#
            )
        };
        let platform = |os: &str, arch: &str| {
            entry(&format!(
                r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#
            ))
        };
        let index = |entries: &[String]| {
            let text = format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                entries.join(",")
            );
            match parsed(&text).unwrap() {
                Document::Index(entries) => choose("x", &entries),
                Document::Image(_) => panic!("not an index"),
            }
        };
        assert_eq!(
            index(&[
                platform("linux", "s390x"),
                platform("linux", architecture())
            ])
            .unwrap()
            .size,
            7
        );
        assert!(index(&[entry("")]).is_ok());
        assert!(index(&[entry(""), entry("")]).is_err());
        let error = index(&[platform("windows", "amd64"), platform("unknown", "unknown")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("windows/amd64"), "{error}");
    }

    #[test]
    fn a_config_for_another_machine_is_refused() {
        assert!(check_config("x", b"{}").is_ok());
        assert!(
            check_config(
                "x",
                format!(r#"{{"os":"linux","architecture":"{}"}}"#, architecture()).as_bytes()
            )
            .is_ok()
        );
        assert!(
            check_config("x", br#"{"os":"linux","architecture":"s390x"}"#)
                .unwrap_err()
                .to_string()
                .contains("s390x")
        );
        assert!(check_config("x", b"no").is_err());
    }
}
