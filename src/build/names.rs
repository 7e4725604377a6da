//! The names of a build's outputs: each is that of one output only.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::image::manifest::{self, OutputPath};
use crate::image::segment::BASE_STUB;
use ocinitrd_format::compress::Compression;
use ocinitrd_format::text::quoted;

use super::plan::{Format, Kernels, Plan, suffixed};

/// A name has at most 255 bytes, and what is written has a longer one until it takes its place.
const LONGEST_BYTES: usize = 240;

/// `base.cpio.zst`, `modules-KVER.cpio`.
pub fn segment_file(name: &str, compression: Compression, kernel: Option<&str>) -> String {
    format!("{}.cpio{}", suffixed(name, kernel), compression.extension())
}

/// Checks the names as far as they are known before anything is done: those with the version of a kernel only where the
/// version is asked for.
///
/// # Errors
/// As [`check`].
pub fn check_early(plan: &Plan) -> Result<()> {
    match &plan.kernels {
        Kernels::Versions(versions) => check(plan, versions.iter().map(String::as_str)),
        Kernels::Newest | Kernels::All => check(plan, []),
    }
}

/// Checks that no two outputs of a build for these kernels have the same name.
///
/// # Errors
/// Fails when two do, and on a name that no file can have.
pub fn check<'k>(plan: &Plan, kernels: impl IntoIterator<Item = &'k str>) -> Result<()> {
    let kernels: Vec<&str> = kernels.into_iter().collect();
    let mut outputs: BTreeMap<String, &str> = BTreeMap::new();
    for (name, what) in names(plan, &kernels) {
        ensure!(
            OutputPath::new(name.as_str()).is_ok_and(|path| path.top() == name) && name.len() <= LONGEST_BYTES,
            "{} is not a name for {what}: a name has at most {LONGEST_BYTES} bytes, and no slash or control character",
            quoted(name.as_bytes())
        );
        if let Some(other) = outputs.insert(name.clone(), what) {
            anyhow::bail!("{name} would be the name of both {other} and {what}: choose another name with --output");
        }
    }
    Ok(())
}

/// The name of each output in the output directory, and what it is.
fn names(plan: &Plan, kernels: &[&str]) -> Vec<(String, &'static str)> {
    let mut names = vec![(manifest::FILE_NAME.to_owned(), "the manifest")];
    for format in &plan.formats {
        match format {
            Format::Directory => names.push((plan.output_name(*format, None), "the directory")),
            Format::Oci => names.push((plan.output_name(*format, None), "the OCI layout")),
            Format::Base => names.push((BASE_STUB.to_owned(), "systemd-stub")),
            Format::Cpio | Format::Uki => {}
        }
    }
    if plan.wants_base_file() {
        names.push((segment_file("base", plan.compression, None), "the base segment"));
    }
    // Without a kernel's version what is not called by it.
    let suffixes: Vec<Option<&str>> = match kernels {
        [] | [_] => vec![None],
        several => several.iter().copied().map(Some).collect(),
    };
    for suffix in suffixes {
        names.push((suffixed("vmlinuz", suffix), "the kernel's image"));
        for (format, what) in [(Format::Cpio, "the initrd"), (Format::Uki, "the unified kernel image")] {
            names.extend(plan.formats.contains(&format).then(|| (plan.output_name(format, suffix), what)));
        }
    }
    for kernel in kernels.iter().filter(|_| plan.segments) {
        names.push((segment_file("modules", plan.modules_compression(), Some(kernel)), "the modules segment"));
        names.push((segment_file("microcode", Compression::None, Some(kernel)), "the microcode segment"));
    }
    names
}
