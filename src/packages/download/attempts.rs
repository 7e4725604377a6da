//! Which location is tried next, what its failure means for the others, and the error when none is left.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::{StatusCode, Url};

use super::Downloader;
use ocinitrd_format::text::quoted;
use ocinitrd_support::exhausted::Exhausted;

/// How often one location is asked before it is given up, if its failures may pass.
const ROUNDS: u32 = 3;
/// How many failures that may pass are borne for one file over all its locations: lists of mirrors can be long.
const PASSING_FAILURES: usize = 6;
/// The longest time that a server may ask to be left alone for. Longer ones are for a person to wait.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// How many locations an error shows.
const SHOWN_LOCATIONS: usize = 8;

/// Where a file is.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Http(Url),
    File(PathBuf),
}

impl Address {
    fn parse(location: &str) -> Result<Self> {
        // A parser of addresses drops these, and so sees another scheme than who looked at the text.
        let has_foreign = location.chars().any(char::is_control) || location.trim() != location;
        ensure!(
            !has_foreign,
            "the location {} has a control character, or begins or ends with a space",
            quoted(location.as_bytes())
        );
        if location.starts_with('/') {
            return Ok(Address::File(PathBuf::from(location)));
        }
        let url = Url::parse(location).with_context(|| format!("reading the location {location:?}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Address::Http(url)),
            "file" => match url.to_file_path() {
                Ok(path) => Ok(Address::File(path)),
                Err(()) => bail!("{location:?} is no path on this machine: write file:///path with three slashes"),
            },
            other => bail!("{location:?}: {other} is not supported, only http, https, file and absolute paths"),
        }
    }

    /// The server, which failures are counted for; files have none.
    fn server(&self) -> Option<String> {
        match self {
            Address::Http(url) => Some(url.origin().ascii_serialization()),
            Address::File(_) => None,
        }
    }
}

/// The location without its password.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::File(path) => write!(formatter, "{}", path.display()),
            Address::Http(url) if url.password().is_some() => {
                let mut shown = url.clone();
                let _ = shown.set_password(Some("***"));
                write!(formatter, "{shown}")
            }
            Address::Http(url) => write!(formatter, "{url}"),
        }
    }
}

/// Why a location did not give the file.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may work later: no connection, a stall, an overloaded server, a body that was cut off.
    Passing(anyhow::Error),
    /// It may work after this time: the server said so in `Retry-After`.
    Busy(anyhow::Error, Duration),
    /// It will not work: not found, forbidden, other bytes.
    Final(anyhow::Error),
    /// The cause is on this side (the store): no location will work.
    Local(anyhow::Error),
}

impl Failure {
    /// The same failure, with what was being done.
    pub(super) fn in_context(self, doing: String) -> Self {
        match self {
            Failure::Passing(error) => Failure::Passing(error.context(doing)),
            Failure::Busy(error, after) => Failure::Busy(error.context(doing), after),
            Failure::Final(error) => Failure::Final(error.context(doing)),
            Failure::Local(error) => Failure::Local(error.context(doing)),
        }
    }
}

/// A server's answer that is not a success.
#[derive(Debug)]
pub(super) struct HttpStatus(pub StatusCode);

impl fmt::Display for HttpStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HTTP status {}", self.0)
    }
}

impl std::error::Error for HttpStatus {}

/// That a server answers, but not as TLS.
#[derive(Debug)]
pub(super) struct WithoutTls;

impl fmt::Display for WithoutTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("it answers without TLS")
    }
}

impl std::error::Error for WithoutTls {}

/// The kind of a location's failure.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The server does not have the file (HTTP status 404 or 410).
    Missing,
    /// The server wants credentials, or others (401 or 403).
    Unauthorized,
    /// The server could not be reached, is overloaded, or stopped sending.
    Unreachable,
    /// Something answers there, but not as TLS.
    WithoutTls,
    /// The server has been asked too often, or says after which time to come back (429, `Retry-After`).
    Busy,
    /// The server was not asked, because of `--offline`.
    NotAsked,
    /// The server has other bytes, or refuses for another reason.
    Other,
}

impl Reason {
    fn of(failure: &Failure) -> Reason {
        let (Failure::Passing(error) | Failure::Busy(error, _) | Failure::Final(error) | Failure::Local(error)) =
            failure;
        let status = error.downcast_ref::<HttpStatus>().map(|HttpStatus(status)| *status);
        match (status, failure) {
            (Some(StatusCode::NOT_FOUND | StatusCode::GONE), _) => Reason::Missing,
            (Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => Reason::Unauthorized,
            _ if error.is::<NotAsked>() => Reason::NotAsked,
            _ if error.is::<WithoutTls>() => Reason::WithoutTls,
            (Some(StatusCode::TOO_MANY_REQUESTS), _) | (_, Failure::Busy(..)) => Reason::Busy,
            (_, Failure::Passing(_)) => Reason::Unreachable,
            _ => Reason::Other,
        }
    }
}

/// That no server is asked, because of `--offline`.
#[derive(Debug)]
pub(super) struct NotAsked;

impl fmt::Display for NotAsked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not asked, because of --offline")
    }
}

impl std::error::Error for NotAsked {}

/// No location gave the file: each with its cause, and what to do.
#[derive(Debug)]
pub struct Unobtainable {
    what: String,
    /// A line for each location.
    causes: Vec<String>,
    advice: Vec<String>,
    /// The kind of failure of each location that was tried.
    pub reasons: Vec<Reason>,
}

impl Unobtainable {
    /// Adds a line on what to do.
    pub fn advise(mut self, line: &str) -> Self {
        self.advice.push(line.to_owned());
        self
    }

    /// The locations with their causes, a line each.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }
}

impl fmt::Display for Unobtainable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "fetching {} failed:", self.what)?;
        self.causes.iter().try_for_each(|cause| write!(formatter, "\n  {cause}"))?;
        self.advice.iter().try_for_each(|line| write!(formatter, "\n{line}"))
    }
}

impl std::error::Error for Unobtainable {}

/// The locations of one file, and how they failed.
pub(super) struct Attempts<'d> {
    downloader: &'d Downloader,
    what: String,
    queue: VecDeque<(usize, Address)>,
    again: Vec<(usize, Address)>,
    round: u32,
    passing_failures: usize,
    /// How long the servers want to be left alone for.
    retry_after: Duration,
    /// By index: the location, its last cause, and the kind of that.
    causes: BTreeMap<usize, (String, String, Reason)>,
    locations: usize,
}

impl<'d> Attempts<'d> {
    /// Plans the attempts: in the given order, but servers that failed before come last.
    pub(super) fn new(downloader: &'d Downloader, what: &str, locations: &[String]) -> Result<Self> {
        ensure!(!locations.is_empty(), "fetching {what}: no location is known");
        let addresses: Result<Vec<Address>> = locations.iter().map(|location| Address::parse(location)).collect();
        let mut addresses: Vec<(usize, Address)> = addresses?.into_iter().enumerate().collect();
        let penalties = downloader.penalties.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.sort_by_key(|(_, address)| address.server().and_then(|server| penalties.get(&server).copied()));
        drop(penalties);
        Ok(Attempts {
            downloader,
            what: what.to_owned(),
            queue: addresses.into(),
            again: Vec::new(),
            round: 0,
            passing_failures: 0,
            retry_after: Duration::ZERO,
            causes: BTreeMap::new(),
            locations: locations.len(),
        })
    }

    /// The next location with its index, after a pause if it is a repetition.
    pub(super) async fn next(&mut self) -> Option<(usize, Address)> {
        if self.queue.is_empty() && !self.again.is_empty() && self.round + 1 < ROUNDS {
            let pause = self.downloader.patience.pause * 2u32.pow(self.round);
            tokio::time::sleep(pause.max(std::mem::take(&mut self.retry_after))).await;
            self.round += 1;
            self.queue = std::mem::take(&mut self.again).into();
        }
        self.queue.pop_front()
    }

    /// Notes a failure.
    ///
    /// # Errors
    /// Fails when it makes further attempts pointless.
    pub(super) fn failed(&mut self, index: usize, address: Address, failure: Failure) -> Result<()> {
        let reason = Reason::of(&failure);
        let (passing, cause) = match failure {
            Failure::Local(error) => return Err(error.context(format!("fetching {}", self.what))),
            // A file of this host that could not be opened may be right.
            Failure::Passing(error) | Failure::Final(error) if Exhausted::find(error.as_ref()).is_some() => {
                return Err(error.context(format!("fetching {} from {address}", self.what)));
            }
            Failure::Passing(cause) => (true, cause),
            Failure::Busy(cause, after) if after > LONGEST_RETRY_AFTER => {
                (false, anyhow!("{cause:#}; the server asks to come back in {} s", after.as_secs()))
            }
            Failure::Busy(cause, after) => {
                self.retry_after = self.retry_after.max(after);
                (true, cause)
            }
            Failure::Final(cause) => (false, cause),
        };
        tracing::info!("{address}: {cause:#}");
        self.causes.insert(index, (address.to_string(), format!("{cause:#}"), reason));
        if passing {
            if let Some(server) = address.server() {
                let mut penalties = self.downloader.penalties.lock().unwrap_or_else(PoisonError::into_inner);
                *penalties.entry(server).or_insert(0) += 1;
            }
            self.passing_failures += 1;
            self.again.push((index, address));
        }
        if self.passing_failures >= PASSING_FAILURES {
            self.queue.clear();
            self.again.clear();
        }
        Ok(())
    }

    /// All locations with their causes, and what to do.
    pub(super) fn into_error(self) -> Unobtainable {
        let shown = self.causes.values().take(SHOWN_LOCATIONS);
        let mut causes: Vec<String> = shown.map(|(location, cause, _)| format!("{location}: {cause}")).collect();
        let more = self.locations - self.causes.len().min(SHOWN_LOCATIONS);
        if more > 0 {
            causes.push(format!("and {more} more locations, which failed too or were not tried"));
        }
        let advice = match self.passing_failures {
            0 => self.downloader.advice(),
            _ => "check the network, the proxy (https_proxy, no_proxy) and the certificates (SSL_CERT_FILE)",
        };
        let reasons = self.causes.into_values().map(|(_, _, reason)| reason).collect();
        Unobtainable { what: self.what, causes, advice: vec![advice.to_owned()], reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::download::Timeouts;

    fn downloader() -> Downloader {
        let none = Duration::ZERO;
        Downloader::new(Timeouts { connect: none, stall: none, pause: none, ..Timeouts::default() })
    }

    fn locations(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| format!("http://{host}/file")).collect()
    }

    async fn order(attempts: &mut Attempts<'_>, failure: impl Fn() -> Failure) -> Vec<usize> {
        let mut indices = Vec::new();
        while let Some((index, address)) = attempts.next().await {
            indices.push(index);
            attempts.failed(index, address, failure()).unwrap();
        }
        indices
    }

    #[tokio::test]
    async fn passing_failures_are_tried_again_and_final_ones_are_not() {
        let downloader = downloader();
        let mut attempts = Attempts::new(&downloader, "x", &locations(&["a", "b"])).unwrap();
        assert_eq!(order(&mut attempts, || Failure::Passing(anyhow!("stalled"))).await, [0, 1, 0, 1, 0, 1]);
        let mut attempts = Attempts::new(&downloader, "x", &locations(&["a", "b"])).unwrap();
        assert_eq!(order(&mut attempts, || Failure::Final(anyhow!("404"))).await, [0, 1]);
    }

    #[tokio::test]
    async fn a_long_list_of_dead_mirrors_is_given_up() {
        let downloader = downloader();
        let hosts: Vec<String> = (0..40).map(|number| format!("http://m{number}/file")).collect();
        let mut attempts = Attempts::new(&downloader, "x", &hosts).unwrap();
        assert_eq!(order(&mut attempts, || Failure::Passing(anyhow!("stalled"))).await.len(), PASSING_FAILURES);
        assert!(attempts.into_error().to_string().contains("and 34 more locations"));
    }

    #[tokio::test]
    async fn a_server_that_failed_is_asked_last_the_next_time() {
        let downloader = downloader();
        let mut attempts = Attempts::new(&downloader, "x", &locations(&["a", "b"])).unwrap();
        let (index, address) = attempts.next().await.unwrap();
        attempts.failed(index, address, Failure::Passing(anyhow!("stalled"))).unwrap();
        let mut attempts = Attempts::new(&downloader, "y", &locations(&["a", "b"])).unwrap();
        assert_eq!(attempts.next().await.unwrap().0, 1);
    }

    #[tokio::test]
    async fn the_error_names_each_location_without_passwords() {
        let downloader = downloader();
        let locations = ["https://me:secret@a/file".to_owned(), "/nowhere/file".to_owned()];
        let mut attempts = Attempts::new(&downloader, "alpha of repository r", &locations).unwrap();
        order(&mut attempts, || Failure::Final(anyhow!("HTTP status 404"))).await;
        assert_eq!(
            attempts.into_error().to_string(),
            "fetching alpha of repository r failed:\n  https://me:***@a/file: HTTP status 404\n  \
             /nowhere/file: HTTP status 404\n\
             check the repository's URL in the definition"
        );
    }

    #[test]
    fn locations_of_other_kinds_are_refused() {
        for (location, word) in [("ftp://a/b", "ftp is not supported"), ("file://host/b", "three slashes"), ("b", "b")]
        {
            let message = format!("{:#}", Address::parse(location).unwrap_err());
            assert!(message.contains(word), "{message}");
        }
        assert!(matches!(Address::parse("file:///a%20b").unwrap(), Address::File(path) if path.ends_with("a b")));
    }
}
