//! One file a subcommand; each reads as its pipeline.

pub mod args;
pub(crate) mod boot;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod doctor;
pub mod environment;
pub(crate) mod fetch;
pub(crate) mod inspect;
pub(crate) mod kernel_install;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod output_dir;
pub(crate) mod print;
pub(crate) mod source_options;
pub(crate) mod store;
pub(crate) mod text_arg;
pub(crate) mod uki;
pub(crate) mod update;
pub(crate) mod verify;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::args::{Command, CommandLine};
use ocinitrd_support::progress::Progress;

/// Runs the subcommand that was given.
///
/// # Errors
/// Fails with what the subcommand failed with.
pub fn run(command_line: &CommandLine) -> Result<ExitCode> {
    let progress = Progress::new(command_line.verbosity());
    match &command_line.command {
        Command::Boot(arguments) => runtime()?.block_on(boot::run(arguments, &progress)),
        Command::Build(arguments) => runtime()?.block_on(build::run(arguments, &progress)),
        Command::Check(arguments) => check::run(arguments, &progress),
        Command::Convert(arguments) => convert::run(arguments, &progress),
        Command::Diff(arguments) => diff::run(arguments, &progress),
        Command::Doctor(arguments) => runtime()?.block_on(doctor::run(arguments, &progress)),
        Command::Fetch(arguments) => runtime()?.block_on(fetch::run(arguments, &progress)),
        Command::Update(arguments) => runtime()?.block_on(update::run(arguments, &progress)),
        Command::KernelInstall(arguments) => kernel_install::call::run(arguments, &progress),
        Command::Lock(arguments) => runtime()?.block_on(lock::run(arguments, &progress)),
        Command::Inspect(arguments) => inspect::run(arguments, &progress),
        Command::Store(arguments) => store::run(arguments, &progress),
        Command::Uki(arguments) => uki::run(arguments, &progress),
        Command::Verify(arguments) => runtime()?.block_on(verify::run(arguments, &progress)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the asynchronous runtime")
}
