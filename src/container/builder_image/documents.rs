//! Indexes and manifests of images, OCI's and Docker's, which differ in the names of their types only.

use anyhow::{Result, bail, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;

use super::unavailable::Unavailable;
use crate::image::oci::document::{MOST_LAYERS, parse, sha256};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::Escaped;

/// What all parts of a builder image may come to: several times a distribution's.
const LARGEST_IMAGE_BYTES: u64 = 16 << 30;
/// Of platforms in a message.
const SHOWN_PLATFORMS: usize = 20;

/// What a digest may be pinned to.
#[derive(Debug)]
pub(super) enum Document {
    Index(Box<ImageIndex>),
    Manifest,
}

/// A configuration or a layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Blob {
    pub digest: Digest,
    pub size_bytes: u64,
}

/// The blobs of one platform's image: its configuration, then its layers.
#[derive(Debug)]
pub(super) struct Manifest {
    pub blobs: Vec<Blob>,
}

/// What tells an index from a manifest: the type is optional in both.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads an index or manifest, and tells its type.
    pub fn parse(bytes: &[u8]) -> Result<(Self, String)> {
        let header: Header = parse("the document that the digest is of", bytes)?;
        let stated = header.media_type;
        if header.manifests.is_none() {
            return Ok((Document::Manifest, stated.unwrap_or_else(|| MediaType::ImageManifest.to_string())));
        }
        let index = parse("the image's index", bytes)?;
        Ok((Document::Index(Box::new(index)), stated.unwrap_or_else(|| MediaType::ImageIndex.to_string())))
    }

    /// The digest of the manifest for `architecture`; of a document that is one, its own.
    pub fn manifest_for(&self, architecture: &str, own: Digest) -> Result<Digest> {
        let Document::Index(index) = self else { return Ok(own) };
        let is_right = |descriptor: &&Descriptor| {
            platform(descriptor).is_some_and(|(os, found)| os == "linux" && found == architecture)
        };
        match index.manifests().iter().find(is_right) {
            Some(descriptor) => sha256(descriptor),
            None => Err(Unavailable::for_others(architecture, &platforms(index)).into()),
        }
    }
}

/// The platforms that an index is over, for people.
fn platforms(index: &ImageIndex) -> String {
    let mut platforms: Vec<String> =
        index.manifests().iter().filter_map(platform).map(|(os, found)| format!("{os}/{found}")).collect();
    let count = platforms.len();
    platforms.truncate(SHOWN_PLATFORMS);
    if count > SHOWN_PLATFORMS {
        platforms.push(format!("and {} more", count - SHOWN_PLATFORMS));
    }
    platforms.join(", ")
}

/// Operating system and architecture, as they can be shown.
fn platform(descriptor: &Descriptor) -> Option<(String, String)> {
    let platform = descriptor.platform().as_ref()?;
    let os = if *platform.os() == Os::Linux { "linux".to_owned() } else { platform.os().to_string() };
    Some((Escaped::text(&os).to_string(), Escaped::text(&platform.architecture().to_string()).to_string()))
}

impl Manifest {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: ImageManifest = parse("the image's manifest", bytes)?;
        let layers = manifest.layers();
        ensure!(
            layers.len() <= MOST_LAYERS,
            "the image has {} layers, and at most {MOST_LAYERS} are taken",
            layers.len()
        );
        let mut blobs = Vec::new();
        for descriptor in std::iter::once(manifest.config()).chain(layers) {
            blobs.push(Blob { digest: sha256(descriptor)?, size_bytes: descriptor.size() });
        }
        let sum = blobs.iter().try_fold(0u64, |sum, blob| sum.checked_add(blob.size_bytes));
        if sum.is_none_or(|sum| sum > LARGEST_IMAGE_BYTES) {
            bail!("the image's parts come to more than {LARGEST_IMAGE_BYTES} bytes");
        }
        Ok(Manifest { blobs })
    }
}
