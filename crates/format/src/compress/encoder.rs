//! Bytes in, one compressed member out. The member is the same for any number of cores and any cut of the writes.

use std::io::{self, Write};
use std::num::NonZero;
use std::thread::available_parallelism;

use flate2::write::GzEncoder;
use liblzma::stream::{Check, MtStreamBuilder};
use liblzma::write::XzEncoder;
use zstd::zstd_safe::CParameter;

use super::Compression;
use super::lz4_legacy;

/// zstd's own bound is 256; more than this many only cost memory.
const WORKERS_MAX: u32 = 64;

/// Compresses what is written to it. Nothing is complete before [`Encoder::finish`]; `flush` does nothing, since ending
/// a block early costs size and would make the bytes depend on the cut of the writes.
pub struct Encoder<W: Write>(Codec<W>);

enum Codec<W: Write> {
    Zstd(zstd::Encoder<'static, W>),
    Xz(XzEncoder<W>),
    Gzip(Pieces<GzEncoder<W>>),
    Lz4(lz4_legacy::Writer<W>),
    None(W),
}

impl<W: Write> Encoder<W> {
    /// Starts a member, compressed with as many workers as there are cores.
    ///
    /// # Errors
    /// Fails when the compressor cannot be set up, for want of memory.
    pub fn new(inner: W, compression: Compression) -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Encoder::with_workers(inner, compression, u32::try_from(cores).unwrap_or(WORKERS_MAX))
    }

    /// Starts a member with a given number of workers, at least 1. It changes the speed, not the bytes.
    ///
    /// # Errors
    /// Fails when the compressor cannot be set up, for want of memory.
    pub fn with_workers(inner: W, compression: Compression, workers: u32) -> io::Result<Self> {
        let workers = workers.clamp(1, WORKERS_MAX);
        Ok(Encoder(match compression {
            Compression::Zstd(level) => Codec::Zstd(zstd_encoder(inner, level, workers)?),
            Compression::Xz(level) => Codec::Xz(xz_encoder(inner, level, workers)?),
            Compression::Gzip(level) => Codec::Gzip(gzip_encoder(inner, level)),
            Compression::Lz4 => Codec::Lz4(lz4_legacy::Writer::new(inner)),
            Compression::None => Codec::None(inner),
        }))
    }

    /// Completes the member.
    ///
    /// # Errors
    /// Fails when the output does.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Codec::Zstd(encoder) => encoder.finish(),
            Codec::Xz(encoder) => encoder.finish(),
            Codec::Gzip(pieces) => pieces.finish()?.finish(),
            Codec::Lz4(encoder) => encoder.finish(),
            Codec::None(inner) => Ok(inner),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Codec::Zstd(encoder) => encoder.write(buffer),
            Codec::Xz(encoder) => encoder.write(buffer),
            Codec::Gzip(pieces) => pieces.write(buffer),
            Codec::Lz4(encoder) => encoder.write(buffer),
            Codec::None(inner) => inner.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Always through the multi-threaded interface, whose bytes differ from the other's, and with a job size of our own, on which the
/// bytes depend. The window is the level's: 128 MiB at level 22, the largest the kernel takes. The length is not pledged, as it is
/// not known.
fn zstd_encoder<W: Write>(inner: W, level: u8, workers: u32) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(inner, i32::from(level))?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(false)?;
    encoder.multithread(workers)?;
    encoder.set_parameter(CParameter::JobSize(zstd_job_bytes(level)))?;
    Ok(encoder)
}

/// At least four windows up to level 19, so that jobs lose little by not seeing each other.
fn zstd_job_bytes(level: u8) -> u32 {
    match level {
        ..=9 => 16 << 20,
        10..=19 => 32 << 20,
        _ => 128 << 20,
    }
}

/// The kernel verifies CRC32 only. Blocks of three dictionaries are independent of each other and so of the number of workers.
fn xz_encoder<W: Write>(inner: W, level: u8, workers: u32) -> io::Result<XzEncoder<W>> {
    let block_bytes = (24 << 20) << level.saturating_sub(6);
    let stream = MtStreamBuilder::new()
        .threads(workers)
        .preset(level.into())
        .block_size(block_bytes)
        .check(Check::Crc32)
        .encoder()?;
    Ok(XzEncoder::new_stream(inner, stream))
}

/// Without name and time, which is the default.
fn gzip_encoder<W: Write>(inner: W, level: u8) -> Pieces<GzEncoder<W>> {
    Pieces::new(GzEncoder::new(inner, flate2::Compression::new(level.into())))
}

/// Hands data on in pieces of one size however it was written, because what deflate makes of it depends on the cut.
struct Pieces<W> {
    inner: W,
    piece: Vec<u8>,
}

impl<W: Write> Pieces<W> {
    const SIZE_BYTES: usize = 128 << 10;

    fn new(inner: W) -> Self {
        Pieces { inner, piece: Vec::with_capacity(Self::SIZE_BYTES) }
    }

    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.piece.len() == Self::SIZE_BYTES {
            self.inner.write_all(&self.piece)?;
            self.piece.clear();
        }
        let count = buffer.len().min(Self::SIZE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&self.piece)?;
        Ok(self.inner)
    }
}
