//! What boots need and need not make again: directories named by the digest of what they were made from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::packages::store;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::TemporaryDirectory;

/// Disks hold some ten megabytes each: this many entries stay, the ones used last. All scenarios of one initrd need fewer.
pub const KEPT_ENTRIES: usize = 48;
const UNFINISHED_PREFIX: &str = ".making-";
/// After this, what an interrupted run left unfinished is certainly nobody's.
const UNFINISHED_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory of entries.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in `directory`, which is made if need be. What was not used for long is removed from it.
    ///
    /// # Errors
    /// Fails when the directory cannot be made, and when it is not this user's own.
    pub fn open(directory: &Path) -> Result<Self> {
        store::open_root(directory)?;
        let cache = Cache { directory: directory.to_owned() };
        // Another run may be removing the same; what stays is removed by the next.
        let _ = cache.prune();
        Ok(cache)
    }

    /// The entry `key`, if there is one. Notes that it was used.
    pub fn get(&self, key: &Digest) -> Option<PathBuf> {
        let entry = self.directory.join(key.hex());
        let directory = fs::File::open(&entry).ok()?;
        // An entry that cannot be marked as used is an entry all the same.
        let _ = directory.set_modified(SystemTime::now());
        Some(entry)
    }

    /// The entry `key`, which `fill` makes in an empty directory. What `fill` refuses is not kept, and returned.
    ///
    /// # Errors
    /// Fails when `fill` does, or the entry cannot be written; then there is no entry.
    pub fn make<E>(
        &self,
        key: &Digest,
        fill: impl FnOnce(&Path) -> Result<std::result::Result<(), E>>,
    ) -> Result<std::result::Result<PathBuf, E>> {
        let unfinished = self.scratch()?;
        if let Err(refusal) = fill(unfinished.path())? {
            return Ok(Err(refusal));
        }
        let entry = self.directory.join(key.hex());
        match fs::rename(unfinished.path(), &entry) {
            // Somebody else made the same in the meantime.
            Err(_) if entry.is_dir() => {}
            result => result.with_context(|| format!("creating {}", entry.display()))?,
        }
        Ok(Ok(entry))
    }

    /// A directory that is no entry and goes when it is dropped; should the process be killed, a later run removes it.
    ///
    /// # Errors
    /// Fails when it cannot be made.
    pub fn scratch(&self) -> Result<TemporaryDirectory> {
        let scratch = TemporaryDirectory::create(&self.directory, UNFINISHED_PREFIX);
        scratch.with_context(|| format!("creating a directory in {}", self.directory.display()))
    }

    fn prune(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let used = entry.metadata()?.modified()?;
            let unfinished = entry.file_name().as_encoded_bytes().starts_with(UNFINISHED_PREFIX.as_bytes());
            match now.duration_since(used) {
                Ok(age) if unfinished && age > UNFINISHED_AGE => fs::remove_dir_all(entry.path())?,
                _ if unfinished => {}
                _ => entries.push((used, entry.path())),
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(KEPT_ENTRIES);
        entries[..surplus].iter().try_for_each(|(_, path)| fs::remove_dir_all(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Digest {
        Digest::of(number.to_string().as_bytes())
    }

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn an_entry_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let write = |place: &Path| Ok(fs::write(place.join("disk0"), "x").map_err(|error| error.to_string()));
        assert!(cache.get(&key(1)).is_none());
        let entry = cache.make(&key(1), write).unwrap().unwrap();
        assert_eq!(fs::read(entry.join("disk0")).unwrap(), b"x");
        assert_eq!(cache.get(&key(1)), Some(entry));
        let refused = cache.make(&key(2), |place| {
            fs::write(place.join("disk0"), "y")?;
            Ok(Err("refused"))
        });
        assert_eq!(refused.unwrap(), Err("refused"));
        assert!(cache.make::<()>(&key(3), |_| anyhow::bail!("broken")).is_err());
        assert_eq!(names(directory.path()), 1);
    }

    #[test]
    fn entries_that_were_not_used_for_longest_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        for number in 0..KEPT_ENTRIES + 3 {
            let entry = cache.make::<()>(&key(number), |_| Ok(Ok(()))).unwrap().unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64);
            fs::File::open(entry).unwrap().set_modified(used).unwrap();
        }
        cache.get(&key(0));
        let stale = directory.path().join(".making-stale");
        fs::create_dir(&stale).unwrap();
        fs::File::open(&stale).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::create_dir(directory.path().join(".making-now")).unwrap();
        Cache::open(directory.path()).unwrap();
        assert_eq!(names(directory.path()), KEPT_ENTRIES + 1);
        assert!(cache.get(&key(0)).is_some() && cache.get(&key(1)).is_none());
    }
}
