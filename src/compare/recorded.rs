//! An output directory of `build` by its manifest: a path in, the checked manifest and where its files lie out.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::manifest::{FILE_NAME, Manifest};

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
    /// of its directory.
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
        for output in &manifest.outputs {
            let is_within = Path::new(&output.path).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                is_within && !output.path.is_empty(),
                "{} lists {:?}, which is no path in its directory: ocinitrd did not write it so",
                file.display(),
                output.path
            );
        }
        let directory = file.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Recorded { manifest, directory, is_directory })
    }

    /// Where an output lies.
    pub(super) fn place(&self, output: &str) -> PathBuf {
        self.directory.join(output)
    }

    /// The initrd's file; none if the manifest lists none, or only the manifest was given and the file is not beside it.
    pub(super) fn initrd(&self) -> Result<Option<PathBuf>> {
        let Some(path) = self.manifest.initrd().map(|output| self.place(&output.path)) else { return Ok(None) };
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
    pub(super) fn without_initrd(&self) -> String {
        match self.manifest.initrd() {
            Some(output) => format!("there is no file {}", self.place(&output.path).display()),
            None => format!("the manifest in {} lists no initrd", self.directory.display()),
        }
    }
}
