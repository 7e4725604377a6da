//! The `ocinitrd` program: parse, dispatch, print the error chain.

use std::process::ExitCode;

use clap::Parser;
use ocinitrd::cli::CommandLine;
use ocinitrd::engine::Interrupted;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    match ocinitrd::commands::run(&command_line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            Interrupted::find(&error).map_or(ExitCode::FAILURE, |interrupted| interrupted.exit_code().into())
        }
    }
}
