//! A tar stream to a [`Layer`]: its entries as a checked [`Tree`], its bytes in a spool without a name, its digests.
//!
//! Input is a tar archive, plain or compressed with gzip or zstd, as `tar --numeric-owner --xattrs`, `podman export`
//! and OCI image layers have it. The uncompressed archive itself is the spool: it is written once, and files are
//! ranges of it; a plain archive that is a file on disk is its own spool and is only read. In memory there is an
//! entry's metadata, never its content. [`write_tar`] is the way back.

mod archive;
mod canonical;
mod codec;
mod import;
mod number;
mod pax;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

pub use canonical::write_tar;

use crate::image::tree::Tree;
use archive::{Archive, Headers, Source};
use codec::Decoder;
use ocinitrd_format::background::BackgroundHasher;
use ocinitrd_format::compress::Codec;
use ocinitrd_format::digest::{Digest, Hasher};
use ocinitrd_format::tally::Tally;

/// How much is read, hashed and spooled at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What is done to an archive's entries on the way.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Leave out everything below `dev/`: the kernel fills it.
    pub drop_device_directory: bool,
    /// Add directories that entries lie in without being entries, with this modification time in seconds, and refuse
    /// entries below anything else. `None` for an image layer, whose directories may be in the layers below it.
    pub add_missing_parents: Option<u64>,
    /// Larger files are refused; a cpio archive ends at 4 GiB - 1.
    pub largest_file_bytes: u64,
    /// Of archives that are unpacked into a spool, longer ones are refused before they fill the disk.
    pub unpacked_limit_bytes: u64,
    /// What paths and attributes may take in memory.
    pub memory_limit_bytes: u64,
}

/// Far above the memory of most machines, which an initrd has to fit in: 16 GiB.
const UNPACKED_LIMIT_BYTES: u64 = 16 << 30;
/// Enough for one and a half million entries: 512 MiB.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;

/// An archive, or the layers of an image together, unpack to more bytes than [`Rules::unpacked_limit_bytes`].
#[derive(Debug)]
pub struct TooLong {
    /// What it may be at most.
    pub limit_bytes: u64,
}

impl TooLong {
    /// Whether a layer was refused for this reason.
    pub fn is_cause_of(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| match cause.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().is_some_and(|inner| inner.is::<TooLong>()),
            None => cause.is::<TooLong>(),
        })
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "it unpacks to more than {} bytes", self.limit_bytes)
    }
}

impl std::error::Error for TooLong {}

impl Rules {
    /// For an archive that is a whole root file system: complete, and fit for a cpio archive.
    pub fn root_filesystem() -> Self {
        Rules {
            drop_device_directory: false,
            add_missing_parents: Some(0),
            largest_file_bytes: u32::MAX.into(),
            unpacked_limit_bytes: UNPACKED_LIMIT_BYTES,
            memory_limit_bytes: MEMORY_LIMIT_BYTES,
        }
    }

    /// For one layer of an image, to be stacked by [`Tree::apply_layer`].
    pub fn image_layer() -> Self {
        Rules { add_missing_parents: None, ..Rules::root_filesystem() }
    }
}

/// A tar stream that was read to its end and found whole.
#[derive(Debug)]
pub struct Layer {
    /// Its entries; contents lie in the spool.
    pub tree: Tree,
    /// The digest of the stream as it was read.
    pub digest: Digest,
    /// The length of the stream as it was read, in bytes.
    pub size_bytes: u64,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The length of the uncompressed archive, in bytes.
    pub unpacked_bytes: u64,
    /// The uncompressed archive.
    pub spool: Arc<File>,
    /// Oddities that a person should know.
    pub warnings: Tally,
}

impl Layer {
    /// Reads a stream; the uncompressed archive goes into an unnamed file in `spool_directory`.
    ///
    /// # Errors
    /// Refuses a truncated or damaged archive and entries that no initrd can hold or that lead out of the tree.
    pub fn read(input: impl Read, spool_directory: &Path, rules: &Rules) -> Result<Self> {
        let (codec, input) = codec::detect(input)?;
        let spool = spool_in(spool_directory)?;
        let copy = Sink::Spool(Arc::clone(&spool));
        let packed =
            |input| BufReader::with_capacity(CHUNK_BYTES, Tee::new(input, Hasher::new(Sink::Nowhere), u64::MAX));
        let mut decoder = match codec {
            Codec::Gzip => Decoder::gzip(packed(input)),
            Codec::Zstd => Decoder::zstd(packed(input))?,
            _ => return Layer::read_plain(input, copy, &spool, rules),
        };
        let plain = Layer::read_plain(&mut decoder, copy, &spool, rules)?;
        let mut input = decoder.into_inner();
        io::copy(&mut input, &mut io::sink()).context("reading the tar stream")?;
        let (_, digest, size_bytes) = input.into_inner().copy.finish();
        Ok(Layer { digest, size_bytes, ..plain })
    }

    /// Reads a file from its start. A plain archive is not copied: the tree refers to `file`, which must not change
    /// as long as the tree is used.
    ///
    /// # Errors
    /// As [`Layer::read`].
    pub fn read_file(mut file: File, spool_directory: &Path, rules: &Rules) -> Result<Self> {
        if !is_plain_file(&mut file)? {
            return Layer::read(file, spool_directory, rules);
        }
        let file = Arc::new(file);
        Layer::read_plain(&*file, Sink::Nowhere, &file, rules)
    }

    fn read_plain(input: impl Read, copy: Sink, spool: &Arc<File>, rules: &Rules) -> Result<Self> {
        let is_spooled = matches!(copy, Sink::Spool(_));
        let copy = BackgroundHasher::new(copy).context("starting a thread")?;
        let limit_bytes = if is_spooled { rules.unpacked_limit_bytes } else { u64::MAX };
        let input = BufReader::with_capacity(CHUNK_BYTES, Tee::new(input, copy, limit_bytes));
        let (Contents { tree, warnings }, input) = Contents::read_archive(input, spool, rules)?;
        let (_, diff_id, size_bytes) = input.into_inner().copy.finish();
        Ok(Layer {
            tree,
            digest: diff_id,
            size_bytes,
            diff_id,
            unpacked_bytes: size_bytes,
            spool: Arc::clone(spool),
            warnings,
        })
    }
}

/// A tree, and what a person should know of how it was read.
#[derive(Debug)]
pub struct Contents {
    /// The entries.
    pub tree: Tree,
    /// Oddities.
    pub warnings: Tally,
}

impl Contents {
    /// Reads a file from its start, as [`Layer::read_file`] does, when no digest is wanted: of a plain archive only
    /// the headers are read.
    ///
    /// # Errors
    /// As [`Layer::read`].
    pub fn read_file(mut file: File, spool_directory: &Path, rules: &Rules) -> Result<Self> {
        if !is_plain_file(&mut file)? {
            return Layer::read(file, spool_directory, rules).map(Contents::from);
        }
        let file = Arc::new(file);
        let headers = Headers::of(&file).context("reading the tar stream")?;
        Ok(Contents::read_archive(headers, &file, rules)?.0)
    }

    fn read_archive<R: Source>(source: R, spool: &Arc<File>, rules: &Rules) -> Result<(Self, R)> {
        let mut archive = Archive::new(source);
        let tree = import::import(&mut archive, spool, rules)?;
        let (source, warnings) = archive.finish();
        Ok((Contents { tree, warnings }, source))
    }
}

impl From<Layer> for Contents {
    fn from(layer: Layer) -> Self {
        Contents { tree: layer.tree, warnings: layer.warnings }
    }
}

/// Whether it is a file on disk with an archive that is not compressed; leaves it at its start if it is on disk.
fn is_plain_file(file: &mut File) -> Result<bool> {
    if !file.metadata().context("reading the archive's metadata")?.is_file() {
        return Ok(false);
    }
    let (codec, _) = codec::detect(&*file)?;
    file.rewind().context("reading the tar stream")?;
    Ok(codec == Codec::None)
}

fn spool_in(directory: &Path) -> Result<Arc<File>> {
    let file = tempfile::tempfile_in(directory).with_context(|| {
        format!("making a temporary file in {}; set TMPDIR to a writable directory with room", directory.display())
    })?;
    Ok(Arc::new(file))
}

/// Where the bytes that are read go besides.
enum Sink {
    Spool(Arc<File>),
    Nowhere,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Sink::Spool(file) = self else { return Ok(buffer.len()) };
        file.write(buffer).map_err(|error| {
            let message = format!("writing the temporary copy: {error}; set TMPDIR to a directory with more room");
            io::Error::new(error.kind(), message)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies what is read through it, as long as that has not more than so many bytes.
struct Tee<R, W> {
    source: R,
    copy: W,
    limit_bytes: u64,
    left_bytes: u64,
}

impl<R, W> Tee<R, W> {
    fn new(source: R, copy: W, limit_bytes: u64) -> Self {
        Tee { source, copy, limit_bytes, left_bytes: limit_bytes }
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let Some(left_bytes) = self.left_bytes.checked_sub(count as u64) else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLong { limit_bytes: self.limit_bytes }));
        };
        self.left_bytes = left_bytes;
        self.copy.write_all(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
