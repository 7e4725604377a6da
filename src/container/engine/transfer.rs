//! Tar streams between blocking code of ours and the engine's asynchronous bodies, in bounded memory.
//!
//! In: whatever writes a tar stream; out: a body for the engine. In: a body from the engine with one file as a tar
//! stream (POSIX ustar and pax); out: the file's bytes, checked to be all of them and the only member.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::cancellation::Cancellation;

/// Bytes in a piece. The engine's own pieces are 32 KiB.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces under way: with [`PIECE_BYTES`], how far a producer may run ahead.
const PIECES: usize = 8;
/// A tar archive consists of blocks of this size and ends with two of zeros.
const BLOCK_BYTES: u64 = 512;

/// The blocking end of an upload.
pub(super) struct Upload {
    buffer: BytesMut,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    refused: bool,
}

/// A writer for blocking code and the stream of what is written to it.
pub(super) fn upload() -> (Upload, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, mut receiver) = mpsc::channel(PIECES);
    let upload = Upload { buffer: BytesMut::with_capacity(PIECE_BYTES), pieces: sender, refused: false };
    (upload, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

impl Upload {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE_BYTES)).freeze();
        self.pieces.blocking_send(Ok(piece)).map_err(|_| {
            self.refused = true;
            io::Error::new(io::ErrorKind::BrokenPipe, "the engine stopped reading")
        })
    }

    /// Ends the stream well.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }

    /// Ends the stream with an error, so that what was sent is not taken for all of it. Tells whether the engine had
    /// stopped reading before.
    pub(super) fn fail(self) -> bool {
        let _ = self.pieces.blocking_send(Err(io::Error::other("the archive could not be made")));
        self.refused
    }
}

impl Write for Upload {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The blocking end of a download: reads a body, and fails when the run is asked to end.
pub(super) struct Download<S> {
    body: S,
    piece: Bytes,
    runtime: Handle,
    cancellation: Cancellation,
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Download<S> {
    /// To be read in a place where blocking is allowed.
    pub(super) fn new(body: S, cancellation: &Cancellation) -> Self {
        let runtime = Handle::current();
        Download { body, piece: Bytes::new(), runtime, cancellation: cancellation.clone() }
    }

    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let (body, cancellation) = (&mut self.body, &self.cancellation);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                interrupted = cancellation.cancelled() => Err(interrupted.into()),
                piece = body.next() => piece.transpose().map_err(io::Error::other),
            }
        })
    }
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Read for Download<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !buffer.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Counts what is read.
struct CountingReader<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Copies the one file of a tar stream into `sink` and returns its size in bytes.
///
/// The engine sends its headers before it reads the file, so an error after that only ends the stream early, maybe
/// between two members: the size and the two closing blocks are what tells a whole archive.
pub(super) fn unpack_file(stream: impl Read, sink: &mut dyn Write) -> Result<u64> {
    let mut counted = CountingReader { inner: stream, position: 0 };
    let mut archive = tar::Archive::new(&mut counted);
    let mut entries = archive.entries().context("reading the archive")?;
    let mut entry = entries.next().context("the archive is empty")?.context("reading the archive's header")?;
    let kind = entry.header().entry_type();
    ensure!(kind.is_file(), "it is no regular file, but {kind:?}");
    let (start, size_bytes) = (entry.raw_file_position(), entry.size());
    let copied = io::copy(&mut entry, sink).context("copying")?;
    ensure!(copied == size_bytes, "it is truncated: {copied} of {size_bytes} bytes came");
    drop(entry);
    if let Some(second) = entries.next() {
        let second = second.context("reading the archive's end")?;
        bail!("the archive has a second member, {}", second.path_bytes().escape_ascii());
    }
    io::copy(&mut counted, &mut io::sink()).context("reading the archive's end")?;
    let end = (start + size_bytes).next_multiple_of(BLOCK_BYTES);
    ensure!(counted.position >= end + 2 * BLOCK_BYTES, "it is truncated: the archive's closing blocks are missing");
    Ok(size_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack(stream: &[u8]) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let size = unpack_file(stream, &mut content)?;
        assert_eq!(size, content.len() as u64);
        Ok(content)
    }

    #[test]
    fn a_file_comes_whole() {
        for size in [0, 1, 511, 512, 513, 100_000] {
            let content = vec![b'x'; size];
            assert_eq!(unpack(&archive(&[("layer.tar", &content)])).unwrap(), content);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_refused() {
        // Zeros at the end: they must not pass for the closing blocks.
        let whole = archive(&[("zeros", &[0; 2048])]);
        assert_eq!(whole.len(), 512 + 2048 + 1024);
        for length in [0, 1, 511, 512, 513, 512 + 2047, 512 + 2048, whole.len() - 512, whole.len() - 1] {
            let error = unpack(&whole[..length]).unwrap_err();
            assert!(!format!("{error:#}").is_empty(), "{length}");
        }
        unpack(&whole).unwrap();
    }

    #[test]
    fn anything_but_one_regular_file_is_refused() {
        let message = unpack(&archive(&[("a", b"1"), ("b", b"2")])).unwrap_err().to_string();
        assert!(message.contains("second member, b"), "{message}");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        builder.append_data(&mut header, "directory", io::empty()).unwrap();
        let message = unpack(&builder.into_inner().unwrap()).unwrap_err().to_string();
        assert!(message.contains("no regular file"), "{message}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_written_comes_out_in_bounded_pieces() {
        let (mut writer, stream) = upload();
        let length = PIECE_BYTES * 20 + 7;
        let producer = tokio::task::spawn_blocking(move || {
            writer.write_all(&vec![b'y'; length])?;
            writer.finish()
        });
        let pieces: Vec<_> = stream.collect().await;
        producer.await.unwrap().unwrap();
        let sizes: Vec<usize> = pieces.into_iter().map(|piece| piece.unwrap().len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), length);
        assert!(sizes.iter().all(|size| *size <= PIECE_BYTES));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failed_producer_spoils_the_stream() {
        let (mut writer, stream) = upload();
        let producer = tokio::task::spawn_blocking(move || {
            writer.write_all(b"half").unwrap();
            writer.fail()
        });
        let pieces: Vec<_> = stream.collect().await;
        assert!(!producer.await.unwrap(), "the engine did not refuse");
        assert!(pieces.last().unwrap().is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_download_ends_when_the_run_is_asked_to_end() {
        let (cancellation, trigger) = Cancellation::manual();
        let never = futures_util::stream::pending::<Result<Bytes>>();
        let mut download = Download::new(never, &cancellation);
        let reading = tokio::task::spawn_blocking(move || download.read(&mut [0; 8]));
        trigger.pull(super::super::cancellation::Signal::Interrupt);
        assert_eq!(reading.await.unwrap().unwrap_err().to_string(), "interrupted by Ctrl-C");
    }
}
