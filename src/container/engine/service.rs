//! A podman service of our own, for machines where podman is installed and no socket answers.
//!
//! In: the podman program and a directory for the socket. Out: an endpoint that lives as long as the [`Service`].
//!
//! Two things end it: dropping the value, and the end of this process, even by SIGKILL ([`Running`]): then it is asked to end,
//! and would end anyhow after [`IDLE_SECONDS`] without an open request: the only lasting request is held by this process. It
//! is not killed, since a podman that is killed may leave containers that nobody can remove. A container that still runs for a killed process does so until it ends or the next run removes it.
//! The service has a process group of its own, so that Ctrl-C on the terminal does not take the engine away from under
//! the clean-up.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::endpoint::Endpoint;
use super::owner::Owner;
use ocinitrd_support::output::{self, TemporaryDirectory};
use ocinitrd_support::own_directory;
use ocinitrd_support::process::{self, Program, Running};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// How long the service outlives a run that was killed.
const IDLE_SECONDS: u32 = 10;
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Variables that make podman speak to another engine instead of being one.
const REMOTE: [&str; 3] = ["CONTAINER_CONNECTION", "CONTAINER_HOST", "DOCKER_HOST"];
const DIRECTORY_PREFIX: &str = "ocinitrd-service-";
/// What `tempfile` puts behind a prefix.
const RANDOM_LETTERS: usize = 6;
/// Says in a directory whose it is.
const OWNER_FILE: &str = "owner";
/// Longer than what is in it.
const LONGEST_LABEL_BYTES: u64 = 4096;
/// `sun_path` of unix(7) holds 108 bytes with its final zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// A running `podman system service`.
#[derive(Debug)]
pub struct Service {
    podman: PathBuf,
    running: Running,
    keep_alive: JoinHandle<()>,
    directory: TemporaryDirectory,
}

impl Service {
    /// Starts the service with its socket in a new directory (mode 0700) below the first of `directories` that can
    /// hold it, and waits until it answers. Removes such directories of killed runs.
    ///
    /// # Errors
    /// Fails when no directory can hold the socket, or when podman does not start; the message holds what it said.
    pub async fn start(podman: &Path, directories: &[PathBuf], owner: &Owner) -> Result<Self> {
        for directory in directories {
            remove_abandoned(directory, owner);
        }
        let directory = create_directory(directories, owner)?;
        let log =
            output::create_new(&directory.path().join("log")).context("creating the log of the podman service")?;
        let socket = directory.path().join("podman.sock");
        let running = Program::new(podman)
            .args(["system", "service", &format!("--time={IDLE_SECONDS}"), &format!("unix://{}", socket.display())])
            .without_env(REMOTE)
            .only_asked_to_end()
            .spawn(Stdio::null(), Stdio::null(), log.into())?;
        // From here on the value's end is the service's end, whatever fails.
        let mut service =
            Service { podman: podman.to_owned(), running, keep_alive: tokio::spawn(std::future::ready(())), directory };
        let connection = service.wait_until_it_listens(&socket).await?;
        service.keep_alive = tokio::spawn(hold(connection));
        Ok(service)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.directory.path().join("podman.sock"))
    }

    /// Removes a container with the podman program itself, for the case that the service has died.
    ///
    /// # Errors
    /// Fails when podman cannot remove it; one that does not exist counts as removed.
    pub fn remove_without_service(&self, container: &str) -> Result<()> {
        Program::new(&self.podman)
            .without_env(REMOTE)
            .args(["rm", "--force", "--time=0", "--volumes", "--ignore", container])
            .run()?;
        Ok(())
    }

    async fn wait_until_it_listens(&mut self, socket: &Path) -> Result<UnixStream> {
        let started = Instant::now();
        loop {
            if let Ok(connection) = UnixStream::connect(socket).await {
                return Ok(connection);
            }
            if let Some(status) = self.running.child.try_wait().context("waiting for the podman service")? {
                bail!("{}", self.describe_end(status));
            }
            if started.elapsed() > START_LIMIT {
                bail!("podman system service did not listen within {} s: {}", START_LIMIT.as_secs(), self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn describe_end(&self, status: ExitStatus) -> String {
        format!("podman system service ended at once ({status}): {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let text = regular_file::read(&self.directory.path().join("log"), TEXT_LIMIT_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        if lines.is_empty() {
            "it said nothing".to_owned()
        } else {
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        }
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < limit {
            if !matches!(self.running.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.keep_alive.abort();
        process::signal(self.running.group(), Signal::TERM);
        // What has not ended then is killed.
        self.ends_within(STOP_LIMIT);
    }
}

/// Holds the one lasting request: the stream of events, of which nothing is used. A connection without a request does
/// not count as use (podman 4.3.1).
async fn hold(mut connection: UnixStream) {
    let request = b"GET /events?stream=true HTTP/1.1\r\nHost: podman\r\n\r\n";
    if connection.write_all(request).await.is_ok() {
        // The end of the service is noticed by whoever uses it.
        let _ = copy(&mut connection, &mut sink()).await;
    }
}

fn create_directory(directories: &[PathBuf], owner: &Owner) -> Result<TemporaryDirectory> {
    let mut failures = Vec::new();
    for base in directories {
        let socket = base.join(DIRECTORY_PREFIX).as_os_str().len() + RANDOM_LETTERS + "/podman.sock".len();
        if socket > LONGEST_SOCKET_PATH {
            failures.push(format!("{}: too long a path for a socket", base.display()));
            continue;
        }
        match create_directory_in(base, owner) {
            Ok(directory) => return Ok(directory),
            Err(error) => failures.push(format!("{}: {error:#}", base.display())),
        }
    }
    bail!("creating a directory for the podman service's socket: {}", failures.join("; "))
}

fn create_directory_in(base: &Path, owner: &Owner) -> Result<TemporaryDirectory> {
    own_directory::check_shared(base)?;
    let directory = TemporaryDirectory::create(base, DIRECTORY_PREFIX)?;
    output::create_new(&directory.path().join(OWNER_FILE))?.write_all(owner.to_string().as_bytes())?;
    Ok(directory)
}

/// Removes the directories of killed runs of this user. Anybody can put something of such a name there: what is not this
/// user's own is not looked into.
fn remove_abandoned(base: &Path, observer: &Owner) {
    let user = geteuid().as_raw();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let is_own = || entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        if !entry.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX) || !is_own() {
            continue;
        }
        let label = regular_file::open_own(&entry.path().join(OWNER_FILE));
        let label = label.and_then(|file| regular_file::read_all(file, LONGEST_LABEL_BYTES));
        let owner = label.ok().and_then(|label| Owner::parse(std::str::from_utf8(&label).ok()?));
        if owner.is_some_and(|owner| owner.left_behind(observer, Duration::ZERO, true).unwrap_or(false)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_socket_goes_where_its_path_fits_and_only_its_owner_may_look() {
        let owner = Owner::current().unwrap();
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("d".repeat(90));
        fs::create_dir(&long).unwrap();
        let directory = create_directory(&[long.clone(), base.path().to_owned()], &owner).unwrap();
        assert_eq!(directory.path().parent().unwrap(), base.path());
        assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let message = create_directory(&[long], &owner).unwrap_err().to_string();
        assert!(message.contains("too long a path"), "{message}");
    }

    #[test]
    fn directories_of_killed_runs_are_removed_and_those_of_living_runs_kept() {
        let owner = Owner::current().unwrap();
        let base = tempfile::tempdir().unwrap();
        let own = create_directory(&[base.path().to_owned()], &owner).unwrap();
        let label = owner.to_string();
        let (_, rest) = label.split_once(':').unwrap();
        let dead = base.path().join("ocinitrd-service-abcdef");
        let foreign = base.path().join("ocinitrd-service-notes");
        fs::create_dir_all(dead.join("sub")).unwrap();
        fs::write(dead.join(OWNER_FILE), format!("4194304:{rest}")).unwrap();
        fs::create_dir(&foreign).unwrap();
        remove_abandoned(base.path(), &owner);
        assert!(own.path().exists() && foreign.exists());
        assert!(!dead.exists());
    }

    #[test]
    fn what_somebody_else_put_there_is_neither_waited_for_nor_removed() {
        let owner = Owner::current().unwrap();
        let base = tempfile::tempdir().unwrap();
        let label = format!("4194304:{}", owner.to_string().split_once(':').unwrap().1);
        let directory = |name: &str| {
            let path = base.path().join(format!("{DIRECTORY_PREFIX}{name}"));
            fs::create_dir(&path).unwrap();
            path.join(OWNER_FILE)
        };
        rustix::fs::mkfifoat(rustix::fs::CWD, directory("fifo"), 0o600.into()).unwrap();
        symlink("/dev/zero", directory("device")).unwrap();
        let elsewhere = base.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join(OWNER_FILE), &label).unwrap();
        symlink(&elsewhere, base.path().join(format!("{DIRECTORY_PREFIX}link"))).unwrap();
        fs::write(directory("long"), label + &" ".repeat(5000)).unwrap();
        remove_abandoned(base.path(), &owner);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 5);
    }

    #[test]
    fn no_socket_lies_where_others_could_put_their_own() {
        let owner = Owner::current().unwrap();
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let message = create_directory(&[base.path().to_owned()], &owner).unwrap_err().to_string();
        assert!(message.contains("other users may write to it (mode 0777"), "{message}");
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        create_directory(&[base.path().to_owned()], &owner).unwrap();
    }

    #[tokio::test]
    async fn a_podman_that_fails_to_start_is_quoted() {
        let base = tempfile::tempdir().unwrap();
        let program = base.path().join("podman");
        fs::write(&program, "#!/bin/sh\necho cannot set up namespaces >&2\nexit 125\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let owner = Owner::current().unwrap();
        let error = Service::start(&program, &[base.path().to_owned()], &owner).await.unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains("exit status: 125") && message.contains("cannot set up namespaces"), "{message}");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "the directory is gone again");
    }
}
