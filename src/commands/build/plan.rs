//! The command line and the definition as one value: what is to be built.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::definition::{Definition, Selection};
use crate::engine::ImageReference;
use crate::format::compress::Compression;
use crate::modules::{FirmwarePatterns, Patterns};

use super::inputs::Inputs;
use super::{Arguments, Format, surroundings};

/// What is to be built. Nothing has been done yet.
#[derive(Debug)]
pub struct Plan {
    /// The image definition.
    pub definition: Definition,
    /// The definition with the profiles added to it.
    pub selection: Selection,
    /// The profiles asked for.
    pub profiles: Vec<String>,
    /// The builder image.
    pub reference: ImageReference,
    /// Which modules go in.
    pub patterns: Patterns,
    /// Which firmware goes in or stays out, beside what the modules ask for.
    pub firmware: FirmwarePatterns,
    /// The kernel asked for; none means the newest.
    pub kernel_version: Option<String>,
    /// The base segment's compression.
    pub compression: Compression,
    /// What is written beside vmlinuz and the manifest.
    pub formats: BTreeSet<Format>,
    /// The name of the main output, where it is not the default one.
    pub output_name: Option<String>,
    /// Where everything is written.
    pub output_directory: PathBuf,
    /// Where the store is.
    pub cache_directory: PathBuf,
    /// The time stamp asked for, in seconds.
    pub explicit_epoch: Option<u64>,
}

impl Plan {
    /// Reads the definition.
    ///
    /// # Errors
    /// Fails on anything in the definition or the arguments that cannot be meant.
    pub fn new(arguments: &Arguments) -> Result<Plan> {
        let directory = std::env::current_dir().context("finding the current directory")?;
        let definition = Definition::load(&arguments.image, &directory)?;
        let selection = definition.select(&arguments.profiles)?;
        if arguments.output.is_some() && arguments.formats.len() > 1 {
            bail!(
                "--output names one output, but several formats are asked for: give one --format, or leave --output out"
            );
        }
        if let Some(name) = &arguments.output {
            check_name(name)?;
        }
        for tree in &selection.extra_trees {
            ensure!(tree.is_dir(), "the extra tree {} of the definition is no directory that is there", tree.display());
        }
        Ok(Plan {
            reference: definition.builder_image.parse().context("in [builder] image")?,
            patterns: Patterns::parse(&selection.modules).context("in [kernel] modules")?,
            firmware: FirmwarePatterns::parse(&selection.firmware).context("in [kernel] firmware")?,
            profiles: arguments.profiles.clone(),
            kernel_version: arguments.kernel_version.clone(),
            compression: arguments.compress.unwrap_or(definition.compression),
            formats: arguments.formats.iter().copied().collect(),
            output_name: arguments.output.clone(),
            output_directory: arguments.output_dir.clone().unwrap_or_else(|| PathBuf::from(&definition.name)),
            cache_directory: surroundings::cache_directory(),
            explicit_epoch: arguments.epoch,
            definition,
            selection,
        })
    }

    /// The name of an output in the output directory.
    pub fn output_name(&self, format: Format) -> String {
        let default = match format {
            Format::Cpio => "initrd",
            Format::Directory => "root",
            Format::Oci => "oci",
        };
        self.output_name.clone().unwrap_or_else(|| default.to_owned())
    }

    /// The time stamp of everything, in seconds.
    pub fn epoch(&self, inputs: &Inputs) -> u64 {
        self.explicit_epoch.unwrap_or_else(|| inputs.newest_build_time())
    }

    /// Modules that are compressed already do not compress again: their segment is stored plain, which the kernel
    /// unpacks at the speed of copying.
    pub fn segment_compression(&self, segment: &str) -> Compression {
        if segment == "modules" && self.definition.keep_module_compression {
            return Compression::None;
        }
        self.compression
    }
}

/// A name in the output directory that nothing else has.
fn check_name(name: &str) -> Result<()> {
    ensure!(
        !name.is_empty() && !name.contains('/') && name != "." && name != "..",
        "--output {name:?} is no file name: the directory is given by --output-dir"
    );
    ensure!(
        name != "vmlinuz" && name != "manifest.json",
        "--output {name} is the name of another output of every build: choose another name"
    );
    Ok(())
}
