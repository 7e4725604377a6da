//! What a build writes: all of it, or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::directory;
use crate::engine::Image;
use crate::format::compress::Compression;
use crate::format::digest::{Digest, Hasher};
use crate::manifest::{self, Builder, Manifest, Options, Output, Segment};
use crate::oci;
use crate::oci::layout::{LayoutOptions, write_layout};
use crate::output::{
    MODE_PRIVATE, MODE_PUBLIC, OutputDirectory, OutputFile, Outputs, Replaces, check_directory_replaceable,
};
use crate::progress::Progress;
use crate::segment::{Assembler, SegmentFacts};
use crate::tree::Tree;

use super::inputs::Inputs;
use super::plan::Plan;
use super::trees::Trees;
use super::{Format, Workshop};

const BUFFER_BYTES: usize = 1 << 20;

/// The level of an OCI layer's gzip: layers are stored once and read often, but nobody waits for a smaller one.
const LAYER_COMPRESSION: Compression = Compression::Gzip(6);

/// Writes the outputs asked for, vmlinuz and the manifest; they appear together.
///
/// # Errors
/// Fails when something cannot be written; then nothing has appeared.
pub fn write(workshop: &Workshop<'_>, image: &Image, inputs: &Inputs, trees: &Trees) -> Result<Manifest> {
    let Workshop { plan, progress, .. } = workshop;
    Writing::begin(plan, trees, progress)?.all(image, inputs)
}

/// Prints what was written and how to boot it, or the manifest.
///
/// # Errors
/// Fails when standard output is closed.
pub fn report(plan: &Plan, manifest: &Manifest, json: bool) -> Result<()> {
    let mut stdout = io::stdout().lock();
    if json {
        return stdout.write_all(&manifest.to_json()?).context("printing the manifest");
    }
    for output in &manifest.outputs {
        // An OCI layout has several files; it is told as one.
        if output.path.contains('/') {
            continue;
        }
        let path = plan.output_directory.join(&output.path);
        writeln!(stdout, "{}  {:.1} MB  {}", path.display(), output.size_bytes as f64 / 1e6, output.sha256)
            .context("printing the result")?;
    }
    if plan.formats.contains(&Format::Oci) {
        let path = plan.output_directory.join(plan.output_name(Format::Oci));
        writeln!(stdout, "{0}  podman pull oci:{0}", path.display()).context("printing the result")?;
    }
    writeln!(stdout, "{}", plan.output_directory.join(manifest::FILE_NAME).display()).context("printing the result")
}

/// Outputs under way.
struct Writing<'a> {
    plan: &'a Plan,
    trees: &'a Trees,
    progress: &'a Progress,
    outputs: Outputs,
    listed: Vec<Output>,
    segments: Vec<Segment>,
}

impl<'a> Writing<'a> {
    fn begin(plan: &'a Plan, trees: &'a Trees, progress: &'a Progress) -> Result<Self> {
        fs::create_dir_all(&plan.output_directory)
            .with_context(|| format!("creating the output directory {}", plan.output_directory.display()))?;
        let (outputs, listed, segments) = (Outputs::new(), Vec::new(), Vec::new());
        Ok(Writing { plan, trees, progress, outputs, listed, segments })
    }

    fn all(mut self, image: &Image, inputs: &Inputs) -> Result<Manifest> {
        let whole = whole_tree(self.trees)?;
        for format in &self.plan.formats {
            match format {
                Format::Cpio => self.initrd()?,
                Format::Oci => self.oci(&whole)?,
                Format::Directory => self.directory(&whole)?,
            }
        }
        self.kernel_image()?;
        self.listed.sort_by(|one, other| one.path.cmp(&other.path));
        let manifest = self.manifest(image, inputs);
        let mut file = OutputFile::create(&self.plan.output_directory.join(manifest::FILE_NAME), MODE_PUBLIC)?;
        file.write_all(&manifest.to_json()?).context("writing the manifest")?;
        self.outputs.add_file(file)?;
        self.outputs.commit()?;
        Ok(manifest)
    }

    fn initrd(&mut self) -> Result<()> {
        let stage = self.progress.stage(&format!("compressing ({})", self.plan.compression), None);
        let name = self.plan.output_name(Format::Cpio);
        let file = OutputFile::create(&self.plan.output_directory.join(&name), MODE_PRIVATE)?;
        let mut assembler = Assembler::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        for (segment, tree) in [("base", &self.trees.base), ("modules", &self.trees.modules)] {
            let compression = self.plan.segment_compression(segment);
            let facts = assembler.add_tree(segment, tree, compression)?;
            self.segments.push(listed_segment(segment, compression, &facts));
        }
        let (writer, initrd) = assembler.finish();
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error).context("writing the initrd")?;
        self.outputs.add_file(file)?;
        self.listed.push(Output { path: name, size_bytes: initrd.size_bytes, sha256: initrd.digest });
        stage.finish(&format!("{:.1} MB", initrd.size_bytes as f64 / 1e6));
        self.warn_of_attributes();
        Ok(())
    }

    fn begin_directory(&self, format: Format) -> Result<(String, OutputDirectory)> {
        let name = self.plan.output_name(format);
        let directory = OutputDirectory::create(&self.plan.output_directory.join(&name), replaces(self.plan, &name))?;
        Ok((name, directory))
    }

    fn warn_of_attributes(&self) {
        let entries = [&self.trees.base, &self.trees.modules].into_iter().flat_map(Tree::iter);
        let attributes: Vec<String> = entries
            .flat_map(|(path, entry)| entry.xattrs.keys().map(move |name| (path, name)))
            .map(|(path, name)| format!("{} of /{}", name.escape_ascii(), path.escape_ascii()))
            .collect();
        let (Some(first), count) = (attributes.first(), attributes.len()) else { return };
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        self.progress.warn(&format!(
            "cpio cannot hold extended attributes, such as file capabilities: the initrd lacks {first}{more}"
        ));
    }

    fn oci(&mut self, whole: &Tree) -> Result<()> {
        let stage = self.progress.stage("writing the OCI layout", None);
        let (name, directory) = self.begin_directory(Format::Oci)?;
        let options = LayoutOptions {
            architecture: oci::architecture(std::env::consts::ARCH).to_owned(),
            epoch: self.trees.epoch,
            compression: LAYER_COMPRESSION,
            command: vec!["/bin/bash".to_owned()],
            annotations: BTreeMap::from([
                ("org.ocinitrd.image".to_owned(), self.plan.definition.name.clone()),
                ("org.ocinitrd.kernel-version".to_owned(), self.trees.kernel_version.clone()),
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
        let stage = self.progress.stage("writing the directory", None);
        let (name, directory) = self.begin_directory(Format::Directory)?;
        let left_out = directory::write(whole, directory.path())?;
        let sha256 = whole.digest().context("reading the tree")?;
        self.listed.push(Output { path: name, size_bytes: whole.size_bytes(), sha256 });
        self.outputs.add_directory(directory)?;
        stage.finish(&format!("{} entries", whole.len()));
        if left_out > 0 {
            self.progress.warn(&format!(
                "{left_out} owners, devices or attributes could not be set in the directory: that takes root"
            ));
        }
        Ok(())
    }

    fn kernel_image(&mut self) -> Result<()> {
        let file = OutputFile::create(&self.plan.output_directory.join("vmlinuz"), MODE_PUBLIC)?;
        let mut hasher = Hasher::new(file);
        io::copy(&mut self.trees.kernel_image.reader(), &mut hasher).context("writing vmlinuz")?;
        let (file, sha256, size_bytes) = hasher.finish();
        self.outputs.add_file(file)?;
        self.listed.push(Output { path: "vmlinuz".to_owned(), size_bytes, sha256 });
        Ok(())
    }

    fn manifest(&self, image: &Image, inputs: &Inputs) -> Manifest {
        Manifest {
            schema: manifest::SCHEMA,
            ocinitrd_version: env!("CARGO_PKG_VERSION").to_owned(),
            image: self.plan.definition.name.clone(),
            architecture: std::env::consts::ARCH.to_owned(),
            locked: false,
            epoch: self.trees.epoch,
            kernel_version: self.trees.kernel_version.clone(),
            builder: Builder {
                image: image.reference.clone(),
                digest: image.digest,
                tools: inputs.builder_tools.clone(),
            },
            options: Options {
                profiles: self.plan.profiles.clone(),
                compression: self.plan.compression.to_string(),
                modules: self.plan.selection.modules.clone(),
                keep_module_compression: self.plan.definition.keep_module_compression,
            },
            repositories: inputs.repositories.clone(),
            packages: self.trees.packages.clone(),
            kernel_packages: inputs.kernel_packages.iter().map(manifest::package).collect(),
            segments: self.segments.clone(),
            outputs: self.listed.clone(),
        }
    }
}

/// What the kernel sees after unpacking both segments.
fn whole_tree(trees: &Trees) -> Result<Tree> {
    let mut whole = trees.base.clone();
    whole.merge(trees.modules.clone()).context("joining the base and the kernel's modules")?;
    Ok(whole)
}

fn listed_segment(name: &str, compression: Compression, facts: &SegmentFacts) -> Segment {
    Segment {
        name: name.to_owned(),
        compression: compression.to_string(),
        entries: facts.entries as u64,
        size_bytes: facts.size_bytes,
        unpacked_size_bytes: facts.unpacked_bytes,
        sha256: facts.digest,
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

/// Whether a directory of that name is an output of an earlier build: then the manifest beside it lists it.
fn replaces(plan: &Plan, name: &str) -> Replaces {
    let manifest =
        fs::read(plan.output_directory.join(manifest::FILE_NAME)).ok().and_then(|json| Manifest::parse(&json).ok());
    let is_listed = |output: &Output| output.path.split('/').next() == Some(name);
    match manifest {
        Some(manifest) if manifest.outputs.iter().any(is_listed) => Replaces::Earlier,
        _ => Replaces::Nothing,
    }
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
        let name = plan.output_name(*format);
        check_directory_replaceable(&directory.join(&name), replaces(plan, &name))?;
    }
    Ok(())
}
