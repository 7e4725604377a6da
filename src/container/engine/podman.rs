//! The engine's Docker-compatible API, as podman 4.3.1 and later speak it. Besides `failure` the only user of bollard.
//!
//! In: an endpoint, then requests as values of our own. Out: answers as values of our own, and failures that tell an
//! engine that refuses (with its own words) from one that does not answer.
//!
//! bollard's time limit covers the time until the answer's headers, and an upload is answered when all of it is
//! unpacked: whatever moves data or waits for a program goes through a client without a limit worth the name.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, ResourcesUlimits};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    DownloadFromContainerOptionsBuilder, ImportImageOptionsBuilder, KillContainerOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker, body_try_stream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::failure::{Failure, failure, unreachable};
use super::raw;
use ocinitrd_format::text::escaped_error;

/// For questions that an engine answers from memory. Seconds.
const SHORT_SECONDS: u64 = 20;
/// For everything else: a week, which no build takes. Seconds.
const LONG_SECONDS: u64 = 7 * 24 * 60 * 60;

/// How long podman may take to unmount what a container that has ended had mounted, and how often it is asked.
const SETTLING_LIMIT: Duration = Duration::from_secs(60);
const SETTLING_PAUSE: Duration = Duration::from_millis(10);

/// What an engine says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// `podman`, or the other product's own word.
    pub product: String,
    /// The product's version.
    pub version: String,
    /// Whether it runs without root rights.
    pub rootless: bool,
    /// Storage driver, `overlay` or `vfs` most often.
    pub storage_driver: String,
    /// Where it keeps images and containers, on its own machine.
    pub graph_root: String,
    /// The low-level program that it starts containers with, `crun` or `runc` most often.
    pub oci_runtime: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    driver: String,
    docker_root_dir: String,
    #[serde(default)]
    default_runtime: String,
    /// podman's own word.
    rootless: Option<bool>,
    /// Docker's way to say it.
    #[serde(default)]
    security_options: Vec<String>,
}

impl Info {
    fn is_rootless(&self) -> bool {
        let named = || self.security_options.iter().any(|option| option.split(',').any(|part| part == "name=rootless"));
        self.rootless.unwrap_or_else(named)
    }
}

/// What an engine says of itself in its answer to a ping.
#[derive(Clone, Debug)]
struct Greeting {
    product: String,
    version: String,
    api: ClientVersion,
}

impl Greeting {
    /// From the headers `Server: Libpod/4.3.1 (linux)` and `Api-Version: 1.41`.
    fn new(server: &str, api: &str) -> Option<Self> {
        let (product, version) = server.split(' ').next()?.split_once('/')?;
        let (major, minor) = api.split_once('.')?;
        Some(Greeting {
            product: if product == "Libpod" { "podman".to_owned() } else { product.to_lowercase() },
            version: version.to_owned(),
            api: ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? },
        })
    }
}

/// An image as the engine knows it.
#[derive(Debug)]
pub struct StoredImage {
    /// The digest of its configuration.
    pub id: String,
    /// OCI's word for its processor architecture.
    pub architecture: String,
    /// `registry/name@digest`, one for each digest that it is known by.
    pub names: Vec<String>,
}

/// A container as the engine lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedContainer {
    /// Its id.
    pub id: String,
    /// When it was made, seconds after 1970.
    pub created: i64,
    /// `created`, `running`, `exited`; podman has more words than Docker.
    pub state: String,
    /// Its labels.
    #[serde(default)]
    pub labels: HashMap<String, String>,
}

/// What a container is made from.
#[derive(Debug)]
pub struct ContainerPlan {
    /// A name that no other container has: a second one of the same name is an internal error in podman.
    pub name: String,
    /// The id of its image.
    pub image_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Capabilities beside the engine's default ones, without `CAP_`.
    pub capabilities: Vec<String>,
    /// Labels.
    pub labels: HashMap<String, String>,
    /// Resource limits, soft and hard alike, by the engine's names for them (`nofile`, `nproc`). A rootless podman 4.3.1
    /// passes its own limits on instead.
    pub limits: Vec<(String, i64)>,
    /// The most memory it may use, if limited.
    pub memory_limit_bytes: Option<i64>,
}

/// A piece of what a container prints. Pieces end anywhere, also within a line or a character.
#[derive(Debug)]
pub enum Chunk {
    /// Of its standard output.
    Output(Bytes),
    /// Of its standard error.
    Error(Bytes),
}

/// How the program of a container ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct End {
    /// Its exit code.
    pub exit_code: i64,
    /// Whether the kernel ended something in the container because memory ran out.
    pub out_of_memory: bool,
}

/// A connection to an engine.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    greeting: Greeting,
    quick: Docker,
    patient: Docker,
}

impl Client {
    /// Connects and agrees on a version of the API.
    ///
    /// By a ping: to tell its version, which bollard asks for, podman starts a package manager for each of its parts.
    ///
    /// # Errors
    /// Fails when nothing answers there, or no engine.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self> {
        let answer = ask(endpoint, "/_ping").await?;
        let greeting = Greeting::new(
            answer.header("Server").unwrap_or_default(),
            answer.header("Api-Version").unwrap_or_default(),
        );
        let greeting = greeting.context("what listens there is no container engine: it does not tell what it is")?;
        let api = if greeting.api < *API_DEFAULT_VERSION { &greeting.api } else { API_DEFAULT_VERSION };
        let docker = match endpoint {
            Endpoint::Unix(path) => {
                let path =
                    path.to_str().with_context(|| format!("the socket's path is not UTF-8: {}", path.display()))?;
                Docker::connect_with_unix(path, SHORT_SECONDS, api)
            }
            Endpoint::Tcp(address) => Docker::connect_with_http(address, SHORT_SECONDS, api),
        };
        let quick = docker.map_err(failure)?;
        let patient = quick.clone().with_timeout(Duration::from_secs(LONG_SECONDS));
        Ok(Client { endpoint: endpoint.clone(), greeting, quick, patient })
    }

    /// Where it is connected.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks what it is.
    ///
    /// # Errors
    /// Fails when the engine does not answer as podman and Docker do.
    pub async fn identity(&self) -> Result<Identity> {
        let info: Info = self.get("/info").await?;
        Ok(Identity {
            product: self.greeting.product.clone(),
            version: self.greeting.version.clone(),
            rootless: info.is_rootless(),
            storage_driver: info.driver,
            graph_root: info.docker_root_dir,
            oci_runtime: info.default_runtime,
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = ask(&self.endpoint, path).await?;
        serde_json::from_slice(&answer.body)
            .map_err(escaped_error)
            .with_context(|| format!("reading the engine's answer to {path}"))
    }

    /// What the engine knows of an image in its storage, `None` if it has none of that name.
    ///
    /// # Errors
    /// Fails when the engine does not answer.
    pub async fn inspect_image(&self, name: &str) -> Result<Option<StoredImage>> {
        match self.quick.inspect_image(name).await {
            Ok(image) => Ok(Some(StoredImage {
                id: image.id.with_context(|| format!("image {name}: the engine tells no id"))?,
                architecture: image.architecture.unwrap_or_default(),
                names: image.repo_digests.unwrap_or_default(),
            })),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    /// Pulls an image; `on_status` hears what the engine tells of it. An error within the stream is an error.
    ///
    /// # Errors
    /// Fails when the engine cannot pull; the message is the engine's.
    pub async fn pull(&self, name: &str, mut on_status: impl FnMut(&str)) -> Result<()> {
        let options = CreateImageOptionsBuilder::default().from_image(name).build();
        let mut stream = self.patient.create_image(Some(options), None, None);
        while let Some(event) = stream.next().await {
            let event = event.map_err(failure)?;
            if let Some(status) = event.status.filter(|status| !status.is_empty()) {
                on_status(status.trim_end());
            }
        }
        Ok(())
    }

    /// Takes the images of an archive into the engine's storage.
    ///
    /// # Errors
    /// Fails when the engine cannot read the archive; the message is the engine's.
    pub async fn load(&self, archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Result<()> {
        let options = ImportImageOptionsBuilder::default().build();
        let mut stream = self.patient.import_image(options, body_try_stream(archive), None);
        while let Some(event) = stream.next().await {
            event.map_err(failure)?;
        }
        Ok(())
    }

    /// All containers that have `label`, running or not.
    ///
    /// # Errors
    /// Fails when the engine does not answer.
    pub async fn containers_with_label(&self, label: &str) -> Result<Vec<ListedContainer>> {
        // Asked without bollard, which refuses the whole list for one state that it has no word for (podman's `stopped`).
        let filters = raw::percent_encode(&format!(r#"{{"label":["{label}"]}}"#));
        self.get(&format!("/containers/json?all=true&filters={filters}")).await
    }

    /// Makes a container; does not start it.
    ///
    /// # Errors
    /// Fails when the engine refuses.
    pub async fn create(&self, plan: ContainerPlan) -> Result<()> {
        let options = CreateContainerOptionsBuilder::default().name(&plan.name).build();
        self.patient.create_container(Some(options), create_body(plan)).await.map_err(failure)?;
        Ok(())
    }

    /// Unpacks a tar stream at `/` of a container. Returns when all of it is unpacked.
    ///
    /// # Errors
    /// Fails when the engine cannot unpack it, or the stream fails.
    pub async fn upload(
        &self,
        name: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        self.patient.upload_to_container(name, Some(options), body_try_stream(archive)).await.map_err(failure)
    }

    /// A file of a container as a tar stream with one member.
    pub fn download(&self, name: &str, path: &str) -> impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        Box::pin(self.patient.download_from_container(name, Some(options)).map_err(failure))
    }

    /// What the container prints from now on. To be called before it is started: podman 4.3.1 loses what was printed
    /// before, and most of it if asked for its log instead.
    ///
    /// # Errors
    /// Fails when the engine refuses.
    pub async fn attach(&self, name: &str) -> Result<impl Stream<Item = Result<Chunk>> + Send + Unpin + 'static> {
        let options = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let attached = self.patient.attach_container(name, Some(options)).await.map_err(failure)?;
        Ok(attached.output.map(|piece| match piece {
            Ok(LogOutput::StdErr { message }) => Ok(Chunk::Error(message)),
            Ok(other) => Ok(Chunk::Output(other.into_bytes())),
            Err(error) => Err(failure(error)),
        }))
    }

    /// Starts a container.
    ///
    /// # Errors
    /// Fails when the engine cannot start it.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.patient.start_container(name, None::<StartContainerOptions>).await.map_err(failure)
    }

    /// Waits until a container has ended; asks again after each `pause`.
    ///
    /// The engine is not told to wait, because podman 4.3 asks itself without a pause then, which takes a whole processor
    /// (<https://github.com/containers/podman/issues/18150>).
    ///
    /// # Errors
    /// Fails when the engine goes away, or no longer has the container.
    pub async fn wait(&self, name: &str, pause: Duration) -> Result<End> {
        loop {
            let container: Value = self.get(&format!("/containers/{name}/json")).await?;
            let state = &container["State"];
            // `stopped` is podman's own word for a container whose mounts are still to be put away.
            let has_ended = ["exited", "stopped", "dead"].iter().any(|ended| state["Status"] == *ended);
            match state["ExitCode"].as_i64() {
                Some(exit_code) if has_ended => {
                    return Ok(End { exit_code, out_of_memory: state["OOMKilled"] == true });
                }
                _ => tokio::time::sleep(pause).await,
            }
        }
    }

    /// The engine's word for the state of a container; `None` if it has no such container.
    ///
    /// # Errors
    /// Fails when the engine does not answer.
    pub async fn status(&self, name: &str) -> Result<Option<String>> {
        match self.get::<Value>(&format!("/containers/{name}/json")).await {
            Ok(container) => Ok(Some(container["State"]["Status"].as_str().unwrap_or_default().to_owned())),
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Refused { status: 404, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until podman has put away what it mounted for a container that has ended. Until then it calls the container
    /// `stopped`, and a download may find the container empty (seen with 5.4.2). Other products have no such state.
    ///
    /// # Errors
    /// Fails when the engine does not answer, or does not come to an end with the container.
    pub async fn settle(&self, name: &str) -> Result<()> {
        let path = format!("/v4.0.0/libpod/containers/{name}/json");
        let started = Instant::now();
        while started.elapsed() < SETTLING_LIMIT {
            match self.get::<Value>(&path).await {
                Ok(container) if container["State"]["Status"] == "exited" => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.downcast_ref(), Some(Failure::Refused { .. })) => return Ok(()),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(SETTLING_PAUSE).await;
        }
        bail!("the container has ended, but after {} s podman is not done with it", SETTLING_LIMIT.as_secs())
    }

    /// Kills a container if it runs and removes it with its volumes. One that does not exist counts as removed.
    ///
    /// # Errors
    /// Fails when the engine cannot remove it.
    pub async fn remove(&self, name: &str) -> Result<()> {
        // Killed first, because a removal by force waits for a polite end before it kills.
        let kill = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        match self.quick.kill_container(name, Some(kill)).await {
            Ok(()) | Err(Error::DockerResponseServerError { .. }) => {}
            Err(error) => return Err(failure(error)),
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.patient.remove_container(name, Some(options)).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }
}

/// The answer to a question that the engine answers from memory, if it is none of its failures.
async fn ask(endpoint: &Endpoint, path: &str) -> Result<raw::Answer> {
    let answer = tokio::time::timeout(Duration::from_secs(SHORT_SECONDS), raw::get(endpoint, path)).await;
    match answer {
        Err(_) => Err(Failure::Unreachable(format!("no answer within {SHORT_SECONDS} s")).into()),
        Ok(Err(error)) => Err(unreachable(&error, error.to_string())),
        Ok(Ok(answer)) if answer.status == 200 => Ok(answer),
        Ok(Ok(raw::Answer { status, body, .. })) => {
            Err(Failure::Refused { status, message: String::from_utf8_lossy(&body).into_owned() }.into())
        }
    }
}

fn create_body(plan: ContainerPlan) -> ContainerCreateBody {
    let mut command = plan.command.into_iter();
    let mounts_inside = plan.capabilities.iter().any(|capability| capability == "SYS_ADMIN");
    let ulimits = plan.limits.into_iter().map(|(name, limit)| ResourcesUlimits {
        name: Some(name),
        soft: Some(limit),
        hard: Some(limit),
    });
    ContainerCreateBody {
        image: Some(plan.image_id),
        // The image's own entry point would come before the command; its user, directory and host name are nobody's choice.
        entrypoint: Some(command.by_ref().take(1).collect()),
        cmd: Some(command.collect()),
        env: Some(plan.environment),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        hostname: Some("ocinitrd".to_owned()),
        labels: Some(plan.labels),
        attach_stdin: Some(false),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ulimits: Some(ulimits.collect()),
            cap_add: Some(plan.capabilities),
            memory: plan.memory_limit_bytes,
            // SELinux and AppArmor profiles for containers forbid mounts, whatever the capabilities say.
            security_opt: mounts_inside.then(|| vec!["label=disable".to_owned(), "apparmor=unconfined".to_owned()]),
            // What it prints is read while it runs; nothing of it is to stay with the engine or in a journal.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// An engine that calls its container by these words, one after another.
    fn engine(mut words: Vec<&'static str>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
        std::thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&connection).lines().map_while(Result::ok);
                let request = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let (status, body) = if request.contains("/libpod/containers/ended/json") && !words.is_empty() {
                    ("200 OK", format!(r#"{{"State":{{"Status":"{}"}}}}"#, words.remove(0)))
                } else if request.contains("/_ping") {
                    ("200 OK", "OK".to_owned())
                } else {
                    ("404 Not Found", String::new())
                };
                let greeting = "Api-Version: 1.41\r\nServer: Libpod/5.4.2 (linux)";
                let headers = format!("{greeting}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
                let _ = write!(connection, "HTTP/1.1 {status}\r\n{headers}\r\nConnection: close\r\n\r\n{body}");
            }
        });
        endpoint
    }

    #[test]
    fn engines_tell_what_they_are() {
        let greeting = Greeting::new("Libpod/4.3.1 (linux)", "1.41").unwrap();
        assert_eq!((greeting.product.as_str(), greeting.version.as_str()), ("podman", "4.3.1"));
        assert_eq!(greeting.api.to_string(), "1.41");
        assert_eq!(Greeting::new("Docker/27.5.1 (linux)", "1.47").unwrap().product, "docker");
        for (server, api) in [("nginx", "1.41"), ("Libpod/4.3.1", ""), ("Libpod/4.3.1", "1.x")] {
            assert!(Greeting::new(server, api).is_none(), "{server} {api}");
        }
    }

    /// podman 5.4.2 stays in the state for some milliseconds only: too short to be met each time by a real one.
    #[tokio::test]
    async fn a_container_is_settled_when_podman_has_put_it_away() {
        for words in [vec!["stopped", "stopped", "exited"], Vec::new()] {
            let client = Client::connect(&engine(words)).await.unwrap();
            client.settle("ended").await.unwrap();
        }
    }

    #[tokio::test]
    async fn only_an_exited_container_is_settled() {
        let client = Client::connect(&engine(vec!["stopped"; 1000])).await.unwrap();
        let settling = tokio::time::timeout(SETTLING_PAUSE * 20, client.settle("ended")).await;
        assert!(settling.is_err(), "it was taken for settled");
    }
}
