//! The command line. Each subcommand's own arguments stand beside its code in [`crate::cli`]; the doc comments
//! are what `--help` prints.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::boot;
use crate::cli::build;
use crate::cli::check;
use crate::cli::convert;
use crate::cli::diff;
use crate::cli::doctor;
use crate::cli::fetch;
use crate::cli::inspect;
use crate::cli::kernel_install;
use crate::cli::lock;
use crate::cli::store;
use crate::cli::uki;
use crate::cli::update;
use crate::cli::verify;
use ocinitrd_support::progress::Verbosity;

const ENVIRONMENT: &str = "\
Environment:
  CONTAINER_HOST, DOCKER_HOST  the engine, where --engine does not name it
  XDG_CACHE_HOME               packages and metadata are kept in ocinitrd below it [default: ~/.cache]
  TMPDIR                       temporary files, some of them large
  SOURCE_DATE_EPOCH            the time stamp, where --epoch does not give it
  OCINITRD_LOG                 a log for those who look for a fault: error, warn, info, debug or trace

Results are written to standard output, everything else to standard error. It is not an error if the reader of a result \
closes the pipe; it is one if a result cannot be written for another reason. SIGHUP, SIGINT and SIGTERM end a command, \
unless they were ignored when it was started, as with nohup.";

/// Builds Linux initrds from distribution packages, in a container.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100, after_help = ENVIRONMENT)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Tell nothing on the way but what goes wrong; results are still printed.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Also show what the programs in the container print.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl CommandLine {
    /// How much is told on standard error.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }

    /// The exit code of an error: 2 where 1 is an answer, as with diff(1).
    pub fn code_of_errors(&self) -> ExitCode {
        match &self.command {
            Command::Diff(_) | Command::Check(_) => ExitCode::from(2),
            Command::Lock(arguments) if arguments.check => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// The subcommands. What `--help` prints of each is the documentation of its arguments, the first paragraph of which is for
/// `-h` and the list of commands; a word here would take its place.
#[derive(Debug, Subcommand)]
#[expect(missing_docs)]
pub enum Command {
    Build(build::Arguments),
    Lock(lock::Arguments),
    Update(update::Arguments),
    Fetch(fetch::Arguments),
    Inspect(inspect::Arguments),
    Diff(diff::Arguments),
    Verify(verify::Arguments),
    Convert(convert::Arguments),
    Doctor(doctor::Arguments),
    Boot(boot::Arguments),
    Check(check::Arguments),
    Uki(uki::Arguments),
    KernelInstall(kernel_install::call::Call),
    Store(store::Arguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// What the arguments print instead of doing anything, with single spaces: where lines break depends on the terminal.
    fn help(arguments: &[&str]) -> String {
        let answer = CommandLine::command().try_get_matches_from([&["ocinitrd"], arguments].concat());
        let text = answer.unwrap_err().to_string();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn help_of_each_command_is_short_with_h_and_long_with_help() {
        let words = |text: &clap::builder::StyledStr| text.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let commands = CommandLine::command();
        let overview = help(&["--help"]);
        for command in commands.get_subcommands() {
            let name = command.get_name();
            let about = words(command.get_about().unwrap_or_else(|| panic!("{name} has no documentation")));
            let long = words(command.get_long_about().unwrap_or_else(|| panic!("{name} has only one paragraph")));
            let more = long.strip_prefix(&about).expect("the long text begins with the short one");
            assert!(more.len() > 80, "{name}: {more}");
            assert!(overview.contains(&format!(" {name} {about}")), "{name}: {overview}");
            let (short_help, long_help) = (help(&[name, "-h"]), help(&[name, "--help"]));
            assert!(short_help.starts_with(&format!("{about} Usage: ")), "{name}: {short_help}");
            assert!(long_help.starts_with(&format!("{long} Usage: ")), "{name}: {long_help}");
        }
        assert!(commands.get_subcommands().count() >= 10);
    }
}
