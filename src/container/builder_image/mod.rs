//! The builder image in the store: its index, manifest, configuration and layers, as its registry has them, by their digests.
//!
//! Registries delete what a tag no longer names, so a lock would be worth nothing a week later without a copy. Enters: a digest that
//! is pinned, and the places that may have it. Leaves: blobs in the store, and an archive of them that an engine loads: it then knows
//! the image by the same digests as after a pull.
//!
//! | module | what it does |
//! |---|---|
//! | [`documents`] | indexes and manifests: which blobs are an image |
//! | [`provide`] | the image in an engine: its own, the store's or a registry's |
//! | [`newest`](mod@newest) | the digest that its tag has now |
//! | [`archive`] | an OCI archive of these blobs, out and in |
//! | [`unavailable`] | why an image cannot be had, and what to do |

mod archive;
mod documents;
mod newest;
mod provide;
mod unavailable;

use std::path::Path;

use anyhow::{Context, Result};

use crate::image::oci::document::LIMIT_BYTES;
use crate::packages::store::Store;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

pub use archive::{file_name, import, is_archive};
use documents::{Blob, Document, Manifest};
pub use newest::newest;
pub use provide::Sources;
pub use unavailable::{Kind, Unavailable};

/// An image whose blobs are all in the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredImage {
    /// What it is pinned to: the digest of an index over several platforms, or of a manifest.
    pub pinned: Digest,
    /// The type of that document.
    media_type: String,
    /// The digest of this platform's manifest.
    pub manifest: Digest,
    /// Configuration and layers.
    blobs: Vec<Blob>,
}

impl StoredImage {
    /// Looks for the image that is pinned to `pinned`, of it that for `architecture` in OCI's word for it (`amd64`). None if not
    /// all of it is there and whole; a damaged part is removed, with a warning.
    ///
    /// # Errors
    /// Fails when the stored document is not an image, has no image for the architecture, or cannot be read.
    pub fn find(store: &Store, pinned: Digest, architecture: &str, progress: &Progress) -> Result<Option<Self>> {
        let parts = Parts { store, pinned, progress };
        let Some(first) = parts.read(pinned)? else { return Ok(None) };
        let (document, media_type) = Document::parse(&first)?;
        let digest = document.manifest_for(architecture, pinned)?;
        let Some(bytes) = parts.read(digest)? else { return Ok(None) };
        let manifest = Manifest::parse(&bytes)?;
        for blob in &manifest.blobs {
            if !parts.contains_whole(blob.digest)? {
                return Ok(None);
            }
        }
        Ok(Some(StoredImage { pinned, media_type, manifest: digest, blobs: manifest.blobs }))
    }

    /// The digests of all its blobs.
    pub fn digests(&self) -> Vec<Digest> {
        let blobs = self.blobs.iter().map(|blob| blob.digest);
        let mut digests: Vec<Digest> = [self.pinned, self.manifest].into_iter().chain(blobs).collect();
        digests.sort();
        digests.dedup();
        digests
    }

    /// What its configuration and layers come to, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size_bytes).sum()
    }
}

/// Marks an image as used, so that no clean-up takes it: for who builds from what an earlier build has left, and does not read it.
pub fn touch(store: &Store, pinned: Digest, architecture: &str) {
    // A command that needs the image reports what is wrong with it.
    let digests = || -> Result<Vec<Digest>> {
        let digest = Document::parse(&read(&store.path(&pinned))?)?.0.manifest_for(architecture, pinned)?;
        let manifest = Manifest::parse(&read(&store.path(&digest))?)?;
        Ok([pinned, digest].into_iter().chain(manifest.blobs.iter().map(|blob| blob.digest)).collect())
    };
    digests().unwrap_or_default().iter().for_each(|digest| Store::touch(&store.path(digest)));
}

/// The parts of an image in the store.
struct Parts<'a> {
    store: &'a Store,
    /// The digest that the image is pinned to.
    pinned: Digest,
    progress: &'a Progress,
}

impl Parts<'_> {
    fn contains_whole(&self, digest: Digest) -> Result<bool> {
        if self.store.discard_if_damaged(&digest)? {
            let pinned = self.pinned;
            self.progress.warn(&format!(
                "the store's copy of {digest}, a part of the builder image {pinned}, was damaged: it is removed and has to be fetched \
                 again"
            ));
        }
        Ok(self.store.contains(&digest))
    }

    /// Returns an index or manifest, if it is there and whole.
    fn read(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        if !self.contains_whole(digest)? {
            return Ok(None);
        }
        read(&self.store.path(&digest)).map(Some)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = regular_file::open_own(path).and_then(|file| regular_file::read_all(file, LIMIT_BYTES));
    file.with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests;
