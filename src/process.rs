//! The only place that spawns programs.
//!
//! A [`Program`] is run to its end with its output captured; a failure names the program, its arguments and what it said.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

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
    own_process_group: bool,
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
            own_process_group: false,
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

    /// Gives it a process group of its own, so that Ctrl-C on the terminal does not reach it.
    pub fn own_process_group(mut self) -> Self {
        self.own_process_group = true;
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.name);
        if self.own_process_group {
            command.process_group(0);
        }
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

    /// Starts it in the background with the given standard streams; the caller waits for it or kills it.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        self.command()
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {}", self.describe()))
    }
}

/// Where `PATH` has the program `name`, if anywhere.
///
/// # Errors
/// Fails when the current directory of a relative `PATH` entry cannot be told.
pub fn find(name: &str) -> io::Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os("PATH") else { return Ok(None) };
    for directory in std::env::split_paths(&path) {
        let candidate = std::path::absolute(directory.join(name))?;
        if candidate.is_file() {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}
