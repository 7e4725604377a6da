//! What the store no longer needs, and its removal while nobody else uses the store.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Item, Kind, Store, USE_GRANULARITY};

/// A download that was cut off may be taken up again for so long.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expiry {
    /// What was used within so many days.
    Days(u32),
    /// Nothing.
    Everything,
}

impl Expiry {
    /// Whether `item` is to be removed at the time `now`.
    pub fn is_over(self, item: &Item, now: SystemTime) -> bool {
        let Expiry::Days(days) = self else { return true };
        let kept = match item.kind {
            Kind::Temporary(_) => return true,
            Kind::Partial(_) => PARTIAL_AGE,
            // The last use may be later than recorded.
            Kind::Blob(_) | Kind::Cached { .. } => USE_GRANULARITY * days + USE_GRANULARITY,
        };
        now.duration_since(item.last_use).is_ok_and(|age| age > kept)
    }
}

/// A store that nobody else uses for as long as this lives: temporary files in it are of killed processes, and what is
/// removed from it is missed by nobody.
#[derive(Debug)]
pub struct ExclusiveStore {
    store: Store,
}

impl Store {
    /// Keeps others out of the store, who wait meanwhile.
    ///
    /// # Errors
    /// Fails when another process, or another opened store of this one, is using it.
    pub fn alone(self) -> Result<ExclusiveStore> {
        loop {
            match flock(&*self.lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(ExclusiveStore { store: self }),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => bail!(
                    "another ocinitrd is using the store {}; nothing was removed, run this again when it is done",
                    self.root.display()
                ),
                Err(error) => return Err(self.explain("locking", &self.root.join(super::LOCK), error.into())),
            }
        }
    }
}

impl ExclusiveStore {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Removes a file of the store, or a temporary directory with all in it.
    ///
    /// # Errors
    /// Fails when it cannot be removed.
    pub fn remove(&self, item: &Item) -> Result<()> {
        let removed = if item.path.is_dir() { fs::remove_dir_all(&item.path) } else { fs::remove_file(&item.path) };
        removed.map_err(|error| self.store.explain("removing", &item.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_format::digest::Digest;

    #[test]
    fn what_was_used_within_the_days_stays_and_leftovers_go() {
        const DAY: u64 = 24 * 60 * 60;
        let now = SystemTime::now();
        let blob = Kind::Blob(Digest::of(b""));
        let cached = Kind::Cached { kind: "layer".to_owned(), key: Digest::of(b"") };
        let partial = Kind::Partial("sha256-00".to_owned());
        let is_over = |kind: &Kind, age_seconds: u64, expiry: Expiry| {
            let last_use = now - Duration::from_secs(age_seconds);
            expiry.is_over(&Item { kind: kind.clone(), path: "/x".into(), size_bytes: 0, last_use }, now)
        };
        for kind in [&blob, &cached] {
            // Recorded 31 days ago it may have been used 30 days ago.
            assert!(!is_over(kind, 31 * DAY, Expiry::Days(30)));
            assert!(is_over(kind, 31 * DAY + 1, Expiry::Days(30)));
            assert!(is_over(kind, 0, Expiry::Everything));
        }
        assert!(!is_over(&partial, DAY, Expiry::Days(30)) && is_over(&partial, DAY + 1, Expiry::Days(30)));
        assert!(is_over(&Kind::Temporary(".tmp".to_owned()), 0, Expiry::Days(30)));
        let ahead = Item { kind: blob, path: "/x".into(), size_bytes: 0, last_use: now + Duration::from_secs(DAY) };
        assert!(!Expiry::Days(30).is_over(&ahead, now));
    }

    #[test]
    fn store_in_use_is_not_had_alone_and_those_who_come_wait() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Store::open(directory.path()).unwrap();
        let other = open();
        let clone = other.clone();
        drop(other);
        let message = open().alone().unwrap_err().to_string();
        assert!(message.starts_with("another ocinitrd is using the store "), "{message}");
        drop(clone);
        let alone = open().alone().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let root = directory.path().to_owned();
        let waiting = std::thread::spawn(move || {
            Store::open(&root).unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
        drop(alone);
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        waiting.join().unwrap();
    }
}
