//! An output directory of `build` by its manifest: a path in, the checked manifest and where its files lie out.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::image::manifest::{FILE_NAME, Kernel, Manifest, OutputPath};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

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
    /// Fails when there is none, and as [`Manifest::parse`].
    pub fn open(path: &Path) -> Result<Self> {
        let is_directory = path.is_dir();
        let file = if is_directory { path.join(FILE_NAME) } else { path.to_owned() };
        let json = match regular_file::read(&file, TEXT_LIMIT_BYTES) {
            Err(error) if is_directory && error.kind() == io::ErrorKind::NotFound => {
                bail!("{} holds no {FILE_NAME}; give an output directory of `ocinitrd build`", path.display())
            }
            result => result.with_context(|| format!("reading {}", file.display()))?,
        };
        let manifest = Manifest::parse(&json)
            .with_context(|| format!("taking {} for the manifest of an `ocinitrd build`", file.display()))?;
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

    /// Where an output lies.
    pub(super) fn place(&self, output: &OutputPath) -> PathBuf {
        output.in_directory(&self.directory)
    }

    /// The initrds of the kernels.
    pub(super) fn initrds(&self) -> impl Iterator<Item = (&OutputPath, &Kernel)> {
        self.manifest.kernels.iter().filter_map(|kernel| Some((kernel.initrd.as_ref()?, kernel)))
    }

    /// The file of a kernel's initrd; none if it has none, or only the manifest was given and the file is not beside it.
    pub(super) fn initrd(&self, kernel: &Kernel) -> Result<Option<PathBuf>> {
        let Some(initrd) = &kernel.initrd else { return Ok(None) };
        let path = self.place(initrd);
        let found = initrd.find(&self.directory).with_context(|| format!("reading {}", path.display()))?;
        if found.is_some_and(|metadata| metadata.is_file()) {
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
