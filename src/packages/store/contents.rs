//! What is in the store: its files with their sizes and last uses. The directories in, a sorted list out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::Store;
use ocinitrd_format::digest::Digest;

/// What a file of the store is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Content under its own digest.
    Blob(Digest),
    /// What a stage keeps.
    Cached {
        /// The kind of it: `layer`, `segment`, `record`.
        kind: String,
        /// The digest of what it was made from.
        key: Digest,
    },
    /// A blob under way, or left by a download that was cut off: the name of its file, its checksum.
    Partial(String),
    /// A temporary file or directory, of a process that is at work or was killed: its name.
    Temporary(String),
}

/// A file of the store, or a temporary directory.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes, with all that is in it.
    pub size_bytes: u64,
    /// When it was last used, at most a day off.
    pub last_use: SystemTime,
}

impl Store {
    /// All files of the store, sorted. Is no use of them.
    ///
    /// # Errors
    /// Fails when a directory cannot be read.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        self.collect(&self.blobs(), &mut items, |name| Digest::from_hex(name).map(Kind::Blob))?;
        self.collect(&self.partials(), &mut items, |name| Some(Kind::Partial(name.to_owned())))?;
        self.collect(&self.root, &mut items, |_| None)?;
        let cache = self.results();
        for (kind, directory) in names(&cache).with_context(|| reading(&cache))? {
            let cached = |name: &str| Some(Kind::Cached { kind: kind.clone(), key: Digest::from_hex(name)? });
            if directory.is_dir() {
                self.collect(&directory, &mut items, cached)?;
            }
        }
        items.sort();
        Ok(items)
    }

    /// Adds the regular files of a directory that are of the store: those that `of_name` knows; and what is temporary.
    fn collect(&self, directory: &Path, items: &mut Vec<Item>, of_name: impl Fn(&str) -> Option<Kind>) -> Result<()> {
        for (name, path) in names(directory).with_context(|| reading(directory))? {
            let kind = if is_temporary(&name) { Some(Kind::Temporary(name)) } else { of_name(&name) };
            let Some(kind) = kind else { continue };
            let metadata = match fs::symlink_metadata(&path) {
                // It was there a moment ago: another process moved or removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.with_context(|| reading(&path))?,
            };
            let size_bytes = match &kind {
                _ if metadata.is_file() => metadata.len(),
                Kind::Temporary(_) if metadata.is_dir() => size_below(&path).with_context(|| reading(&path))?,
                _ => continue,
            };
            let last_use = metadata.modified().with_context(|| reading(&path))?;
            items.push(Item { kind, path, size_bytes, last_use });
        }
        Ok(())
    }
}

/// Files without a name of their own, and those on the way to a name that is a digest.
fn is_temporary(name: &str) -> bool {
    let digest = name.strip_prefix('.').and_then(|rest| rest.split_once('.')).map(|(digest, _)| digest);
    name.starts_with(".tmp") || digest.is_some_and(|digest| Digest::from_hex(digest).is_some())
}

/// The sizes of all regular files below a directory, which another process may be removing.
fn size_below(directory: &Path) -> io::Result<u64> {
    let mut size_bytes = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for (_, path) in names(&directory)? {
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => open.push(path),
                Ok(metadata) if metadata.is_file() => size_bytes += metadata.len(),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(size_bytes)
}

fn reading(path: &Path) -> String {
    format!("reading {} of the store", path.display())
}

/// The names in a directory with their paths; none if there is no directory. The store has no other names than UTF-8.
fn names(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        names.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_store_is_listed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let blob = store.insert(b"initrd").unwrap();
        let key = Digest::of(b"inputs");
        for (path, content) in [
            (format!("cache/layer/{}", key.hex()), "layer"),
            (format!("cache/segment/{}", key.hex()), "segment"),
            (format!("cache/segment/.{}.AbC", key.hex()), "."),
            ("cache/segment/README".to_owned(), "not of the store"),
            ("boot/file".to_owned(), "not of the store"),
            ("partial/sha256-00".to_owned(), "part"),
            (".tmpAbC".to_owned(), ".."),
            (".tmp-rebuild/outputs/initrd".to_owned(), "..."),
            (".nobackup".to_owned(), "not of the store"),
        ] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let listed: Vec<(Kind, u64)> =
            store.items().unwrap().into_iter().map(|item| (item.kind, item.size_bytes)).collect();
        let cached = |kind: &str| Kind::Cached { kind: kind.to_owned(), key };
        let temporary = |name: &str| Kind::Temporary(name.to_owned());
        let expected = [
            (Kind::Blob(blob), 6),
            (cached("layer"), 5),
            (cached("segment"), 7),
            (Kind::Partial("sha256-00".to_owned()), 4),
            (temporary(&format!(".{}.AbC", key.hex())), 1),
            (temporary(".tmp-rebuild"), 3),
            (temporary(".tmpAbC"), 2),
        ];
        assert_eq!(listed, expected);
    }
}
