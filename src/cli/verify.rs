//! `ocinitrd verify`: the output of a build in, on standard output what is not as its manifest records it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::analysis::compare::{self, Recorded, Verification};
use crate::build::rebuild::{self, Rebuild};
use ocinitrd_support::progress::Progress;

use super::diff;
use super::environment::EngineOption;
use super::print;
use super::source_options::{SourceOptions, load_definition};

/// Check that an output is what its manifest records, and what a build makes again.
///
/// Every output listed in manifest.json must be there with its size and sha256: files, the files of an OCI layout, the
/// segments within the initrds, and a directory by the digest of its tree. A directory that was not written by root cannot be
/// checked so, which is then said. Prints a line for each thing that is not right.
///
/// With --rebuild the image is then built anew, as `build --locked --offline` does, for the
/// profiles, kernels, formats, options and time stamp that the manifest records. Nothing that an earlier build made is used but
/// the packages in the store: `ocinitrd fetch` brings those that are missing. The outputs and the new ones are compared to the
/// bit, and what differs is printed as `ocinitrd diff` does; A is the output, B the new one. If they were made from other
/// inputs (another lock, definition or version of ocinitrd), that is said first. The new ones are removed.
///
/// Exits with 1 if anything is not right, differs or could not be checked, with 0 and one line if all is right.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
JSON: ok, outputs, segments, and findings, each with output, segment if it is about one, problem (missing, size, \
sha256, segments, not_checked), and recorded and found, or a reason. With --rebuild also rebuild: other_inputs, a \
text for each kind of input that differs, and what `ocinitrd diff --json` prints.

Examples:
  ocinitrd verify out/fedora-44
  ocinitrd verify out/fedora-44 --rebuild")]
pub struct Arguments {
    /// An output directory of `ocinitrd build`, or its manifest.json
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Build the same anew and compare it to the bit
    #[arg(long)]
    rebuild: bool,
    /// The image to build: NAME for images/NAME.toml, or the path of a definition [default: the name in the manifest]
    #[arg(long, value_name = "IMAGE", requires = "rebuild")]
    image: Option<String>,
    #[command(flatten)]
    engine: EngineOption,
    /// Print JSON instead of text; sizes are in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    verification: &'a Verification,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuild: Option<&'a Rebuild>,
}

/// Runs the command.
///
/// # Errors
/// Fails when there is no manifest or a damaged one, when the image cannot be built anew, and when standard output cannot
/// be written. Findings and differences are an exit code.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let recorded = Recorded::open(&arguments.output)?.manifest_only();
    let mut verification = compare::verify(&recorded)?;
    if !arguments.json {
        // Building takes minutes: what is known is told before.
        print::print(|output| write_findings(output, &verification))?;
    }
    let rebuild = match arguments.rebuild {
        true => Some(build_anew(arguments, &recorded, progress).await?),
        false => None,
    };
    verification.ok &= rebuild.as_ref().is_none_or(Rebuild::is_equal);
    print::print(|output| match arguments.json {
        true => print::write_json(output, &Answer { verification: &verification, rebuild: rebuild.as_ref() }),
        false => write_text(output, arguments, &verification, rebuild.as_ref()),
    })?;
    Ok(if verification.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn build_anew(arguments: &Arguments, recorded: &Recorded, progress: &Progress) -> Result<Rebuild> {
    let image = rebuild::image(&recorded.manifest, arguments.image.as_deref())?;
    let definition = load_definition(image).map_err(|error| {
        anyhow!(
            "building {image} anew: {error:#}\nhint: name its definition, if that is elsewhere, with --image FILE.toml"
        )
    })?;
    let supply = SourceOptions { engine: arguments.engine.clone(), offline: true, rpm_directories: Vec::new() };
    let rebuilt = rebuild::rebuild(recorded, definition, supply.supply()?, progress).await;
    rebuilt.with_context(|| format!("verifying by building {image} anew"))
}

fn write_findings(output: &mut dyn Write, verification: &Verification) -> io::Result<()> {
    for finding in &verification.findings {
        writeln!(output, "{finding}")?;
    }
    match verification.findings.len() {
        0 => Ok(()),
        count => writeln!(output, "{}", print::counted(count, "finding")),
    }
}

/// All but the findings.
fn write_text(
    output: &mut dyn Write,
    arguments: &Arguments,
    verification: &Verification,
    rebuild: Option<&Rebuild>,
) -> io::Result<()> {
    if let Some(other_inputs) = rebuild.map(|rebuild| &rebuild.other_inputs).filter(|inputs| !inputs.is_empty()) {
        writeln!(output, "the outputs were made from other inputs: {}", other_inputs.join(", "))?;
    }
    match rebuild {
        Some(rebuild) if !rebuild.is_equal() => diff::write_text(output, &rebuild.comparison),
        _ if verification.ok => {
            let outputs = print::counted(verification.outputs, "output");
            let segments = print::counted(verification.segments, "segment");
            let again = if rebuild.is_some() { ", and built anew the same to the bit" } else { "" };
            writeln!(output, "{}: {outputs} and {segments} as recorded{again}", arguments.output.display())
        }
        Some(_) => writeln!(output, "{}: built anew as recorded", arguments.output.display()),
        None => Ok(()),
    }
}
