//! What locking, fetching and building work with: the definition, the store, and an engine once it is needed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::sync::OnceCell;

use crate::container::builder_image::{self, StoredImage};
use crate::container::engine::in_place::InPlace;
use crate::container::engine::reference::check_repository;
use crate::container::engine::{Builder, Cancellation, Engine, EngineOptions, ImageReference, NoEngine, TaggedImage};
use crate::container::registry;
use crate::definition::Definition;
use crate::doctor::{self, EngineFacts, Host};
use crate::lock::file::Section;
use crate::lock::resolve::ResolveContext;
use crate::packages::cache::Cache;
use crate::packages::download::{Downloader, Timeouts};
use crate::packages::store::Store;
use ocinitrd_format::architecture;
use ocinitrd_support::progress::Progress;

/// Where packages may come from, and what runs the containers.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What decides about the engine.
    pub surroundings: EngineOptions,
    /// This machine; the store is its cache directory.
    pub host: Host,
    /// Whether no network may be used at all.
    pub offline: bool,
    /// Directories with rpm files, looked into before any server is asked.
    pub rpm_directories: Vec<PathBuf>,
    /// Where podman's settings for registries lie.
    pub registries: registry::Settings,
}

/// What every stage works with.
pub struct BuildContext<'a> {
    /// The definition.
    pub definition: Definition,
    /// The store.
    pub store: Store,
    /// Results of earlier builds.
    pub results: Cache,
    /// Who is told.
    pub progress: &'a Progress,
    /// Whether the run is to end.
    pub cancellation: Cancellation,
    /// Where packages may come from, and the engine that is wished for.
    pub supply: Sources,
    /// What fetches.
    pub downloader: Downloader,
    builder: OnceCell<Builder>,
}

impl<'a> BuildContext<'a> {
    /// Opens the store. No engine is looked for yet.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub fn open(definition: Definition, supply: Sources, progress: &'a Progress) -> Result<Self> {
        let downloader = Downloader::new(Timeouts::default());
        let store = Store::open(&supply.host.cache)?;
        Ok(BuildContext {
            definition,
            results: Cache::of(&store),
            store,
            progress,
            cancellation: Cancellation::on_signals()?,
            downloader: if supply.offline { downloader.offline() } else { downloader },
            supply,
            builder: OnceCell::new(),
        })
    }

    /// Keeps results in `directory`, which has none yet: nothing that an earlier build made is taken. Packages in the
    /// store, and that their signatures were verified, are no results of builds.
    pub fn with_results_in(self, directory: &Path) -> Self {
        BuildContext { results: Cache::at(directory), ..self }
    }

    /// What runs dnf and rpm; looked for when it is needed first.
    ///
    /// # Errors
    /// Fails when no engine answers, the host cannot build, or the image cannot be had.
    pub async fn builder(&self) -> Result<&Builder> {
        self.builder.get_or_try_init(|| self.open_builder()).await
    }

    /// Lets go of the engine: a service that was started for this run ends.
    pub fn dismiss_builder(&mut self) {
        self.builder.take();
    }

    /// The path of the lock for people: as short as it can be.
    pub fn lock_name(&self) -> String {
        let path = self.definition.lock_path();
        let here = std::env::current_dir().and_then(std::fs::canonicalize);
        let short = here.ok().and_then(|here| path.strip_prefix(here).ok().map(ToOwned::to_owned));
        short.unwrap_or(path).display().to_string()
    }

    /// What resolving works with. The builder image is in the store then, where a registry has it.
    ///
    /// # Errors
    /// Fails where no engine has the builder image.
    pub async fn resolve_context(&self) -> Result<ResolveContext<'_>> {
        let builder = self.builder().await?;
        let image = builder.image()?;
        let kept = self.keep_builder_image().await?;
        // The engine gives images that were made with it a manifest of its own: what a registry has counts where it is known.
        let of_engine = image.platform_digest.unwrap_or(image.digest);
        Ok(ResolveContext {
            definition: &self.definition,
            builder,
            image,
            platform_digest: kept.map_or(of_engine, |stored| stored.manifest),
            store: &self.store,
            downloader: &self.downloader,
            rpm_directories: &self.supply.rpm_directories,
            cancellation: &self.cancellation,
            progress: self.progress,
        })
    }

    /// Where the steps run in place, has `section` name the rpm and dnf of this place instead of the builder image's.
    ///
    /// # Errors
    /// Fails when the steps cannot run here.
    pub async fn take_tools_of_this_place(&self, section: &mut Section) -> Result<()> {
        if !self.supply.surroundings.in_place {
            return Ok(());
        }
        let Builder::InPlace(here) = self.builder().await? else { return Ok(()) };
        let locked = std::mem::replace(&mut section.builder.tools, here.tools().to_vec());
        if locked != section.builder.tools {
            self.progress.warn(&format!(
                "the tools here are {}, those of the builder image are {}: the same bytes are promised with equal ones only",
                section.builder.tools.join(", "),
                locked.join(", ")
            ));
        }
        Ok(())
    }

    /// The builder image as the definition pins it.
    ///
    /// # Errors
    /// Fails when the definition does not pin one by its digest.
    pub fn builder_reference(&self) -> Result<ImageReference> {
        self.definition.builder_image.parse().context("in [builder] image")
    }

    /// The builder image by its tag, whether or not the definition pins it.
    ///
    /// # Errors
    /// Fails when the definition names no tag, or an image that is made on this machine.
    pub fn tagged_builder(&self) -> Result<TaggedImage> {
        let file = self.definition.builder_file.display();
        self.definition.builder_image.parse().with_context(|| format!("in [builder] image of {file}"))
    }

    /// The builder image pinned to the digest that its tag has now. None if that is the pinned one.
    ///
    /// # Errors
    /// As [`builder_image::newest`]; and when the definition names no tag.
    pub async fn newest_builder(&self) -> Result<Option<ImageReference>> {
        let image = self.tagged_builder()?;
        let architecture = architecture::oci_name(architecture::native());
        let digest = builder_image::newest(&image, architecture, &self.supply.registries, &self.downloader).await?;
        Ok((image.digest() != Some(digest)).then(|| image.pinned_to(digest)))
    }

    /// Where the builder image may come from.
    ///
    /// # Errors
    /// Fails when a mirror is not the name of a repository.
    pub fn builder_sources<'s>(&'s self, reference: &'s ImageReference) -> Result<builder_image::Sources<'s>> {
        let mirrors = &self.definition.builder_mirrors;
        mirrors.iter().try_for_each(|mirror| check_repository(mirror)).context("in [builder] mirrors")?;
        Ok(builder_image::Sources {
            reference,
            definition: &self.definition.argument,
            mirrors,
            store: &self.store,
            settings: &self.supply.registries,
            downloader: &self.downloader,
            architecture: architecture::oci_name(architecture::native()),
            progress: self.progress,
        })
    }

    /// Brings the builder image into the store: its registry may have it no more when the lock is used again. That it cannot is
    /// a warning if the engine has it. None for images that are only in the engine's storage, and where steps run in place.
    ///
    /// # Errors
    /// Fails when the definition does not pin one, and when it is wanted and neither the store nor the engine has it.
    pub async fn keep_builder_image(&self) -> Result<Option<StoredImage>> {
        if self.supply.surroundings.in_place {
            return Ok(None);
        }
        let reference = self.builder_reference()?;
        match self.builder_sources(&reference)?.keep().await {
            Ok(kept) => Ok(kept),
            Err(error) if self.builder.get().is_some() => {
                self.progress.warn(&format!("the builder image is in the engine's storage only: {error:#}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn open_builder(&self) -> Result<Builder> {
        if self.supply.surroundings.in_place {
            let here = InPlace::open(self.store.root(), &self.cancellation)?;
            self.progress.note(&format!("engine: {here}"));
            doctor::preflight_in_place(&self.supply.host, &here)?;
            return Ok(Builder::InPlace(here));
        }
        let reference = self.builder_reference()?;
        let engine = self.open_engine().await?;
        let image = self.builder_sources(&reference)?.provide(&engine).await?;
        Ok(Builder::Containers { engine: Box::new(engine), image })
    }

    /// Opens the engine and refuses, in the doctor's words, a host that cannot build.
    async fn open_engine(&self) -> Result<Engine> {
        let Sources { surroundings, host, .. } = &self.supply;
        let engine = match Engine::open(surroundings, &self.cancellation, self.progress).await {
            Ok(engine) => engine,
            Err(error) => match error.downcast_ref::<NoEngine>() {
                Some(missing) => bail!("{missing}\n    cure: {}", doctor::cure_for(host, missing)),
                None => return Err(error),
            },
        };
        doctor::preflight(host, &EngineFacts::from(&engine))?;
        Ok(engine)
    }
}
