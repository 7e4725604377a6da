//! Blobs under way: one file for each checksum, locked by who writes it. Bytes in, a verified blob out.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Store;
use ocinitrd_format::checksum::{Checksum, ChecksumHasher, Measured};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::regular_file::open_for_writing;

impl Store {
    /// Begins or goes on with the blob of `checksum`; `None` while somebody else is writing it.
    ///
    /// After a `None`, and after a lock was waited for, the blob may be [there](Store::contains).
    ///
    /// # Errors
    /// Fails when the partial file cannot be made, locked or read.
    pub fn try_partial(&self, checksum: &Checksum) -> Result<Option<Partial>> {
        let file = self.lock_partial(checksum, FlockOperation::NonBlockingLockExclusive)?;
        file.map(|file| self.resume(checksum, file)).transpose()
    }

    fn partial_path(&self, checksum: &Checksum) -> PathBuf {
        self.partials().join(checksum.to_string().replace(':', "-"))
    }

    /// Locks the partial file of `checksum`; `None` if a non-blocking `operation` would have to wait.
    fn lock_partial(&self, checksum: &Checksum, operation: FlockOperation) -> Result<Option<File>> {
        let path = self.partial_path(checksum);
        let explain = |error: io::Error| self.explain("writing", &path, error);
        loop {
            let file = open_for_writing(&path).map_err(explain)?;
            match flock(&file, operation) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(explain(error.into())),
            }
            // Who held the lock before may have renamed or removed the file: then this lock guards nothing.
            let locked = file.metadata().map_err(explain)?.ino();
            if fs::symlink_metadata(&path).is_ok_and(|current| current.ino() == locked) {
                return Ok(Some(file));
            }
        }
    }

    /// Begins the blob of `digest` anew; waits while somebody else is writing it.
    pub(super) fn begin(&self, digest: Digest) -> Result<Partial> {
        let checksum = Checksum::Sha256(digest);
        let file = self.lock_partial(&checksum, FlockOperation::LockExclusive)?;
        let mut partial = self.resume(&checksum, file.context("waiting for a blocking lock")?)?;
        partial.restart()?;
        Ok(partial)
    }

    fn resume(&self, checksum: &Checksum, mut file: File) -> Result<Partial> {
        let path = self.partial_path(checksum);
        let mut hasher = ChecksumHasher::for_checksum(checksum);
        let length_bytes = io::copy(&mut file, &mut hasher).with_context(|| format!("reading {}", path.display()))?;
        Ok(Partial { store: self.clone(), checksum: checksum.clone(), path, file, hasher, length_bytes, stored: false })
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
        self.append_from(source)
    }

    /// Appends what `source` has to its end.
    ///
    /// # Errors
    /// Fails when it cannot be read, and as [`Partial::append`] does.
    pub fn append_from(&mut self, source: &mut impl Read) -> Result<()> {
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
            .and_then(|()| self.file.set_permissions(Permissions::from_mode(0o400)))
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
