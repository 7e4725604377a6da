//! How a tar stream is compressed, told by its first bytes, and decoders for all of it.
//!
//! Layers of some builders are many members one after the other (eStargz, pigz, zstd:chunked with its skippable frames).
//! These decoders read them all; those of [`ocinitrd_format::compress`] stop after one, as the kernel's segments need.

use std::io::{self, BufRead, Cursor, Read};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;

use ocinitrd_format::compress::Codec;

/// Looks at the first bytes, and gives the stream back whole. The codec is gzip, zstd or none.
pub(super) fn detect<R: Read>(mut input: R) -> Result<(Codec, impl Read + use<R>)> {
    let mut head = Vec::new();
    (&mut input).take(Codec::MAGIC_BYTES as u64).read_to_end(&mut head).context("reading the tar stream")?;
    let codec = Codec::detect(&head).unwrap_or(Codec::None);
    match codec {
        Codec::Gzip | Codec::Zstd => {}
        Codec::None if matches!(head.as_slice(), b"070701" | b"070702") => {
            bail!("this is a cpio archive; expected is a tar archive, plain or compressed with gzip or zstd")
        }
        Codec::None => {}
        other => {
            bail!("the archive is compressed with {other}; unpack it on the way: {other} -dc FILE | ocinitrd convert -")
        }
    }
    Ok((codec, Cursor::new(head).chain(input)))
}

/// A decoder over a buffered input.
pub(super) enum Decoder<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn gzip(input: R) -> Self {
        Decoder::Gzip(Box::new(MultiGzDecoder::new(input)))
    }

    pub(super) fn zstd(input: R) -> Result<Self> {
        Ok(Decoder::Zstd(zstd::Decoder::with_buffer(input).context("starting the zstd decoder")?))
    }

    /// The input, of which a trailer may be left.
    pub(super) fn into_inner(self) -> R {
        match self {
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (name, result) = match self {
            Decoder::Gzip(decoder) => ("gzip", decoder.read(buffer)),
            Decoder::Zstd(decoder) => ("zstd", decoder.read(buffer)),
        };
        result.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("unpacking {name}: {error}; the archive is truncated or damaged")),
        })
    }
}
