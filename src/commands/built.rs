//! An output directory of `ocinitrd build`: its path in, the files of a kernel in it out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::manifest::{FILE_NAME, Manifest};

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
/// Fails on a manifest that is none, and when it is not clear which kernel.
pub fn built(output: &Path, kernel_version: Option<&str>) -> Result<Built> {
    let path = output.join(FILE_NAME);
    let directory = output.to_owned();
    let Ok(json) = std::fs::read(&path) else {
        let (kernel, initrd) = (output.join("vmlinuz"), Some(output.join("initrd")));
        return Ok(Built { directory, kernel, initrd, uki: None });
    };
    let manifest = Manifest::parse(&json).with_context(|| format!("reading {}", path.display()))?;
    let versions: Vec<&str> = manifest.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
    let there_are = format!("{} holds {}", output.display(), versions.join(", "));
    let kernel = match (kernel_version, &manifest.kernels[..]) {
        (None, [kernel]) => kernel,
        (None, _) => bail!("choose a kernel with --kernel-version: {there_are}"),
        (Some(version), kernels) => {
            let found = kernels.iter().find(|kernel| kernel.version == version);
            found.with_context(|| format!("there is no kernel {version}: {there_are}"))?
        }
    };
    Ok(Built {
        directory,
        kernel: output.join(&kernel.image),
        initrd: kernel.initrd.as_ref().map(|name| output.join(name)),
        uki: kernel.uki.as_ref().map(|uki| output.join(&uki.path)),
    })
}
