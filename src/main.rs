//! The `ocinitrd` program: parse, log, dispatch, print the error chain.

use std::process::ExitCode;

use clap::Parser;
use ocinitrd::commands::inspect;
use ocinitrd::progress::{Progress, Verbosity};

#[derive(Parser)]
enum Command {
    Inspect(inspect::Arguments),
}

fn main() -> ExitCode {
    let Command::Inspect(arguments) = Command::parse();
    inspect::run(&arguments, &Progress::new(Verbosity::Normal)).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
