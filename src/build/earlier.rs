//! What is in the output directory before a build: its own of earlier, or what is not to be touched.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::format::digest::Digest;
use crate::manifest::{self, Manifest, Output};
use crate::output::{Replaces, check_directory_replaceable};

use super::outputs::place;
use super::plan::{Format, Plan};
use super::recipe::Recipe;

/// The manifest of the outputs that are there already, if they are what this recipe gives and nobody changed them.
pub fn outputs(plan: &Plan, recipe: &Recipe) -> Option<Manifest> {
    let manifest = read_manifest(plan).filter(|manifest| manifest.inputs == recipe.inputs)?;
    // Of a tree in a directory it cannot be told whether it was changed.
    if plan.formats.contains(&Format::Directory) {
        return None;
    }
    manifest.outputs.iter().all(|output| is_there(plan, output)).then_some(manifest)
}

fn read_manifest(plan: &Plan) -> Option<Manifest> {
    let json = fs::read(plan.output_directory.join(manifest::FILE_NAME)).ok()?;
    Manifest::parse(&json).ok()
}

fn is_there(plan: &Plan, output: &Output) -> bool {
    let Ok(file) = File::open(plan.output_directory.join(&output.path)) else { return false };
    Digest::of_reader(file).is_ok_and(|(sha256, _)| sha256 == output.sha256)
}

/// What the manifest that is there lists, `manifest` does not, and is there still: names in the output directory.
pub fn left_over(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let names = |manifest: &Manifest| -> BTreeSet<String> {
        manifest.outputs.iter().filter_map(|output| output.path.split('/').next().map(str::to_owned)).collect()
    };
    let Some(earlier) = read_manifest(plan) else { return Vec::new() };
    let gone = &names(&earlier) - &names(manifest);
    gone.into_iter().filter(|name| plan.output_directory.join(name).exists()).collect()
}

/// Whether a directory of that name is an output of an earlier build: then the manifest beside it lists it.
pub fn replaces(plan: &Plan, name: &str) -> Replaces {
    let is_listed = |output: &Output| output.path.split('/').next() == Some(name);
    match read_manifest(plan) {
        Some(manifest) if manifest.outputs.iter().any(is_listed) => Replaces::Earlier,
        _ => Replaces::Nothing,
    }
}

/// Refuses to replace what no build wrote: what is there and not listed by a manifest beside it.
pub fn refuse_foreign<'n>(plan: &Plan, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
    if plan.force {
        return Ok(());
    }
    let ours = fs::read(place(plan, manifest::FILE_NAME)).ok().and_then(|json| manifest::listed_paths(&json));
    let is_ours = |name: &str| match &ours {
        Some(paths) => name == manifest::FILE_NAME || paths.iter().any(|path| path == name),
        None => false,
    };
    for name in names {
        let path = place(plan, name);
        ensure!(
            is_ours(name) || path.symlink_metadata().is_err(),
            "{} is there, and no manifest.json beside it says that a build wrote it: choose another --output-dir, \
             remove it, or give --force to replace it",
            path.display()
        );
    }
    Ok(())
}

/// Refuses early what would be refused after all the work: an output that cannot be written.
///
/// # Errors
/// Fails when the output directory, or the nearest one above it that is there, is not writable, and when something is
/// in an output's place that is none.
pub fn check(plan: &Plan) -> Result<()> {
    let directory = &plan.output_directory;
    let absolute = std::path::absolute(directory).context("finding the output directory")?;
    let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    ensure!(
        existing.is_dir(),
        "the output directory {} cannot be made: {} is a file",
        directory.display(),
        existing.display()
    );
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).with_context(|| {
        format!("the output directory {} cannot be written into; give another with --output-dir", directory.display())
    })?;
    for format in plan.formats.iter().filter(|format| format.is_directory()) {
        let name = plan.output_name(*format, None);
        check_directory_replaceable(&directory.join(&name), replaces(plan, &name))?;
    }
    // Names with a kernel's version are known later.
    let files = plan.formats.iter().filter(|format| !format.is_directory());
    let mut names: Vec<String> = files.map(|format| plan.output_name(*format, None)).collect();
    names.extend([manifest::FILE_NAME.to_owned(), "vmlinuz".to_owned()]);
    refuse_foreign(plan, names.iter().map(String::as_str))
}
