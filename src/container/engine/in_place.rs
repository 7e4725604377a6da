//! Jobs in this very place, without an engine: in a container of the builder image, in a pod or a CI job, in the root of a
//! build system such as mock's.
//!
//! In: a [`Job`]. Out: a [`JobResult`]. What a container would be is a directory: the job's input is unpacked into it, its
//! program runs there, its outputs are read from it, and it goes. Where the kernel allows it, the program gets namespaces of
//! its own, so that what it mounts goes with it and it has no network; without any, it mounts nothing. A user who is not root
//! becomes root of a user namespace.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use rustix::process::{Signal, geteuid};
use tokio::task::block_in_place;

use super::Cancellation;
use super::cancellation::Unfinished;
use super::failure::Ended;
use super::job::{Input, Job, JobResult};
use super::log::Log;
use super::podman::Chunk;
use crate::definition::dnf::CONTAINER_DIRECTORY;
use ocinitrd_support::output::TemporaryDirectory;
use ocinitrd_support::process::{self, Program, Running};
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

/// What the steps call, whatever the distribution.
const PROGRAMS: [&str; 6] = ["bash", "chroot", "rpm", "rpmkeys", "tar", "xargs"];
/// Bytes that are read at once of what a program prints.
const PIECE_BYTES: usize = 64 * 1024;
/// How many pieces may wait to be taken.
const PIECES: usize = 16;
/// How often it is asked whether a program has ended that prints nothing.
const TICK: Duration = Duration::from_millis(100);
/// After a program and all of its process group have ended, what they printed is already under way.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// What gives a program namespaces of its own, with its options.
type Namespaces = &'static [&'static str];

/// Those for root.
const FOR_ROOT: [Namespaces; 1] = [&["unshare", "--mount", "--net"]];
/// Those for everybody else, the best first: with `--map-auto` a user's sub-ids are owners of files, without it there is one owner.
const FOR_USERS: [Namespaces; 2] = [
    &["unshare", "--map-root-user", "--map-auto", "--mount", "--net"],
    &["unshare", "--map-root-user", "--mount", "--net"],
];

/// This place, as one that can run jobs.
#[derive(Debug)]
pub struct InPlace {
    /// Empty where there can be none.
    namespaces: Namespaces,
    tools: Vec<String>,
    scratch: PathBuf,
    cancellation: Cancellation,
}

impl InPlace {
    /// Looks whether jobs can run here. Their directories are to lie in `scratch`.
    ///
    /// # Errors
    /// Fails when a program is missing, naming it, and when a user who is not root cannot have a user namespace.
    pub fn open(scratch: &Path, cancellation: &Cancellation) -> Result<Self> {
        for name in PROGRAMS {
            let found = process::find(name).with_context(|| format!("looking for {name}"))?;
            ensure!(
                found.is_some(),
                "--engine in-place runs {name} here, and it is not installed: use the builder image itself, or a place that \
                 has dnf, rpm, bash, coreutils, findutils and tar"
            );
        }
        Ok(InPlace {
            namespaces: namespaces()?,
            tools: tools()?,
            scratch: scratch.to_owned(),
            cancellation: cancellation.clone(),
        })
    }

    /// What rpm and dnf say of their versions, a line each, as a lock has them.
    pub fn tools(&self) -> &[String] {
        &self.tools
    }

    /// Runs a job to its end and removes its directory, also after an error and when the run is asked to end.
    ///
    /// # Errors
    /// Fails when the input cannot be made, the program cannot be started or is ended by a signal ([`Ended`]), an output is
    /// missing, or the run is asked to end. A program that ends with another code than 0 is no error.
    pub async fn run(&self, job: Job<'_>, progress: &Progress) -> Result<JobResult> {
        self.cancellation.check()?;
        let _unfinished = Unfinished::begin();
        let directory = TemporaryDirectory::create(&self.scratch, ".tmp-in-place-")?;
        let name = job.name.to_owned();
        let outcome = block_in_place(|| self.drive(directory.path(), job, progress));
        self.clear(directory.path());
        let closed = directory.close();
        let result = outcome.with_context(|| format!("running the job {name:?} in place"))?;
        closed?;
        Ok(result)
    }

    fn drive(&self, directory: &Path, job: Job<'_>, progress: &Progress) -> Result<JobResult> {
        unpack(job.input, directory)?;
        // Everything of a job lies below one directory in a container; here that is another.
        let own = format!("/{CONTAINER_DIRECTORY}/");
        let moved = |word: &str| match word.starts_with(&own) {
            true => directory.join(word.trim_start_matches('/')),
            false => PathBuf::from(word),
        };
        let (program, arguments) = job.command.split_first().context("the job has no program")?;
        let arguments = arguments.iter().map(|word| moved(word));
        let mut command = run_in(self.namespaces, program).args(arguments).only_env();
        for (name, value) in &job.environment {
            command = command.env(name, moved(value));
        }
        if self.namespaces.is_empty() {
            command = command.env("OCINITRD_NO_MOUNTS", "1");
        }
        let (exit_code, log) = self.follow(&command, progress)?;
        let mut output_bytes = Vec::new();
        if exit_code == 0 {
            for output in job.outputs {
                let copied =
                    regular_file::open(&moved(&output.path)).and_then(|mut file| io::copy(&mut file, output.sink));
                output_bytes.push(copied.with_context(|| format!("reading the output {}", output.path))?);
            }
        }
        Ok(JobResult { exit_code, log, output_bytes })
    }

    /// Reads what the program prints until it has ended; returns its exit code and the log. What it leaves running is ended
    /// with it; what gets away, as a daemon does, is not waited for, though it could print on.
    fn follow(&self, program: &Program, progress: &Progress) -> Result<(i64, String)> {
        let (reader, writer) = io::pipe().context("making a pipe for what the program prints")?;
        let error = writer.try_clone().context("making a pipe for what the program prints")?;
        let mut running = program.spawn(Stdio::null(), writer.into(), error.into())?;
        let guard = self.kill_when_cancelled(&running);
        let pieces = read_pieces(reader);
        let mut log = Log::new(progress);
        let mut status = None;
        while status.is_none() {
            match pieces.recv_timeout(TICK) {
                Ok(piece) => log.add(Chunk::Output(piece?)),
                Err(RecvTimeoutError::Timeout) => {
                    status = running.child.try_wait().context("waiting for the program")?
                }
                Err(RecvTimeoutError::Disconnected) => {
                    status = Some(running.child.wait().context("waiting for the program")?);
                }
            }
        }
        drop(running);
        guard.abort();
        while let Ok(piece) = pieces.recv_timeout(LAST_WORDS_LIMIT) {
            log.add(Chunk::Output(piece?));
        }
        self.cancellation.check()?;
        Ok((exit_code(status.context("the program has ended")?)?, log.finish()))
    }

    fn kill_when_cancelled(&self, running: &Running) -> tokio::task::AbortHandle {
        let (cancellation, group) = (self.cancellation.clone(), running.group());
        tokio::spawn(async move {
            cancellation.cancelled().await;
            process::signal(group, Signal::KILL);
        })
        .abort_handle()
    }

    /// What a root of a user namespace has made read-only can be removed by the like of it alone.
    fn clear(&self, directory: &Path) {
        if !geteuid().is_root() {
            _ = run_in(self.namespaces, "rm").args(["-rf"]).args([directory.join(CONTAINER_DIRECTORY)]).run();
        }
    }
}

impl fmt::Display for InPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.namespaces {
            [] => "without namespaces".to_owned(),
            words => words.join(" "),
        };
        write!(formatter, "in place ({how}), {}", self.tools.join(", "))
    }
}

/// What is read from a pipe, piece by piece, until its end. Whoever waits for that need not wait for ever.
fn read_pieces(mut reader: io::PipeReader) -> Receiver<Result<Bytes>> {
    let (sender, receiver) = sync_channel(PIECES);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) => Err(error).context("reading what the program prints"),
            };
            let is_last = piece.is_err();
            if sender.send(piece).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// The exit code of a program that came to an end of its own, as a container has it.
fn exit_code(status: ExitStatus) -> Result<i64> {
    let signal = status.signal().map(Ended::Signal);
    let code = status.code().map(i64::from);
    match signal.or(code.and_then(Ended::by_exit_code)) {
        Some(ended) => Err(ended.into()),
        None => code.context("a program that no signal ended has an exit code"),
    }
}

/// The input is a tar stream, as an engine takes it.
fn unpack(input: Input<'_>, directory: &Path) -> Result<()> {
    let (reader, mut writer) = io::pipe().context("making a pipe for the input")?;
    let unpacked = std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || {
            let mut reader = io::BufReader::new(reader);
            tar::Archive::new(&mut reader).unpack(directory)?;
            // So that the writer never meets a closed pipe.
            io::copy(&mut reader, &mut io::sink())
        });
        let written = input(&mut writer);
        drop(writer);
        let unpacked = unpacking.join().map_err(|_| anyhow!("the thread that unpacks the input panicked"))?;
        unpacked.context("unpacking the input")?;
        written
    });
    unpacked.with_context(|| format!("filling {}", directory.display()))
}

/// A program that is run in namespaces, if there are any.
fn run_in(namespaces: Namespaces, program: &str) -> Program {
    match namespaces.split_first() {
        None => Program::new(program),
        Some((unshare, options)) => Program::new(unshare).args(options).args(["--", program]),
    }
}

/// The first namespaces that can be had.
fn namespaces() -> Result<Namespaces> {
    let is_root = geteuid().is_root();
    let candidates: &[Namespaces] = if is_root { &FOR_ROOT } else { &FOR_USERS };
    match candidates.iter().find(|namespaces| run_in(namespaces, "true").run().is_ok()) {
        Some(namespaces) => Ok(namespaces),
        None if is_root => Ok(&[]),
        None => bail!(
            "--engine in-place installs packages, which takes root, or a user namespace, and this user can have none here \
             (unshare --map-root-user true): run it as root of the container, or allow user namespaces"
        ),
    }
}

/// The versions of rpm and dnf, as solving writes them into the lock.
fn tools() -> Result<Vec<String>> {
    let mut lines = vec![first_line(&Program::new("rpm").args(["--version"]).run()?)];
    for dnf in ["dnf5", "dnf"] {
        if process::find(dnf).with_context(|| format!("looking for {dnf}"))?.is_some() {
            lines.push(first_line(&Program::new(dnf).args(["--version"]).run()?));
            return Ok(lines);
        }
    }
    bail!("--engine in-place runs dnf here, and neither dnf5 nor dnf is installed: use the builder image itself")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::container::engine::cancellation::{Cancellation, Signal as Asked, Trigger};
    use crate::container::engine::{Interrupted, Output};
    use ocinitrd_support::progress::Verbosity;

    struct Place {
        scratch: tempfile::TempDir,
        here: InPlace,
    }

    fn place() -> (Place, Trigger) {
        let scratch = tempfile::tempdir().unwrap();
        let (cancellation, trigger) = Cancellation::manual();
        let here = InPlace { namespaces: &[], tools: Vec::new(), scratch: scratch.path().to_owned(), cancellation };
        (Place { scratch, here }, trigger)
    }

    impl Place {
        async fn run(&self, script: &'static str, sink: &mut Vec<u8>) -> Result<JobResult> {
            let input: Input<'_> = Box::new(move |writer| {
                let mut archive = tar::Builder::new(writer);
                let mut header = tar::Header::new_gnu();
                header.set_size(script.len() as u64);
                header.set_mode(0o644);
                archive.append_data(&mut header, "ocinitrd/step.sh", script.as_bytes())?;
                Ok(archive.finish()?)
            });
            let job = Job {
                name: "step",
                command: vec!["/bin/sh".to_owned(), "/ocinitrd/step.sh".to_owned()],
                environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
                capabilities: Vec::new(),
                memory_limit_bytes: None,
                input,
                outputs: vec![Output { path: "/ocinitrd/out/file".to_owned(), sink }],
            };
            self.here.run(job, &Progress::new(Verbosity::Quiet)).await
        }

        fn left(&self) -> usize {
            fs::read_dir(self.scratch.path()).unwrap().count()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_has_its_input_its_variables_and_no_others_and_leaves_its_outputs_alone() {
        let (place, _trigger) = place();
        let mut file = Vec::new();
        let script =
            "cd \"$(dirname \"$0\")\"; mkdir out; env | grep -v ^PWD | sort > out/file; echo said; echo complained >&2";
        let result = place.run(script, &mut file).await.unwrap();
        assert_eq!((result.exit_code, result.log.as_str()), (0, "said\ncomplained\n"));
        let variables = String::from_utf8(file).unwrap();
        assert!(
            variables.contains("OCINITRD_NO_MOUNTS=1\n") && variables.contains("PATH=/usr/bin:/bin\n"),
            "{variables}"
        );
        assert!(!variables.contains("CARGO"), "{variables}");
        assert_eq!(place.left(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failure_is_told_by_its_code_and_a_missing_output_by_its_name() {
        let (place, _trigger) = place();
        let result = place.run("echo no room; exit 3", &mut Vec::new()).await.unwrap();
        assert_eq!((result.exit_code, result.log.as_str(), result.output_bytes.len()), (3, "no room\n", 0));
        let error = format!("{:#}", place.run("exit 0", &mut Vec::new()).await.unwrap_err());
        assert!(error.contains("the job \"step\" in place: reading the output /ocinitrd/out/file"), "{error}");
        assert_eq!(place.left(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_program_that_a_signal_ended_did_not_fail_by_itself() {
        let (place, _trigger) = place();
        for (script, number) in [("kill -KILL $$", 9), ("sh -c 'kill -TERM $$'; exit $?", 15)] {
            let error = place.run(script, &mut Vec::new()).await.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&Ended::Signal(number)), "{script}: {error:#}");
            assert_eq!(place.left(), 0);
        }
    }

    /// A daemon has a session of its own and keeps the pipe.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_job_leaves_running_is_not_waited_for() {
        let (place, _trigger) = place();
        let mut file = Vec::new();
        let script =
            "cd \"$(dirname \"$0\")\"; mkdir out; sleep 601 & setsid sleep 602 & echo $! > out/file; echo said";
        let result = place.run(script, &mut file).await.unwrap();
        assert_eq!((result.exit_code, result.log.as_str()), (0, "said\n"));
        let daemon: i32 = String::from_utf8(file).unwrap().trim().parse().unwrap();
        let daemon = rustix::process::Pid::from_raw(daemon).unwrap();
        // It would have been waited for until it ends.
        rustix::process::kill_process(daemon, Signal::KILL).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_for_the_end_ends_all_that_the_job_started() {
        let (place, trigger) = place();
        let began = Instant::now();
        // Not in this task: a job blocks the one that it is run by.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            trigger.pull(Asked::Terminate);
        });
        let outcome = place.run("sleep 600 & sleep 600", &mut Vec::new()).await;
        let error = outcome.unwrap_err();
        assert!(Interrupted::find(&error).is_some(), "{error:#}");
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(place.left(), 0);
    }
}
