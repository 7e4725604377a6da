//! What is asked for and the definition as one value: what is to be built.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::container::engine::ImageReference;
use crate::definition::{Definition, Selection, Uki};
use crate::image::manifest::Manifest;
use crate::image::modules::{FirmwarePatterns, Patterns};
use crate::image::segment::BASE_STUB;
use crate::image::tree::Globs;
use crate::image::trim::{Features, readers_glob};
use crate::lock::ensure::LockRequest;
use ocinitrd_format::compress::Compression;
use ocinitrd_format::time::Timestamp;

/// Of an EFI program.
const EFI_EXTENSION: &str = ".efi";

/// Forms of the main output.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Format {
    /// A compressed cpio archive, as boot loaders take it.
    Cpio,
    /// The unpacked tree.
    Directory,
    /// An OCI image layout of the tree.
    Oci,
    /// A unified kernel image: an EFI program with the kernel and the initrd in it.
    Uki,
    /// What a host makes initrds of its own kernels with: the base segment and systemd-stub, and no kernel.
    Base,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] = [Format::Cpio, Format::Directory, Format::Oci, Format::Uki, Format::Base];

    /// As it is written on the command line and in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Format::Cpio => "cpio",
            Format::Directory => "directory",
            Format::Oci => "oci",
            Format::Uki => "uki",
            Format::Base => "base",
        }
    }

    /// The file or directory that it is written into, if no other name is asked for.
    fn default_output(self) -> &'static str {
        match self {
            Format::Cpio => "initrd",
            Format::Directory => "root",
            Format::Oci => "oci",
            Format::Uki => "uki.efi",
            Format::Base => BASE_STUB,
        }
    }

    /// Whether it is a directory of several files.
    pub fn is_directory(self) -> bool {
        matches!(self, Format::Directory | Format::Oci)
    }
}

/// Which kernels are built for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kernels {
    /// The newest that is locked.
    Newest,
    /// These.
    Versions(BTreeSet<String>),
    /// All that are locked.
    All,
}

/// What is asked for, beside what the definition says.
#[derive(Debug)]
pub struct Request {
    /// The profiles.
    pub profiles: Vec<String>,
    /// The kernels.
    pub kernels: Kernels,
    /// What is written beside vmlinuz and the manifest.
    pub formats: BTreeSet<Format>,
    /// Whether each segment is written as a file too.
    pub segments: bool,
    /// The base segment's compression; without it, the definition's.
    pub compression: Option<Compression>,
    /// The time stamp of everything, in seconds since 1970-01-01 UTC; without it, that of the newest package.
    pub epoch: Option<Timestamp>,
    /// The name of the main output, where it is not the default one.
    pub output_name: Option<String>,
    /// Where everything is written.
    pub output_directory: PathBuf,
    /// The kernel's command line in unified kernel images; without it, the definition's.
    pub command_line: Option<String>,
    /// Whether files are replaced that no build wrote.
    pub force: bool,
}

impl Request {
    /// That of the build that `manifest` records, into `output_directory`.
    ///
    /// # Errors
    /// Fails when the manifest has an option that no build can have.
    pub fn recorded(manifest: &Manifest, output_directory: PathBuf) -> Result<Self> {
        let options = &manifest.options;
        let format = |name: &String| {
            let known = Format::ALL.into_iter().find(|format| format.name() == name);
            known.with_context(|| format!("the manifest has the format {name:?}, which this ocinitrd does not know"))
        };
        Ok(Request {
            profiles: options.profiles.clone(),
            kernels: Kernels::Versions(manifest.kernels.iter().map(|kernel| kernel.version.clone()).collect()),
            formats: options.formats.iter().map(format).collect::<Result<_>>()?,
            segments: options.segments,
            compression: Some(options.compression.parse().context("reading options.compression of the manifest")?),
            epoch: Some(manifest.epoch),
            output_name: options.output_name.clone(),
            output_directory,
            command_line: options.cmdline.clone(),
            force: false,
        })
    }

    /// The name of the main output must be one in the output directory.
    fn check_output_name(&self) -> Result<()> {
        let Some(name) = &self.output_name else { return Ok(()) };
        if self.formats.len() > 1 {
            bail!(
                "--output names one output, but several formats are asked for: give one --format, or leave --output out"
            );
        }
        ensure!(
            !self.formats.contains(&Format::Base),
            "--output names one output, and a base is several files, which are looked for by their names: leave it out"
        );
        ensure!(
            !name.is_empty() && !name.contains('/') && name != "." && name != "..",
            "--output {name:?} is no file name: the directory is given by --output-dir"
        );
        Ok(())
    }
}

/// What is to be built. Nothing has been done yet.
#[derive(Debug)]
pub struct Plan {
    /// The image's name.
    pub image: String,
    /// How the image was named: for the commands in messages.
    pub argument: String,
    /// What dnf calls `releasever`.
    pub releasever: String,
    /// The definition with the profiles added to it; its extra trees are paths of this host.
    pub selection: Selection,
    /// The extra trees, as the definition names them.
    pub extra_trees: Vec<PathBuf>,
    /// The profiles asked for that the image has not by default, with those that they include.
    pub profiles: Vec<String>,
    /// Which modules go in.
    pub patterns: Patterns,
    /// Which firmware goes in or stays out, beside what the modules ask for.
    pub firmware: FirmwarePatterns,
    /// Whether modules stay compressed as the distribution ships them.
    pub keep_module_compression: bool,
    /// The kernels asked for.
    pub kernels: Kernels,
    /// The base segment's compression.
    pub compression: Compression,
    /// What is written beside vmlinuz and the manifest.
    pub formats: BTreeSet<Format>,
    /// Whether each segment is written as a file too.
    pub segments: bool,
    /// The name of the main output, where it is not the default one.
    pub output_name: Option<String>,
    /// Where everything is written.
    pub output_directory: PathBuf,
    /// Whether files are replaced that no build wrote.
    pub force: bool,
    /// What becomes part of unified kernel images; paths are those of this host.
    pub uki: Uki,
    /// The time stamp asked for, in seconds.
    pub explicit_epoch: Option<Timestamp>,
}

impl Plan {
    /// Joins what is asked for and the definition.
    ///
    /// # Errors
    /// Fails on anything in either of them that cannot be meant.
    pub fn new(request: Request, definition: &Definition) -> Result<Plan> {
        let mut selection = definition.select(&request.profiles)?;
        request.check_output_name()?;
        let _: ImageReference = definition.builder_image.parse().context("in [builder] image")?;
        // A base alone has no kernel.
        let kernels = if request.formats.iter().eq([&Format::Base]) {
            let is_none = matches!(&request.kernels, Kernels::Versions(versions) if versions.is_empty());
            ensure!(
                is_none || request.kernels == Kernels::Newest,
                "a base has no kernel: leave out the kernel's version, or give further formats"
            );
            Kernels::Versions(BTreeSet::new())
        } else {
            ensure!(
                !definition.kernel_packages.is_empty(),
                "the image {} has no kernel: name its packages in [kernel] packages",
                definition.name
            );
            request.kernels
        };
        let extra_trees = selection.extra_trees.clone();
        for tree in &mut selection.extra_trees {
            *tree = definition.path(&*tree);
            ensure!(tree.is_dir(), "the extra tree {} of the definition is no directory that is there", tree.display());
        }
        check_patterns(&selection)?;
        Ok(Plan {
            image: definition.name.clone(),
            argument: definition.argument.clone(),
            releasever: definition.releasever.clone(),
            patterns: Patterns::parse(&selection.modules).context("in [kernel] modules")?,
            firmware: FirmwarePatterns::parse(&selection.firmware).context("in [kernel] firmware")?,
            selection,
            extra_trees,
            profiles: definition.added(&request.profiles)?,
            keep_module_compression: definition.keep_module_compression,
            kernels,
            compression: request.compression.unwrap_or(definition.compression),
            formats: request.formats,
            segments: request.segments,
            output_name: request.output_name,
            output_directory: request.output_directory,
            force: request.force,
            uki: uki(definition, request.command_line),
            explicit_epoch: request.epoch,
        })
    }

    /// What of a lock is needed.
    pub fn needs(&self) -> LockRequest {
        let kernels = match &self.kernels {
            Kernels::Newest => BTreeSet::from([None]),
            Kernels::Versions(versions) => versions.iter().cloned().map(Some).collect(),
            Kernels::All => BTreeSet::new(),
        };
        LockRequest { profiles: self.profiles.iter().cloned().collect(), kernels }
    }

    /// The name of the main output of a format. With several kernels there is an initrd for each, `kernel` says for which.
    pub fn output_name(&self, format: Format, kernel: Option<&str>) -> String {
        let name = self.output_name.as_deref().unwrap_or(format.default_output());
        // Firmware and boot loaders go by the extension.
        match name.strip_suffix(EFI_EXTENSION) {
            Some(stem) => suffixed(stem, kernel) + EFI_EXTENSION,
            None => suffixed(name, kernel),
        }
    }

    /// Whether the tree itself is asked for, beside its segments.
    pub fn wants_tree(&self) -> bool {
        self.formats.contains(&Format::Oci) || self.formats.contains(&Format::Directory)
    }

    /// Whether segments are asked for.
    pub fn wants_segments(&self) -> bool {
        let in_segments = [Format::Cpio, Format::Uki, Format::Base];
        self.segments || in_segments.iter().any(|format| self.formats.contains(format))
    }

    /// Whether systemd-stub is asked for.
    pub fn wants_stub(&self) -> bool {
        self.wants_ukis() || self.formats.contains(&Format::Base)
    }

    /// Whether the base segment is asked for as a file.
    pub fn wants_base_file(&self) -> bool {
        self.segments || self.formats.contains(&Format::Base)
    }

    /// Whether unified kernel images are asked for.
    pub fn wants_ukis(&self) -> bool {
        self.formats.contains(&Format::Uki)
    }

    /// Modules that are compressed already do not compress again: their segment is stored plain, which the kernel
    /// unpacks at the speed of copying.
    pub fn modules_compression(&self) -> Compression {
        if self.keep_module_compression { Compression::None } else { self.compression }
    }
}

fn uki(definition: &Definition, command_line: Option<String>) -> Uki {
    let mut uki = definition.uki.clone();
    uki.resolve_paths(&definition.directory);
    uki.cmdline = command_line.or(uki.cmdline);
    uki
}

/// A malformed pattern is told before anything is done.
fn check_patterns(selection: &Selection) -> Result<()> {
    Globs::new(&selection.remove_files).context("in remove_files")?;
    Globs::new(&selection.keep_files).context("in keep_files")?;
    Globs::new(&selection.programs).context("in programs")?;
    Features::parse(&selection.dlopen).context("in dlopen")?;
    Globs::new(selection.read_by.keys()).context("in read_by")?;
    selection.read_by.values().try_for_each(|readers| readers_glob(readers).map(drop)).context("in read_by")?;
    Ok(())
}

/// `NAME-KVER`, or the name alone.
pub fn suffixed(name: &str, kernel: Option<&str>) -> String {
    kernel.map_or_else(|| name.to_owned(), |kernel| format!("{name}-{kernel}"))
}
