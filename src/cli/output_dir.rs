//! An output directory of `ocinitrd build`: its path in, the files of a kernel in it out.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::image::manifest::{FILE_NAME, Manifest, OutputPath};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// What an output directory has for a kernel.
#[derive(Clone, Debug)]
pub struct Built {
    /// The directory.
    directory: PathBuf,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The initrd, if it was built.
    pub initrd: Option<PathBuf>,
    /// The unified kernel image, if it was built.
    pub uki: Option<PathBuf>,
}

impl Built {
    fn new(
        directory: &Path,
        kernel: &OutputPath,
        initrd: Option<&OutputPath>,
        uki: Option<&OutputPath>,
    ) -> Result<Self> {
        let place = |output| place(directory, output);
        Ok(Built {
            directory: directory.to_owned(),
            kernel: place(kernel)?,
            initrd: initrd.map(place).transpose()?,
            uki: uki.map(place).transpose()?,
        })
    }

    /// The initrd.
    ///
    /// # Errors
    /// Fails where there is none.
    pub fn initrd(&self) -> Result<&Path> {
        self.initrd
            .as_deref()
            .with_context(|| format!("{} holds no initrd: build it with the format cpio", self.directory.display()))
    }

    /// The unified kernel image.
    ///
    /// # Errors
    /// Fails where there is none.
    pub fn uki(&self) -> Result<&Path> {
        let directory = self.directory.display();
        let none = || format!("{directory} holds no unified kernel image: build it with the format uki");
        self.uki.as_deref().with_context(none)
    }
}

/// What an output directory holds for a kernel. Without a manifest the files have their usual names.
///
/// # Errors
/// Fails on a manifest that is none, when it is not clear which kernel, and on a file that is a symlink.
pub fn built(output: &Path, kernel_version: Option<&str>) -> Result<Built> {
    let path = output.join(FILE_NAME);
    let json = match regular_file::read(&path, TEXT_LIMIT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let [kernel, initrd] = ["vmlinuz", "initrd"].map(OutputPath::new);
            return Built::new(output, &kernel?, Some(&initrd?), None);
        }
        json => json.with_context(|| format!("reading {}", path.display()))?,
    };
    let manifest = Manifest::parse(&json).with_context(|| format!("reading {}", path.display()))?;
    let versions: Vec<&str> = manifest.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
    ensure!(!versions.is_empty(), "{} holds no kernel", output.display());
    let there_are = format!("{} holds {}", output.display(), versions.join(", "));
    let kernel = match (kernel_version, &manifest.kernels[..]) {
        (None, [kernel]) => kernel,
        (None, _) => bail!("choose a kernel with --kernel-version: {there_are}"),
        (Some(version), kernels) => {
            let found = kernels.iter().find(|kernel| kernel.version == version);
            found.with_context(|| format!("there is no kernel {version}: {there_are}"))?
        }
    };
    Built::new(output, &kernel.image, kernel.initrd.as_ref(), kernel.uki.as_ref().map(|uki| &uki.path))
}

/// Where a file of an output directory is. Whoever is given the path follows symlinks, which may lead out of it.
fn place(directory: &Path, output: &OutputPath) -> Result<PathBuf> {
    let path = output.in_directory(directory);
    let found = output.find(directory).with_context(|| {
        format!("taking {} for an output of `ocinitrd build`; give the file that is meant by an option", path.display())
    });
    found.map(|_| path)
}
