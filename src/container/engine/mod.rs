//! Containers: which engine, its images, and jobs that run in it.
//!
//! In: what the user wishes ([`EngineChoice`]) and a [`Cancellation`]. Out: an [`Engine`] that has answered. The pipeline of a
//! build is [`Engine::open`], [`Engine::ensure_image`], [`Engine::run`]; dropping the engine ends a service
//! that was started for the run.
//!
//! | module | what it does |
//! |---|---|
//! | [`endpoint`] | which engine, by option, variables and default sockets |
//! | [`service`] | a podman service of our own where no socket answers |
//! | [`podman`], [`failure`] | the API: the only users of bollard |
//! | [`mod@reference`], [`image`] | images by digest |
//! | [`job`], [`log`] | one program in one container |
//! | [`builder`], [`in_place`] | what runs the steps of a build: containers, or this very place |
//! | [`owner`] | whose a container is, so that leftovers of killed runs can be removed |
//! | [`cancellation`] | Ctrl-C and SIGTERM as a value |

pub(crate) mod builder;
pub mod cancellation;
pub mod endpoint;
pub(crate) mod failure;
pub(crate) mod image;
pub(crate) mod in_place;
pub(crate) mod job;
pub(crate) mod log;
pub(crate) mod owner;
pub(crate) mod podman;
mod raw;
pub(crate) mod reference;
pub(crate) mod service;
mod transfer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

pub use self::builder::Builder;
pub use self::cancellation::{Cancellation, Interrupted};
use self::endpoint::{Candidate, Choice, Source};
pub use self::endpoint::{Endpoint, EngineChoice};
use self::failure::Failure;
pub use self::image::Image;
pub use self::job::{Input, Job, JobResult, Output};
use self::owner::{Owner, RUN_LABEL};
use self::podman::Client;
pub use self::podman::Identity;
pub use self::reference::{ImageReference, TaggedImage};
use self::service::Service;
use ocinitrd_support::progress::Progress;

/// What is needed to open an engine, as values.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Whether the steps run in this very place, and no engine is looked for.
    pub in_place: bool,
    /// What decides about the endpoint.
    pub wish: EngineChoice,
    /// The podman program, where it is installed.
    pub podman: Option<PathBuf>,
    /// Directories for the socket of a service of our own, the best first.
    pub socket_directories: Vec<PathBuf>,
}

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    client: Arc<Client>,
    source: Source,
    identity: Identity,
    owner: Owner,
    cancellation: Cancellation,
    // Ends when the engine is dropped.
    service: Option<Service>,
}

/// That no engine answers, and what was tried.
#[derive(Debug)]
pub struct NoEngine {
    /// Endpoint or program, and why it was of no use, in the order of trying.
    pub tried: Vec<(String, String)>,
    /// Whether the endpoint was named by the user, so that no other was tried.
    pub named: bool,
    /// Whether the podman program is installed.
    pub installed: bool,
}

impl fmt::Display for NoEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no container engine answers; tried in this order:")?;
        for (what, why) in &self.tried {
            write!(formatter, "\n  {what}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoEngine {}

impl Engine {
    /// Finds the engine by the order of [`endpoint`], says which one is used, and removes what killed runs left in it.
    ///
    /// # Errors
    /// Fails with [`NoEngine`] when none answers, and when the wish is malformed.
    pub async fn open(surroundings: &EngineOptions, cancellation: &Cancellation, progress: &Progress) -> Result<Self> {
        let engine = Engine::find(surroundings, cancellation).await?;
        progress.note(&format!("engine: {engine}"));
        engine.remove_leftovers(progress).await?;
        Ok(engine)
    }

    /// Finds the engine and changes nothing in it.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn find(surroundings: &EngineOptions, cancellation: &Cancellation) -> Result<Self> {
        let owner = Owner::current()?;
        let (candidates, named) = match endpoint::choose(&surroundings.wish)? {
            Choice::Named(candidate) => (vec![candidate], true),
            Choice::Search(candidates) => (candidates, false),
        };
        let mut failed = NoEngine { tried: Vec::new(), named, installed: surroundings.podman.is_some() };
        for Candidate { endpoint, source } in candidates {
            match connect(&endpoint).await {
                Ok((client, identity)) => {
                    return Ok(Engine {
                        client,
                        source,
                        identity,
                        owner,
                        cancellation: cancellation.clone(),
                        service: None,
                    });
                }
                Err(error) => failed.tried.push((format!("{endpoint} ({source})"), format!("{error:#}"))),
            }
        }
        if named {
            return Err(failed.into());
        }
        let Some(program) = &surroundings.podman else {
            failed.tried.push(("podman system service".to_owned(), "the program podman is not installed".to_owned()));
            return Err(failed.into());
        };
        let started = start(program, &surroundings.socket_directories, &owner, cancellation).await;
        match started {
            Ok((service, client, identity)) => Ok(Engine {
                client,
                source: Source::OwnService,
                identity,
                owner,
                cancellation: cancellation.clone(),
                service: Some(service),
            }),
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) => {
                failed.tried.push((format!("{} system service", program.display()), format!("{error:#}")));
                Err(failed.into())
            }
        }
    }

    /// What the engine is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        self.client.endpoint()
    }

    /// What named it.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Finds an image in the engine's storage or pulls it by digest.
    ///
    /// # Errors
    /// Fails when the pull is refused, the digest differs, the engine goes away or the run is asked to end.
    pub async fn ensure_image(&self, reference: &ImageReference, progress: &Progress) -> Result<Image> {
        tokio::select! {
            biased;
            interrupted = self.cancellation.cancelled() => Err(interrupted.into()),
            image = image::ensure(&self.client, reference, progress) => image,
        }
    }

    /// Finds an image in the engine's storage.
    ///
    /// # Errors
    /// Fails when the digest differs, or the engine goes away.
    pub async fn find_image(&self, reference: &ImageReference) -> Result<Option<Image>> {
        image::find(&self.client, reference).await
    }

    /// Takes the images of an OCI archive, which `archive` writes, into the engine's storage.
    ///
    /// # Errors
    /// Fails when the engine refuses it or goes away, and as `archive` does.
    pub async fn load_image(&self, archive: Input<'_>) -> Result<()> {
        let client = self.client.clone();
        self.send(archive, |body| async move { client.load(body).await }).await
    }

    /// Removes the containers of runs that were killed. Those of runs that live are never touched.
    async fn remove_leftovers(&self, progress: &Progress) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("reading the clock")?;
        let containers = match self.client.containers_with_label(RUN_LABEL).await {
            // One container that the engine itself cannot read any more must not keep everything from going on.
            Err(error) if !Failure::is_unreachable(&error) => {
                progress.warn(&format!("the containers of killed runs, if there are any, stay: {error:#}"));
                return Ok(());
            }
            containers => containers.context("looking for leftovers")?,
        };
        for container in containers {
            let Some(owner) = container.labels.get(RUN_LABEL).and_then(|label| Owner::parse(label)) else { continue };
            let age = now.saturating_sub(Duration::from_secs(container.created.try_into().unwrap_or_default()));
            let running = !matches!(container.state.as_str(), "created" | "exited" | "stopped" | "dead");
            if !owner.left_behind(&self.owner, age, running)? {
                continue;
            }
            match self.client.remove(&container.id).await {
                Ok(()) => {
                    progress.note(&format!("removed container {:.12}, left behind by a killed run", container.id))
                }
                Err(error) => {
                    progress.warn(&format!("container {:.12} of a killed run stays: {error:#}", container.id))
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { product, version, rootless, .. } = &self.identity;
        let rights = if *rootless { "rootless" } else { "root" };
        write!(formatter, "{product} {version} at {} ({rights}), {}", self.endpoint(), self.source)
    }
}

async fn connect(endpoint: &Endpoint) -> Result<(Arc<Client>, Identity)> {
    let client = Client::connect(endpoint).await?;
    let identity = client.identity().await?;
    Ok((Arc::new(client), identity))
}

async fn start(
    program: &std::path::Path,
    directories: &[PathBuf],
    owner: &Owner,
    cancellation: &Cancellation,
) -> Result<(Service, Arc<Client>, Identity)> {
    let starting = async {
        let service = Service::start(program, directories, owner).await?;
        let (client, identity) = connect(&service.endpoint()).await?;
        Ok((service, client, identity))
    };
    tokio::select! {
        biased;
        interrupted = cancellation.cancelled() => Err(interrupted.into()),
        started = starting => started,
    }
}
