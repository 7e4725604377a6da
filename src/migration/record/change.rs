//! A file that is to be written, and whether it may be.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::OutputFile;
use ocinitrd_support::regular_file;

/// A file that is to be written.
#[derive(Debug)]
pub struct Change {
    /// Where, as an absolute path on the machine.
    pub path: String,
    /// What.
    pub content: Content,
    /// With which mode, if nothing is there; what is there keeps its own.
    pub mode: u32,
}

/// What is in a file that is to be written.
#[derive(Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Those of this file.
    File(PathBuf),
}

impl Content {
    pub(super) fn digest(&self) -> io::Result<Digest> {
        match self {
            Content::Bytes(bytes) => Ok(Digest::of(bytes)),
            Content::File(path) => Ok(Digest::of_reader(regular_file::open(path)?)?.0),
        }
    }

    pub(super) fn write(&self, output: &mut OutputFile) -> io::Result<()> {
        match self {
            Content::Bytes(bytes) => output.write_all(bytes),
            Content::File(path) => output.copy_from(&mut regular_file::open(path)?).map(drop),
        }
    }
}

/// A regular file may be replaced. One behind a symlink is somebody's arrangement.
pub(super) fn check_replaceable(place: &Path) -> Result<()> {
    match fs::symlink_metadata(place) {
        Ok(facts) if facts.is_symlink() => {
            let target = fs::read_link(place).unwrap_or_default();
            bail!(
                "{} is a symlink to {}, which setup does not replace: make a file of it, or write there what setup --dry-run prints",
                place.display(),
                target.display()
            )
        }
        Ok(facts) if !facts.is_file() => bail!("{} is no regular file, which setup does not replace", place.display()),
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(error).with_context(|| format!("reading {}", place.display()))
        }
        _ => Ok(()),
    }
}
