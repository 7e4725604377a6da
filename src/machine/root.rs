//! A machine's files below a root directory, so that a temporary folder can stand in for a machine.
//!
//! A path of the machine in, what lies there out. What is not there is `None`; what cannot be read is an error that names it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Error, Result};

use crate::regular_file::{self, TEXT_LIMIT_BYTES};

/// The root directory of a machine.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// As it was given, for messages.
    given: PathBuf,
    /// Without symlinks.
    directory: PathBuf,
}

impl Root {
    /// # Errors
    /// Fails when there is no such directory.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let resolved = directory.canonicalize().with_context(|| format!("reading {}", directory.display()))?;
        anyhow::ensure!(resolved.is_dir(), "{} is no directory: give the root of a machine", directory.display());
        Ok(Root { given: directory.to_owned(), directory: resolved })
    }

    /// Where it lies, without symlinks.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path of the machine as the caller can find it.
    pub(super) fn shown(&self, path: &str) -> String {
        self.given.join(relative(path)).display().to_string()
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        found(regular_file::read(&self.directory.join(relative(path)), TEXT_LIMIT_BYTES))
            .with_context(|| format!("reading {}", self.shown(path)))
    }

    /// A file as text, in which what is no UTF-8 is replaced.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The one line of an attribute in `/sys`.
    pub(super) fn attribute(&self, path: &str) -> Result<Option<String>> {
        Ok(self.text(path)?.map(|text| text.trim().to_owned()))
    }

    /// What was read; nothing where only root may read it, for who checks a machine without being root.
    pub(super) fn if_allowed<T: Default>(read: Result<T>) -> Result<T> {
        match read {
            Err(error) if is_denied(&error) => Ok(T::default()),
            read => read,
        }
    }

    /// What lies in a directory, sorted; nothing where there is none.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>> {
        let reading = || format!("reading {}", self.shown(path));
        let Some(entries) = found(fs::read_dir(self.directory.join(relative(path)))).with_context(reading)? else {
            return Ok(Vec::new());
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<String>>>().with_context(reading)?;
        names.sort();
        Ok(names)
    }

    /// Where a symlink points, as it is written.
    pub(super) fn link(&self, path: &str) -> Result<Option<String>> {
        let target = match fs::read_link(self.directory.join(relative(path))) {
            // What is there and no symlink.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            result => found(result).with_context(|| format!("reading {}", self.shown(path)))?,
        };
        Ok(target.map(|target| target.to_string_lossy().into_owned()))
    }

    /// The path without symlinks, as one of the machine with a leading slash.
    pub(super) fn resolve(&self, path: &str) -> Result<Option<String>> {
        let resolved = found(self.directory.join(relative(path)).canonicalize());
        let Some(resolved) = resolved.with_context(|| format!("reading {}", self.shown(path)))? else {
            return Ok(None);
        };
        let within = resolved.strip_prefix(&self.directory);
        let within = within.with_context(|| format!("{} leads out of the machine", self.shown(path)))?;
        Ok(Some(format!("/{}", within.display())))
    }

    /// Whether anything lies there.
    pub(super) fn has(&self, path: &str) -> bool {
        self.directory.join(relative(path)).exists()
    }
}

/// The path below the root, without `..`, which would lead out of it.
fn relative(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_denied(error: &Error) -> bool {
    error.root_cause().downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}
