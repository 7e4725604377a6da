//! One file a subcommand; each reads as its pipeline.

pub mod build;
pub mod convert;
pub mod inspect;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{Command, CommandLine};
use crate::engine::endpoint::Wish;
use crate::engine::{Cancellation, Engine, Surroundings};
use crate::process;
use crate::progress::Progress;

/// Runs the subcommand that was given.
///
/// # Errors
/// Fails with what the subcommand failed with.
pub fn run(command_line: &CommandLine) -> Result<ExitCode> {
    let progress = Progress::new(command_line.verbosity());
    match &command_line.command {
        Command::Build(arguments) => runtime()?.block_on(build::run(arguments, &progress)),
        Command::Convert(arguments) => convert::run(arguments, &progress),
        Command::Inspect(arguments) => inspect::run(arguments, &progress),
    }
}

/// The engine of `--engine`, or the one that the environment names or that is found; says which.
async fn open_engine(wish: Option<&str>, cancellation: &Cancellation, progress: &Progress) -> Result<Engine> {
    let runtime_directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let surroundings = Surroundings {
        wish: Wish {
            engine: wish.map(str::to_owned),
            container_host: text("CONTAINER_HOST"),
            docker_host: text("DOCKER_HOST"),
            runtime_directory: runtime_directory.clone(),
            user_id: rustix::process::geteuid().as_raw(),
        },
        podman: process::find("podman").context("looking for podman")?,
        socket_directories: runtime_directory.into_iter().chain([std::env::temp_dir()]).collect(),
    };
    Engine::open(&surroundings, cancellation, progress).await
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the asynchronous runtime")
}
