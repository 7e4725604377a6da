//! DROP.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Convert(ocinitrd::commands::convert::Arguments),
}

fn main() -> ExitCode {
    let Command::Convert(arguments) = Cli::parse().command;
    let progress = ocinitrd::progress::Progress::new(ocinitrd::progress::Verbosity::Normal);
    match ocinitrd::commands::convert::run(&arguments, &progress) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
