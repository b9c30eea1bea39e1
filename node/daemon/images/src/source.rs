//! The three places an image comes from, behind one set of questions.

use std::path::Path;

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::layout::{BlobFile, Layout};
use crate::limits::Limits;
use crate::manifest::{self, Blob, Document, Image};
use crate::registry::RegistrySource;

/// Indexes inside indexes are followed so far.
const MAX_DEPTH: usize = 3;

/// Where one image is read from.
#[derive(Debug)]
pub(crate) enum Source {
    Registry(Box<RegistrySource>),
    /// A layout and the entry of its index.
    Layout(Layout, Blob),
}

impl Source {
    /// In words, for messages.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Registry(registry) => registry.place(),
            Self::Layout(layout, _) => layout.place(),
        }
    }

    /// Bytes still have to be fetched, rather than only hashed.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self, Self::Registry(_))
    }

    /// Digest and manifest of the image for this machine.
    pub(crate) async fn image(&self, reference: &str, limits: &Limits) -> Result<(Digest, Image)> {
        let (mut bytes, mut digest) = match self {
            Self::Registry(registry) => registry.root().await?,
            Self::Layout(layout, blob) => (
                layout.blob_bytes(reference, "the manifest", blob, limits)?,
                blob.digest.clone(),
            ),
        };
        for _ in 0..MAX_DEPTH {
            match manifest::parse(reference, &bytes, limits)? {
                Document::Image(image) => return Ok((digest, image)),
                Document::Index(entries) => {
                    let blob = manifest::choose(reference, &entries)?;
                    bytes = match self {
                        Self::Registry(registry) => registry.manifest(&blob).await?,
                        Self::Layout(layout, _) => {
                            layout.blob_bytes(reference, "the manifest", &blob, limits)?
                        }
                    };
                    digest = blob.digest;
                }
            }
        }
        Err(ImageError::unsupported(
            reference,
            format!("its indexes are nested more than {MAX_DEPTH} deep"),
        ))
    }

    /// Checks that the image is for this machine, as far as its config says.
    pub(crate) async fn check_config(
        &self,
        reference: &str,
        image: &Image,
        limits: &Limits,
    ) -> Result<()> {
        let Some(config) = &image.config else {
            return Ok(());
        };
        let bytes = match self {
            Self::Registry(registry) => registry.blob_bytes("the config", config).await?,
            Self::Layout(layout, _) => {
                layout.blob_bytes(reference, "the config", config, limits)?
            }
        };
        manifest::check_config(reference, &bytes)
    }

    /// A layer with its digest checked; `progress` hears the bytes done.
    pub(crate) async fn layer(
        &self,
        reference: &str,
        blob: &Blob,
        folder: &Path,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<BlobFile> {
        match self {
            Self::Registry(registry) => registry.blob_file(blob, folder, &mut progress).await,
            Self::Layout(layout, _) => {
                let (layout, blob, reference) =
                    (layout.clone(), blob.clone(), reference.to_owned());
                let place = layout.place();
                tokio::task::spawn_blocking(move || {
                    layout.blob_file(&reference, &blob, &mut progress)
                })
                .await
                .map_err(|error| ImageError::Io {
                    action: "read a layer from",
                    path: place.into(),
                    source: std::sync::Arc::new(error.into()),
                })?
            }
        }
    }
}
