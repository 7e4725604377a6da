//! The way back: what was there before takes its place again.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::{RECORD, Record, STATE, State, Written};
use ocinitrd_support::output::{OutputFile, Outputs};

/// Puts back what was there before setup wrote on a machine. Returns the paths of the files that are not as they were.
///
/// # Errors
/// Fails where nothing was written, and where a file was edited since: nothing was changed then.
pub fn undo(root: &Path) -> Result<Vec<String>> {
    let mut record = Record::load(root)?;
    if record.is_empty() {
        bail!("there is nothing to undo: setup has written nothing on this machine, or it was undone");
    }
    record.check_unedited("move it away to keep it, then run setup --undo again")?;
    record.restore()
}

impl Record {
    /// Puts back what was there before, and forgets it.
    pub(super) fn restore(&mut self) -> Result<Vec<String>> {
        let changed = self.put_back()?;
        let state = self.place(STATE);
        let removing = || format!("removing {}", state.display());
        // The record goes last.
        self.remove_kept(&self.stored.files.iter().collect::<Vec<_>>())?;
        remove_if_there(&self.state(RECORD)).with_context(removing)?;
        for directory in self.stored.directories.iter().rev() {
            match fs::remove_dir(self.place(directory)) {
                // Somebody has put something into it, or has removed it.
                Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {}
                result => {
                    result.with_context(|| format!("removing the directory {}", self.place(directory).display()))?
                }
            }
        }
        Ok(changed)
    }

    /// Puts back all files: those that were there, then those that were not are removed.
    fn put_back(&self) -> Result<Vec<String>> {
        let files: Vec<&Written> = self.stored.files.iter().collect();
        let mut outputs = Outputs::new();
        let mut changed = self.add_originals(&files, &mut outputs)?;
        outputs.commit()?;
        changed.extend(self.remove_new(&files)?);
        Ok(changed)
    }

    /// Adds those of the files that were there before, as they were; returns their paths.
    pub(super) fn add_originals(&self, files: &[&Written], outputs: &mut Outputs) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        for file in files {
            let Some(before) = file.before.as_ref().filter(|_| self.state_of(file).ok() == Some(State::AsWritten))
            else {
                continue;
            };
            let mut output = OutputFile::create(&self.place(&file.path), before.mode)?;
            output.copy_from(&mut self.kept(before)?).context("putting back a file")?;
            let modified = Duration::new(before.modified_seconds, before.modified_nanoseconds);
            output.set_owner_and_time((before.uid, before.gid), SystemTime::UNIX_EPOCH + modified)?;
            outputs.add_file(output)?;
            changed.push(file.path.clone());
        }
        Ok(changed)
    }

    /// Removes those of the files that were not there before; returns their paths.
    pub(super) fn remove_new(&self, files: &[&Written]) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        for file in files.iter().filter(|file| file.before.is_none()) {
            let place = self.place(&file.path);
            if remove_if_there(&place).with_context(|| format!("removing {}", place.display()))? {
                changed.push(file.path.clone());
            }
        }
        Ok(changed)
    }

    /// Removes what was kept of those files.
    pub(super) fn remove_kept(&self, files: &[&Written]) -> Result<()> {
        let state = self.place(STATE);
        for before in files.iter().filter_map(|file| file.before.as_ref()) {
            remove_if_there(&self.state(&before.kept)).with_context(|| format!("removing {}", state.display()))?;
        }
        Ok(())
    }
}

/// Returns whether it was there.
fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => {
            // A removal reaches the disk with the directory.
            path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())?;
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}
