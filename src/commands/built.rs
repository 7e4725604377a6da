//! An output directory of `ocinitrd build`: its path in, the kernel and the initrd in it out.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::boot::Subject;
use crate::manifest::{FILE_NAME, Manifest};

/// What an output directory holds for a kernel. Without a manifest the files have their usual names.
///
/// # Errors
/// Fails on a manifest that is none, and when it is not clear which kernel, or that one has no initrd.
pub fn built(output: &Path, kernel_version: Option<&str>) -> Result<Subject> {
    let path = output.join(FILE_NAME);
    let Ok(json) = std::fs::read(&path) else {
        return Ok(Subject { kernel: output.join("vmlinuz"), initrd: output.join("initrd") });
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
    let initrd = kernel
        .initrd
        .as_ref()
        .with_context(|| format!("{} holds no initrd: build it with the format cpio", output.display()))?;
    Ok(Subject { kernel: output.join(&kernel.image), initrd: output.join(initrd) })
}
