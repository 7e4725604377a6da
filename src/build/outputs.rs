//! What a build writes: all of it, or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::definition::dnf::InstalledPackage;
use crate::image::directory;
use crate::image::manifest::{self, Builder, Manifest, Options, Output, OutputPath};
use crate::image::oci::layout::{LayoutOptions, write_layout};
use crate::image::tree::{Content, Tree};
use crate::lock::file::LockedPackage;
use crate::packages::cache;
use ocinitrd_format::architecture;
use ocinitrd_format::compress::Compression;
use ocinitrd_format::digest::{Digest, Hasher};
use ocinitrd_support::output::{MODE_PRIVATE, MODE_PUBLIC, OutputDirectory, OutputFile, Outputs};
use ocinitrd_support::own_directory;
use ocinitrd_support::regular_file;

use super::Build;
use super::base::FinishedBase;
use super::kernels::FinishedKernel;
use super::names::segment_file;
use super::part::Part;
use super::plan::{Format, Plan};
use super::previous::{Written, left_over, refuse_foreign, replaces};
use super::prewrite::Early;
use super::stub;
use super::unified::{self, Ingredients};

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
    Writing { build, base, kernels: &kernels, outputs: Outputs::new(), listed: Vec::new(), written: Written::default() }
        .all(early)
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
    Ok(WrittenFile { file, output: Output { path: OutputPath::new(name)?, size_bytes, sha256: digest } })
}

/// Outputs under way.
struct Writing<'a> {
    build: &'a Build<'a>,
    base: &'a FinishedBase,
    kernels: &'a [FinishedKernel],
    outputs: Outputs,
    listed: Vec<Output>,
    written: Written,
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
        let json = manifest.to_json()?;
        file.write_all(&json).context("writing the manifest")?;
        self.written.add_file(manifest::FILE_NAME, &file)?;
        self.outputs.add_file(file)?;
        self.written.keep(self.build, &json)?;
        self.outputs.commit()?;
        if !left.is_empty() {
            self.build.context.progress.warn(&format!(
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
        let ((image, content), initrd) = early.join()?;
        let image = self.add(image)?;
        let modules = kernel.segment.as_ref();
        let initrd = initrd.map(|initrd| self.add(initrd.finish(modules)?)).transpose()?;
        let parts = [kernel.microcode.as_ref(), self.base.segment.as_ref(), modules];
        let parts: Vec<&Part> = parts.into_iter().flatten().collect();
        let version = kernel.version.clone();
        let uki = if self.build.plan.wants_ukis() {
            let stub = self.base.stub.as_ref().with_context(|| stub::missing(self.build))?;
            Some(self.unified(&Ingredients { version: &version, kernel: content, segments: &parts, stub })?)
        } else {
            None
        };
        let is_listed = initrd.is_some() || uki.is_some();
        let segments = if is_listed { parts.into_iter().map(listed_segment).collect() } else { Vec::new() };
        let packages = listed_packages(packages);
        Ok(manifest::Kernel { version, image, initrd, uki, segments, packages })
    }

    fn unified(&mut self, ingredients: &Ingredients<'_>) -> Result<manifest::Uki> {
        let (written, pcr11) = unified::write(self.build, ingredients)?;
        Ok(manifest::Uki { path: self.add(written)?, pcr11 })
    }

    /// Takes an output that was written; returns its path.
    fn add(&mut self, written: WrittenFile) -> Result<OutputPath> {
        let path = written.output.path.clone();
        self.written.add_file(path.as_str(), &written.file)?;
        self.outputs.add_file(written.file)?;
        self.listed.push(written.output);
        Ok(path)
    }

    /// The segments as files of their own, and what a host needs beside its base.
    fn segments(&mut self) -> Result<()> {
        let plan = self.build.plan;
        if plan.wants_base_file() {
            self.base.segment.iter().try_for_each(|part| self.segment(part, None))?;
        }
        if plan.segments {
            for kernel in self.kernels {
                let parts = [&kernel.microcode, &kernel.segment].into_iter().flatten();
                parts.into_iter().try_for_each(|part| self.segment(part, Some(&kernel.version)))?;
            }
        }
        if let Some(stub) = self.base.stub.as_ref().filter(|_| plan.formats.contains(&Format::Base)) {
            let name = plan.output_name(Format::Base, None);
            self.add(copy(plan, &name, &stub.program, &stub.sha256, MODE_PUBLIC)?)?;
        }
        Ok(())
    }

    fn segment(&mut self, part: &Part, kernel: Option<&str>) -> Result<()> {
        let name = segment_file(part.name, part.compression, kernel);
        self.add(copy(self.build.plan, &name, &part.content, &part.facts.sha256, MODE_PRIVATE)?).map(drop)
    }

    /// What the warnings say is said once, however many kernels they concern.
    fn tell(&self) {
        let mut warnings: Vec<&String> = self.kernels.iter().flat_map(|kernel| &kernel.warnings).collect();
        warnings.dedup();
        warnings.into_iter().for_each(|warning| self.build.context.progress.warn(warning));
        if self.build.plan.wants_segments() {
            self.warn_of_attributes();
        }
    }

    fn warn_of_attributes(&self) {
        let parts = self.base.segment.iter().chain(self.kernels.iter().filter_map(|kernel| kernel.segment.as_ref()));
        let attributes: Vec<&String> = parts.flat_map(|part| &part.facts.lost_attributes).collect();
        let (Some(first), count) = (attributes.first(), attributes.len()) else { return };
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        self.build.context.progress.warn(&format!(
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

    fn begin_directory(&self, format: Format, mode: u32) -> Result<(String, OutputDirectory)> {
        let name = self.build.plan.output_name(format, None);
        let replaces = replaces(self.build.plan, &name);
        let directory = OutputDirectory::create(&place(self.build.plan, &name), mode, replaces)?;
        Ok((name, directory))
    }

    fn oci(&mut self, whole: &Tree) -> Result<()> {
        let stage = self.build.context.progress.stage("writing the OCI layout", None);
        let (name, directory) = self.begin_directory(Format::Oci, own_directory::MODE)?;
        let versions: Vec<&str> = self.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
        let options = LayoutOptions {
            architecture: architecture::oci_name(architecture::native()).to_owned(),
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
            let opened = regular_file::open(&directory.path().join(&path))
                .with_context(|| format!("reading {}", path.display()))?;
            let (sha256, size_bytes) =
                Digest::of_reader(opened).with_context(|| format!("reading {}", path.display()))?;
            let path = OutputPath::new(format!("{name}/{}", path.display()))?;
            self.listed.push(Output { path, size_bytes, sha256 });
        }
        let place = self.outputs.add_directory(directory)?;
        self.written.add_directory(&name, &place)?;
        stage.finish("");
        Ok(())
    }

    /// Listed as one output: the sum of its files' sizes, and the digest of the tree.
    fn directory(&mut self, whole: &Tree) -> Result<()> {
        let stage = self.build.context.progress.stage("writing the directory", None);
        let (name, directory) = self.begin_directory(Format::Directory, 0o755)?;
        let left_out = directory::write(whole, directory.path())?;
        let sha256 = whole.digest().context("reading the tree")?;
        self.listed.push(Output { path: OutputPath::new(name)?, size_bytes: whole.size_bytes(), sha256 });
        self.outputs.add_directory(directory)?;
        stage.finish(&format!("{} entries", whole.len()));
        if left_out > 0 {
            self.build.context.progress.warn(&format!(
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
            architecture: architecture::native().to_owned(),
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
        firmware: plan.selection.firmware.clone(),
        keep_module_compression: plan.keep_module_compression,
        cmdline: plan.uki.cmdline.clone().filter(|_| plan.wants_ukis()),
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
