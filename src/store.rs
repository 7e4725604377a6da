//! The content store: blobs named by their SHA-256 digest under one root directory.
//!
//! Enters: bytes with the checksum they must have. Leaves: `blobs/sha256/<64 hex digits>`, read-only files that appear
//! whole or not at all. What is under way lies in `partial/<algorithm>-<hex digits>`, one file for each checksum,
//! locked by who writes it: a second process waits instead of writing the same bytes again, and a download that was
//! cut off, even by a kill, goes on where it ended. Other names under the root are free for records of later stages.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::format::checksum::{Checksum, ChecksumHasher, Measured};
use crate::format::digest::Digest;

/// A store; cheap to clone. Several processes and threads may use one root at a time.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store under `root`, making its directories if they are missing.
    ///
    /// # Errors
    /// Fails when they cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        let store = Store { root: root.to_owned() };
        for directory in [store.blobs(), store.partials()] {
            fs::create_dir_all(&directory).map_err(|error| store.explain("creating", &directory, error))?;
        }
        Ok(store)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob of `digest` is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether the blob of `digest` is there. It was verified when it was stored and is not read again here.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The digest of the blob that has `checksum`, if it is there and the checksum names it.
    pub fn find(&self, checksum: &Checksum) -> Option<Digest> {
        match checksum {
            Checksum::Sha256(digest) if self.contains(digest) => Some(*digest),
            _ => None,
        }
    }

    /// Opens the blob of `digest` for reading.
    ///
    /// # Errors
    /// Fails when it is not there or cannot be read.
    pub fn read(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).with_context(|| format!("reading {} from the store", path.display()))
    }

    /// The size of the blob of `digest` in bytes.
    ///
    /// # Errors
    /// Fails when it is not there.
    pub fn size_bytes(&self, digest: &Digest) -> Result<u64> {
        let path = self.path(digest);
        let metadata = fs::metadata(&path).with_context(|| format!("looking up {} in the store", path.display()))?;
        Ok(metadata.len())
    }

    /// Stores bytes in memory: for those known to be small.
    ///
    /// # Errors
    /// Fails when they cannot be written.
    pub fn insert(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.contains(&digest) {
            return Ok(digest);
        }
        let checksum = Checksum::Sha256(digest);
        let file = self.lock(&checksum, FlockOperation::LockExclusive)?.context("waiting for a blocking lock")?;
        let mut partial = self.resume(&checksum, file)?;
        partial.restart()?;
        partial.append(bytes)?;
        match partial.complete()? {
            Completion::Stored(digest) => Ok(digest),
            Completion::Differs(_) => Err(anyhow!("the bytes of {digest} changed while they were stored")),
        }
    }

    /// Begins or goes on with the blob of `checksum`; `None` while somebody else is writing it.
    ///
    /// After a `None`, and after a lock was waited for, the blob may be [there](Store::contains).
    ///
    /// # Errors
    /// Fails when the partial file cannot be made, locked or read.
    pub fn try_partial(&self, checksum: &Checksum) -> Result<Option<Partial>> {
        let file = self.lock(checksum, FlockOperation::NonBlockingLockExclusive)?;
        file.map(|file| self.resume(checksum, file)).transpose()
    }

    fn partial_path(&self, checksum: &Checksum) -> PathBuf {
        self.partials().join(checksum.to_string().replace(':', "-"))
    }

    /// Locks the partial file of `checksum`; `None` if a non-blocking `operation` would have to wait.
    fn lock(&self, checksum: &Checksum, operation: FlockOperation) -> Result<Option<File>> {
        let path = self.partial_path(checksum);
        let explain = |error: io::Error| self.explain("writing", &path, error);
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.map_err(explain)?;
            match flock(&file, operation) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(explain(error.into())),
            }
            // Who held the lock before may have renamed or removed the file: then this lock guards nothing.
            let locked = file.metadata().map_err(explain)?.ino();
            if fs::metadata(&path).is_ok_and(|current| current.ino() == locked) {
                return Ok(Some(file));
            }
        }
    }

    fn resume(&self, checksum: &Checksum, mut file: File) -> Result<Partial> {
        let path = self.partial_path(checksum);
        let mut hasher = ChecksumHasher::for_checksum(checksum);
        let length_bytes = io::copy(&mut file, &mut hasher).with_context(|| format!("reading {}", path.display()))?;
        Ok(Partial { store: self.clone(), checksum: checksum.clone(), path, file, hasher, length_bytes, stored: false })
    }

    /// What failed on which path, and what helps.
    fn explain(&self, doing: &str, path: &Path, error: io::Error) -> anyhow::Error {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free space there, or choose another place for the cache with XDG_CACHE_HOME"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "; make it writable for this user, or choose another place for the cache with XDG_CACHE_HOME"
            }
            _ => "",
        };
        anyhow!("{doing} {} of the store {}: {error}{advice}", path.display(), self.root.display())
    }
}

/// How a [`Partial`] ended.
#[derive(Debug)]
pub enum Completion {
    /// The blob is in the store under this digest.
    Stored(Digest),
    /// The bytes were others; they were thrown away and the partial is empty again.
    Differs(Measured),
}

/// A blob under way, locked against other writers until dropped. What was appended stays for a later attempt.
pub struct Partial {
    store: Store,
    checksum: Checksum,
    path: PathBuf,
    file: File,
    hasher: ChecksumHasher,
    length_bytes: u64,
    stored: bool,
}

impl Partial {
    /// How many bytes there are already.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Fails when they cannot be written; what was there before stays.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // It is unknown how much of `bytes` arrived. The first error is the one to tell.
            let _ = self.file.set_len(self.length_bytes).and_then(|()| self.file.seek(SeekFrom::End(0)));
            return Err(self.store.explain("writing", &self.path, error));
        }
        self.hasher.write_all(bytes).context("hashing what was written")?;
        self.length_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Takes the whole content from `source`, an open file: shares its blocks where the file system can do so.
    ///
    /// # Errors
    /// Fails when `source` cannot be read or the copy cannot be written.
    pub fn copy_from(&mut self, source: &mut File) -> Result<()> {
        self.restart()?;
        if rustix::fs::ioctl_ficlone(&self.file, &*source).is_ok() {
            self.length_bytes = io::copy(&mut self.file, &mut self.hasher).context("reading the copy")?;
            return Ok(());
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            match source.read(&mut buffer).context("reading the original")? {
                0 => return Ok(()),
                count => self.append(&buffer[..count])?,
            }
        }
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// Fails when the file cannot be truncated.
    pub fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| self.store.explain("truncating", &self.path, error))?;
        self.hasher = ChecksumHasher::for_checksum(&self.checksum);
        self.length_bytes = 0;
        Ok(())
    }

    /// Verifies the checksum and moves the blob to its place.
    ///
    /// # Errors
    /// Fails when it cannot be written out or moved; wrong bytes are [`Completion::Differs`].
    pub fn complete(&mut self) -> Result<Completion> {
        let fresh = ChecksumHasher::for_checksum(&self.checksum);
        let measured = mem::replace(&mut self.hasher, fresh).finish();
        if !measured.matches(&self.checksum) {
            self.restart()?;
            return Ok(Completion::Differs(measured));
        }
        let target = self.store.path(&measured.digest);
        // Synchronised before it gets its name, or a power cut could leave a blob with a name and no content.
        let placed = self
            .file
            .sync_data()
            .and_then(|()| self.file.set_permissions(Permissions::from_mode(0o444)))
            .and_then(|()| fs::rename(&self.path, &target));
        placed.map_err(|error| self.store.explain("writing", &target, error))?;
        self.stored = true;
        Ok(Completion::Stored(measured.digest))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.length_bytes == 0 && !self.stored {
            // Still locked, so nobody else is writing it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a blob must be: its checksum and, where known, its size in bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    /// The checksum.
    pub checksum: Checksum,
    /// The size in bytes, if the source of the checksum tells it.
    pub size_bytes: Option<u64>,
}

impl Expected {
    /// Whether bytes are as expected.
    ///
    /// # Errors
    /// Fails naming the property that differs, with both values.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let measured = Measured::of(bytes, &self.checksum);
        if let Some(size_bytes) = self.size_bytes {
            ensure!(measured.size_bytes == size_bytes, "it has {} bytes instead of {size_bytes}", measured.size_bytes);
        }
        ensure!(measured.matches(&self.checksum), "its checksum is not {}", self.checksum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    fn partials(store: &Store) -> usize {
        fs::read_dir(store.partials()).unwrap().count()
    }

    #[test]
    fn inserted_bytes_are_read_back_and_read_only() {
        let (_directory, store) = store();
        let digest = store.insert(b"initrd").unwrap();
        assert_eq!(store.insert(b"initrd").unwrap(), digest);
        assert!(store.contains(&digest));
        let mut text = String::new();
        store.read(&digest).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "initrd");
        assert_eq!(fs::metadata(store.path(&digest)).unwrap().mode() & 0o7777, 0o444);
        assert_eq!(partials(&store), 0);
    }

    #[test]
    fn partial_goes_on_where_it_was_dropped() {
        let (_directory, store) = store();
        let checksum = Checksum::Sha256(Digest::of(b"initrd"));
        store.try_partial(&checksum).unwrap().unwrap().append(b"init").unwrap();
        let mut partial = store.try_partial(&checksum).unwrap().unwrap();
        assert_eq!(partial.length_bytes(), 4);
        partial.append(b"rd").unwrap();
        assert!(matches!(partial.complete().unwrap(), Completion::Stored(digest) if digest == Digest::of(b"initrd")));
        drop(partial);
        assert_eq!(partials(&store), 0);
    }

    #[test]
    fn other_bytes_never_become_a_blob() {
        let (_directory, store) = store();
        let checksum = Checksum::Sha256(Digest::of(b"initrd"));
        let mut partial = store.try_partial(&checksum).unwrap().unwrap();
        partial.append(b"initrX").unwrap();
        assert!(matches!(partial.complete().unwrap(), Completion::Differs(measured) if measured.size_bytes == 6));
        assert_eq!(partial.length_bytes(), 0);
        drop(partial);
        assert!(!store.contains(&Digest::of(b"initrd")) && !store.contains(&Digest::of(b"initrX")));
        assert_eq!(partials(&store), 0);
    }

    #[test]
    fn second_writer_of_one_checksum_is_turned_away_until_the_first_is_done() {
        let (_directory, store) = store();
        let checksum = Checksum::Sha256(Digest::of(b"initrd"));
        let mut first = store.try_partial(&checksum).unwrap().unwrap();
        assert!(store.try_partial(&checksum).unwrap().is_none());
        let waiting = std::thread::spawn({
            let store = store.clone();
            move || store.insert(b"initrd").unwrap()
        });
        first.append(b"initrd").unwrap();
        assert!(matches!(first.complete().unwrap(), Completion::Stored(_)));
        drop(first);
        assert_eq!(waiting.join().unwrap(), Digest::of(b"initrd"));
        assert_eq!(partials(&store), 0);
    }

    #[test]
    fn file_is_copied_and_verified() {
        let (directory, store) = store();
        let original = directory.path().join("original");
        fs::write(&original, b"initrd").unwrap();
        let mut partial = store.try_partial(&Checksum::Sha256(Digest::of(b"initrd"))).unwrap().unwrap();
        partial.append(b"left over").unwrap();
        partial.copy_from(&mut File::open(&original).unwrap()).unwrap();
        assert_eq!(partial.length_bytes(), 6);
        assert!(matches!(partial.complete().unwrap(), Completion::Stored(_)));
    }

    #[test]
    fn sha512_is_verified_and_stored_by_sha256() {
        let (_directory, store) = store();
        let digits: String =
            <sha2::Sha512 as sha2::Digest>::digest(b"initrd").iter().map(|byte| format!("{byte:02x}")).collect();
        let mut partial = store.try_partial(&Checksum::parse("sha512", &digits).unwrap()).unwrap().unwrap();
        partial.append(b"initrd").unwrap();
        assert!(matches!(partial.complete().unwrap(), Completion::Stored(_)));
        assert!(store.contains(&Digest::of(b"initrd")));
    }

    #[test]
    fn unusable_root_names_the_path_and_what_helps() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), b"").unwrap();
        let message = format!("{:#}", Store::open(&directory.path().join("file/cache")).unwrap_err());
        assert!(message.contains("file/cache") && message.starts_with("creating "), "{message}");
        let (_directory, store) = store();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let message = store.explain("writing", Path::new("/x"), full).to_string();
        assert!(message.contains("free space there") && message.contains("XDG_CACHE_HOME"), "{message}");
    }
}
