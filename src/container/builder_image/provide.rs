//! The builder image in an engine: what it has, what the store has, what a registry has, in this order.

use anyhow::{Context, Error, Result, bail};

use super::documents::{Document, Manifest};
use super::{Kind, StoredImage, Unavailable, read};
use crate::container::engine::{Engine, Image, ImageReference};
use crate::container::registry::{Refusals, Registries, Settings};
use crate::packages::download::{Downloader, Meter};
use crate::packages::store::Store;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::Progress;

/// Where a builder image may come from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The image, as the definition pins it.
    pub reference: &'a ImageReference,
    /// The definition, as the user names it: hints have it.
    pub definition: &'a str,
    /// Further places that have it: `registry/name`.
    pub mirrors: &'a [String],
    /// What is kept on this machine.
    pub store: &'a Store,
    /// Where podman's settings for registries lie.
    pub settings: &'a Settings,
    /// What fetches; whether it is offline decides whether any registry is asked.
    pub downloader: &'a Downloader,
    /// OCI's word for the processor.
    pub architecture: &'a str,
    /// Progress reporter.
    pub progress: &'a Progress,
}

impl Sources<'_> {
    /// Finds the image in the engine's storage, or brings it there.
    ///
    /// # Errors
    /// Fails with [`Unavailable`] when it cannot be had, and when the engine does not take it.
    pub async fn provide(&self, engine: &Engine) -> Result<Image> {
        if let Some(image) = engine.find_image(self.reference).await? {
            return Ok(image);
        }
        let stored = match self.keep().await {
            Ok(Some(stored)) => stored,
            // The engine knows what to say of an image that was made on its machine.
            Ok(None) => return engine.ensure_image(self.reference, self.progress).await,
            Err(error) => return self.pull(engine, error).await,
        };
        self.load(engine, &stored).await
    }

    /// Brings the image into the store if it is not there. None for one that is made on this machine: no registry has it.
    ///
    /// # Errors
    /// Fails with [`Unavailable`] when it cannot be had.
    pub async fn keep(&self) -> Result<Option<StoredImage>> {
        if let Some(stored) = self.stored()? {
            return Ok(Some(stored));
        }
        if self.reference.is_local() {
            return Ok(None);
        }
        self.fetch(&self.registries()?).await.map(Some).map_err(|error| self.explain(error))
    }

    /// Returns where the image could be had from, for people; nothing is fetched but its manifest.
    ///
    /// # Errors
    /// As [`Sources::keep`].
    pub async fn probe(&self) -> Result<&'static str> {
        let pinned = self.reference.digest();
        if self.stored()?.is_some() {
            return Ok("the store has it");
        }
        // That the store has the manifest says nothing of the layers.
        let document = self.registries()?.manifest(pinned).await.map_err(|error| self.explain(error))?;
        Document::parse(&document)?.0.manifest_for(self.architecture, pinned)?;
        Ok("its registry has it")
    }

    fn stored(&self) -> Result<Option<StoredImage>> {
        StoredImage::find(self.store, self.reference.digest(), self.architecture, self.progress)
    }

    /// Tells of registries that do not have it what is the matter, and what to do.
    fn explain(&self, error: Error) -> Error {
        match error.downcast::<Refusals>() {
            Ok(refusals) => Unavailable::by(self.reference, self.definition, &refusals).into(),
            Err(error) => error.context(format!("fetching the builder image {}", self.reference)),
        }
    }

    /// Brings the image into the store, each part from the first registry that has it.
    async fn fetch(&self, registries: &Registries) -> Result<StoredImage> {
        let pinned = self.reference.digest();
        let (first, media_type) = Document::parse(&self.document(registries, pinned).await?)?;
        let manifest = first.manifest_for(self.architecture, pinned)?;
        let blobs = Manifest::parse(&self.document(registries, manifest).await?)?.blobs;
        let size_bytes = blobs.iter().map(|blob| blob.size_bytes).sum();
        let meter = Meter::new(self.progress.stage(&format!("fetching {}", self.reference), Some(size_bytes)));
        for blob in &blobs {
            registries.blob(blob.digest, blob.size_bytes, self.store, &meter).await?;
        }
        meter.into_stage().finish("");
        Ok(StoredImage { pinned, media_type, manifest, blobs })
    }

    /// An index or manifest, from the store or into it.
    async fn document(&self, registries: &Registries, digest: Digest) -> Result<Vec<u8>> {
        if self.store.contains_whole(&digest)? {
            return read(&self.store.path(&digest));
        }
        let bytes = registries.manifest(digest).await?;
        self.store.insert(&bytes)?;
        Ok(bytes)
    }

    fn registries(&self) -> Result<Registries> {
        let mut repositories = vec![self.reference.repository()];
        repositories.extend_from_slice(self.mirrors);
        Registries::of(&repositories, self.settings, self.downloader)
            .context("looking for registries of the builder image")
    }

    /// Has the engine pull what was not to be had from here: it may be on another machine, and know other credentials.
    async fn pull(&self, engine: &Engine, error: Error) -> Result<Image> {
        let kind = error.downcast_ref::<Unavailable>().map(|unavailable| unavailable.kind);
        if !matches!(kind, Some(Kind::Unreachable | Kind::Unauthorized)) {
            return Err(error);
        }
        // What the engine says would be the same once more.
        let Ok(image) = engine.ensure_image(self.reference, self.progress).await else { return Err(error) };
        self.progress.warn(&format!(
            "the builder image {} is in the engine's storage only, since no registry gave it to ocinitrd itself",
            self.reference
        ));
        Ok(image)
    }

    async fn load(&self, engine: &Engine, stored: &StoredImage) -> Result<Image> {
        let stage = self.progress.stage(&format!("loading {}", self.reference), Some(stored.size_bytes()));
        let write = |writer: &mut dyn std::io::Write| stored.write_archive(self.store, writer);
        let loaded = engine.load_image(Box::new(write)).await;
        loaded.with_context(|| format!("loading the builder image {} into the engine", self.reference))?;
        stage.finish("");
        match engine.find_image(self.reference).await? {
            Some(image) => Ok(image),
            None => bail!("the engine has loaded the builder image, but does not know it as {}", stored.pinned),
        }
    }
}
