//! Writes the manual pages and the shells' completions of ocinitrd into a directory: `ocinitrd-manual DIRECTORY`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: ocinitrd-manual DIRECTORY");
        return ExitCode::from(2);
    };
    match ocinitrd_manual::write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
