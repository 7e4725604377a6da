//! Which container engine is spoken to.
//!
//! In: the user's option, `CONTAINER_HOST`, `DOCKER_HOST`, the runtime directory and the user id, as values.
//! Out: either the one endpoint that was named, or the sockets to try in order. Nothing is opened here.
//!
//! The order, first match wins:
//! 1. `--engine URL`; `--engine podman` skips 2 and 3
//! 2. `CONTAINER_HOST`
//! 3. `DOCKER_HOST`
//! 4. not root: `$XDG_RUNTIME_DIR/podman/podman.sock`
//! 5. `/run/podman/podman.sock` (a user who is not root may have been given access to it)
//! 6. where none of 4 and 5 answers: a service of our own, started for the run with the installed `podman`
//!
//! An endpoint that was named (1 to 3) is never replaced by another: if it does not answer, that is an error.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The socket of a podman that runs as root.
pub const ROOTFUL_SOCKET: &str = "/run/podman/podman.sock";

/// Where an engine listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// A socket in the file system of this machine.
    Unix(PathBuf),
    /// `host:port`, plain HTTP.
    Tcp(String),
}

impl Endpoint {
    /// Parses `unix:///path` or `tcp://host:port`.
    ///
    /// # Errors
    /// Fails for any other URL; for `ssh://` the message tells how to forward the socket.
    pub fn parse(url: &str) -> Result<Self> {
        match url.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Endpoint::Unix(PathBuf::from(path))),
            Some(("unix", _)) => {
                bail!("engine URL {url}: a unix socket needs an absolute path, as in unix:///run/podman/podman.sock")
            }
            Some(("tcp", address)) => parse_address(address)
                .with_context(|| format!("engine URL {url}: expected tcp://HOST:PORT, as in tcp://127.0.0.1:8080")),
            Some(("ssh", rest)) => bail!("{}", forwarding_advice(url, rest)),
            _ => bail!("engine {url}: expected \"podman\", \"in-place\", unix:///PATH or tcp://HOST:PORT"),
        }
    }

    /// Whether the engine shares this machine's kernel and file systems, as far as the address can tell.
    pub fn is_local(&self) -> bool {
        matches!(self, Endpoint::Unix(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Endpoint::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}

fn parse_address(address: &str) -> Result<Endpoint> {
    let address = address.trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').context("no port")?;
    if host.is_empty() || host.contains('/') {
        bail!("no host");
    }
    port.parse::<u16>().with_context(|| format!("port {port}"))?;
    Ok(Endpoint::Tcp(address.to_owned()))
}

/// An ssh URL names a remote socket; ssh itself can bring that socket here.
fn forwarding_advice(url: &str, rest: &str) -> String {
    let (destination, path) = rest.split_once('/').map_or((rest, ""), |(destination, path)| (destination, path));
    let socket = if path.is_empty() { ROOTFUL_SOCKET.to_owned() } else { format!("/{path}") };
    let (login, port) = match destination.rsplit_once(':') {
        Some((login, port)) => (login, format!("-p {port} ")),
        None => (destination, String::new()),
    };
    format!(
        "engine {url}: ssh is not spoken here; forward the remote socket and name the forwarded one:\n  \
         ssh -fNL /tmp/remote-podman.sock:{socket} {port}{login}\n  \
         ocinitrd ... --engine unix:///tmp/remote-podman.sock"
    )
}

/// What named an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The option `--engine URL`.
    Option,
    /// The variable `CONTAINER_HOST`.
    ContainerHost,
    /// The variable `DOCKER_HOST`.
    DockerHost,
    /// The default socket of a podman without root rights.
    RootlessSocket,
    /// The default socket of a podman that runs as root.
    RootfulSocket,
    /// A service that this run started and ends.
    OwnService,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Source::Option => "named by --engine",
            Source::ContainerHost => "named by CONTAINER_HOST",
            Source::DockerHost => "named by DOCKER_HOST",
            Source::RootlessSocket => "the user's default socket",
            Source::RootfulSocket => "the system's default socket",
            Source::OwnService => "started for this run",
        })
    }
}

/// An endpoint and what named it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// What named it.
    pub source: Source,
}

/// What decides about the engine, as values.
#[derive(Clone, Debug, Default)]
pub struct EngineChoice {
    /// The option `--engine`: `podman` or a URL.
    pub engine: Option<String>,
    /// The variable `CONTAINER_HOST`.
    pub container_host: Option<String>,
    /// The variable `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// The variable `XDG_RUNTIME_DIR`.
    pub runtime_directory: Option<PathBuf>,
    /// The effective user id.
    pub user_id: u32,
}

/// What [`choose`] decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// The user named this endpoint: this one or none.
    Named(Candidate),
    /// The sockets to try in order; where none answers, a service of our own may be started.
    Search(Vec<Candidate>),
}

/// Decides by the order of this module's description. An empty variable counts as unset.
///
/// # Errors
/// Fails when the deciding value is no endpoint that is spoken here.
pub fn choose(wish: &EngineChoice) -> Result<Choice> {
    let option = wish.engine.as_deref().filter(|value| !value.is_empty());
    if option == Some("podman") {
        return Ok(Choice::Search(default_sockets(wish)));
    }
    let named = [
        (option, Source::Option, "--engine"),
        (wish.container_host.as_deref(), Source::ContainerHost, "CONTAINER_HOST"),
        (wish.docker_host.as_deref(), Source::DockerHost, "DOCKER_HOST"),
    ];
    for (value, source, origin) in named {
        if let Some(url) = value.filter(|url| !url.is_empty()) {
            let endpoint = Endpoint::parse(url).with_context(|| format!("reading {origin}"))?;
            return Ok(Choice::Named(Candidate { endpoint, source }));
        }
    }
    Ok(Choice::Search(default_sockets(wish)))
}

fn default_sockets(wish: &EngineChoice) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    if wish.user_id != 0
        && let Some(directory) = wish.runtime_directory.as_deref().filter(|directory| directory.is_absolute())
    {
        candidates.push(socket(&directory.join("podman/podman.sock"), Source::RootlessSocket));
    }
    candidates.push(socket(Path::new(ROOTFUL_SOCKET), Source::RootfulSocket));
    candidates
}

fn socket(path: &Path, source: Source) -> Candidate {
    Candidate { endpoint: Endpoint::Unix(path.to_owned()), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything_set() -> EngineChoice {
        EngineChoice {
            engine: Some("tcp://one:1".to_owned()),
            container_host: Some("tcp://two:2".to_owned()),
            docker_host: Some("unix:///three.sock".to_owned()),
            runtime_directory: Some(PathBuf::from("/run/user/1000")),
            user_id: 1000,
        }
    }

    fn describe(wish: &EngineChoice) -> Vec<String> {
        let candidates = match choose(wish).unwrap() {
            Choice::Named(candidate) => vec![candidate],
            Choice::Search(candidates) => candidates,
        };
        candidates.iter().map(|candidate| format!("{} ({})", candidate.endpoint, candidate.source)).collect()
    }

    #[test]
    fn the_documented_order_holds() {
        let mut wish = everything_set();
        assert_eq!(describe(&wish), ["tcp://one:1 (named by --engine)"]);
        wish.engine = None;
        assert_eq!(describe(&wish), ["tcp://two:2 (named by CONTAINER_HOST)"]);
        wish.container_host = Some(String::new());
        assert_eq!(describe(&wish), ["unix:///three.sock (named by DOCKER_HOST)"]);
        wish.docker_host = None;
        assert_eq!(
            describe(&wish),
            [
                "unix:///run/user/1000/podman/podman.sock (the user's default socket)",
                "unix:///run/podman/podman.sock (the system's default socket)"
            ]
        );
    }

    #[test]
    fn the_word_podman_overrules_the_variables() {
        let wish = EngineChoice { engine: Some("podman".to_owned()), ..everything_set() };
        assert_eq!(describe(&wish).len(), 2);
        assert!(matches!(choose(&wish).unwrap(), Choice::Search(_)));
    }

    #[test]
    fn root_does_not_look_at_a_users_socket() {
        let wish =
            EngineChoice { user_id: 0, engine: None, container_host: None, docker_host: None, ..everything_set() };
        assert_eq!(describe(&wish), ["unix:///run/podman/podman.sock (the system's default socket)"]);
    }

    #[test]
    fn an_ssh_url_is_refused_with_the_command_that_forwards_its_socket() {
        let wish = EngineChoice {
            container_host: Some("ssh://core@build:2222/run/user/1000/podman/podman.sock".to_owned()),
            ..EngineChoice::default()
        };
        let message = format!("{:#}", choose(&wish).unwrap_err());
        assert!(message.starts_with("reading CONTAINER_HOST: "), "{message}");
        assert!(
            message.contains("ssh -fNL /tmp/remote-podman.sock:/run/user/1000/podman/podman.sock -p 2222 core@build\n"),
            "{message}"
        );
    }

    #[test]
    fn malformed_urls_are_refused_with_the_expected_form() {
        for (url, expected) in [
            ("docker", "expected \"podman\", \"in-place\", unix:///PATH or tcp://HOST:PORT"),
            ("unix://relative.sock", "absolute path"),
            ("tcp://host", "tcp://HOST:PORT"),
            ("tcp://host:99999", "tcp://HOST:PORT"),
            ("tcp://:80", "tcp://HOST:PORT"),
            ("https://host:1", "expected \"podman\""),
        ] {
            let message = format!("{:#}", Endpoint::parse(url).unwrap_err());
            assert!(message.contains(url) && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn addresses_keep_their_spelling() {
        for url in ["unix:///run/podman/podman.sock", "tcp://127.0.0.1:8080", "tcp://[::1]:8080"] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), url);
        }
        assert!(!Endpoint::parse("tcp://127.0.0.1:8080").unwrap().is_local());
    }
}
