//! The command line. Each subcommand's own arguments stand beside its code in [`crate::commands`]; the doc comments
//! are what `--help` prints.

use clap::{Parser, Subcommand};

use crate::commands::{boot, build, convert, diff, doctor, inspect, store, verify};
use crate::progress::Verbosity;

const ENVIRONMENT: &str = "\
Environment:
  CONTAINER_HOST, DOCKER_HOST  the engine, where --engine does not name it
  XDG_CACHE_HOME               packages and metadata are kept in ocinitrd below it [default: ~/.cache]
  TMPDIR                       temporary files, some of them large
  SOURCE_DATE_EPOCH            the time stamp, where --epoch does not give it
  OCINITRD_LOG                 a log for those who look for a fault: error, warn, info, debug or trace";

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
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an initrd from the packages that an image definition names.
    Build(build::Arguments),
    /// Show what is in an initrd, anyone's.
    Inspect(inspect::Arguments),
    /// Say what differs between two initrds, or between two outputs of a build.
    Diff(diff::Arguments),
    /// Check that an output is what its manifest records.
    Verify(verify::Arguments),
    /// Turn a layer (tar, OCI layout, OCI archive) into an initrd.
    Convert(convert::Arguments),
    /// Say what this host lacks for building and booting, and how to cure it.
    Doctor(doctor::Arguments),
    /// Boot what was built in QEMU, against a root device made for it.
    Boot(boot::Arguments),
    /// Show, tidy up, check, export or fill the store of packages and metadata.
    Store(store::Arguments),
}
