//! A kernel's packages, read while they are still being verified.
//!
//! What was read counts only if the files are those that were verified: a damaged one is replaced in the store by
//! another, and then everything is read again.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use anyhow::{Result, anyhow};

use crate::image::kernel;
use crate::image::tree::Tree;
use crate::packages::store::Store;
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

/// Packages that are being read.
#[derive(Debug)]
pub struct Reading {
    rpms: Vec<PathBuf>,
    /// Open, so that no other file can take the place of one without being told from it.
    files: Vec<File>,
    tree: JoinHandle<Result<Tree>>,
}

impl Reading {
    /// Begins to read, on a thread of its own, if all of `rpms` are in the store.
    pub fn begin(rpms: &[PathBuf], store: &Store, progress: &Progress) -> Option<Self> {
        let files = rpms.iter().map(|rpm| regular_file::open(rpm)).collect::<std::io::Result<_>>().ok()?;
        let (paths, spool_directory, progress) = (rpms.to_vec(), store.root().to_owned(), *progress);
        let read = move || kernel::read_packages(&paths, &spool_directory, &progress);
        let tree = Builder::new().name("kernel packages".to_owned()).spawn(read).ok()?;
        Some(Reading { rpms: rpms.to_vec(), files, tree })
    }

    /// What was read, or nothing if the store has other files now. To be called once the packages were verified.
    ///
    /// # Errors
    /// As [`kernel::read_packages`].
    pub fn finish(self) -> Result<Option<Tree>> {
        let tree = self.tree.join().map_err(|_| anyhow!("the thread that reads the kernel's packages ended early"))?;
        if self.rpms.iter().zip(&self.files).all(|(path, file)| is_at(path, file)) { tree.map(Some) } else { Ok(None) }
    }
}

/// Whether `file` is what lies at `path`.
fn is_at(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(at_path), Ok(open)) => (at_path.dev(), at_path.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_took_the_place_of_another_is_told_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("package");
        fs::write(&path, "one").unwrap();
        let file = File::open(&path).unwrap();
        assert!(is_at(&path, &file));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&path, &file));
        fs::write(&path, "one").unwrap();
        assert!(!is_at(&path, &file));
    }
}
