//! One file over the network: tried at each of its locations in turn, verified, with patience for servers that are slow.
//!
//! Enters: locations that serve the same bytes (`http://`, `https://`, `file:///path`, or a plain absolute path) in the
//! order of preference. Leaves: the verified blob in the store, or a small text in memory; or an error that names every
//! location with its cause. The proxy (`http_proxy`, `https_proxy`, `no_proxy`) and the certificate authorities
//! (`SSL_CERT_FILE`, `SSL_CERT_DIR`, or the system's) are those of the user who runs this.

mod attempts;
pub(crate) mod authorization;
mod http;
mod pace;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::Client;

use self::attempts::{Address, Attempts, Failure, NotAsked};
pub use self::attempts::{Reason, Unobtainable};
use self::authorization::Authorization;
pub use self::http::Trust;
pub use self::pace::MinimumRate;
use crate::packages::store::{Completion, Expected, Partial, Size, Store};
use ocinitrd_format::checksum::Measured;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::Stage;
use ocinitrd_support::regular_file;

/// How long to wait before looking again whether another process finished a file that this one wants too.
const OTHER_WRITER_PAUSE: Duration = Duration::from_millis(200);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two bytes, and until the first one.
    pub stall: Duration,
    /// Before locations whose failure may pass are tried again; twice as long the second time.
    pub pause: Duration,
    /// How slow a body may be.
    pub minimum_rate: MinimumRate,
    /// For all of a small text.
    pub text: Duration,
    /// For what an attempt receives of a file; a further attempt goes on with it.
    pub file: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // The rate and its window are dnf's `minrate` and `timeout`.
        let minimum_rate = MinimumRate { bytes_per_second: 1000, window: seconds(30) };
        let (text, file) = (seconds(5 * 60), seconds(6 * 60 * 60));
        Timeouts { connect: seconds(20), stall: seconds(30), pause: seconds(1), minimum_rate, text, file }
    }
}

/// Downloads files. One for a whole run: it remembers which servers failed and asks them last.
#[derive(Debug, Default)]
pub struct Downloader {
    patience: Timeouts,
    offline: bool,
    client: OnceLock<Client>,
    /// Failures by server.
    penalties: Mutex<BTreeMap<String, u32>>,
    /// What servers are trusted, beyond the system's certificate authorities.
    trust: Trust,
    /// For a registry: the types of documents that are understood, and the answer to its challenges.
    registry: Option<(&'static str, Authorization)>,
}

/// Bytes under way, counted on a [`Stage`] that several downloads share.
#[derive(Debug)]
pub struct Meter(Mutex<Stage>);

impl Meter {
    /// Counts on `stage`.
    pub fn new(stage: Stage) -> Self {
        Meter(Mutex::new(stage))
    }

    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).advance(bytes);
    }

    /// The stage, to finish it.
    pub fn into_stage(self) -> Stage {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of one file on a [`Meter`]: what is fetched a second time after a failure counts once.
struct ByteCount<'m> {
    meter: &'m Meter,
    bytes: u64,
}

impl ByteCount<'_> {
    fn reached(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.meter.advance(bytes - self.bytes);
            self.bytes = bytes;
        }
    }
}

impl Downloader {
    /// A downloader of the given patience. No certificate is read and no connection made before the first `http`
    /// location.
    pub fn new(patience: Timeouts) -> Self {
        Downloader { patience, ..Downloader::default() }
    }

    /// The same downloader, which never asks a server: only files of this host are read.
    pub fn offline(self) -> Self {
        Downloader { offline: true, ..self }
    }

    /// A downloader for one registry. `accept` lists the document types to ask for, `trust` the certificates to use, and
    /// `authorization` answers its challenges.
    pub fn for_registry(&self, accept: &'static str, trust: Trust, authorization: Authorization) -> Self {
        let Downloader { patience, offline, .. } = *self;
        Downloader { patience, offline, trust, registry: Some((accept, authorization)), ..Downloader::default() }
    }

    /// What to look at when a server does not have what it should.
    fn advice(&self) -> &'static str {
        match self.registry {
            Some(_) => "check the name and the digest in [builder]",
            None => "check the repository's URL in the definition",
        }
    }

    /// Whether no server is asked.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Fetches a small text of at most `limit_bytes` into memory, from the first of `locations` whose bytes `check`
    /// accepts. Returns the bytes and the index of that location. `what` names the file in the error.
    ///
    /// # Errors
    /// Fails when no location has acceptable bytes; the error names each location with its cause.
    pub async fn read(
        &self,
        what: &str,
        locations: &[String],
        limit_bytes: u64,
        check: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<(Vec<u8>, usize)> {
        let mut attempts = Attempts::new(self, what, locations)?;
        while let Some((index, address)) = attempts.next().await {
            let outcome = match &address {
                Address::File(path) => read_file(path, limit_bytes),
                Address::Http(_) if self.offline => Err(not_asked()),
                Address::Http(url) => self.read_text(url, limit_bytes).await,
            };
            match outcome.and_then(|bytes| check(&bytes).map(|()| bytes).map_err(Failure::Final)) {
                Ok(bytes) => return Ok((bytes, index)),
                Err(failure) => attempts.failed(index, address, failure)?,
            }
        }
        Err(attempts.into_error().into())
    }

    /// Fetches a file into the store from the first of `locations` that has the expected bytes, unless it is there.
    /// Goes on with what an earlier, interrupted download left. `what` names the file in the error.
    ///
    /// # Errors
    /// Fails when no location has the expected bytes (the error names each with its cause), or the store fails.
    pub async fn store(
        &self,
        what: &str,
        locations: &[String],
        expected: &Expected,
        store: &Store,
        meter: &Meter,
    ) -> Result<Digest> {
        let mut counted = ByteCount { meter, bytes: 0 };
        let mut attempts = Attempts::new(self, what, locations)?;
        let mut partial = match claim(store, expected).await? {
            Claim::Ours(partial) => partial,
            Claim::There(digest) => {
                counted.reached(expected.size.exact_bytes().unwrap_or(0));
                return Ok(digest);
            }
        };
        while let Some((index, address)) = attempts.next().await {
            let outcome;
            (partial, outcome) = self.attempt(&address, partial, expected, &mut counted).await?;
            match outcome {
                Ok(digest) => {
                    counted.reached(expected.size.exact_bytes().unwrap_or(0));
                    return Ok(digest);
                }
                Err(failure) => attempts.failed(index, address, failure)?,
            }
        }
        Err(attempts.into_error().into())
    }

    /// One attempt at one location. `partial` comes back with what it has then.
    async fn attempt(
        &self,
        address: &Address,
        mut partial: Box<Partial>,
        expected: &Expected,
        counted: &mut ByteCount<'_>,
    ) -> Result<(Box<Partial>, Result<Digest, Failure>)> {
        loop {
            let resumed = partial.length_bytes() > 0;
            let received;
            (partial, received) = self.receive_from(address, partial, expected, counted).await?;
            if let Err(failure) = received {
                return Ok((partial, Err(failure)));
            }
            let completion;
            (partial, completion) = blocking(partial, Partial::complete).await?;
            match completion? {
                Completion::Stored(digest) => return Ok((partial, Ok(digest))),
                // What it was to go on with came from another location, or an earlier run, and was wrong: this one is asked
                // again at once, from the start, or that other one could spoil every attempt at it.
                Completion::Differs(_) if resumed => {}
                Completion::Differs(measured) => return Ok((partial, Err(difference(&measured, expected)))),
            }
        }
    }

    /// Has `partial` receive what it lacks.
    async fn receive_from(
        &self,
        address: &Address,
        mut partial: Box<Partial>,
        expected: &Expected,
        counted: &mut ByteCount<'_>,
    ) -> Result<(Box<Partial>, Result<(), Failure>)> {
        let received = match address {
            Address::File(path) => {
                let (path, size) = (path.clone(), expected.size);
                return blocking(partial, move |partial| copy_file(partial, &path, size)).await;
            }
            Address::Http(_) if self.offline => Err(not_asked()),
            Address::Http(url) => {
                let receiving = self.receive(url, &mut partial, expected, counted);
                http::within(self.patience.file, receiving).await
            }
        };
        Ok((partial, received))
    }
}

fn not_asked() -> Failure {
    Failure::Final(NotAsked.into())
}

enum Claim {
    Ours(Box<Partial>),
    There(Digest),
}

/// The right to write a blob, or the blob: whichever comes first.
async fn claim(store: &Store, expected: &Expected) -> Result<Claim> {
    loop {
        if let Some(digest) = find_whole(store, expected)? {
            return Ok(Claim::There(digest));
        }
        match store.try_partial(&expected.checksum)? {
            // It may have been finished between the look and the lock.
            Some(partial) => {
                return Ok(find_whole(store, expected)?.map_or(Claim::Ours(Box::new(partial)), Claim::There));
            }
            None => tokio::time::sleep(OTHER_WRITER_PAUSE).await,
        }
    }
}

/// What is there already is trusted no more than what is fetched.
fn find_whole(store: &Store, expected: &Expected) -> Result<Option<Digest>> {
    let Some(digest) = store.find(&expected.checksum) else { return Ok(None) };
    Ok(store.contains_whole(&digest)?.then_some(digest))
}

/// Runs what waits for the disk where other downloads do not have to wait for it.
async fn blocking<T: Send + 'static>(
    mut partial: Box<Partial>,
    work: impl FnOnce(&mut Partial) -> T + Send + 'static,
) -> Result<(Box<Partial>, T)> {
    tokio::task::spawn_blocking(move || {
        let answer = work(&mut partial);
        (partial, answer)
    })
    .await
    .context("writing to the store")
}

/// What is wrong with all that a location has.
fn difference(measured: &Measured, expected: &Expected) -> Failure {
    let other =
        || anyhow!("the file there is another: its checksum is {} instead of {}", measured.digest, expected.checksum);
    Failure::Final(expected.size.check(measured.size_bytes).err().unwrap_or_else(other))
}

/// A file of this machine, which a repository of this machine has: no device, and nothing that blocks.
fn open_file(path: &Path) -> Result<File, Failure> {
    regular_file::open(path).map_err(|error| Failure::Final(error.into()))
}

fn copy_file(partial: &mut Partial, path: &Path, size: Size) -> Result<(), Failure> {
    let mut file = open_file(path)?;
    let found = file.metadata().map_err(|error| Failure::Final(error.into()))?.len();
    size.check(found).map_err(Failure::Final)?;
    partial.copy_from(&mut file).map_err(Failure::Local)
}

fn read_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = open_file(path)?;
    let read = file.take(limit_bytes + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Final(error.into()))?;
    http::check_limit(bytes.len() as u64, limit_bytes)?;
    Ok(bytes)
}
