//! HTTP: one attempt at one URL, with resumption, and its failures in words.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, RequestBuilder, Response, StatusCode, Url};
use rustls::InvalidMessage;

use super::attempts::{HttpStatus, WithoutTls};
use super::pace::Pace;
use super::{ByteCount, Downloader, Failure, Timeouts};
use crate::packages::store::{Expected, Partial};
use ocinitrd_support::exhausted::Exhausted;

/// As many as browsers follow, and curl in dnf.
const REDIRECTS_MAX: usize = 10;

impl Downloader {
    /// The client, made when first needed: a machine without certificates can still copy files.
    pub(super) fn client(&self) -> Result<&Client, Failure> {
        get_or_try_init(&self.client, || new_client(self.patience, &self.trust)).map_err(Failure::Local)
    }

    async fn get(&self, url: &Url, offset_bytes: u64) -> Result<Response, Failure> {
        let response = self.ask(url, offset_bytes).await?;
        let Some((_, authorization)) = &self.registry else { return Ok(response) };
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match authorization.answer(self, url, response.headers()).await? {
            true => self.ask(url, offset_bytes).await,
            false => Ok(response),
        }
    }

    async fn ask(&self, url: &Url, offset_bytes: u64) -> Result<Response, Failure> {
        let mut request = self.client()?.get(url.clone());
        if let Some((accept, authorization)) = &self.registry {
            request = authorization.apply(request.header(ACCEPT, *accept), url);
        }
        if offset_bytes > 0 {
            request = request.header(RANGE, format!("bytes={offset_bytes}-"));
        }
        request.send().await.map_err(|error| self.explain(error))
    }

    /// The answer to a request of another form, as a small text.
    pub(super) async fn read_answer(&self, request: RequestBuilder, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
        let reading = async {
            let response = request.send().await.map_err(|error| self.explain(error))?;
            self.read_response(response, limit_bytes).await
        };
        within(self.patience.text, reading).await
    }

    /// A whole small body, within the time that such a text may take.
    pub(super) async fn read_text(&self, url: &Url, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
        within(self.patience.text, self.read_body(url, limit_bytes)).await
    }

    async fn read_body(&self, url: &Url, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
        self.read_response(self.get(url, 0).await?, limit_bytes).await
    }

    async fn read_response(&self, mut response: Response, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
        check_status(&response)?;
        check_limit(response.content_length().unwrap_or_default(), limit_bytes)?;
        let mut pace = self.pace();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.explain(error))? {
            pace.received(chunk.len(), Instant::now()).map_err(Failure::Passing)?;
            bytes.extend_from_slice(&chunk);
            check_limit(bytes.len() as u64, limit_bytes)?;
        }
        check_no_html(&bytes)?;
        Ok(bytes)
    }

    /// Receives what `partial` still lacks; its checksum is the caller's to verify.
    pub(super) async fn receive(
        &self,
        url: &Url,
        partial: &mut Partial,
        expected: &Expected,
        counted: &mut ByteCount<'_>,
    ) -> Result<(), Failure> {
        match expected.size.exact_bytes() {
            Some(size_bytes) if partial.length_bytes() == size_bytes && size_bytes > 0 => return Ok(()),
            _ if expected.size.is_exceeded(partial.length_bytes()) => partial.restart().map_err(Failure::Local)?,
            _ => {}
        }
        let mut response = self.get(url, partial.length_bytes()).await?;
        position(&response, partial)?;
        check_announced(&response, partial, expected)?;
        let mut pace = self.pace();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.explain(error))? {
            if partial.length_bytes() == 0 {
                check_no_html(&chunk)?;
            }
            partial.append(&chunk).map_err(Failure::Local)?;
            check_surplus(partial, expected)?;
            counted.reached(partial.length_bytes());
            pace.received(chunk.len(), Instant::now()).map_err(Failure::Passing)?;
        }
        match expected.size.exact_bytes() {
            Some(size_bytes) if partial.length_bytes() < size_bytes => Err(Failure::Passing(anyhow!(
                "the server ended the body after {} of {size_bytes} bytes",
                partial.length_bytes()
            ))),
            _ => Ok(()),
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(self.patience.minimum_rate, Instant::now())
    }

    /// An error of the connection in words; most of them may pass.
    fn explain(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        if let Some(exhausted) = Exhausted::find(&error) {
            return Failure::Local(anyhow::Error::new(error).context(exhausted));
        }
        if error.is_redirect() {
            return Failure::Final(anyhow!("the server redirects in circles, or too often"));
        }
        if error.is_timeout() && error.is_connect() {
            return Failure::Passing(anyhow!("no connection within {} s", self.patience.connect.as_secs_f32()));
        }
        if error.is_timeout() {
            return Failure::Passing(anyhow!("no byte for {} s", self.patience.stall.as_secs_f32()));
        }
        if is_without_tls(&error) {
            return Failure::Passing(WithoutTls.into());
        }
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            // Some errors repeat those they wrap.
            if !words.contains(&inner.to_string()) {
                words = format!("{words}: {inner}");
            }
            cause = inner.source();
        }
        Failure::Passing(anyhow!(words))
    }
}

/// Whether what answered is no TLS: a server of plain HTTP sends words, which no record of TLS begins with.
fn is_without_tls(error: &(dyn Error + 'static)) -> bool {
    let Some(found) = error.downcast_ref::<rustls::Error>() else {
        // What an io::Error was made of is not its source.
        let within = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let within = within.map(|within| within as &(dyn Error + 'static));
        return within.or_else(|| error.source()).is_some_and(is_without_tls);
    };
    matches!(found, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

fn get_or_try_init<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        // Should two make it at a time, the first one stays.
        let _ = cell.set(make()?);
    }
    cell.get().context("making the HTTP client")
}

/// Whom an HTTPS server has to be vouched for by, beside the system's certificate authorities, and how this side shows who it is.
#[derive(Clone, Default)]
pub struct Trust {
    /// Certificates of further authorities, in PEM.
    pub authorities: Vec<Vec<u8>>,
    /// The client's certificate with its key, in PEM.
    pub identity: Option<Vec<u8>>,
    /// Whether anybody's certificate will do: what the user has said of this server (`insecure`).
    pub anybody: bool,
}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Trust({} authorities, identity: {})", self.authorities.len(), self.identity.is_some())
    }
}

fn new_client(patience: Timeouts, trust: &Trust) -> Result<Client> {
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut authorities = Vec::new();
    for pem in &trust.authorities {
        authorities.extend(Certificate::from_pem_bundle(pem).context("reading a certificate authority of a registry")?);
    }
    let mut builder = Client::builder()
        .user_agent(concat!("ocinitrd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(patience.connect)
        .read_timeout(patience.stall)
        .redirect(Policy::limited(REDIRECTS_MAX))
        .tls_certs_merge(authorities)
        .tls_danger_accept_invalid_certs(trust.anybody);
    if let Some(pem) = &trust.identity {
        builder = builder.identity(Identity::from_pem(pem).context("reading the client's certificate for a registry")?);
    }
    builder
        .build()
        .context("preparing for HTTPS: is the package ca-certificates installed, or SSL_CERT_FILE set rightly?")
}

/// What `receiving` gives, unless it takes longer.
pub(super) async fn within<T>(
    limit: Duration,
    receiving: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Failure::Passing(anyhow!("the server had not sent all of it after {} s", limit.as_secs_f32()));
    tokio::time::timeout(limit, receiving).await.map_err(late)?
}

/// Refuses what is no success.
fn check_status(response: &Response) -> Result<(), Failure> {
    let status = response.status();
    let passing =
        status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    match status {
        StatusCode::OK => Ok(()),
        // One to another server was followed.
        status if status.is_redirection() => {
            Err(Failure::Final(anyhow!("the server redirects to what is no server (HTTP status {status})")))
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(Failure::Final(anyhow!("the proxy wants a user and password: write them into https_proxy")))
        }
        _ if passing => match retry_after(response.headers(), SystemTime::now()) {
            Some(after) => Err(Failure::Busy(HttpStatus(status).into(), after)),
            None => Err(Failure::Passing(HttpStatus(status).into())),
        },
        _ => Err(Failure::Final(HttpStatus(status).into())),
    }
}

/// How long a server wants to be left alone for: `Retry-After: SECONDS`, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// Brings `partial` to where the body begins: the server may have ignored the range that was asked for.
fn position(response: &Response, partial: &mut Partial) -> Result<(), Failure> {
    let asked_bytes = partial.length_bytes();
    match response.status() {
        StatusCode::PARTIAL_CONTENT if asked_bytes > 0 && range_start(response) == Some(asked_bytes) => Ok(()),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            partial.restart().map_err(Failure::Local)?;
            Err(Failure::Passing(anyhow!("the server did not send the range that was asked for")))
        }
        _ => {
            check_status(response)?;
            partial.restart().map_err(Failure::Local)
        }
    }
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Refuses a body whose announced length cannot be right, before it is received.
fn check_announced(response: &Response, partial: &Partial, expected: &Expected) -> Result<(), Failure> {
    let Some(announced_bytes) = response.content_length() else { return Ok(()) };
    let total_bytes = partial.length_bytes().saturating_add(announced_bytes);
    let html = response
        .headers()
        .get(reqwest::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    match expected.size.check(total_bytes) {
        Err(_) if html => Err(html_instead()),
        checked => checked.map_err(Failure::Final),
    }
}

fn check_surplus(partial: &mut Partial, expected: &Expected) -> Result<(), Failure> {
    let received_bytes = partial.length_bytes();
    if !expected.size.is_exceeded(received_bytes) {
        return Ok(());
    }
    partial.restart().map_err(Failure::Local)?;
    Err(Failure::Final(anyhow!("the file there has at least {received_bytes} bytes{}", expected.size)))
}

/// Refuses a small text that is longer than such texts are.
pub(super) fn check_limit(size_bytes: u64, limit_bytes: u64) -> Result<(), Failure> {
    match size_bytes > limit_bytes {
        true => Err(Failure::Final(anyhow!("it is longer than {limit_bytes} bytes, which such a file never is"))),
        false => Ok(()),
    }
}

/// Names a web page as what it is: proxies, portals and mirrors send them with status 200.
fn check_no_html(start: &[u8]) -> Result<(), Failure> {
    let start = start.trim_ascii_start();
    let begins =
        |prefix: &str| start.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()));
    match begins("<!doctype html") || begins("<html") {
        true => Err(html_instead()),
        false => Ok(()),
    }
}

fn html_instead() -> Failure {
    Failure::Final(anyhow!("the server sent an HTML page instead of the file (a proxy's or a portal's login page?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(&str, &str)]) -> Result<(), Failure> {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        check_status(&Response::from(response.body("").unwrap()))
    }

    #[test]
    fn statuses_are_told_apart_by_whether_they_may_pass() {
        let passing = |code| matches!(answered(code, &[]), Err(Failure::Passing(_)));
        assert!(passing(500) && passing(503) && passing(429) && passing(408));
        assert!(!passing(404) && !passing(403) && !passing(407) && !passing(304));
        assert!(answered(200, &[]).is_ok());
    }

    #[test]
    fn an_answer_without_tls_is_known_by_its_type_wherever_it_is_among_the_causes() {
        let io = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let within = io::Error::other(io(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)));
        assert!(is_without_tls(&within));
        assert!(!is_without_tls(&io(rustls::Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate))));
        assert!(!is_without_tls(&io::Error::other("received corrupt message of type InvalidContentType")));
    }

    #[test]
    fn a_server_says_when_to_come_back() {
        let after = |value: &str| match answered(429, &[("retry-after", value)]) {
            Err(Failure::Busy(_, after)) => Some(after.as_secs()),
            _ => None,
        };
        assert_eq!((after("7"), after("Wed, 21 Oct 2015 07:28:00 GMT"), after("soon")), (Some(7), Some(0), None));
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2015 07:29:30 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(90)));
    }

    #[test]
    fn html_is_recognised_and_xml_is_not_mistaken_for_it() {
        for page in ["<!DOCTYPE html><html>", "\n <HTML lang=en>"] {
            assert!(check_no_html(page.as_bytes()).is_err(), "{page}");
        }
        for text in ["<?xml version=\"1.0\"?><repomd/>", "", "<ht"] {
            assert!(check_no_html(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
