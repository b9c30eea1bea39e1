//! Image references and paths inside images, parsed once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_client::Reference;

use crate::digest::Digest;
use crate::error::{ImageError, Result};

/// When to ask the source again for an image that is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// Each time the manifest is asked for; layers are fetched only where they changed.
    Always,
    /// Only when the cache has nothing for the reference.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// The policy of a manifest field, or Kubernetes' default: Always for the tag `latest`, else IfNotPresent.
    ///
    /// # Errors
    /// The value when it is none of `Always`, `IfNotPresent` and `Never`.
    pub fn from_field(
        value: Option<&str>,
        reference: &ImageReference,
    ) -> std::result::Result<Self, String> {
        match value {
            Some("Always") => Ok(Self::Always),
            Some("IfNotPresent") => Ok(Self::IfNotPresent),
            Some("Never") => Ok(Self::Never),
            None | Some("") => Ok(match reference {
                ImageReference::Registry(r)
                    if r.digest().is_none() && r.tag() == Some("latest") =>
                {
                    Self::Always
                }
                _ => Self::IfNotPresent,
            }),
            Some(other) => Err(other.to_owned()),
        }
    }
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageReference {
    /// `registry/repository:tag` or `…@sha256:…`; also looked up in the configured local layouts.
    Registry(Reference),
    /// `oci:PATH[:ref]`: a folder in the OCI image layout.
    Layout {
        /// The folder.
        path: PathBuf,
        /// Value of `org.opencontainers.image.ref.name`.
        name: Option<String>,
    },
    /// `oci-archive:PATH[:ref]`: such a folder in an uncompressed tar file.
    Archive {
        /// The tar file.
        path: PathBuf,
        /// Value of `org.opencontainers.image.ref.name`.
        name: Option<String>,
    },
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: String| ImageError::InvalidReference {
            reference: text.chars().take(300).collect(),
            reason,
        };
        if text.len() > 4096 || text.chars().any(char::is_control) {
            return Err(invalid(
                "at most 4096 bytes and no control characters are allowed".to_owned(),
            ));
        }
        for (prefix, archive) in [("oci:", false), ("oci-archive:", true)] {
            let Some(rest) = text.strip_prefix(prefix) else {
                continue;
            };
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            if !Path::new(path).is_absolute() {
                return Err(invalid(format!(
                    "{prefix} needs an absolute path, as in {prefix}/PATH[:ref]"
                )));
            }
            if name.as_deref() == Some("") {
                return Err(invalid(
                    "the reference name after the path is empty".to_owned(),
                ));
            }
            let path = PathBuf::from(path);
            return Ok(if archive {
                Self::Archive { path, name }
            } else {
                Self::Layout { path, name }
            });
        }
        let reference = Reference::try_from(text).map_err(|error| {
            invalid(format!(
                "{error}; expected registry/repository:tag, registry/repository@sha256:…, oci:/PATH[:ref] or oci-archive:/PATH[:ref]"
            ))
        })?;
        if !reference
            .repository()
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/'))
        {
            return Err(invalid(
                "a repository has lower-case letters, digits and . _ - / only".to_owned(),
            ));
        }
        if let Some(digest) = reference.digest() {
            digest.parse::<Digest>().map_err(invalid)?;
        }
        Ok(Self::Registry(reference))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, name) = match self {
            Self::Registry(reference) => return fmt::Display::fmt(reference, f),
            Self::Layout { path, name } => ("oci", path, name),
            Self::Archive { path, name } => ("oci-archive", path, name),
        };
        write!(f, "{kind}:{}", path.display())?;
        match name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

/// A path inside an image, normalised: absolute, no `.` or `..`, shown with its leading slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath {
    parts: Vec<String>,
}

impl ImagePath {
    /// Name of the file in its folder.
    pub(crate) fn name(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    /// The folder, without leading slash; empty for the image's root.
    pub(crate) fn folder(&self) -> String {
        self.parts[..self.parts.len().saturating_sub(1)].join("/")
    }
}

impl FromStr for ImagePath {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| {
            Err(ImageError::InvalidPath {
                path: text.chars().take(200).collect(),
                reason: reason.to_owned(),
            })
        };
        if text.len() > 4095 {
            return invalid("it is longer than 4095 bytes");
        }
        if text.chars().any(char::is_control) {
            return invalid("it contains a control character");
        }
        let Some(rest) = text.strip_prefix('/') else {
            return invalid("it must be absolute, such as /disk/disk.img");
        };
        let mut parts = Vec::new();
        for part in rest.split('/') {
            match part {
                // A doubled slash and `.` mean nothing; resolve them rather than let two spellings of one path exist.
                "" | "." => {}
                ".." => return invalid("it contains .."),
                part if part.len() > 255 => {
                    return invalid("a part of it is longer than 255 bytes");
                }
                part => parts.push(part.to_owned()),
            }
        }
        if parts.is_empty() || rest.ends_with('/') {
            return invalid("it must name a file");
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_reference_is_recognised() {
        let parse = |text: &str| text.parse::<ImageReference>().unwrap();
        assert!(matches!(
            parse("catamaran.local/minimal:dev"),
            ImageReference::Registry(_)
        ));
        assert_eq!(
            parse("oci:/srv/images:catamaran.local/minimal:dev"),
            ImageReference::Layout {
                path: "/srv/images".into(),
                name: Some("catamaran.local/minimal:dev".to_owned())
            }
        );
        assert_eq!(
            parse("oci-archive:/srv/a.tar"),
            ImageReference::Archive {
                path: "/srv/a.tar".into(),
                name: None
            }
        );
        assert_eq!(parse("oci:/srv/images:x").to_string(), "oci:/srv/images:x");
    }

    #[test]
    fn bad_references_are_refused_and_say_what_is_allowed() {
        for bad in [
            "",
            "UPPER/x",
            "oci:relative",
            "oci:/x:",
            "host/a b",
            "host/x@sha256:123",
            "a\0b",
        ] {
            let error = bad.parse::<ImageReference>().unwrap_err();
            assert_eq!(error.reason(), "InvalidImageName", "{bad}");
        }
        let sha512 = format!("host/x@sha512:{}", "0".repeat(128));
        assert!(
            sha512
                .parse::<ImageReference>()
                .unwrap_err()
                .to_string()
                .contains("only sha256")
        );
    }

    #[test]
    fn default_policy_is_always_for_latest_only() {
        let policy = |text: &str| PullPolicy::from_field(None, &text.parse().unwrap()).unwrap();
        assert_eq!(policy("host.example/x"), PullPolicy::Always);
        assert_eq!(policy("host.example/x:latest"), PullPolicy::Always);
        assert_eq!(policy("host.example/x:1"), PullPolicy::IfNotPresent);
        assert_eq!(
            PullPolicy::from_field(Some("Sometimes"), &"h.example/x".parse().unwrap()),
            Err("Sometimes".to_owned())
        );
    }

    #[test]
    fn paths_that_leave_the_image_are_refused() {
        let long = format!("/{}", "a".repeat(5000));
        for bad in [
            "",
            "/",
            "disk/x",
            "/disk/../etc/shadow",
            "/..",
            "/disk/a\0b",
            "/disk/",
            &long,
        ] {
            assert!(bad.parse::<ImagePath>().is_err(), "{bad:.40}");
        }
        // Percent signs mean nothing here: this is a plain (if odd) file name, never decoded.
        assert_eq!("/%2e%2e/x".parse::<ImagePath>().unwrap().folder(), "%2e%2e");
        let path = "//disk/./a.img".parse::<ImagePath>().unwrap();
        assert_eq!(
            (
                path.folder().as_str(),
                path.name(),
                path.to_string().as_str()
            ),
            ("disk", "a.img", "/disk/a.img")
        );
    }
}
