//! `ocinitrd verify`: the output of a build in, on standard output what is not as its manifest records it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::answer;
use crate::compare::{self, Recorded, Verification};
use crate::progress::Progress;

/// Arguments of `ocinitrd verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Checks that every output listed in manifest.json is there with its size and sha256: files, the files of an OCI layout, \
the segments within the initrd, and a directory by the digest of its tree. A directory that was not written by root \
cannot be checked so, which is then said. Prints a line for each thing that is not right.

Exits with 1 if there is any or something could not be checked, with 0 and one line if all is right.

JSON: ok, outputs, segments, and findings, each with output, segment if it is about one, problem (missing, size, \
sha256, segments, not_checked), and recorded and found, or a reason.

Example:
  ocinitrd verify out/fedora-44")]
pub struct Arguments {
    /// An output directory of `ocinitrd build`, or its manifest.json
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Print JSON instead of text; sizes are in bytes
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Fails when there is no manifest or a damaged one, and when standard output cannot be written. Findings are an exit code.
pub fn run(arguments: &Arguments, _progress: &Progress) -> Result<ExitCode> {
    let verification = compare::verify(&Recorded::open(&arguments.output)?)?;
    answer::print(|output| match arguments.json {
        true => answer::write_json(output, &verification),
        false => write_text(output, arguments, &verification),
    })?;
    Ok(if verification.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_text(output: &mut dyn Write, arguments: &Arguments, verification: &Verification) -> io::Result<()> {
    for finding in &verification.findings {
        writeln!(output, "{finding}")?;
    }
    if verification.ok {
        let outputs = answer::counted(verification.outputs, "output");
        let segments = answer::counted(verification.segments, "segment");
        return writeln!(output, "{}: {outputs} and {segments} as recorded", arguments.output.display());
    }
    writeln!(output, "{}", answer::counted(verification.findings.len(), "finding"))
}
