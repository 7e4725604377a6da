//! The `ocinitrd` program: parse, log, dispatch, print the error chain.

use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;

use clap::Parser;
use ocinitrd::cli::CommandLine;
use ocinitrd::engine::Interrupted;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    log_to_stderr();
    match ocinitrd::commands::run(&command_line) {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be reading any more, which changes nothing about the exit code.
            let _ = writeln!(stderr(), "error: {error:#}");
            Interrupted::find(&error)
                .map_or(command_line.code_of_errors(), |interrupted| interrupted.exit_code().into())
        }
    }
}

/// Logs what `OCINITRD_LOG` asks for, nothing without it: users are told what happens by other means.
fn log_to_stderr() {
    let wanted = std::env::var("OCINITRD_LOG").unwrap_or_else(|_| "off".to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        eprintln!("warning: no log, since OCINITRD_LOG is {wanted:?}: {error}; give error, warn, info, debug or trace");
        EnvFilter::new("off")
    });
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal).init();
}
