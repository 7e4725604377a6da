//! What has a temporary name, so that a process that is told to end can leave nothing behind.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static NAMES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Held while outputs take their places: they do so together.
static COMMIT: Mutex<()> = Mutex::new(());

/// How often, and after what pause, the removal of a directory is tried that others write into.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A file or directory that goes when this is dropped, unless it was [renamed](TemporaryName::renamed) before.
#[derive(Debug)]
pub(super) struct TemporaryName {
    path: PathBuf,
}

impl TemporaryName {
    /// Takes charge of the path that `make` makes something at; returns with it what else `make` gives. After
    /// [`abandon`] nothing is made any more.
    pub(super) fn make<T>(make: impl FnOnce() -> io::Result<(T, PathBuf)>) -> io::Result<(T, Self)> {
        let mut names = names();
        let (made, path) = make()?;
        names.insert(path.clone());
        Ok((made, TemporaryName { path }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It is no longer there.
    pub(super) fn renamed(self) {
        names().remove(&self.path);
        std::mem::forget(self);
    }

    /// Removes it.
    pub(super) fn close(self) -> io::Result<()> {
        let removed = remove(&self.path);
        self.renamed();
        removed
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = remove(&self.path);
        names().remove(&self.path);
    }
}

/// While this is held, [`abandon`] waits.
pub(super) fn begin_commit() -> MutexGuard<'static, ()> {
    COMMIT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that is under way, so that the process can end; no output takes its place any more.
pub fn abandon() {
    std::mem::forget(begin_commit());
    let names = names();
    for path in names.iter() {
        // Somebody may still be writing there, until the directory to write into is gone.
        for _ in 0..ATTEMPTS {
            let _ = remove(path);
            if fs::symlink_metadata(path).is_err() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    // Nothing new begins, either.
    std::mem::forget(names);
}

fn names() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a file, or a directory with all below it, also what its owner may not write to.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    fs::remove_dir_all(path).or_else(|_| {
        make_writable(path)?;
        fs::remove_dir_all(path)
    })
}

fn make_writable(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}
