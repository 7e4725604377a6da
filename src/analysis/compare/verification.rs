//! An output directory against its manifest: every listed file, the segments within the initrd, and directories.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::recorded::Recorded;
use crate::image::directory;
use crate::image::manifest::{FILE_NAME, Kernel, Output, OutputPath};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::one_line;

/// What became of each listed output.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Whether everything was checked and is as recorded.
    pub ok: bool,
    /// How many outputs the manifest lists.
    pub outputs: usize,
    /// How many segments of initrds it lists.
    pub segments: usize,
    /// What is not as recorded, or could not be checked, by output.
    pub findings: Vec<Finding>,
}

/// Something that is not as the manifest records it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The output's path as listed.
    pub output: String,
    /// The segment of the initrd, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What is wrong with an output.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It has another size.
    Size {
        /// In bytes, as recorded.
        recorded: u64,
        /// In bytes, as found.
        found: u64,
    },
    /// It has another digest.
    Sha256 {
        /// As recorded.
        recorded: Digest,
        /// As found.
        found: Digest,
    },
    /// The segments listed for it come to another size than it is listed with.
    Segments,
    /// It could not be checked; it may be right or wrong.
    NotChecked {
        /// Why.
        reason: String,
    },
}

/// Checks every output that the manifest lists. One that cannot be read is a finding like any other.
///
/// # Errors
/// Fails when the manifest lists nothing.
pub fn verify(recorded: &Recorded) -> Result<Verification> {
    let manifest = &recorded.manifest;
    ensure!(!manifest.outputs.is_empty(), "the {FILE_NAME} in {} lists no outputs", recorded.directory.display());
    let mut outputs: Vec<&Output> = manifest.outputs.iter().collect();
    outputs.sort_by(|one, other| one.path.cmp(&other.path));
    let mut kernels: BTreeMap<&OutputPath, Vec<&Kernel>> = BTreeMap::new();
    for (initrd, kernel) in recorded.initrds() {
        kernels.entry(initrd).or_default().push(kernel);
    }
    let mut findings = Vec::new();
    for output in outputs {
        let problems =
            check(recorded, output).unwrap_or_else(|error| vec![Problem::NotChecked { reason: format!("{error:#}") }]);
        let finding = |problem| Finding { output: output.path.as_str().to_owned(), segment: None, problem };
        findings.extend(problems.into_iter().map(finding));
        for kernel in kernels.get(&output.path).into_iter().flatten() {
            findings.extend(check_segments(recorded, kernel, output));
        }
    }
    let (outputs, segments) = (manifest.outputs.len(), manifest.kernels.iter().map(|one| one.segments.len()).sum());
    Ok(Verification { ok: findings.is_empty(), outputs, segments, findings })
}

fn check(recorded: &Recorded, output: &Output) -> Result<Vec<Problem>> {
    let path = recorded.place(&output.path);
    let reading = || format!("reading {}", path.display());
    let Some(metadata) = output.path.find(&recorded.directory).with_context(reading)? else {
        return Ok(vec![Problem::Missing]);
    };
    if metadata.is_dir() {
        return check_directory(&path, output, metadata.uid());
    }
    ensure!(metadata.is_file(), "{} is neither a file nor a directory", path.display());
    let file = output.path.open(&recorded.directory).with_context(reading)?;
    let (digest, size_bytes) = Digest::of_reader(file).with_context(reading)?;
    Ok(compared(output.size_bytes, size_bytes, output.sha256, digest))
}

/// The format `directory` is listed with the sum of its files' sizes and the digest of its tree. Whoever is not root
/// cannot give its files the tree's owners or make its devices, so the digest of what such a user wrote says nothing.
fn check_directory(path: &Path, output: &Output, owner: u32) -> Result<Vec<Problem>> {
    let (digest, size_bytes) = directory::digest(path)?;
    if digest == output.sha256 || size_bytes != output.size_bytes || owner == 0 {
        return Ok(compared(output.size_bytes, size_bytes, output.sha256, digest));
    }
    let reason = format!(
        "{} was not written by root, so its owners and devices are not those of the tree whose digest is recorded; \
         the sum of its files' sizes is right",
        path.display()
    );
    Ok(vec![Problem::NotChecked { reason }])
}

fn compared(recorded_bytes: u64, found_bytes: u64, recorded: Digest, found: Digest) -> Vec<Problem> {
    let size =
        (recorded_bytes != found_bytes).then_some(Problem::Size { recorded: recorded_bytes, found: found_bytes });
    let digest = (recorded != found).then_some(Problem::Sha256 { recorded, found });
    size.into_iter().chain(digest).collect()
}

/// The ranges of a kernel's initrd that are its segments; nothing if it is missing, which is told already.
fn check_segments(recorded: &Recorded, kernel: &Kernel, initrd: &Output) -> Vec<Finding> {
    let Ok(mut file) = initrd.path.open(&recorded.directory) else { return Vec::new() };
    let output = initrd.path.as_str();
    let offsets = match kernel.segment_offsets() {
        Some((offsets, end)) if end == initrd.size_bytes => offsets,
        _ => return vec![Finding { output: output.to_owned(), segment: None, problem: Problem::Segments }],
    };
    let mut findings = Vec::new();
    for (segment, offset) in kernel.segments.iter().zip(offsets) {
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| Digest::of_reader((&file).take(segment.size_bytes)));
        let read = read.with_context(|| format!("reading {}", recorded.place(&initrd.path).display()));
        let problems = match read {
            Ok((digest, size_bytes)) => compared(segment.size_bytes, size_bytes, segment.sha256, digest),
            Err(error) => vec![Problem::NotChecked { reason: format!("{error:#}") }],
        };
        let finding = |problem| Finding { output: output.to_owned(), segment: Some(segment.name.clone()), problem };
        findings.extend(problems.into_iter().map(finding));
    }
    findings
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", one_line(&self.output))?;
        if let Some(segment) = &self.segment {
            write!(formatter, ", segment {}", one_line(segment))?;
        }
        match &self.problem {
            Problem::Missing => formatter.write_str(": missing"),
            Problem::Size { recorded, found } => write!(formatter, ": {found} bytes instead of {recorded}"),
            Problem::Sha256 { recorded, found } => write!(formatter, ": {found} instead of {recorded}"),
            Problem::Segments => formatter.write_str(": the segments listed do not come to its size"),
            Problem::NotChecked { reason } => write!(formatter, ": not checked: {}", one_line(reason)),
        }
    }
}
