//! An output directory of `build` by its manifest: a path in, the checked manifest and where its files lie out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::manifest::{FILE_NAME, Kernel, Manifest, Output};

/// A manifest, and the directory whose files it lists.
#[derive(Debug)]
pub struct Recorded {
    /// The manifest.
    pub manifest: Manifest,
    /// What its paths are relative to.
    pub directory: PathBuf,
    /// Whether the directory was given, so that its files count, or only the manifest.
    is_directory: bool,
}

impl Recorded {
    /// Reads the manifest at `path`, or that in the output directory `path`.
    ///
    /// # Errors
    /// Fails when there is none, when it is no manifest or one of another schema, and when it lists paths that lead out
    /// of its directory or has a kernel twice.
    pub fn open(path: &Path) -> Result<Self> {
        let is_directory = path.is_dir();
        let file = if is_directory { path.join(FILE_NAME) } else { path.to_owned() };
        let json = match fs::read(&file) {
            Err(error) if is_directory && error.kind() == io::ErrorKind::NotFound => {
                bail!("{} holds no {FILE_NAME}; give an output directory of `ocinitrd build`", path.display())
            }
            result => result.with_context(|| format!("reading {}", file.display()))?,
        };
        let manifest = Manifest::parse(&json)
            .with_context(|| format!("taking {} for the manifest of an `ocinitrd build`", file.display()))?;
        check(&manifest).with_context(|| format!("reading {}, which ocinitrd did not write so", file.display()))?;
        let directory = file.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Recorded { manifest, directory, is_directory })
    }

    /// The same as if only the manifest had been given: an initrd that is not there is then no error.
    pub fn manifest_only(self) -> Self {
        Recorded { is_directory: false, ..self }
    }

    /// Whether the directory was given, so that its files count, or only the manifest.
    pub(super) fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// Whether an output is the initrd of a kernel.
    pub(super) fn is_initrd(&self, output: &str) -> bool {
        self.manifest.kernels.iter().any(|kernel| kernel.initrd.as_deref() == Some(output))
    }

    /// Where an output lies.
    pub(super) fn place(&self, output: &str) -> PathBuf {
        self.directory.join(output)
    }

    /// The file of a kernel's initrd; none if it has none, or only the manifest was given and the file is not beside it.
    pub(super) fn initrd(&self, kernel: &Kernel) -> Result<Option<PathBuf>> {
        let Some(path) = kernel.initrd.as_ref().map(|path| self.place(path)) else { return Ok(None) };
        if path.is_file() {
            return Ok(Some(path));
        }
        ensure!(
            !self.is_directory,
            "there is no file {}, which {FILE_NAME} lists; give the {FILE_NAME} to compare what is recorded only",
            path.display()
        );
        Ok(None)
    }

    /// Why [`Recorded::initrd`] gave none.
    pub(super) fn without_initrd(&self, kernel: &Kernel) -> String {
        match &kernel.initrd {
            Some(path) => format!("there is no file {}", self.place(path).display()),
            None => format!("the manifest in {} lists no initrd", self.directory.display()),
        }
    }
}

/// What holds of every manifest that a build writes, and what is read here relies on.
fn check(manifest: &Manifest) -> Result<()> {
    for Output { path, .. } in &manifest.outputs {
        let is_within = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(is_within && !path.is_empty(), "it lists {path:?}, which is no path in its directory");
    }
    let mut versions = BTreeSet::new();
    for Kernel { version, image, initrd, .. } in &manifest.kernels {
        ensure!(versions.insert(version), "it has the kernel {version} twice");
        for path in initrd.iter().chain([image]) {
            let is_listed = manifest.outputs.iter().any(|output| output.path == *path);
            ensure!(is_listed, "{path:?} of the kernel {version} is none of its outputs");
        }
    }
    Ok(())
}
