//! Answers a registry that wants to know who asks: HTTP's Basic scheme, or a token that another server gives.
//!
//! Enters: the challenge of an answer with status 401 (RFC 9110, 11.6.1; the Bearer scheme is that of the
//! [distribution project](https://distribution.github.io/distribution/spec/auth/token/)) and the user's credentials. Leaves: the
//! header for the requests after it. It goes to the registry alone: a redirection to another server does not take it along, and a
//! password goes to a token server over HTTP only if the registry is asked over HTTP too.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_auth::ChallengeParser;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use super::Downloader;
use super::attempts::Failure;
use ocinitrd_format::text::{escaped_error, quoted};

/// A token is some kilobytes.
const TOKEN_LIMIT_BYTES: u64 = 1 << 20;

/// What shows who the user is.
#[derive(Clone, Eq, PartialEq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password, or a token in its place.
        password: String,
    },
    /// What a token server takes in place of a password (`identitytoken` in `auth.json`).
    RefreshToken(String),
}

/// The answer to challenges of one registry, about one repository.
pub struct Authorization {
    credentials: Option<Credentials>,
    /// What is asked for: `repository:NAME:pull`.
    scope: String,
    /// What the requests carry since the last challenge, by their scheme, host and port.
    header: Mutex<Option<(String, HeaderValue)>>,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Authorization({}, credentials: {})", self.scope, self.credentials.is_some())
    }
}

impl Authorization {
    /// For reading the repository `name`.
    pub fn for_pulling(name: &str, credentials: Option<Credentials>) -> Self {
        Authorization { credentials, scope: format!("repository:{name}:pull"), header: Mutex::default() }
    }

    /// Adds what the server has asked for.
    pub(super) fn apply(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        match &*self.header.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((origin, header)) if *origin == origin_of(url) => request.header(AUTHORIZATION, header.clone()),
            _ => request,
        }
    }

    /// Obtains what the challenge in `headers` asks for. Tells whether there is something new to send.
    pub(super) async fn answer(
        &self,
        downloader: &Downloader,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<bool, Failure> {
        let challenges = challenges(headers);
        let bearer = challenges.iter().find_map(Bearer::of);
        let is_basic = challenges.iter().any(|(scheme, _)| scheme == "basic");
        let header = match (bearer, &self.credentials) {
            (Some(bearer), _) => self.token(downloader, url, &bearer).await?,
            (None, Some(Credentials::Password { user, password })) if is_basic => basic(user, password),
            _ => return Ok(false),
        };
        let mut header = HeaderValue::from_str(&header)
            .map_err(|_| Failure::Final(anyhow!("what the token server gave is not the value of a header")))?;
        header.set_sensitive(true);
        let new = Some((origin_of(url), header));
        let mut current = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        // The same once more would be refused once more.
        let is_new = *current != new;
        *current = new;
        Ok(is_new)
    }

    async fn token(&self, downloader: &Downloader, url: &Url, bearer: &Bearer) -> Result<String, Failure> {
        let what = || format!("asking {} for a token", quoted(bearer.realm.as_bytes()));
        let request = self.request(downloader, url, bearer)?;
        let answer =
            downloader.read_answer(request, TOKEN_LIMIT_BYTES).await.map_err(|failure| failure.in_context(what()))?;
        let token = parse_token(&answer).map_err(|error| Failure::Final(error.context(what())))?;
        Ok(format!("Bearer {token}"))
    }

    fn request(&self, downloader: &Downloader, url: &Url, bearer: &Bearer) -> Result<RequestBuilder, Failure> {
        let realm = bearer.realm(url).map_err(Failure::Final)?;
        let service = bearer.service.iter().map(|service| ("service", service.as_str()));
        let mut fields: Vec<(&str, &str)> = service.chain([("scope", self.scope.as_str())]).collect();
        let client = downloader.client()?;
        Ok(match &self.credentials {
            Some(Credentials::RefreshToken(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("client_id", "ocinitrd"), ("refresh_token", token)]);
                client.post(realm).form(&fields)
            }
            Some(Credentials::Password { user, password }) => {
                client.get(with_query(realm, &fields)).header(AUTHORIZATION, basic(user, password))
            }
            None => client.get(with_query(realm, &fields)),
        })
    }
}

fn with_query(mut url: Url, fields: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(fields);
    url
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The schemes that are offered, in lower case, with their parameters.
fn challenges(headers: &HeaderMap) -> Vec<(String, Vec<(String, String)>)> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let parsed = values.flat_map(|value| ChallengeParser::new(value).map_while(Result::ok));
    let owned = |(name, value): &(&str, http_auth::ParamValue<'_>)| (name.to_lowercase(), value.to_unescaped());
    parsed.map(|challenge| (challenge.scheme.to_lowercase(), challenge.params.iter().map(owned).collect())).collect()
}

/// The Bearer scheme: a token of the server at `realm`.
struct Bearer {
    realm: String,
    service: Option<String>,
}

impl Bearer {
    fn of((scheme, parameters): &(String, Vec<(String, String)>)) -> Option<Self> {
        let parameter = |name| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        (scheme == "bearer").then_some(())?;
        Some(Bearer { realm: parameter("realm")?, service: parameter("service") })
    }

    /// The address of the token server of the registry at `registry`.
    fn realm(&self, registry: &Url) -> Result<Url> {
        let shown = quoted(self.realm.as_bytes());
        let realm =
            Url::parse(&self.realm).with_context(|| format!("reading the address {shown} of a token server"))?;
        ensure!(
            realm.scheme() == "https" || realm.scheme() == "http" && registry.scheme() == "http",
            "the registry has its tokens given by {shown}, which is not asked: it is not reached over HTTPS"
        );
        Ok(realm)
    }
}

fn parse_token(answer: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(escaped_error)?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    token.context("there is neither a token nor an access_token in the answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())])
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn bearer(value: &str) -> Option<Bearer> {
        challenges(&header(value)).iter().find_map(Bearer::of)
    }

    #[test]
    fn a_challenge_names_the_token_server() {
        let found =
            bearer(r#"Bearer realm="https://auth.example/token",service="registry.example",scope="x""#).unwrap();
        assert_eq!(
            (found.realm.as_str(), found.service.as_deref()),
            ("https://auth.example/token", Some("registry.example"))
        );
        let several = bearer(r#"Basic realm="x", BEARER REALM="https://a/t""#).unwrap();
        assert_eq!((several.realm.as_str(), several.service), ("https://a/t", None));
        assert!(bearer("Bearer").is_none() && bearer("Negotiate").is_none() && bearer("\"").is_none());
    }

    #[test]
    fn token_servers_without_tls_are_only_asked_for_registries_without_it() {
        let realm = |realm: &str, registry: &str| {
            Bearer { realm: realm.to_owned(), service: None }
                .realm(&url(registry))
                .map_err(|error| format!("{error:#}"))
        };
        assert!(realm("https://auth/t", "https://r/v2/").is_ok() && realm("http://auth/t", "http://r/v2/").is_ok());
        assert!(realm("http://auth/t", "https://r/v2/").unwrap_err().contains("not reached over HTTPS"));
        assert!(realm("file:///etc/passwd", "http://r/v2/").unwrap_err().contains("not reached over HTTPS"));
        assert!(realm("nonsense", "https://r/v2/").unwrap_err().contains("reading the address"));
    }

    #[tokio::test]
    async fn credentials_go_to_the_server_that_asked_for_them() {
        let password = || Credentials::Password { user: "me".to_owned(), password: "a:b".to_owned() };
        let authorization = Authorization::for_pulling("fedora", Some(password()));
        let downloader = Downloader::default();
        let (asked, other) = (url("https://r:5000/v2/x"), url("https://r/v2/x"));
        let basic = header("Basic realm=\"x\"");
        assert!(matches!(authorization.answer(&downloader, &asked, &basic).await, Ok(true)));
        assert!(matches!(authorization.answer(&downloader, &asked, &basic).await, Ok(false)), "nothing new");
        let sent = |url: &Url| {
            let request = downloader.client().unwrap().get(url.clone());
            authorization.apply(request, url).build().unwrap().headers().get(AUTHORIZATION).cloned()
        };
        assert_eq!(sent(&asked).unwrap(), "Basic bWU6YTpi");
        assert_eq!(sent(&other), None);
        let nobody = Authorization::for_pulling("fedora", None);
        assert!(matches!(nobody.answer(&downloader, &asked, &basic).await, Ok(false)));
        assert!(!format!("{authorization:?}").contains("a:b"));
    }

    #[test]
    fn tokens_have_one_of_two_names() {
        assert_eq!(parse_token(br#"{"token": "a", "expires_in": 300}"#).unwrap(), "a");
        assert_eq!(parse_token(br#"{"access_token": "b"}"#).unwrap(), "b");
        for answer in ["{}", "[]", "", r#"{"token": ""}"#] {
            assert!(parse_token(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
