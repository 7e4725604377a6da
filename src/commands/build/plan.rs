//! The command line and the definition as one value: what is to be built.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::commands::locking::Needs;
use crate::definition::{Definition, Selection};
use crate::engine::ImageReference;
use crate::format::compress::Compression;
use crate::modules::{FirmwarePatterns, Patterns};

use super::{Arguments, Format};

/// What is to be built. Nothing has been done yet.
#[derive(Debug)]
pub struct Plan {
    /// The image's name.
    pub image: String,
    /// What dnf calls `releasever`.
    pub releasever: String,
    /// The definition with the profiles added to it; its extra trees are paths of this host.
    pub selection: Selection,
    /// The extra trees, as the definition names them.
    pub extra_trees: Vec<PathBuf>,
    /// The profiles asked for.
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
    /// The time stamp asked for, in seconds.
    pub explicit_epoch: Option<u64>,
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

impl Plan {
    /// Reads the definition of the image that the arguments name, from `directory` on.
    ///
    /// # Errors
    /// Fails on anything in the definition or the arguments that cannot be meant.
    pub fn new(arguments: &Arguments, directory: &Path) -> Result<(Definition, Plan)> {
        let definition = Definition::load(&arguments.image, directory)?;
        let mut selection = definition.select(&arguments.profiles)?;
        check_output_name(arguments)?;
        let _: ImageReference = definition.builder_image.parse().context("in [builder] image")?;
        ensure!(
            !definition.kernel_packages.is_empty(),
            "the image {} has no kernel: name its packages in [kernel] packages",
            definition.name
        );
        let extra_trees = selection.extra_trees.clone();
        for tree in &mut selection.extra_trees {
            *tree = definition.path(&*tree);
            ensure!(tree.is_dir(), "the extra tree {} of the definition is no directory that is there", tree.display());
        }
        let plan = Plan {
            image: definition.name.clone(),
            releasever: definition.releasever.clone(),
            patterns: Patterns::parse(&selection.modules).context("in [kernel] modules")?,
            firmware: FirmwarePatterns::parse(&selection.firmware).context("in [kernel] firmware")?,
            selection,
            extra_trees,
            profiles: arguments.profiles.clone(),
            keep_module_compression: definition.keep_module_compression,
            kernels: kernels(arguments),
            compression: arguments.compress.unwrap_or(definition.compression),
            formats: arguments.formats.iter().copied().collect(),
            segments: arguments.segments,
            output_name: arguments.output.clone(),
            output_directory: arguments.output_dir.clone().unwrap_or_else(|| PathBuf::from(&definition.name)),
            explicit_epoch: arguments.epoch,
        };
        Ok((definition, plan))
    }

    /// What of a lock is needed.
    pub fn needs(&self) -> Needs {
        let kernels = match &self.kernels {
            Kernels::Newest => BTreeSet::from([None]),
            Kernels::Versions(versions) => versions.iter().cloned().map(Some).collect(),
            Kernels::All => BTreeSet::new(),
        };
        Needs { profiles: self.profiles.iter().cloned().collect(), kernels }
    }

    /// The name of the main output of a format. With several kernels there is an initrd for each, `kernel` says for which.
    pub fn output_name(&self, format: Format, kernel: Option<&str>) -> String {
        let default = match format {
            Format::Cpio => "initrd",
            Format::Directory => "root",
            Format::Oci => "oci",
        };
        suffixed(self.output_name.as_deref().unwrap_or(default), kernel)
    }

    /// Whether the tree itself is asked for, beside its segments.
    pub fn wants_tree(&self) -> bool {
        self.formats.contains(&Format::Oci) || self.formats.contains(&Format::Directory)
    }

    /// Whether segments are asked for.
    pub fn wants_segments(&self) -> bool {
        self.segments || self.formats.contains(&Format::Cpio)
    }

    /// Modules that are compressed already do not compress again: their segment is stored plain, which the kernel
    /// unpacks at the speed of copying.
    pub fn modules_compression(&self) -> Compression {
        if self.keep_module_compression { Compression::None } else { self.compression }
    }
}

/// `NAME-KVER`, or the name alone.
pub fn suffixed(name: &str, kernel: Option<&str>) -> String {
    kernel.map_or_else(|| name.to_owned(), |kernel| format!("{name}-{kernel}"))
}

fn kernels(arguments: &Arguments) -> Kernels {
    match &arguments.kernel_versions[..] {
        _ if arguments.all_kernels => Kernels::All,
        [] => Kernels::Newest,
        versions => Kernels::Versions(versions.iter().cloned().collect()),
    }
}

/// A name in the output directory that nothing else has.
fn check_output_name(arguments: &Arguments) -> Result<()> {
    let Some(name) = &arguments.output else { return Ok(()) };
    if arguments.formats.len() > 1 {
        bail!("--output names one output, but several formats are asked for: give one --format, or leave --output out");
    }
    ensure!(
        !name.is_empty() && !name.contains('/') && name != "." && name != "..",
        "--output {name:?} is no file name: the directory is given by --output-dir"
    );
    let is_taken =
        ["vmlinuz", "manifest.json", "base.cpio", "modules.cpio"].iter().any(|taken| name.starts_with(taken));
    ensure!(!is_taken, "--output {name} is the name of another output of every build: choose another name");
    Ok(())
}
