//! What is in the output directory before a build: its own of earlier, or what is not to be touched.
//!
//! An output directory may have been changed by anybody who can write there, and its manifest with it. So the manifest is
//! asked only what a build may replace. Whether the outputs are those of the same inputs is known from the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::image::manifest::{self, Manifest, OutputPath};
use crate::packages::cache::{self, Cache, Kind};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::{OutputFile, Replaces, check_directory_replaceable};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

use super::Build;
use super::cache_key::Recipe;
use super::names;
use super::outputs::place;
use super::plan::{Format, Plan};

/// What the cache keeps of the outputs that were written: the manifest has the digests of their bytes.
#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Written {
    /// The digest of the manifest's bytes.
    manifest: Option<Digest>,
    /// Each file and directory by its path in the output directory.
    entries: BTreeMap<String, Entry>,
}

/// What is kept of a file or directory.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Entry {
    /// Its type and permissions: `st_mode` of inode(7).
    mode: u32,
    uid: u32,
}

impl Entry {
    fn new(metadata: &Metadata) -> Self {
        Entry { mode: metadata.mode(), uid: metadata.uid() }
    }
}

impl Written {
    /// What an earlier build of these inputs wrote, if the cache knows of one.
    fn find(cache: &Cache, recipe: &Recipe) -> Option<Self> {
        cache.record(Kind::Outputs, &Written::key(recipe))
    }

    fn key(recipe: &Recipe) -> Digest {
        cache::key(Kind::Outputs, &json!({ "inputs": recipe.inputs }))
    }

    /// Adds a file that will have that name.
    ///
    /// # Errors
    /// Fails when its mode cannot be read.
    pub fn add_file(&mut self, name: &str, file: &OutputFile) -> Result<()> {
        let metadata = file.metadata().with_context(|| format!("reading the mode of {name}"))?;
        self.entries.insert(name.to_owned(), Entry::new(&metadata));
        Ok(())
    }

    /// Adds the directory at `place` with all below it, which will have that name.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn add_directory(&mut self, name: &str, place: &Path) -> Result<()> {
        entries(place, name, &mut self.entries).with_context(|| format!("reading the modes in {}", place.display()))
    }

    /// Keeps it in the cache, for outputs whose manifest has these bytes.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn keep(&mut self, build: &Build<'_>, manifest: &[u8]) -> Result<()> {
        self.manifest = Some(Digest::of(manifest));
        build.context.results.keep(Kind::Outputs, &Written::key(&build.recipe), self)
    }

    /// The manifest in `directory`, if all is there as it was written, and nothing else below the directories of outputs.
    fn manifest_in(&self, directory: &Path) -> Result<Option<Manifest>> {
        let file = OutputPath::new(manifest::FILE_NAME)?.open(directory)?;
        let json = regular_file::read_all(&file, TEXT_LIMIT_BYTES)?;
        if self.manifest != Some(Digest::of(&json)) {
            return Ok(None);
        }
        let manifest = Manifest::parse(&json)?;
        let mut found = BTreeMap::new();
        let tops: BTreeSet<&str> = manifest.outputs.iter().map(|output| output.path.top()).collect();
        for name in tops.into_iter().chain([manifest::FILE_NAME]) {
            entries(&directory.join(name), name, &mut found)?;
        }
        if found != self.entries {
            return Ok(None);
        }
        for output in &manifest.outputs {
            if Digest::of_reader(output.path.open(directory)?)?.0 != output.sha256 {
                return Ok(None);
            }
        }
        Ok(Some(manifest))
    }
}

/// Adds what is at `place`, and below it if it is a directory; `name` is what it is called in the output directory. Follows no
/// symlinks.
fn entries(place: &Path, name: &str, entries: &mut BTreeMap<String, Entry>) -> io::Result<()> {
    let mut open = vec![(place.to_owned(), PathBuf::from(name))];
    while let Some((place, path)) = open.pop() {
        let metadata = fs::symlink_metadata(&place)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&place)? {
                let name = entry?.file_name();
                open.push((place.join(&name), path.join(&name)));
            }
        }
        // No output has a name that is not UTF-8.
        entries.insert(path.to_string_lossy().into_owned(), Entry::new(&metadata));
    }
    Ok(())
}

/// The manifest of the outputs that are there already, if they are what this recipe gives and nobody changed them.
pub fn outputs(plan: &Plan, recipe: &Recipe, cache: &Cache) -> Option<Manifest> {
    // Of a tree in a directory it cannot be told whether it was changed.
    if plan.formats.contains(&Format::Directory) {
        return None;
    }
    let written = Written::find(cache, recipe)?;
    // Whatever cannot be read is written anew.
    written.manifest_in(&plan.output_directory).ok()?
}

fn read_manifest(plan: &Plan) -> Option<Manifest> {
    Manifest::parse(&manifest_bytes(plan)?).ok()
}

fn manifest_bytes(plan: &Plan) -> Option<Vec<u8>> {
    regular_file::read(&place(plan, manifest::FILE_NAME), TEXT_LIMIT_BYTES).ok()
}

/// What the manifest that is there lists, `manifest` does not, and is there still: names in the output directory.
pub fn left_over(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let names = |manifest: &Manifest| -> BTreeSet<String> {
        manifest.outputs.iter().map(|output| output.path.top().to_owned()).collect()
    };
    let Some(earlier) = read_manifest(plan) else { return Vec::new() };
    let gone = &names(&earlier) - &names(manifest);
    gone.into_iter().filter(|name| plan.output_directory.join(name).exists()).collect()
}

/// Whether a directory of that name is an output of an earlier build: then the manifest beside it lists it.
pub fn replaces(plan: &Plan, name: &str) -> Replaces {
    match read_manifest(plan) {
        Some(manifest) if manifest.outputs.iter().any(|output| output.path.top() == name) => Replaces::Earlier,
        _ => Replaces::Nothing,
    }
}

/// Refuses to replace what no build wrote: what is there and not listed by a manifest beside it.
pub fn refuse_foreign<'n>(plan: &Plan, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
    if plan.force {
        return Ok(());
    }
    let ours = manifest_bytes(plan).and_then(|json| manifest::listed_paths(&json));
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
/// Fails when the output directory, or the nearest one above it that is there, is not writable, when something is
/// in an output's place that is none, and when two outputs have the same name.
pub fn check(plan: &Plan) -> Result<()> {
    names::check_early(plan)?;
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
    let mut file_names: Vec<String> = files.map(|format| plan.output_name(*format, None)).collect();
    file_names.extend([manifest::FILE_NAME.to_owned(), "vmlinuz".to_owned()]);
    refuse_foreign(plan, file_names.iter().map(String::as_str))
}
