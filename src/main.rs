//! The `ocinitrd` program: parse, log, dispatch, print the error chain.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use ocinitrd::cli::args::CommandLine;
use ocinitrd::container::engine::Interrupted;
use ocinitrd_format::text::message;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(answer) => return print(&answer),
    };
    log_to_stderr();
    match ocinitrd::cli::run(&command_line) {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be reading any more, which changes nothing about the exit code.
            let _ = writeln!(stderr(), "error: {}", message(&format!("{error:#}")));
            Interrupted::find(&error)
                .map_or(command_line.code_of_errors(), |interrupted| interrupted.exit_code().into())
        }
    }
}

/// Prints what stands in for the parsed command line: help or the version, or what is wrong. clap itself would take help that
/// could not be written for success.
fn print(answer: &clap::Error) -> ExitCode {
    let usage = u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    let printed = answer.print().and_then(|()| if answer.use_stderr() { Ok(()) } else { stdout().flush() });
    match printed {
        Err(error) if !answer.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr(), "error: writing to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => usage,
    }
}

/// Logs what `OCINITRD_LOG` asks for, nothing without it: users are told what happens by other means.
#[expect(clippy::disallowed_methods, reason = "the program reads its own setting")]
fn log_to_stderr() {
    let wanted = std::env::var("OCINITRD_LOG").unwrap_or_else(|_| "off".to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        let levels = "give error, warn, info, debug or trace";
        let _ = writeln!(stderr(), "warning: no log, since OCINITRD_LOG is {wanted:?}: {error}; {levels}");
        EnvFilter::new("off")
    });
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    // What cannot be logged is lost: to complain about it on standard error would be a panic.
    log.log_internal_errors(false).init();
}
