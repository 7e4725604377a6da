//! `ocinitrd diff`: two initrds or two outputs of a build in, what differs on standard output.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::limits::{LimitOptions, with_hint};
use super::print;
use crate::analysis::compare::{self, Comparison, Recorded};
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

const TWO_OF_A_KIND: &str = "give two initrds, or two output directories of `ocinitrd build` or their manifest.json";

/// Say what differs between two initrds, or between two outputs of a build.
///
/// Initrds, anyone's, are compared segment by segment and entry by entry: type, mode, uid, gid, mtime, device numbers, link
/// target, which names are of one file, size, and from which byte on the contents differ. Where a segment has the same entries
/// in other bytes, it is said from where on and why: compression, order, headers. Of a segment that is only in one initrd the
/// entries are not listed.
///
/// Of outputs and manifests first the packages, the kernels, the builder, the options, the repositories and the digests of all
/// listed outputs are compared, then the initrds: where there are several kernels, those of the same kernel. A kernel that is
/// only on one side is one line. Of output directories the other files count too: one that is missing or is not what its
/// manifest records differs. Of a manifest.json only what it records.
///
/// Exits with 0 if nothing differs, with 1 if anything does, with 2 if they cannot be compared.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
JSON: count, unpack_alike, not_compared, and differences, each with subject (manifest, package, kernel, \
kernel_package, output, recorded_segment, segment, entry, initrd) and what names it, kernel (a version, where there \
are several), field (presence if it is only on one side), the values a and b, and for bytes offset and cause \
(compression, order, headers).

Examples:
  ocinitrd diff /boot/initrd.img-6.12.1 /boot/initrd.img-6.12.2
  ocinitrd diff out/before out/after --json")]
pub struct Arguments {
    /// An initrd, an output directory, or its manifest.json
    #[arg(value_name = "A")]
    a: PathBuf,
    /// What to compare it with, of the same kind
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Print JSON instead of text; sizes and offsets are in bytes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Initrd,
    Output,
}

/// Runs the command.
///
/// # Errors
/// Fails when A and B are not of one kind, when one cannot be read or is damaged, and when standard output cannot be written.
/// Differences are an exit code.
pub fn run(arguments: &Arguments, _progress: &Progress) -> Result<ExitCode> {
    let Arguments { a, b, json, limits } = arguments;
    let limits = limits.limits();
    let comparison = match (kind(a)?, kind(b)?) {
        (Kind::Initrd, Kind::Initrd) => compare::initrds(a, b, &limits).map_err(with_hint)?,
        (Kind::Output, Kind::Output) => {
            compare::outputs(&Recorded::open(a)?, &Recorded::open(b)?, &limits).map_err(with_hint)?
        }
        (of_a, _) => {
            let (initrd, output) = if of_a == Kind::Initrd { (a, b) } else { (b, a) };
            bail!("{} is an initrd and {} the output of a build: {TWO_OF_A_KIND}", initrd.display(), output.display())
        }
    };
    print::print(
        |output| {
            if *json { print::write_json(output, &comparison) } else { write_text(output, &comparison) }
        },
    )?;
    Ok(if comparison.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A directory must be an output; a file that begins as a JSON object is a manifest, since no initrd begins so.
fn kind(path: &Path) -> Result<Kind> {
    let reading = || format!("reading {}", path.display());
    let metadata = path.metadata().with_context(reading)?;
    if metadata.is_dir() {
        return Ok(Kind::Output);
    }
    if !metadata.is_file() {
        bail!("{} is no regular file, which is needed to read it more than once: {TWO_OF_A_KIND}", path.display());
    }
    let mut start = Vec::new();
    regular_file::open(path).with_context(reading)?.take(64).read_to_end(&mut start).with_context(reading)?;
    let is_json = start.trim_ascii_start().starts_with(b"{");
    Ok(if is_json { Kind::Output } else { Kind::Initrd })
}

/// Writes a line for each difference, and one with their number.
///
/// # Errors
/// Fails when `output` does.
pub fn write_text(output: &mut dyn Write, comparison: &Comparison) -> io::Result<()> {
    for difference in &comparison.differences {
        writeln!(output, "{difference}")?;
    }
    for reason in &comparison.not_compared {
        writeln!(output, "not compared: {reason}")?;
    }
    match comparison.count {
        0 => writeln!(output, "no differences"),
        count => {
            let alike = comparison.unpack_alike == Some(true);
            let alike = if alike { "; the initrds unpack to the same files" } else { "" };
            writeln!(output, "{}{alike}", print::counted(count, "difference"))
        }
    }
}
