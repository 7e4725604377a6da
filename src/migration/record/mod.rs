//! Writes files of a machine so that they can be taken back: each file's bytes, mode, owner and time of before are kept in
//! `/var/lib/ocinitrd/setup` until [`undo`] puts them back.
//!
//! The record reaches the disk before a file is replaced, so whatever ends the process, it says what was there. A file that somebody
//! has edited since is neither replaced nor taken back.

mod back;
mod change;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use back::undo;
use change::check_replaceable;
pub use change::{Change, Content};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::json;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile, Outputs};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where the record and the files of before are.
const STATE: &str = "/var/lib/ocinitrd/setup";
const RECORD: &str = "record.json";
/// What the names of files of before begin with.
const KEPT: &str = "before-";
/// Raised when a reader of the old form would misread it.
const SCHEMA: u32 = 1;

/// The version of the form, of which a later one may have other members.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: u32,
    files: Vec<Written>,
    /// Those that were made, in the order in which they were.
    directories: Vec<String>,
}

/// A file that was written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    path: String,
    /// What was there, if anything was.
    before: Option<Before>,
    /// All that was written there.
    written: BTreeSet<Digest>,
}

/// A file as it was.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Before {
    sha256: Digest,
    mode: u32,
    uid: u32,
    gid: u32,
    modified_seconds: u64,
    modified_nanoseconds: u32,
    /// Where its bytes are, below the record's directory.
    kept: String,
}

/// How a file that was written is now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// As it was written.
    AsWritten,
    /// As it was before.
    AsBefore,
    /// In another way.
    Edited,
}

/// What was written on a machine, and what was there before.
#[derive(Debug)]
pub struct Record {
    root: PathBuf,
    stored: Stored,
}

impl Record {
    /// Reads the record of a machine; an empty one where nothing was written.
    ///
    /// # Errors
    /// Fails when it is there and cannot be read, or others may change it.
    pub fn load(root: &Path) -> Result<Self> {
        let mut record = Record {
            root: root.to_owned(),
            stored: Stored { schema: SCHEMA, files: Vec::new(), directories: Vec::new() },
        };
        let path = record.state(RECORD);
        let reading = || format!("reading {}, which says what setup wrote", path.display());
        let json = match regular_file::open_own(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(record);
            }
            file => file.and_then(|file| regular_file::read_all(file, TEXT_LIMIT_BYTES)).with_context(reading)?,
        };
        let Schema { schema } = serde_json::from_slice(&json).with_context(reading)?;
        ensure!(schema == SCHEMA, "{} was written by another version of ocinitrd: use that one", path.display());
        record.stored = serde_json::from_slice(&json).with_context(reading)?;
        let paths = record.stored.files.iter().map(|file| &file.path).chain(&record.stored.directories);
        for path in paths {
            check_path(path).with_context(reading)?;
        }
        for before in record.stored.files.iter().filter_map(|file| file.before.as_ref()) {
            let is_ours = before.kept.starts_with(KEPT) && !before.kept.contains('/');
            ensure!(is_ours, "{}: {:?} is no file of before", path.display(), before.kept);
        }
        Ok(record)
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.stored.files.is_empty() && self.stored.directories.is_empty()
    }

    /// What was in a file before it was written, if it was written and is as it was written then: its bytes, if it was there.
    pub fn original(&self, path: &str) -> Option<Option<Vec<u8>>> {
        let written = self.stored.files.iter().find(|file| file.path == path)?;
        if self.state_of(written).ok()? != State::AsWritten {
            return None;
        }
        match &written.before {
            None => Some(None),
            Some(before) => Some(Some(self.bytes(before).ok()?)),
        }
    }

    /// Writes all of the changes, or none where one cannot be written. What an earlier run wrote and is no longer wanted is put back.
    /// Returns the paths of the files that are not as they were.
    ///
    /// # Errors
    /// Fails on a file that was edited since it was written, on what is no regular file, and when something cannot be written: what
    /// was there is there then.
    pub fn write(mut self, changes: &[Change]) -> Result<Vec<String>> {
        let was_empty = self.is_empty();
        self.check(changes)?;
        let changed = self.write_unchecked(changes);
        // What was not begun leaves no trace.
        if changed.is_err() && was_empty {
            let _ = self.restore();
        }
        changed
    }

    /// Whether the changes can be written, as far as that can be told without writing.
    ///
    /// # Errors
    /// Fails with what would keep them from being written.
    pub fn check(&self, changes: &[Change]) -> Result<()> {
        self.check_unedited("move it away, or run setup --undo first")?;
        for place in changes.iter().map(|change| self.place(&change.path)).chain([self.place(STATE)]) {
            if !place.ends_with(STATE.trim_start_matches('/')) {
                check_replaceable(&place)?;
            }
            let above = place.ancestors().skip(1).find(|directory| directory.is_dir());
            let answer = above.map(|directory| rustix::fs::access(directory, rustix::fs::Access::WRITE_OK));
            if let (Some(directory), Some(Err(rustix::io::Errno::ROFS))) = (above, answer) {
                bail!(
                    "{} is on a file system that is read-only: mount it writable for setup, or put the files that setup --dry-run \
                     prints where the system is made",
                    directory.display()
                );
            }
        }
        Ok(())
    }

    fn write_unchecked(&mut self, changes: &[Change]) -> Result<Vec<String>> {
        let wanted: BTreeSet<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        self.make_directories(STATE)?;
        let mut differing = Vec::new();
        for change in changes {
            let digest = change.content.digest().with_context(|| format!("reading what is for {}", change.path))?;
            if self.digest_of(&change.path)? != Some(digest) {
                differing.push(change);
            }
            self.remember(&change.path, digest)?;
        }
        let parents: BTreeSet<&str> =
            changes.iter().filter_map(|change| change.path.rsplit_once('/')).map(|(parent, _)| parent).collect();
        for parent in parents {
            self.make_directories(parent)?;
        }
        self.store()?;
        let mut outputs = Outputs::new();
        for change in &differing {
            self.add(&mut outputs, change)?;
        }
        let is_wanted = |file: &Written| wanted.contains(file.path.as_str());
        let unwanted: Vec<&Written> = self.stored.files.iter().filter(|file| !is_wanted(file)).collect();
        self.add_originals(&unwanted, &mut outputs)?;
        outputs.commit()?;
        let mut changed: Vec<String> = differing.iter().map(|change| change.path.clone()).collect();
        if !unwanted.is_empty() {
            self.remove_new(&unwanted)?;
            changed.extend(unwanted.iter().map(|file| file.path.clone()));
            let (wanted, unwanted): (Vec<Written>, Vec<Written>) =
                std::mem::take(&mut self.stored.files).into_iter().partition(|file| is_wanted(file));
            self.stored.files = wanted;
            self.store()?;
            self.remove_kept(&unwanted.iter().collect::<Vec<_>>())?;
        }
        Ok(changed)
    }

    /// Adds a file to the record, with what is there now if that is not of an earlier run.
    fn remember(&mut self, path: &str, digest: Digest) -> Result<()> {
        if let Some(file) = self.stored.files.iter_mut().find(|file| file.path == path) {
            file.written.insert(digest);
            return Ok(());
        }
        let before = self.keep(path)?;
        self.stored.files.push(Written { path: path.to_owned(), before, written: BTreeSet::from([digest]) });
        Ok(())
    }

    /// Copies what is in a file's place, if anything is.
    fn keep(&self, path: &str) -> Result<Option<Before>> {
        let place = self.place(path);
        let keeping = || format!("keeping what is in {}", place.display());
        let is_missing =
            |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if fs::symlink_metadata(&place).is_err_and(is_missing) {
            return Ok(None);
        }
        let mut file = regular_file::open(&place).with_context(keeping)?;
        let facts = file.metadata().with_context(keeping)?;
        let (sha256, _) = Digest::of_reader(&file).with_context(keeping)?;
        io::Seek::rewind(&mut file).with_context(keeping)?;
        let kept = format!("{KEPT}{}", sha256.hex());
        let mut copy = OutputFile::create(&self.state(&kept), MODE_PRIVATE)?;
        copy.copy_from(&mut file).with_context(keeping)?;
        copy.commit()?;
        let modified =
            facts.modified().with_context(keeping)?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Some(Before {
            sha256,
            mode: facts.mode() & 0o7777,
            uid: facts.uid(),
            gid: facts.gid(),
            modified_seconds: modified.as_secs(),
            modified_nanoseconds: modified.subsec_nanos(),
            kept,
        }))
    }

    fn add(&self, outputs: &mut Outputs, change: &Change) -> Result<()> {
        let place = self.place(&change.path);
        let mut output = match place.exists() {
            true => OutputFile::in_place_of(&place)?,
            false => OutputFile::create(&place, change.mode)?,
        };
        change.content.write(&mut output).with_context(|| format!("writing {}", place.display()))?;
        outputs.add_file(output)
    }

    /// Makes a directory and those above it, and remembers which.
    fn make_directories(&mut self, path: &str) -> Result<()> {
        let mut missing = Vec::new();
        let mut rest = path;
        while !rest.is_empty() && !self.place(rest).exists() {
            missing.push(rest);
            rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
        }
        for directory in missing.into_iter().rev() {
            let place = self.place(directory);
            fs::create_dir(&place).with_context(|| format!("making the directory {}", place.display()))?;
            self.stored.directories.push(directory.to_owned());
        }
        Ok(())
    }

    fn store(&self) -> Result<()> {
        let mut output = OutputFile::create(&self.state(RECORD), MODE_PRIVATE)?;
        json::write(&mut output, &self.stored).context("writing the record of setup")?;
        output.commit()
    }

    /// Whether every file is as it was written or as it was before.
    fn check_unedited(&self, cure: &str) -> Result<()> {
        let mut edited = Vec::new();
        for file in &self.stored.files {
            if self.state_of(file)? == State::Edited {
                let kept = file
                    .before
                    .as_ref()
                    .map(|before| format!("; what it was before is in {}", self.state(&before.kept).display()));
                edited.push(format!(
                    "{} was edited since setup wrote it{}",
                    self.place(&file.path).display(),
                    kept.unwrap_or_default()
                ));
            }
        }
        ensure!(edited.is_empty(), "{}: {cure}; nothing was changed", edited.join("\n"));
        Ok(())
    }

    fn state_of(&self, file: &Written) -> Result<State> {
        let digest = self.digest_of(&file.path)?;
        Ok(match digest {
            Some(digest) if file.written.contains(&digest) => State::AsWritten,
            digest if digest == file.before.as_ref().map(|before| before.sha256) => State::AsBefore,
            _ => State::Edited,
        })
    }

    /// The digest of a file; nothing where there is none.
    fn digest_of(&self, path: &str) -> Result<Option<Digest>> {
        let place = self.place(path);
        let reading = || format!("reading {}", place.display());
        match fs::symlink_metadata(&place) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).with_context(reading),
            // Nothing that was ever written is like it.
            Ok(facts) if !facts.is_file() => Ok(Some(Digest::of(format!("{:?}", facts.file_type()).as_bytes()))),
            Ok(_) => {
                Ok(Some(Digest::of_reader(regular_file::open(&place).with_context(reading)?).with_context(reading)?.0))
            }
        }
    }

    /// The file that has what was kept, which has to be what was kept: of any size, such as an initrd's.
    fn kept(&self, before: &Before) -> Result<File> {
        let path = self.state(&before.kept);
        let reading = || format!("reading {}", path.display());
        let mut file = regular_file::open_own(&path).with_context(reading)?;
        let (digest, _) = Digest::of_reader(&file).with_context(reading)?;
        ensure!(digest == before.sha256, "{} is not what was kept there: it is damaged", path.display());
        io::Seek::rewind(&mut file).with_context(reading)?;
        Ok(file)
    }

    /// The bytes of a file of configuration as it was before.
    fn bytes(&self, before: &Before) -> Result<Vec<u8>> {
        let bytes = regular_file::read_all(self.kept(before)?, TEXT_LIMIT_BYTES);
        bytes.with_context(|| format!("reading {}", self.state(&before.kept).display()))
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn state(&self, name: &str) -> PathBuf {
        self.place(STATE).join(name)
    }
}

/// Whether a path of the record stays on the machine.
fn check_path(path: &str) -> Result<()> {
    let mut components = Path::new(path).components();
    let is_plain =
        components.next() == Some(Component::RootDir) && components.all(|part| matches!(part, Component::Normal(_)));
    ensure!(is_plain, "{path:?} is no absolute path without ..");
    Ok(())
}

#[cfg(test)]
mod tests;
