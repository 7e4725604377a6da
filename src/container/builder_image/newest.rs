//! What a tag names now: the successor of an image that is pinned.

use anyhow::{Context, Result};

use super::Unavailable;
use super::documents::{Document, Manifest};
use crate::container::engine::TaggedImage;
use crate::container::registry::{Refusals, Registries, Settings};
use crate::packages::download::Downloader;
use ocinitrd_format::digest::Digest;

/// Asks the image's registry, or what `registries.conf` has in its place, for the digest that its tag has now. Mirrors of the
/// definition are not asked: they have the image that is pinned.
///
/// # Errors
/// Fails with [`Unavailable`] when no registry has the tag, and when the tag names no image for `architecture` (OCI's name for the
/// processor).
pub async fn newest(
    image: &TaggedImage,
    architecture: &str,
    settings: &Settings,
    downloader: &Downloader,
) -> Result<Digest> {
    let registries = Registries::of(&[image.repository()], settings, downloader)
        .with_context(|| format!("looking for registries of {image}"))?;
    let bytes = registries.tagged(image.tag()).await.map_err(|error| match error.downcast::<Refusals>() {
        Ok(refusals) => Unavailable::of_tag(image, &refusals).into(),
        Err(error) => error.context(format!("asking for the tag {image}")),
    })?;
    let digest = Digest::of(&bytes);
    check(&bytes, digest, architecture).with_context(|| format!("reading what the tag {image} names"))?;
    Ok(digest)
}

/// Refuses what is neither an index with an image for the architecture nor a manifest.
fn check(bytes: &[u8], digest: Digest, architecture: &str) -> Result<()> {
    match Document::parse(bytes)?.0 {
        Document::Manifest => Manifest::parse(bytes).map(drop),
        index => index.manifest_for(architecture, digest).map(drop),
    }
}
