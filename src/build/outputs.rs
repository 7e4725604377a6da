//! What a build writes: all of it, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::directory;
use crate::dnf::InstalledPackage;
use crate::format::compress::Compression;
use crate::format::digest::{Digest, Hasher};
use crate::lock::LockedPackage;
use crate::manifest::{self, Builder, Manifest, Options, Output};
use crate::oci;
use crate::oci::layout::{LayoutOptions, write_layout};
use crate::output::{
    MODE_PRIVATE, MODE_PUBLIC, OutputDirectory, OutputFile, Outputs, Replaces, check_directory_replaceable,
};
use crate::tree::{Content, Tree};
use crate::workshop::architecture;

use super::Build;
use super::base::FinishedBase;
use super::early::Early;
use super::kernels::FinishedKernel;
use super::part::Part;
use super::plan::{Format, Plan, suffixed};
use super::recipe::Recipe;

const BUFFER_BYTES: usize = 256 << 10;

/// The level of an OCI layer's gzip: layers are stored once and read often, but nobody waits for a smaller one.
const LAYER_COMPRESSION: Compression = Compression::Gzip(6);

/// Makes the directory that the outputs appear in.
///
/// # Errors
/// Fails when it cannot be made.
pub fn make_directory(plan: &Plan) -> Result<()> {
    let directory = &plan.output_directory;
    fs::create_dir_all(directory).with_context(|| format!("creating the output directory {}", directory.display()))
}

/// Writes the outputs asked for, the kernels' images and the manifest; they appear together.
///
/// # Errors
/// Fails when something cannot be written; then nothing has appeared.
pub fn write(build: &Build<'_>, base: &FinishedBase, kernels: Vec<(FinishedKernel, Early<'_>)>) -> Result<Manifest> {
    let (kernels, early): (Vec<_>, Vec<_>) = kernels.into_iter().unzip();
    Writing { build, base, kernels: &kernels, outputs: Outputs::new(), listed: Vec::new() }.all(early)
}

/// The manifest of the outputs that are there already, if they are what this recipe gives and nobody changed them.
pub fn earlier(plan: &Plan, recipe: &Recipe) -> Option<Manifest> {
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

/// An output that is written and has not appeared yet.
pub struct WrittenFile {
    /// The file.
    pub file: OutputFile,
    /// How the manifest lists it.
    pub output: Output,
}

/// Where the output of that name is to be.
pub fn place(plan: &Plan, name: &str) -> PathBuf {
    plan.output_directory.join(name)
}

/// Writes what is in the cache as an output.
///
/// # Errors
/// Fails when it cannot be written, or is not what the cache said.
pub fn copy(plan: &Plan, name: &str, content: &Content, sha256: &Digest, mode: u32) -> Result<WrittenFile> {
    let mut hasher = Hasher::new(OutputFile::create(&place(plan, name), mode)?);
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, content.reader());
    io::copy(&mut reader, &mut hasher).with_context(|| format!("writing {name}"))?;
    let (file, digest, size_bytes) = hasher.finish();
    ensure!(digest == *sha256, "what the cache had for {name} changed: run this again");
    Ok(WrittenFile { file, output: Output { path: name.to_owned(), size_bytes, sha256: digest } })
}

/// Outputs under way.
struct Writing<'a> {
    build: &'a Build<'a>,
    base: &'a FinishedBase,
    kernels: &'a [FinishedKernel],
    outputs: Outputs,
    listed: Vec<Output>,
}

impl<'a> Writing<'a> {
    fn all(mut self, early: Vec<Early<'_>>) -> Result<Manifest> {
        let kernels = self.kernels.iter().zip(&self.build.recipe.kernels).zip(early);
        let kernels = kernels.map(|((kernel, made_of), early)| self.kernel(kernel, early, &made_of.packages));
        let kernels = kernels.collect::<Result<Vec<_>>>()?;
        self.segments()?;
        self.trees()?;
        self.tell();
        self.listed.sort_by(|one, other| one.path.cmp(&other.path));
        let manifest = self.manifest(kernels);
        refuse_foreign(self.build.plan, manifest.outputs.iter().map(|output| output.path.as_str()))?;
        let left = left_over(self.build.plan, &manifest);
        let mut file = OutputFile::create(&place(self.build.plan, manifest::FILE_NAME), MODE_PUBLIC)?;
        file.write_all(&manifest.to_json()?).context("writing the manifest")?;
        self.outputs.add_file(file)?;
        self.outputs.commit()?;
        if !left.is_empty() {
            self.build.workshop.progress.warn(&format!(
                "{} still has what an earlier build wrote and this one did not: {}",
                self.build.plan.output_directory.display(),
                left.join(", ")
            ));
        }
        Ok(manifest)
    }

    /// The image and the initrd of a kernel.
    fn kernel(
        &mut self,
        kernel: &FinishedKernel,
        early: Early<'_>,
        packages: &[LockedPackage],
    ) -> Result<manifest::Kernel> {
        let (image, initrd) = early.join()?;
        let name = image.output.path.clone();
        self.add(image)?;
        let modules = kernel.segment.as_ref();
        let initrd = initrd.map(|initrd| self.add(initrd.finish(modules)?)).transpose()?;
        let parts = [kernel.microcode.as_ref(), self.base.segment.as_ref(), modules];
        let segments = match initrd {
            Some(_) => parts.into_iter().flatten().map(listed_segment).collect(),
            None => Vec::new(),
        };
        let packages = listed_packages(packages);
        Ok(manifest::Kernel { version: kernel.version.clone(), image: name, initrd, segments, packages })
    }

    /// Takes an output that was written; returns its name.
    fn add(&mut self, written: WrittenFile) -> Result<String> {
        let name = written.output.path.clone();
        self.outputs.add_file(written.file)?;
        self.listed.push(written.output);
        Ok(name)
    }

    /// The segments as files of their own.
    fn segments(&mut self) -> Result<()> {
        if !self.build.plan.segments {
            return Ok(());
        }
        let base = self.base.segment.iter().map(|part| (part, None));
        let of_kernel = |kernel: &'a FinishedKernel| {
            let parts = [&kernel.microcode, &kernel.segment].into_iter().flatten();
            parts.map(|part| (part, Some(kernel.version.as_str())))
        };
        let modules = self.kernels.iter().flat_map(of_kernel);
        for (part, kernel) in base.chain(modules) {
            let name = segment_file_name(part, kernel);
            self.add(copy(self.build.plan, &name, &part.content, &part.facts.sha256, MODE_PRIVATE)?)?;
        }
        Ok(())
    }

    /// What the warnings say is said once, however many kernels they concern.
    fn tell(&self) {
        let mut warnings: Vec<&String> = self.kernels.iter().flat_map(|kernel| &kernel.warnings).collect();
        warnings.dedup();
        warnings.into_iter().for_each(|warning| self.build.workshop.progress.warn(warning));
        if self.build.plan.wants_segments() {
            self.warn_of_attributes();
        }
    }

    fn warn_of_attributes(&self) {
        let parts = self.base.segment.iter().chain(self.kernels.iter().filter_map(|kernel| kernel.segment.as_ref()));
        let attributes: Vec<&String> = parts.flat_map(|part| &part.facts.lost_attributes).collect();
        let (Some(first), count) = (attributes.first(), attributes.len()) else { return };
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        self.build.workshop.progress.warn(&format!(
            "cpio cannot hold extended attributes, such as file capabilities: the initrd lacks {first}{more}"
        ));
    }

    /// The formats that hold the tree itself.
    fn trees(&mut self) -> Result<()> {
        if !self.build.plan.wants_tree() {
            return Ok(());
        }
        let whole = whole_tree(self.base, self.kernels)?;
        if self.build.plan.formats.contains(&Format::Oci) {
            self.oci(&whole)?;
        }
        if self.build.plan.formats.contains(&Format::Directory) {
            self.directory(&whole)?;
        }
        Ok(())
    }

    fn begin_directory(&self, format: Format) -> Result<(String, OutputDirectory)> {
        let name = self.build.plan.output_name(format, None);
        let directory = OutputDirectory::create(&place(self.build.plan, &name), replaces(self.build.plan, &name))?;
        Ok((name, directory))
    }

    fn oci(&mut self, whole: &Tree) -> Result<()> {
        let stage = self.build.workshop.progress.stage("writing the OCI layout", None);
        let (name, directory) = self.begin_directory(Format::Oci)?;
        let versions: Vec<&str> = self.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
        let options = LayoutOptions {
            architecture: oci::architecture(architecture()).to_owned(),
            epoch: self.build.recipe.epoch,
            compression: LAYER_COMPRESSION,
            command: vec!["/bin/bash".to_owned()],
            annotations: BTreeMap::from([
                ("org.ocinitrd.image".to_owned(), self.build.plan.image.clone()),
                ("org.ocinitrd.kernel-version".to_owned(), versions.join(" ")),
            ]),
            reference: None,
        };
        write_layout(whole, &options, directory.path())?;
        for path in files_below(directory.path())? {
            let opened =
                File::open(directory.path().join(&path)).with_context(|| format!("reading {}", path.display()))?;
            let (sha256, size_bytes) =
                Digest::of_reader(opened).with_context(|| format!("reading {}", path.display()))?;
            self.listed.push(Output { path: format!("{name}/{}", path.display()), size_bytes, sha256 });
        }
        self.outputs.add_directory(directory)?;
        stage.finish("");
        Ok(())
    }

    /// Listed as one output: the sum of its files' sizes, and the digest of the tree.
    fn directory(&mut self, whole: &Tree) -> Result<()> {
        let stage = self.build.workshop.progress.stage("writing the directory", None);
        let (name, directory) = self.begin_directory(Format::Directory)?;
        let left_out = directory::write(whole, directory.path())?;
        let sha256 = whole.digest().context("reading the tree")?;
        self.listed.push(Output { path: name, size_bytes: whole.size_bytes(), sha256 });
        self.outputs.add_directory(directory)?;
        stage.finish(&format!("{} entries", whole.len()));
        if left_out > 0 {
            self.build.workshop.progress.warn(&format!(
                "{left_out} owners, devices or attributes could not be set in the directory: that takes root"
            ));
        }
        Ok(())
    }

    fn manifest(&self, kernels: Vec<manifest::Kernel>) -> Manifest {
        let Build { plan, section, recipe, .. } = self.build;
        Manifest {
            schema: manifest::SCHEMA,
            ocinitrd_version: env!("CARGO_PKG_VERSION").to_owned(),
            ocinitrd_source: cache::source_digest(),
            image: plan.image.clone(),
            architecture: architecture().to_owned(),
            locked: true,
            inputs: recipe.inputs,
            epoch: recipe.epoch,
            builder: Builder {
                image: section.builder.image.clone(),
                digest: section.builder.digest,
                platform_digest: section.builder.platform_digest,
                tools: section.builder.tools.clone(),
            },
            options: options(plan),
            repositories: section.repos.iter().map(|(id, repository)| (id.clone(), repository.repomd)).collect(),
            packages: listed_packages(&recipe.packages),
            kernels,
            outputs: self.listed.clone(),
        }
    }
}

fn options(plan: &Plan) -> Options {
    Options {
        profiles: plan.profiles.clone(),
        formats: plan.formats.iter().map(|format| format.name().to_owned()).collect(),
        segments: plan.segments,
        output_name: plan.output_name.clone(),
        compression: plan.compression.to_string(),
        modules: plan.selection.modules.clone(),
        keep_module_compression: plan.keep_module_compression,
    }
}

fn listed_packages(packages: &[LockedPackage]) -> Vec<InstalledPackage> {
    packages.iter().map(|package| manifest::package(&package.package())).collect()
}

/// What the kernels see after unpacking all segments.
fn whole_tree(base: &FinishedBase, kernels: &[FinishedKernel]) -> Result<Tree> {
    let mut whole = base.tree.clone().context("the tree of the base is asked for and not there")?;
    for tree in kernels.iter().filter_map(|kernel| kernel.tree.as_ref()) {
        whole.merge(tree.clone()).context("joining the base and the kernels' modules")?;
    }
    Ok(whole)
}

/// `base.cpio.zst`, `modules-KVER.cpio`.
fn segment_file_name(part: &Part, kernel: Option<&str>) -> String {
    let extension = part.compression.extension();
    format!("{}.cpio{extension}", suffixed(part.name, kernel))
}

fn listed_segment(part: &Part) -> manifest::Segment {
    manifest::Segment {
        name: part.name.to_owned(),
        compression: part.compression.to_string(),
        entries: part.facts.entries,
        size_bytes: part.facts.size_bytes,
        unpacked_size_bytes: part.facts.unpacked_size_bytes,
        sha256: part.facts.sha256,
    }
}

/// The regular files below a directory, as relative paths, sorted.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let listing = fs::read_dir(directory.join(&relative)).context("listing the output")?;
        for entry in listing {
            let entry = entry.context("listing the output")?;
            let path = relative.join(entry.file_name());
            let into = if entry.file_type().context("listing the output")?.is_dir() { &mut open } else { &mut files };
            into.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What the manifest that is there lists, `manifest` does not, and is there still: names in the output directory.
fn left_over(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let names = |manifest: &Manifest| -> BTreeSet<String> {
        manifest.outputs.iter().filter_map(|output| output.path.split('/').next().map(str::to_owned)).collect()
    };
    let Some(earlier) = read_manifest(plan) else { return Vec::new() };
    let gone = &names(&earlier) - &names(manifest);
    gone.into_iter().filter(|name| plan.output_directory.join(name).exists()).collect()
}

/// Whether a directory of that name is an output of an earlier build: then the manifest beside it lists it.
fn replaces(plan: &Plan, name: &str) -> Replaces {
    let is_listed = |output: &Output| output.path.split('/').next() == Some(name);
    match read_manifest(plan) {
        Some(manifest) if manifest.outputs.iter().any(is_listed) => Replaces::Earlier,
        _ => Replaces::Nothing,
    }
}

/// Refuses to replace what no build wrote: what is there and not listed by a manifest beside it.
fn refuse_foreign<'n>(plan: &Plan, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
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
    anyhow::ensure!(
        existing.is_dir(),
        "the output directory {} cannot be made: {} is a file",
        directory.display(),
        existing.display()
    );
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).with_context(|| {
        format!("the output directory {} cannot be written into; give another with --output-dir", directory.display())
    })?;
    for format in plan.formats.iter().filter(|format| **format != Format::Cpio) {
        let name = plan.output_name(*format, None);
        check_directory_replaceable(&directory.join(&name), replaces(plan, &name))?;
    }
    // Names with a kernel's version are known later.
    let initrd = plan.formats.contains(&Format::Cpio).then(|| plan.output_name(Format::Cpio, None));
    let names = [Some(manifest::FILE_NAME.to_owned()), Some("vmlinuz".to_owned()), initrd];
    refuse_foreign(plan, names.iter().flatten().map(String::as_str))
}
