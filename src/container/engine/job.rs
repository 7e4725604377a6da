//! One program in one container: data in as a tar stream, named files out, nothing left.
//!
//! In: a [`Job`]. Out: a [`JobResult`]. No directory of the host is ever mounted, so that the engine may be on another
//! machine, and no job has a network. The order is the only one that loses nothing with podman 4.3.1: create, upload,
//! attach, start, wait, fetch, remove.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rustix::process::{Resource, Signal, getrlimit};
use tokio::task::block_in_place;
use tracing::debug;

use super::cancellation::Unfinished;
use super::failure::{Ended, Failure};
use super::image::Image;
use super::log::Log;
use super::owner::RUN_LABEL;
use super::podman::{Chunk, ContainerPlan, End};
use super::transfer::{self, Download};
use super::{Engine, Interrupted};
use ocinitrd_support::progress::Progress;

/// After the program has ended, what it printed is already under way.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before asking again whether a program has ended, while it prints and after.
const LONG_PAUSE: Duration = Duration::from_millis(500);
const SHORT_PAUSE: Duration = Duration::from_millis(10);
const REMOVAL_LIMIT: Duration = Duration::from_secs(60);
/// How long after the kill somebody else's removal of a container may begin.
const OTHERS_PATIENCE: Duration = Duration::from_secs(5);
/// Enough for dnf and every scriptlet. More is slow: some programs close every possible file before they start another.
const OPEN_FILES: u64 = 4096;
const PROCESSES: u64 = 16384;

/// The body of a request.
type Body = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Writes a whole tar archive, its closing blocks included.
pub type Input<'a> = Box<dyn FnOnce(&mut dyn Write) -> Result<()> + Send + 'a>;

/// A file to fetch from the container after the program has ended with 0.
pub struct Output<'a> {
    /// Absolute path in the container, of a regular file.
    pub path: String,
    /// Where its bytes go.
    pub sink: &'a mut (dyn Write + Send),
}

/// What to run.
pub struct Job<'a> {
    /// What it is called in messages and in the container's name: letters, digits and hyphens.
    pub name: &'a str,
    /// The program and its arguments; the image's own entry point is not used. It runs as root of the container in `/`.
    pub command: Vec<String>,
    /// Variables beside those of the image.
    pub environment: BTreeMap<String, String>,
    /// Capabilities beside the engine's default ones, without `CAP_`. With `SYS_ADMIN` the container may mount.
    pub capabilities: Vec<String>,
    /// The most memory it may use, if limited.
    pub memory_limit_bytes: Option<u64>,
    /// Unpacked at `/` before the program starts. Runs on the calling thread.
    pub input: Input<'a>,
    /// Fetched in this order if the program ends with 0.
    pub outputs: Vec<Output<'a>>,
}

/// How a job went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JobResult {
    /// The program's exit code; outputs were fetched if it is 0.
    pub exit_code: i64,
    /// The end of what it printed, both streams, at most [`super::log::KEPT_BYTES`].
    pub log: String,
    /// The outputs' sizes, in the order of [`Job::outputs`].
    pub output_bytes: Vec<u64>,
}

impl Engine {
    /// Runs a job in a container of `image` to its end and removes its container, also after an error and when the run is asked to end.
    ///
    /// Blocks the calling thread at times: needs tokio's multi-threaded runtime. A future that is dropped leaves its
    /// container to the next run: use the [`super::Cancellation`] instead.
    ///
    /// # Errors
    /// Fails when the input cannot be made, the engine refuses or goes away, an output is missing or incomplete, the
    /// program is ended from outside ([`Ended`]), or the run is asked to end ([`Interrupted`]). A program that ends with
    /// another code than 0 is no error.
    pub async fn run(&self, image: &Image, job: Job<'_>, progress: &Progress) -> Result<JobResult> {
        self.cancellation.check()?;
        let _unfinished = Unfinished::begin();
        let (job_name, container) = (job.name.to_owned(), unique_name(job.name)?);
        let outcome = self.create_and_drive(image, &container, job, progress).await;
        let mut parts = Parts::begin(progress);
        if let Err(error) = self.remove(&container).await {
            progress.warn(&format!(
                "container {container} could not be removed and is left to the next run, which removes it: {error:#}"
            ));
        }
        parts.end("removing the container");
        outcome.map_err(|error| self.explain(&job_name, error))
    }

    async fn create_and_drive(
        &self,
        image: &Image,
        container: &str,
        job: Job<'_>,
        progress: &Progress,
    ) -> Result<JobResult> {
        let mut parts = Parts::begin(progress);
        // Not to be interrupted: a container whose creation is cut short may appear after it was looked for.
        self.client.create(self.plan(image, container, &job)?).await.context("creating the container")?;
        parts.end(&format!("creating the container {container}"));
        tokio::select! {
            biased;
            interrupted = self.cancellation.cancelled() => Err(interrupted.into()),
            outcome = self.drive(container, job, progress) => match outcome {
                Err(error) => Err(self.or_removed(container, error).await),
                outcome => outcome,
            },
        }
    }

    fn plan(&self, image: &Image, container: &str, job: &Job<'_>) -> Result<ContainerPlan> {
        let memory_limit_bytes =
            job.memory_limit_bytes.map(i64::try_from).transpose().context("reading the memory limit")?;
        Ok(ContainerPlan {
            name: container.to_owned(),
            image_id: image.id.clone(),
            command: job.command.clone(),
            environment: job.environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            capabilities: job.capabilities.clone(),
            labels: HashMap::from([(RUN_LABEL.to_owned(), self.owner.to_string())]),
            limits: vec![
                ("nofile".to_owned(), allowed(Resource::Nofile, OPEN_FILES)),
                ("nproc".to_owned(), allowed(Resource::Nproc, PROCESSES)),
            ],
            memory_limit_bytes,
        })
    }

    async fn drive(&self, container: &str, job: Job<'_>, progress: &Progress) -> Result<JobResult> {
        let mut parts = Parts::begin(progress);
        self.upload(container, job.input).await.context("sending the input into the container")?;
        parts.end("sending the input into the container");
        let pieces = self.client.attach(container).await.context("attaching to the container")?;
        self.client.start(container).await.with_context(|| format!("starting {}", job.command.join(" ")))?;
        let (end, log) = self.follow(container, pieces, progress).await?;
        parts.end(&format!("running {}, with its start,", job.command.join(" ")));
        if let Some(ended) = self.ended_from_outside(container, end).await? {
            return Err(ended.into());
        }
        let exit_code = end.exit_code;
        let mut output_bytes = Vec::new();
        if exit_code == 0 {
            self.client.settle(container).await.context("waiting for the engine to be done with the container")?;
            parts.end("waiting for the engine to put the container away");
            for output in job.outputs {
                let fetched = self.fetch(container, &output.path, output.sink);
                output_bytes.push(fetched.with_context(|| format!("fetching {} from the container", output.path))?);
                parts.end(&format!("fetching {} from the container", output.path));
            }
        }
        Ok(JobResult { exit_code, log, output_bytes })
    }

    async fn upload(&self, container: &str, input: Input<'_>) -> Result<()> {
        let (client, container) = (self.client.clone(), container.to_owned());
        self.send(input, |body| async move { client.upload(&container, body).await }).await
    }

    /// Sends what `input` writes in the body of a request.
    pub(super) async fn send<R>(&self, input: Input<'_>, request: impl FnOnce(Body) -> R) -> Result<()>
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let (mut writer, body) = transfer::upload();
        let (cancellation, request) = (self.cancellation.clone(), request(Box::pin(body)));
        let request = tokio::spawn(async move {
            tokio::select! {
                biased;
                interrupted = cancellation.cancelled() => Err(interrupted.into()),
                answer = request => answer,
            }
        });
        let (produced, refused) = block_in_place(|| match input(&mut writer) {
            Ok(()) => (writer.finish().map_err(anyhow::Error::from), false),
            Err(error) => (Err(error), writer.fail()),
        });
        let answered = request.await.context("waiting for the engine's answer")?;
        match (produced, answered) {
            (Ok(()), answered) => answered,
            // The producer only noticed that nobody read any more; the engine knows why.
            (Err(_), Err(error)) if refused || self.cancellation.check().is_err() => Err(error),
            (Err(error), _) => Err(error),
        }
    }

    /// Reads what the program prints until it has ended; returns its exit code and the log.
    async fn follow(
        &self,
        container: &str,
        mut pieces: impl Stream<Item = Result<Chunk>> + Unpin,
        progress: &Progress,
    ) -> Result<(End, String)> {
        let mut log = Log::new(progress);
        let mut printing = std::pin::pin!(async {
            while let Some(piece) = pieces.next().await {
                log.add(piece.context("reading what the program prints")?);
            }
            anyhow::Ok(())
        });
        // The end of what it prints is the usual sign; what it leaves running may keep that from coming.
        let waiting = self.client.wait(container, LONG_PAUSE);
        let (end, printed) = tokio::select! {
            end = waiting => (end?, tokio::time::timeout(LAST_WORDS_LIMIT, &mut printing).await),
            printed = &mut printing => (self.client.wait(container, SHORT_PAUSE).await?, Ok(printed)),
        };
        printed.context("reading what the program printed: the engine does not end the stream")??;
        Ok((end, log.finish()))
    }

    /// What ended the program, if that was not the program itself.
    async fn ended_from_outside(&self, container: &str, end: End) -> Result<Option<Ended>> {
        if end.exit_code != 0 && end.out_of_memory {
            return Ok(Some(Ended::OutOfMemory));
        }
        let ended = Ended::by_exit_code(end.exit_code);
        if ended == Some(Ended::Signal(Signal::KILL.as_raw()))
            && self.is_being_removed(container, OTHERS_PATIENCE).await?
        {
            return Ok(Some(Ended::Removed));
        }
        Ok(ended)
    }

    /// Whether somebody else has removed a container, or is about it: a removal kills first, and may begin up to `patience`
    /// later. Its end is waited for, since a container that two remove at a time can stay half removed (podman 4.3.1).
    async fn is_being_removed(&self, container: &str, patience: Duration) -> Result<bool> {
        let began = Instant::now();
        loop {
            let limit = match self.client.status(container).await?.as_deref() {
                None => return Ok(true),
                Some("removing") => REMOVAL_LIMIT,
                Some(_) => patience,
            };
            if began.elapsed() >= limit {
                return Ok(false);
            }
            tokio::time::sleep(SHORT_PAUSE).await;
        }
    }

    /// A request that failed because somebody removed the container says that.
    async fn or_removed(&self, container: &str, error: Error) -> Error {
        if error.is::<Ended>() || Interrupted::find(&error).is_some() {
            return error;
        }
        match self.is_being_removed(container, Duration::ZERO).await {
            Ok(true) => error.context(Ended::Removed),
            _ => error,
        }
    }

    fn fetch(&self, container: &str, path: &str, sink: &mut dyn Write) -> Result<u64> {
        let body = self.client.download(container, path);
        block_in_place(|| transfer::unpack_file(Download::new(body, &self.cancellation), sink))
    }

    async fn remove(&self, container: &str) -> Result<()> {
        let removal = tokio::time::timeout(REMOVAL_LIMIT, self.client.remove(container)).await;
        match removal.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", REMOVAL_LIMIT.as_secs()))) {
            Ok(()) => Ok(()),
            Err(error) => match &self.service {
                // Our own service may have died; the program can still do it.
                Some(service) => block_in_place(|| service.remove_without_service(container)),
                None => Err(error),
            },
        }
    }

    fn explain(&self, job: &str, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Ended>() || !Failure::is_unreachable(&error) {
            return error.context(format!("running the job {job:?}"));
        }
        error.context(format!(
            "the engine at {} went away during the job {job:?}; nothing was written; see whether it still runs (ocinitrd \
             doctor) and start again",
            self.client.endpoint()
        ))
    }
}

/// Says what the parts of a job took, for those who look at details.
struct Parts<'a> {
    progress: &'a Progress,
    began: Instant,
}

impl<'a> Parts<'a> {
    fn begin(progress: &'a Progress) -> Self {
        Parts { progress, began: Instant::now() }
    }

    /// Ends the part that is under way and begins the next.
    fn end(&mut self, part: &str) {
        let took = self.began.elapsed().as_secs_f64();
        debug!(part, took);
        self.progress.detail(&format!("{part} took {took:.3} s"));
        self.began = Instant::now();
    }
}

/// A name that no other run on any machine that uses the engine has, either.
fn unique_name(job: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("reading the clock")?;
    Ok(format!("ocinitrd-{job}-{}-{:x}", std::process::id(), now.as_nanos()))
}

/// `wanted`, or our own hard limit where that is lower: without CAP_SYS_RESOURCE nobody can give more.
fn allowed(resource: Resource, wanted: u64) -> i64 {
    let limit = getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
    i64::try_from(limit).expect("the wanted limits are small")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_never_exceed_our_own() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert!(allowed(Resource::Nofile, 1 << 40) as u64 <= hard);
        assert_eq!(allowed(Resource::Nofile, 16), 16);
    }

    #[test]
    fn names_differ() {
        assert_ne!(unique_name("solve").unwrap(), unique_name("solve").unwrap());
    }
}
