//! The builder image in an engine: what it has, what the store has, what a registry has, in this order.

use anyhow::{Context, Error, Result, bail};

use super::{Kind, StoredImage, Unavailable, fetch};
use crate::download::Downloader;
use crate::engine::{Engine, Image, ImageReference};
use crate::progress::Progress;
use crate::registry::{Registries, Settings};
use crate::store::Store;

/// Where a builder image may come from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The image, as the definition pins it.
    pub reference: &'a ImageReference,
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
        let digest = self.reference.digest();
        if let Some(stored) = StoredImage::find(self.store, digest, self.architecture)? {
            return Ok(Some(stored));
        }
        if self.reference.is_local() {
            return Ok(None);
        }
        let shown = self.reference.to_string();
        let fetched = fetch(&self.registries()?, &shown, digest, self.architecture, self.store, self.progress).await;
        Ok(Some(fetched?))
    }

    /// The registries that may have it.
    ///
    /// # Errors
    /// Fails when the settings for registries cannot be read.
    pub fn registries(&self) -> Result<Registries> {
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
        let name = format!("localhost/ocinitrd/builder:{}", &stored.pinned.hex()[..12]);
        let write = |writer: &mut dyn std::io::Write| stored.write_archive(&name, self.store, writer);
        let loaded = engine.load_image(Box::new(write)).await;
        loaded.with_context(|| format!("loading the builder image {} into the engine", self.reference))?;
        stage.finish("");
        match engine.find_image(self.reference).await? {
            Some(image) => Ok(image),
            None => bail!("the engine has loaded the builder image, but does not know it as {}", stored.pinned),
        }
    }
}
