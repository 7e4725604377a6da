//! Hashing beside the work: what goes through is hashed on a thread of its own, so that the slower of the two counts.
//!
//! Worth it where bytes are only copied: SHA-256 takes as long as reading and writing them again.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{self, JoinHandle};

use super::digest::{Digest, Hasher};

/// Large enough that handing over costs nothing, small enough for the cache.
const CHUNK_BYTES: usize = 256 << 10;
/// How many chunks may wait for the hashing thread.
const WAITING_CHUNKS: usize = 4;

/// As [`Hasher`], with the hashing on another thread.
pub struct BackgroundHasher<W> {
    inner: W,
    filling: Vec<u8>,
    filled: SyncSender<Vec<u8>>,
    hashed: Receiver<Vec<u8>>,
    thread: JoinHandle<(Digest, u64)>,
}

impl<W> BackgroundHasher<W> {
    /// Wraps `inner`.
    ///
    /// # Errors
    /// Fails when no thread can be started.
    pub fn new(inner: W) -> io::Result<Self> {
        let (filled, to_hash) = sync_channel::<Vec<u8>>(WAITING_CHUNKS);
        let (give_back, hashed) = channel();
        let thread = thread::Builder::new().name("sha256".to_owned()).spawn(move || {
            let mut hasher = Hasher::new(io::sink());
            for mut chunk in to_hash {
                hasher.write_all(&chunk).expect("a sink takes everything");
                chunk.clear();
                // The other end is gone only when the work was given up.
                let _ = give_back.send(chunk);
            }
            let (_, digest, size_bytes) = hasher.finish();
            (digest, size_bytes)
        })?;
        Ok(BackgroundHasher { inner, filling: Vec::with_capacity(CHUNK_BYTES), filled, hashed, thread })
    }

    /// The wrapped writer, the digest and the length in bytes of what went through.
    pub fn finish(mut self) -> (W, Digest, u64) {
        self.hand_over();
        drop(self.filled);
        let (digest, size_bytes) = self.thread.join().expect("the hashing thread does not panic");
        (self.inner, digest, size_bytes)
    }

    fn hand_over(&mut self) {
        let next = match self.hashed.try_recv() {
            Ok(chunk) => chunk,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Vec::with_capacity(CHUNK_BYTES),
        };
        let full = std::mem::replace(&mut self.filling, next);
        self.filled.send(full).expect("the hashing thread runs until this end is dropped");
    }
}

impl<W: Write> Write for BackgroundHasher<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        let mut written = &buffer[..count];
        while !written.is_empty() {
            let (part, rest) = written.split_at(written.len().min(CHUNK_BYTES - self.filling.len()));
            self.filling.extend_from_slice(part);
            if self.filling.len() == CHUNK_BYTES {
                self.hand_over();
            }
            written = rest;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_hasher_for_any_length_and_cut() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 7] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            for cut in [length.max(1), 1000] {
                let mut hasher = BackgroundHasher::new(Vec::new()).unwrap();
                for part in bytes.chunks(cut) {
                    hasher.write_all(part).unwrap();
                }
                let (inner, digest, size_bytes) = hasher.finish();
                assert_eq!((digest, size_bytes), (Digest::of(&bytes), length as u64));
                assert!(inner == bytes);
            }
        }
    }

    #[test]
    fn only_what_was_written_is_hashed() {
        struct Short;
        impl Write for Short {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                Ok(buffer.len().min(3))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut hasher = BackgroundHasher::new(Short).unwrap();
        assert_eq!(hasher.write(b"initrd").unwrap(), 3);
        assert_eq!(hasher.finish().1, Digest::of(b"ini"));
    }
}
