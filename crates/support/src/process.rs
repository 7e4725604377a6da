//! The only place that spawns programs.
//!
//! A [`Program`] is run to its end with its output captured, or [in the background](Running); a failure names the program, its
//! arguments and what it said.
//!
//! What runs in the background does not outlive this process, however that ends: by SIGKILL too. It is in a process group
//! whose leader is a shell that waits for the end of a pipe which only this process can write to, and then ends the group.
//! (A parent-death signal is tied to the thread that started the program, and reaches nothing that the program starts.)

#![expect(clippy::disallowed_methods, reason = "here programs are spawned, and looked for in PATH")]

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// What the leader of a process group does. Nothing is ever written to the pipe: `read` returns at its end.
const GUARD: &str = "trap '' HUP INT QUIT TERM; read -r _; kill -TERM 0";
/// What it does then: whoever can end politely has five seconds for it.
const KILL: &str = "sleep 5; kill -KILL 0";

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

/// A program and its arguments, not yet started.
#[derive(Debug)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    removed: Vec<OsString>,
    is_only_asked_to_end: bool,
    only_own_environment: bool,
}

impl Program {
    /// The program `name`, looked up in `PATH` unless it holds a slash.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        Program {
            name: name.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            removed: Vec::new(),
            is_only_asked_to_end: false,
            only_own_environment: false,
        }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the program's environment beside the inherited ones.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Keeps variables of our environment from it.
    pub fn without_env<A: AsRef<OsStr>>(mut self, names: impl IntoIterator<Item = A>) -> Self {
        self.removed.extend(names.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Keeps all of our environment from it: it has the variables that it is given, and no other.
    pub fn only_env(mut self) -> Self {
        self.only_own_environment = true;
        self
    }

    /// When this process ends, the program is asked to end (SIGTERM), and never killed: it ends by itself sooner or later, and
    /// may be in the middle of something.
    pub fn only_asked_to_end(mut self) -> Self {
        self.is_only_asked_to_end = true;
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.name);
        if self.only_own_environment {
            command.env_clear();
        }
        for name in &self.removed {
            command.env_remove(name);
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn describe(&self) -> String {
        let mut words = vec![self.name.to_string_lossy().into_owned()];
        words.extend(self.arguments.iter().map(|argument| argument.to_string_lossy().into_owned()));
        words.join(" ")
    }

    /// Runs it to its end with no input and captures what it prints.
    ///
    /// # Errors
    /// Fails when it cannot be started; its own exit status is in the answer.
    pub fn output(&self) -> Result<Output> {
        let output =
            self.command().stdin(Stdio::null()).output().with_context(|| format!("starting {}", self.describe()))?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it to its end and returns its standard output.
    ///
    /// # Errors
    /// Fails when it cannot be started or does not exit with 0; the message holds what it said.
    pub fn run(&self) -> Result<String> {
        let output = self.output()?;
        if !output.status.success() {
            bail!("{} failed ({}): {}", self.describe(), output.status, output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// Starts it in the background with the given standard streams, in a process group of its own: Ctrl-C on the terminal does
    /// not reach it.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Running> {
        let starting = || format!("starting {}", self.describe());
        let mut group = Group::new(self.is_only_asked_to_end).with_context(starting)?;
        let mut command = self.command();
        command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(group.id.as_raw_pid());
        match command.spawn() {
            Ok(child) => Ok(Running { child, group }),
            Err(error) => {
                group.end();
                Err(error).with_context(starting)
            }
        }
    }
}

/// A program in the background, and all that it started in its process group. It ends when this is dropped, and when this
/// process ends.
#[derive(Debug)]
pub struct Running {
    /// The program itself.
    pub child: Child,
    group: Group,
}

impl Running {
    /// The process group, for [`signal`].
    pub fn group(&self) -> Pid {
        self.group.id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.group.end();
        // It has been killed, or has ended before; either way nothing is left to be done about it.
        let _ = self.child.wait();
    }
}

/// Sends a signal to all of a process group; that nobody is left there is no error.
pub fn signal(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

/// A process group, and the shell that ends it when this process has ended.
#[derive(Debug)]
struct Group {
    id: Pid,
    guard: Child,
    /// Its end is what the shell waits for. No child inherits it.
    _alive: PipeWriter,
}

impl Group {
    fn new(is_only_asked_to_end: bool) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let guard = if is_only_asked_to_end { GUARD.to_owned() } else { format!("{GUARD}; {KILL}") };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &guard]).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").process_group(0);
        let guard = command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let id = i32::try_from(guard.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Group { id, guard, _alive: writer })
    }

    /// Kills all of it. Its number belongs to it until the shell has been waited for.
    fn end(&mut self) {
        signal(self.id, Signal::KILL);
        let _ = self.guard.wait();
    }
}

/// Where `PATH` has the program `name`, if anywhere: a file that this user may execute.
///
/// # Errors
/// Fails when the current directory of a relative `PATH` entry cannot be told.
pub fn find(name: &str) -> io::Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os("PATH") else { return Ok(None) };
    find_in(&path, name)
}

fn find_in(search_path: &OsStr, name: &str) -> io::Result<Option<PathBuf>> {
    for directory in std::env::split_paths(search_path) {
        let candidate = std::path::absolute(directory.join(name))?;
        if candidate.is_file() && rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK).is_ok() {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_cannot_be_executed_is_no_program() {
        let directory = tempfile::tempdir().unwrap();
        let places = ["a", "b", "c"].map(|name| directory.path().join(name));
        for (place, mode) in places.iter().zip([0o644, 0o755, 0o755]) {
            fs::create_dir(place).unwrap();
            fs::write(place.join("tool"), "").unwrap();
            fs::set_permissions(place.join("tool"), Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(places[0].join("other")).unwrap();
        let search_path = std::env::join_paths(&places).unwrap();
        assert_eq!(find_in(&search_path, "tool").unwrap(), Some(places[1].join("tool")));
        assert_eq!(find_in(&search_path, "other").unwrap(), None);
    }
}
