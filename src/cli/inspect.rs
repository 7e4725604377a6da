//! `ocinitrd inspect`: an initrd in, its description on standard output, as text or JSON.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use indicatif::DecimalBytes;
use serde::Serialize;

use super::limits::{LimitOptions, with_hint};
use super::print;
use crate::analysis::inspect::{Listed, Report, Usage, inspect_within};
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

/// Say what is in an initrd, one made by this program or any other.
///
/// Tells the segments with their compression and sizes, early microcode, the kernel versions, the biggest directories and
/// files, and what the kernel would stumble over. Reads cpio archives (newc), plain or compressed with zstd, xz, gzip, lz4 (legacy
/// format), bzip2 or lzma, any number of them. Exits with 1 if the initrd has a problem.
///
/// Example: ocinitrd inspect --list /boot/initrd.img
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The initrd
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON instead of text; sizes and offsets are in bytes
    #[arg(long)]
    json: bool,
    /// List every file as the kernel would unpack it: mode, owner, size in bytes (of a device its numbers), path, link target. With
    /// --json the list is added to the JSON as "list"
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Serialize)]
struct ReportWithList<'a> {
    #[serde(flatten)]
    report: &'a Report,
    list: List<'a>,
}

/// Written as it is made, as there may be millions of names.
struct List<'a>(&'a Report);

impl Serialize for List<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.listing())
    }
}

/// Runs the command.
///
/// # Errors
/// Fails when the file cannot be read, when standard output cannot be written, and when the initrd has a problem.
pub fn run(arguments: &Arguments, _progress: &Progress) -> Result<ExitCode> {
    let path = arguments.file.display();
    let file = regular_file::open(&arguments.file).with_context(|| format!("opening {path}"))?;
    let report = inspect_within(file, &arguments.limits.limits()).map_err(with_hint);
    let report = report.with_context(|| format!("inspecting {path}"))?;
    if let (0, Some(problem)) = (report.entries, report.problems.first()) {
        bail!("{path} is no initrd: {problem}");
    }
    print::print(|output| write(output, arguments, &report))?;
    if !report.problems.is_empty() {
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        bail!("the kernel would not unpack all of {path}: {}; make the initrd anew", problems.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(output: &mut dyn Write, arguments: &Arguments, report: &Report) -> io::Result<()> {
    match (arguments.json, arguments.list) {
        (true, true) => print::write_json(output, &ReportWithList { report, list: List(report) }),
        (true, false) => print::write_json(output, report),
        (false, true) => write_list(output, report),
        (false, false) => write_text(output, report),
    }
}

fn write_list(output: &mut dyn Write, report: &Report) -> io::Result<()> {
    for Listed { path, mode, uid, gid, size_bytes, device, target } in report.listing() {
        let size = device.map_or_else(|| size_bytes.to_string(), |(major, minor)| format!("{major},{minor}"));
        let arrow = target.map_or_else(String::new, |target| format!(" -> {target}"));
        writeln!(output, "{mode} {uid:5} {gid:5} {size:>10} {path}{arrow}")?;
    }
    Ok(())
}

fn write_text(output: &mut dyn Write, report: &Report) -> io::Result<()> {
    let count = report.segments.len();
    writeln!(output, "{}, {count} segment{}", DecimalBytes(report.size_bytes), if count == 1 { "" } else { "s" })?;
    writeln!(output, "{:>12}  codec      stored    unpacked  entries   files  content", "offset")?;
    for segment in &report.segments {
        let microcode = segment.microcode.then(|| "early microcode".to_owned());
        let modules = segment.kernel_versions.iter().map(|version| format!("modules of {version}"));
        let content: Vec<String> = microcode.into_iter().chain(modules).collect();
        let line = format!(
            "{:>12}  {:5} {:>11} {:>11} {:>8} {:>7}  {}",
            segment.offset,
            segment.codec,
            DecimalBytes(segment.stored_bytes).to_string(),
            DecimalBytes(segment.unpacked_bytes).to_string(),
            segment.entries,
            segment.files,
            content.join(", ")
        );
        writeln!(output, "{}", line.trim_end())?;
    }
    let (entries, files, bytes) = (report.entries, report.files, DecimalBytes(report.file_bytes));
    writeln!(output, "\nunpacked: {entries} entries, {bytes} in {files} different files")?;
    write_usages(output, "biggest directories", &report.biggest_directories)?;
    write_usages(output, "biggest files", &report.biggest_files)
}

fn write_usages(output: &mut dyn Write, title: &str, usages: &[Usage]) -> io::Result<()> {
    if usages.is_empty() {
        return Ok(());
    }
    writeln!(output, "\n{title}:")?;
    for usage in usages {
        writeln!(output, "{:>12}  {}", DecimalBytes(usage.size_bytes).to_string(), usage.path)?;
    }
    Ok(())
}
