//! What runs the steps of a build: containers of the builder image, or this very place.

use anyhow::{Result, bail};

use super::in_place::InPlace;
use super::{Engine, Image, Job, JobResult};
use ocinitrd_support::progress::Progress;

/// What runs the steps of a build.
#[derive(Debug)]
pub enum Builder {
    /// Containers of an image that the engine has.
    Containers {
        /// The engine.
        engine: Box<Engine>,
        /// The builder image.
        image: Image,
    },
    /// Programs of this very place: a container of the builder image, or the root of a build system.
    InPlace(InPlace),
}

impl Builder {
    /// Runs a job to its end; nothing is left of it.
    ///
    /// # Errors
    /// As [`Engine::run`] and [`InPlace::run`].
    pub async fn run(&self, job: Job<'_>, progress: &Progress) -> Result<JobResult> {
        match self {
            Builder::Containers { engine, image } => engine.run(image, job, progress).await,
            Builder::InPlace(here) => here.run(job, progress).await,
        }
    }

    /// The image whose containers run the steps.
    ///
    /// # Errors
    /// Fails in place: nothing says by which digest this place is known.
    pub fn image(&self) -> Result<&Image> {
        match self {
            Builder::Containers { image, .. } => Ok(image),
            Builder::InPlace(_) => bail!(
                "a lock pins the builder image, and --engine in-place does not know of which image this place is: make \
                 the lock where podman is, and build here with it"
            ),
        }
    }
}
