//! One file over the network: tried at each of its locations in turn, verified, with patience for servers that are slow.
//!
//! Enters: locations that serve the same bytes (`http://`, `https://`, `file:///path`, or a plain absolute path) in the
//! order of preference. Leaves: the verified blob in the store, or a small text in memory; or an error that names every
//! location with its cause. The proxy (`http_proxy`, `https_proxy`, `no_proxy`) and the certificate authorities
//! (`SSL_CERT_FILE`, `SSL_CERT_DIR`, or the system's) are those of the user who runs this.

mod attempts;
mod http;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::Client;

pub use self::attempts::Unobtainable;
use self::attempts::{Address, Attempts, Failure};
use crate::format::digest::Digest;
use crate::progress::Stage;
use crate::store::{Completion, Expected, Partial, Store};

/// How long to wait before looking again whether another process finished a file that this one wants too.
const OTHER_WRITER_PAUSE: Duration = Duration::from_millis(200);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two bytes, and until the first one.
    pub stall: Duration,
    /// Before locations whose failure may pass are tried again; twice as long the second time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Patience { connect: seconds(20), stall: seconds(30), pause: seconds(1) }
    }
}

/// Downloads files. One for a whole run: it remembers which servers failed and asks them last.
#[derive(Debug, Default)]
pub struct Downloader {
    patience: Patience,
    offline: bool,
    client: OnceLock<Client>,
    /// Failures by server.
    penalties: Mutex<BTreeMap<String, u32>>,
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
struct Counted<'m> {
    meter: &'m Meter,
    bytes: u64,
}

impl Counted<'_> {
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
    pub fn new(patience: Patience) -> Self {
        Downloader { patience, ..Downloader::default() }
    }

    /// The same downloader, which never asks a server: only files of this host are read.
    pub fn offline(self) -> Self {
        Downloader { offline: true, ..self }
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
                Address::Http(url) => self.read_http(url, limit_bytes).await,
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
        let mut counted = Counted { meter, bytes: 0 };
        let mut attempts = Attempts::new(self, what, locations)?;
        let mut partial = match claim(store, expected).await? {
            Claim::Ours(partial) => partial,
            Claim::There(digest) => {
                counted.reached(expected.size_bytes.unwrap_or(0));
                return Ok(digest);
            }
        };
        while let Some((index, address)) = attempts.next().await {
            let outcome;
            (partial, outcome) = self.attempt(&address, partial, expected, &mut counted).await?;
            match outcome {
                Ok(digest) => {
                    counted.reached(expected.size_bytes.unwrap_or(0));
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
        counted: &mut Counted<'_>,
    ) -> Result<(Box<Partial>, Result<Digest, Failure>)> {
        let resumed = partial.length_bytes() > 0;
        let received = match address {
            Address::File(path) => {
                let path = path.clone();
                let copied;
                (partial, copied) = blocking(partial, move |partial| copy_file(partial, &path)).await?;
                copied
            }
            Address::Http(_) if self.offline => Err(not_asked()),
            Address::Http(url) => self.receive(url, &mut partial, expected, counted).await,
        };
        if let Err(failure) = received {
            return Ok((partial, Err(failure)));
        }
        let (partial, completion) = blocking(partial, Partial::complete).await?;
        Ok((partial, verdict(completion?, expected, resumed)))
    }
}

fn not_asked() -> Failure {
    Failure::Final(anyhow!("not asked, because of --offline"))
}

enum Claim {
    Ours(Box<Partial>),
    There(Digest),
}

/// The right to write a blob, or the blob: whichever comes first.
async fn claim(store: &Store, expected: &Expected) -> Result<Claim> {
    loop {
        if let Some(digest) = store.find(&expected.checksum) {
            return Ok(Claim::There(digest));
        }
        match store.try_partial(&expected.checksum)? {
            // It may have been finished between the look and the lock.
            Some(partial) => {
                return Ok(store.find(&expected.checksum).map_or(Claim::Ours(Box::new(partial)), Claim::There));
            }
            None => tokio::time::sleep(OTHER_WRITER_PAUSE).await,
        }
    }
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

/// What the end of a download means for its location.
fn verdict(completion: Completion, expected: &Expected, resumed: bool) -> Result<Digest, Failure> {
    let measured = match completion {
        Completion::Stored(digest) => return Ok(digest),
        Completion::Differs(measured) => measured,
    };
    let cause = match expected.size_bytes {
        Some(size_bytes) if size_bytes != measured.size_bytes => {
            anyhow!("the file there has {} bytes instead of {size_bytes}", measured.size_bytes)
        }
        _ => anyhow!("the file there is another: its checksum is {} instead of {}", measured.digest, expected.checksum),
    };
    // What an earlier download left may have come from elsewhere: the location deserves a try from the start.
    Err(if resumed { Failure::Passing(cause) } else { Failure::Final(cause) })
}

fn open_file(path: &Path) -> Result<File, Failure> {
    let file = File::open(path).map_err(|error| Failure::Final(error.into()))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(Failure::Final(anyhow!("it is no regular file"))),
        Err(error) => Err(Failure::Final(error.into())),
    }
}

fn copy_file(partial: &mut Partial, path: &Path) -> Result<(), Failure> {
    let mut file = open_file(path)?;
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
