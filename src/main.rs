//! The `ocinitrd` program: parse, dispatch, print the error chain.

use std::process::ExitCode;

use clap::Parser;
use ocinitrd::cli::CommandLine;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    match ocinitrd::commands::run(&command_line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
