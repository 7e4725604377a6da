//! The content store: blobs named by their SHA-256 digest under one root directory.
//!
//! Enters: bytes with the checksum they must have. Leaves: `blobs/sha256/<64 hex digits>`, read-only files that appear
//! whole or not at all. What is under way lies in `partial/<algorithm>-<hex digits>`, one file for each checksum,
//! locked by who writes it: a second process waits instead of writing the same bytes again, and a download that was
//! cut off, even by a kill, goes on where it ended. `cache/<kind>/<64 hex digits>` is what stages keep, each file named
//! by the digest of what it was made from. Other names under the root are none of the store's.
//!
//! The root and all directories of the store are this user's alone ([`own_directory`]), with mode 0700, and the files have mode
//! 0600 or 0400: what builds keep holds the keys that a definition puts into an initrd, and whoever could write here would
//! decide what is built. No symlink is followed to a file.
//!
//! Who uses the store holds a shared lock on the file `lock` for as long; who removes from it ([`ExclusiveStore`]) must have the
//! lock alone. So nothing disappears under a build, and a build that begins meanwhile waits. A file's modification time
//! says when it was last used, at most a day off.

mod contents;
mod partial;
mod removal;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use ocinitrd_format::checksum::{Checksum, Measured};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::own_directory;
use ocinitrd_support::regular_file::{self, open_for_writing};

pub use contents::{Item, Kind};
pub use partial::{Completion, Partial};
pub use removal::{ExclusiveStore, Expiry};

const BLOBS: &str = "blobs/sha256";
const PARTIALS: &str = "partial";
const RESULTS: &str = "cache";
const LOCK: &str = "lock";
/// What helps where the directory is in the hands of somebody else.
const REFUSED: &str = "; whoever can write there decides what is built, so the cache has to be this user's own: choose another \
                       place for it with XDG_CACHE_HOME, and with sudo use `sudo -H`";

/// How exactly the last use is recorded: a file is marked anew when its mark is older.
const USE_GRANULARITY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store; cheap to clone. Several processes and threads may use one root at a time.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Locked, shared with others, until the last clone is dropped.
    lock: Arc<File>,
    /// Blobs that this process has read and found whole.
    whole: Arc<Mutex<BTreeSet<Digest>>>,
}

impl Store {
    /// Opens the store under `root`, making its directories if they are missing. Waits while another process removes
    /// from it.
    ///
    /// # Errors
    /// Fails when they cannot be made, or the store cannot be locked.
    pub fn open(root: &Path) -> Result<Self> {
        open_root(root)?;
        for directory in ["blobs", BLOBS, PARTIALS, RESULTS].map(|name| root.join(name)) {
            own_directory::open(&directory).map_err(|error| explain(root, "creating", &directory, error))?;
        }
        let path = root.join(LOCK);
        let lock = open_for_writing(&path).map_err(|error| explain(root, "writing", &path, error))?;
        loop {
            match flock(&lock, FlockOperation::LockShared) {
                Ok(()) => {
                    return Ok(Store { root: root.to_owned(), lock: Arc::new(lock), whole: Arc::default() });
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(explain(root, "locking", &path, error.into())),
            }
        }
    }

    /// The directory of what stages keep.
    pub fn results(&self) -> PathBuf {
        self.root.join(RESULTS)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join(BLOBS)
    }

    fn partials(&self) -> PathBuf {
        self.root.join(PARTIALS)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob of `digest` is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether the blob of `digest` is there; whoever asks is about to use it. It was verified when it was stored and is
    /// not read again here.
    pub fn contains(&self, digest: &Digest) -> bool {
        let path = self.path(digest);
        let is_there = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        if is_there {
            Store::touch(&path);
        }
        is_there
    }

    /// Records that a file of the store is used now; costs a look at it, and once a day a change of its time.
    pub fn touch(path: &Path) {
        // What cannot be marked can be used all the same.
        let _ = record_use(path, SystemTime::now());
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
        let file =
            regular_file::open_own(&path).with_context(|| format!("reading {} from the store", path.display()))?;
        Store::touch(&path);
        Ok(file)
    }

    /// Reads the blob of `digest`, if it is there and was not read by this before, and removes it if it is damaged. Tells
    /// whether it was.
    ///
    /// # Errors
    /// Fails when it cannot be read, or is damaged and cannot be removed.
    pub fn discard_if_damaged(&self, digest: &Digest) -> Result<bool> {
        if !self.contains(digest) || self.found_whole().contains(digest) {
            return Ok(false);
        }
        let path = self.path(digest);
        let reading = || format!("reading {}", path.display());
        let blob = self.read(digest)?;
        let (found, _) = Digest::of_reader(&blob).with_context(reading)?;
        if found == *digest {
            self.found_whole().insert(*digest);
            return Ok(false);
        }
        // Another process may have put a whole one into its place meanwhile.
        let read = blob.metadata().with_context(reading)?.ino();
        if fs::symlink_metadata(&path).is_ok_and(|current| current.ino() == read) {
            fs::remove_file(&path).map_err(|error| explain(&self.root, "removing", &path, error))?;
        }
        Ok(true)
    }

    /// Whether the blob of `digest` is there and is what its name says; one that is damaged is removed.
    ///
    /// # Errors
    /// As [`Store::discard_if_damaged`].
    pub fn contains_whole(&self, digest: &Digest) -> Result<bool> {
        self.discard_if_damaged(digest)?;
        Ok(self.contains(digest))
    }

    fn found_whole(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.whole.lock().expect("no thread panics while it holds the lock")
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

    /// Stores bytes in memory: for those known to be small. A damaged blob of them is replaced.
    ///
    /// # Errors
    /// Fails when they cannot be written.
    pub fn insert(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.contains_whole(&digest)? {
            return Ok(digest);
        }
        let mut partial = self.begin(digest)?;
        partial.append(bytes)?;
        match partial.complete()? {
            Completion::Stored(digest) => Ok(digest),
            Completion::Differs(_) => Err(anyhow!("the bytes of {digest} changed while they were stored")),
        }
    }

    /// Stores what `content` has to its end, which has to be the blob of `digest`.
    ///
    /// # Errors
    /// Fails when it is another, when it cannot be read, and when it cannot be written to the store.
    pub fn insert_stream(&self, digest: &Digest, content: &mut impl Read) -> Result<()> {
        let mut partial = self.begin(*digest)?;
        partial.append_from(content)?;
        match partial.complete()? {
            Completion::Stored(_) => Ok(()),
            Completion::Differs(found) => bail!("its digest is {}", found.digest),
        }
    }

    /// Stores a file of this host, sharing its blocks where the file system can; tells whether it was new to the store. A damaged
    /// blob of the same content is replaced.
    ///
    /// # Errors
    /// Fails when the file cannot be read, changes meanwhile, or cannot be written to the store.
    pub fn insert_file(&self, path: &Path) -> Result<(Digest, bool)> {
        let reading = || format!("reading {}", path.display());
        let mut file = regular_file::open(path).with_context(reading)?;
        let (digest, _) = Digest::of_reader(&file).with_context(reading)?;
        if self.contains_whole(&digest)? {
            return Ok((digest, false));
        }
        let mut partial = self.begin(digest)?;
        file.rewind().with_context(reading)?;
        partial.copy_from(&mut file)?;
        match partial.complete()? {
            Completion::Stored(digest) => Ok((digest, true)),
            Completion::Differs(_) => Err(anyhow!("{} changed while it was read", path.display())),
        }
    }

    /// What failed on which path, and what helps.
    fn explain(&self, doing: &str, path: &Path, error: io::Error) -> anyhow::Error {
        explain(&self.root, doing, path, error)
    }
}

/// Takes the root of a store into use, or another directory of what is kept.
///
/// # Errors
/// Fails when it cannot be made, and when it is not this user's own: then the message says what to do.
pub fn open_root(root: &Path) -> Result<()> {
    own_directory::open(root).map_err(|error| explain(root, "creating", root, error))
}

fn explain(root: &Path, doing: &str, path: &Path, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        _ if own_directory::is_refusal(&error) => REFUSED,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space there (ocinitrd store gc), or choose another place for the cache with XDG_CACHE_HOME"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; make it writable for this user, or choose another place for the cache with XDG_CACHE_HOME"
        }
        _ => "",
    };
    anyhow!("{doing} {} of the store {}: {error}{advice}", path.display(), root.display())
}

fn record_use(path: &Path, now: SystemTime) -> io::Result<()> {
    let recorded = fs::metadata(path)?.modified()?;
    match now.duration_since(recorded) {
        Ok(age) if age < USE_GRANULARITY => Ok(()),
        // Also a mark in the future, of a clock that was wrong: it would keep the file for ever.
        _ => regular_file::open_own(path)?.set_modified(now),
    }
}

/// What a blob must be: its checksum and its size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    /// The checksum.
    pub checksum: Checksum,
    /// The size.
    pub size: Size,
}

/// How many bytes a blob has. There is always a bound before the first byte comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Size {
    /// As many, by what vouches for it.
    Exactly(u64),
    /// It is not told: no more than this.
    AtMost(u64),
}

impl Size {
    /// The size, if it is known.
    pub fn exact_bytes(self) -> Option<u64> {
        match self {
            Size::Exactly(size_bytes) => Some(size_bytes),
            Size::AtMost(_) => None,
        }
    }

    /// Refuses a blob that has, or will have, `size_bytes`.
    ///
    /// # Errors
    /// Fails with both numbers.
    pub fn check(self, size_bytes: u64) -> Result<()> {
        let is_right = self.exact_bytes().is_none_or(|exact| exact == size_bytes) && !self.is_exceeded(size_bytes);
        ensure!(is_right, "the file there has {size_bytes} bytes{self}");
        Ok(())
    }

    /// Whether so many bytes are too many.
    pub fn is_exceeded(self, size_bytes: u64) -> bool {
        let (Size::Exactly(limit) | Size::AtMost(limit)) = self;
        size_bytes > limit
    }
}

/// What was expected, to stand behind a number of bytes.
impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Exactly(size_bytes) => write!(formatter, " instead of {size_bytes}"),
            Size::AtMost(limit) => {
                write!(formatter, ", and no more than {limit} are taken where nothing tells the size")
            }
        }
    }
}

impl Expected {
    /// Whether bytes are as expected.
    ///
    /// # Errors
    /// Fails naming the property that differs, with both values.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let measured = Measured::of(bytes, &self.checksum);
        self.size.check(measured.size_bytes)?;
        ensure!(measured.matches(&self.checksum), "its checksum is not {}", self.checksum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use std::os::unix::fs::{PermissionsExt, symlink};

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
    fn a_damaged_blob_is_discarded_and_a_whole_one_stays() {
        let (directory, store) = store();
        let digest = store.insert(b"initrd").unwrap();
        assert!(!store.discard_if_damaged(&digest).unwrap() && store.contains(&digest));
        let store = Store::open(directory.path()).unwrap();
        fs::remove_file(store.path(&digest)).unwrap();
        assert!(!store.discard_if_damaged(&digest).unwrap());
        fs::write(store.path(&digest), b"initrD").unwrap();
        assert!(store.discard_if_damaged(&digest).unwrap() && !store.contains(&digest));
    }

    #[test]
    fn what_is_stored_again_takes_the_place_of_a_damaged_blob() {
        let (directory, store) = store();
        let original = directory.path().join("original");
        fs::write(&original, b"initrd").unwrap();
        let digest = store.insert(b"initrd").unwrap();
        let by_bytes = |store: &Store| store.insert(b"initrd").unwrap();
        let by_file = |store: &Store| store.insert_file(&original).unwrap().0;
        for insert in [&by_bytes as &dyn Fn(&Store) -> Digest, &by_file] {
            fs::remove_file(store.path(&digest)).unwrap();
            fs::write(store.path(&digest), b"initrD").unwrap();
            let store = Store::open(directory.path()).unwrap();
            assert_eq!(insert(&store), digest);
            assert_eq!(fs::read(store.path(&digest)).unwrap(), b"initrd");
        }
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
        assert_eq!(fs::metadata(store.path(&digest)).unwrap().mode() & 0o7777, 0o400);
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
    fn use_is_recorded_once_a_day_and_marks_in_the_future_are_corrected() {
        let (_directory, store) = store();
        let path = store.path(&store.insert(b"initrd").unwrap());
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        for (mark, is_kept) in [
            (now - USE_GRANULARITY + minute, true),
            (now - USE_GRANULARITY - minute, false),
            (now + USE_GRANULARITY, false),
        ] {
            File::open(&path).unwrap().set_modified(mark).unwrap();
            store.read(&Digest::of(b"initrd")).unwrap();
            let recorded = fs::metadata(&path).unwrap().modified().unwrap();
            assert_eq!(recorded == mark, is_kept);
            assert!(is_kept || recorded.duration_since(now).unwrap() < minute);
        }
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(store.contains(&Digest::of(b"initrd")));
        assert!(fs::metadata(&path).unwrap().modified().unwrap() >= now);
    }

    #[test]
    fn files_are_stored_by_content_once() {
        let (directory, store) = store();
        let original = directory.path().join("original");
        fs::write(&original, b"initrd").unwrap();
        assert_eq!(store.insert_file(&original).unwrap(), (Digest::of(b"initrd"), true));
        assert_eq!(store.insert_file(&original).unwrap(), (Digest::of(b"initrd"), false));
        assert_eq!(fs::read(store.path(&Digest::of(b"initrd"))).unwrap(), b"initrd");
        assert_eq!(partials(&store), 0);
        let message = format!("{:#}", store.insert_file(&directory.path().join("absent")).unwrap_err());
        assert!(message.starts_with("reading ") && message.contains("/absent: No such file"), "{message}");
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

    #[test]
    fn nothing_is_written_through_a_symlink_in_the_store() {
        let (directory, store) = store();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let digest = Digest::of(b"initrd");
        symlink(&victim, directory.path().join(format!("partial/sha256-{}", digest.hex()))).unwrap();
        let message = format!("{:#}", store.insert(b"initrd").unwrap_err());
        assert!(message.contains("it is a symlink"), "{message}");
        symlink(&victim, store.path(&digest)).unwrap();
        assert!(!store.contains(&digest) && store.read(&digest).is_err());
        drop(store);
        let lock = directory.path().join(LOCK);
        fs::remove_file(&lock).unwrap();
        symlink(&victim, &lock).unwrap();
        let message = format!("{:#}", Store::open(directory.path()).unwrap_err());
        assert!(message.contains("it is a symlink"), "{message}");
        let victims = fs::symlink_metadata(&victim).unwrap();
        assert_eq!((fs::read(&victim).unwrap().as_slice(), victims.mode() & 0o777), (&b"precious"[..], 0o644));
    }

    #[test]
    fn a_store_of_an_earlier_version_is_closed_to_others_and_one_that_they_may_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        let old = base.path().join("old");
        let directories = ["", "blobs", "blobs/sha256", "partial", "cache"].map(|name| old.join(name));
        for directory in &directories {
            fs::create_dir(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let store = Store::open(&old).unwrap();
        directories.iter().for_each(|directory| assert_eq!(mode(directory), 0o700, "{}", directory.display()));
        assert_eq!(mode(&store.path(&store.insert(b"initrd").unwrap())), 0o400);
        let foreign = base.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::set_permissions(&foreign, fs::Permissions::from_mode(0o777)).unwrap();
        let message = format!("{:#}", Store::open(&foreign).unwrap_err());
        assert!(message.contains("other users may write") && message.contains("XDG_CACHE_HOME"), "{message}");
        assert!(fs::read_dir(&foreign).unwrap().next().is_none());
    }
}
