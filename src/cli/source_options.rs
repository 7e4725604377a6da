//! Where the packages of an image may come from, as the commands that lock, fetch and build are told.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::definition::{Definition, Shipped};
use crate::lock::context::{BuildContext, Sources};
use ocinitrd_support::progress::Progress;

use super::environment::{self, EngineOption};

/// Where packages may come from, and what runs the containers.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceOptions {
    /// The engine that is wished for.
    #[command(flatten)]
    pub engine: EngineOption,

    /// Use no network at all: everything must be in the store, in --rpm-dir or in local repositories, and the builder image
    /// in the store or in the engine's storage.
    #[arg(long)]
    pub offline: bool,

    /// A directory with rpm files, to be looked into before any server is asked; what counts is the digest in the lock. May
    /// be repeated.
    #[arg(long = "rpm-dir", value_name = "DIR")]
    pub rpm_directories: Vec<PathBuf>,
}

impl SourceOptions {
    /// The options with what the environment says.
    ///
    /// # Errors
    /// Fails when a directory of `--rpm-dir` is none, or the environment cannot be read.
    pub fn supply(&self) -> Result<Sources> {
        let mut rpm_directories = self.rpm_directories.clone();
        for directory in &mut rpm_directories {
            ensure!(directory.is_dir(), "--rpm-dir {}: there is no such directory", directory.display());
            *directory = std::path::absolute(&*directory).context("finding the current directory")?;
        }
        let (surroundings, host) = (self.engine.surroundings()?, environment::host()?);
        let registries = environment::registries();
        Ok(Sources { surroundings, host, offline: self.offline, rpm_directories, registries })
    }

    /// Opens what the stages work with, for the image of that name or path.
    ///
    /// # Errors
    /// As [`Definition::load`], [`Self::supply`] and [`BuildContext::open`].
    pub fn open_workshop<'p>(&self, image: &str, progress: &'p Progress) -> Result<BuildContext<'p>> {
        BuildContext::open(load_definition(image)?, self.supply()?, progress)
    }
}

/// The definition of the image of that name below the current directory, or of those that come with the program, or of that path.
///
/// # Errors
/// As [`Definition::load`].
pub fn load_definition(image: &str) -> Result<Definition> {
    let directory = std::env::current_dir().context("finding the current directory")?;
    let images = environment::shipped_images();
    let shipped = images.as_deref().map(|images| Shipped { images, locks: &directory });
    Definition::load_or_shipped(image, &directory, shipped)
}
