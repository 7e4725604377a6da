//! Results of earlier builds, kept in the store by the digest of what they were made from.
//!
//! Enters: a key over all inputs of a result, and the result. Leaves: the result, if the same inputs come again.
//!
//! A result is a record, some JSON in `cache/<kind>/<key>`, which may name large data in `cache/data/<digest>`. Both appear
//! by a rename. Data is verified by its digest whenever it is used, so it needs not reach the disk before it gets its
//! name: what a kill or a power cut leaves is never taken for a result. A record begins with a digest of itself and of its name:
//! one that is damaged or was moved is as good as none. Everything here can be removed at any time.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::packages::store::Store;
use ocinitrd_format::background::BackgroundHasher;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::{MODE_PRIVATE, cannot_write};
use ocinitrd_support::own_directory;
use ocinitrd_support::regular_file;

/// A digest of the program's source: another program may make something else of the same inputs.
pub const SOURCE_DIGEST: &str = env!("OCINITRD_SOURCE_DIGEST");

/// More than any record has: they name data instead of holding it.
const LONGEST_RECORD_BYTES: u64 = 64 << 20;
/// The digits of a digest and the end of the line.
const RECORD_LINE_BYTES: usize = 65;

/// What is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// That an rpm's signature was verified, and with which keys.
    Signature,
    /// What installing a set of packages gave.
    Layer,
    /// What a set of kernel packages holds.
    Kernel,
    /// A segment of an initrd.
    Segment,
    /// What an installed tree brings for unified kernel images.
    Stub,
    /// The outputs of a build, as they were written.
    Outputs,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Signature => "signature",
            Kind::Layer => "layer",
            Kind::Kernel => "kernel",
            Kind::Segment => "segment",
            Kind::Stub => "stub",
            Kind::Outputs => "outputs",
        }
    }
}

/// [`SOURCE_DIGEST`] as a value.
pub fn source_digest() -> Digest {
    Digest::from_hex(SOURCE_DIGEST).expect("build.rs writes a digest")
}

/// The key of a result of `kind` that was made from `inputs`, by this version of the program where that counts.
pub fn key(kind: Kind, inputs: &Value) -> Digest {
    // That rpm found a signature right does not depend on us.
    let source = if kind == Kind::Signature { "" } else { SOURCE_DIGEST };
    Digest::of(json!([kind.name(), source, inputs]).to_string().as_bytes())
}

/// The results in a store.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    /// Where files are that have no name yet.
    scratch: PathBuf,
}

impl Cache {
    /// The results in `store`.
    pub fn of(store: &Store) -> Self {
        Cache { scratch: store.root().to_owned(), ..Cache::at(&store.results()) }
    }

    /// The results below a directory, which is made when the first one is kept.
    pub fn at(root: &Path) -> Self {
        Cache { root: root.to_owned(), scratch: root.to_owned() }
    }

    fn path(&self, kind: &str, name: &Digest) -> PathBuf {
        self.root.join(kind).join(name.hex())
    }

    fn record_path(&self, kind: Kind, key: &Digest) -> PathBuf {
        self.path(kind.name(), key)
    }

    fn data_path(&self, digest: &Digest) -> PathBuf {
        self.path("data", digest)
    }

    /// The record of a result, if there is one that can be read.
    pub fn record<T: DeserializeOwned>(&self, kind: Kind, key: &Digest) -> Option<T> {
        let path = self.record_path(kind, key);
        let bytes = regular_file::read_all(regular_file::open_own(&path).ok()?, LONGEST_RECORD_BYTES).ok()?;
        let (stated, json) = bytes.split_at_checked(RECORD_LINE_BYTES)?;
        if stated != record_line(kind, key, json).as_bytes() {
            return None;
        }
        let record = serde_json::from_slice(json).ok()?;
        Store::touch(&path);
        Some(record)
    }

    /// Keeps the record of a result.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn keep<T: Serialize>(&self, kind: Kind, key: &Digest, record: &T) -> Result<()> {
        let path = self.record_path(kind, key);
        let json = serde_json::to_vec(record).context("writing a record as JSON")?;
        let mut file = self.temporary()?;
        let line = record_line(kind, key, &json);
        file.write_all(line.as_bytes())
            .and_then(|()| file.write_all(&json))
            .map_err(|error| cannot_write(&path, &error))?;
        place(file, &path)
    }

    /// Data that a record names, if it is there and whole; damaged data is removed.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn data(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.data_path(digest);
        let reading = || format!("reading {}", path.display());
        let mut file = match regular_file::open_own(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(reading)?,
        };
        let (found, _) = Digest::of_reader(&file).with_context(reading)?;
        if found != *digest {
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        Store::touch(&path);
        file.rewind().with_context(reading)?;
        Ok(Some(file))
    }

    /// Begins new data.
    ///
    /// # Errors
    /// Fails when no file can be made.
    pub fn new_data(&self) -> Result<NewData> {
        let make = || {
            own_directory::open(&self.scratch)?;
            BackgroundHasher::new(tempfile::tempfile_in(&self.scratch)?)
        };
        let file = make().with_context(|| self.writing())?;
        Ok(NewData { cache: self.clone(), file })
    }

    /// Takes a complete file of the store's file system whose digest is known, as its data: a spool without a name gets
    /// one. Where that cannot be done it is copied.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn take(&self, file: &File, digest: &Digest) -> Result<()> {
        let path = self.data_path(digest);
        // A spool that never had a name has the mode that the umask gives.
        file.set_permissions(Permissions::from_mode(MODE_PRIVATE)).map_err(|error| cannot_write(&path, &error))?;
        let taken = tempfile::Builder::new().make_in(&self.scratch, |name| {
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, own, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
        });
        if let Ok(taken) = taken {
            return place(taken, &path);
        }
        let mut copy = self.temporary()?;
        let mut source = file.try_clone().context("reading a spool")?;
        source.rewind().context("reading a spool")?;
        io::copy(&mut source, &mut copy).map_err(|error| cannot_write(&path, &error))?;
        place(copy, &path)
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile> {
        let make = || {
            own_directory::open(&self.scratch)?;
            tempfile::NamedTempFile::new_in(&self.scratch)
        };
        make().with_context(|| self.writing())
    }

    fn writing(&self) -> String {
        format!("writing into the cache {}", self.root.display())
    }
}

/// Data under way, in a file without a name.
pub struct NewData {
    cache: Cache,
    file: BackgroundHasher<File>,
}

impl NewData {
    /// Gives the data its name. Returns what was written too, to be read from any place.
    ///
    /// # Errors
    /// Fails when it cannot be named.
    pub fn finish(self) -> Result<(File, Digest, u64)> {
        let (file, digest, size_bytes) = self.file.finish();
        self.cache.take(&file, &digest)?;
        Ok((file, digest, size_bytes))
    }
}

impl Write for NewData {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer).map_err(|error| cannot_write(&self.cache.root.join("data"), &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The line that a record begins with.
fn record_line(kind: Kind, key: &Digest, json: &[u8]) -> String {
    let named = [kind.name().as_bytes(), b"\0", key.hex().as_bytes(), b"\0", json].concat();
    format!("{}\n", Digest::of(&named).hex())
}

fn place<F>(file: tempfile::NamedTempFile<F>, path: &Path) -> Result<()> {
    let directory = path.parent().context("a place in the cache is in a directory")?;
    own_directory::open(directory).with_context(|| format!("creating {}", directory.display()))?;
    file.persist(path).map_err(|error| error.error).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::of(&Store::open(directory.path()).unwrap());
        (directory, cache)
    }

    #[test]
    fn record_is_found_by_its_key_and_kind() {
        let (_directory, cache) = cache();
        let one = key(Kind::Segment, &json!({"a": 1}));
        assert_eq!(cache.record::<u32>(Kind::Segment, &one), None);
        cache.keep(Kind::Segment, &one, &7_u32).unwrap();
        assert_eq!(cache.record::<u32>(Kind::Segment, &one), Some(7));
        assert_eq!(cache.record::<u32>(Kind::Layer, &one), None);
        assert_eq!(cache.record::<u32>(Kind::Segment, &key(Kind::Segment, &json!({"a": 2}))), None);
        assert_eq!(cache.record::<String>(Kind::Segment, &one), None, "a record of another form is none");
    }

    #[test]
    fn a_record_that_was_changed_by_one_byte_or_moved_is_none() {
        let (_directory, cache) = cache();
        let (one, other) = (key(Kind::Segment, &json!(1)), key(Kind::Segment, &json!(2)));
        cache.keep(Kind::Segment, &one, &json!({"entries": 932})).unwrap();
        let path = cache.record_path(Kind::Segment, &one);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(cache.record_path(Kind::Segment, &other), &whole).unwrap();
        assert_eq!(cache.record::<Value>(Kind::Segment, &other), None);
        for damaged in
            [whole.replace("932", "832"), whole[..whole.len() - 1].to_owned(), String::new(), whole.clone() + " "]
        {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.record::<Value>(Kind::Segment, &one), None);
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(cache.record(Kind::Segment, &one), Some(json!({"entries": 932})));
    }

    #[test]
    fn what_is_kept_is_for_this_users_eyes() {
        let (_directory, cache) = cache();
        let digest = {
            let mut data = cache.new_data().unwrap();
            data.write_all(b"key").unwrap();
            data.finish().unwrap().1
        };
        let one = key(Kind::Segment, &json!(1));
        cache.keep(Kind::Segment, &one, &7_u32).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let (data, record) = (cache.data_path(&digest), cache.record_path(Kind::Segment, &one));
        for file in [&data, &record] {
            assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700), "{}", file.display());
        }
    }

    #[test]
    fn data_is_verified_when_it_is_used() {
        let (_directory, cache) = cache();
        let mut data = cache.new_data().unwrap();
        data.write_all(b"segment").unwrap();
        let (_, digest, size_bytes) = data.finish().unwrap();
        assert_eq!((digest, size_bytes), (Digest::of(b"segment"), 7));
        let mut text = String::new();
        cache.data(&digest).unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "segment");
        fs::write(cache.data_path(&digest), "segmenT").unwrap();
        assert!(cache.data(&digest).unwrap().is_none());
        assert!(!cache.data_path(&digest).exists());
    }

    #[test]
    fn unfinished_data_leaves_nothing_and_a_spool_is_taken_as_it_is() {
        let (_directory, cache) = cache();
        cache.new_data().unwrap().write_all(b"half").unwrap();
        assert!(fs::read_dir(&cache.root).unwrap().next().is_none());
        let mut spool = tempfile::tempfile().unwrap();
        spool.write_all(b"layer").unwrap();
        let digest = Digest::of(b"layer");
        cache.take(&spool, &digest).unwrap();
        assert!(cache.data(&digest).unwrap().is_some());
    }
}
