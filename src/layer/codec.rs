//! How a tar stream is compressed, told by its first bytes, and the decoders that give their input back at the end.

use std::io::{self, BufRead, Cursor, Read};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;

/// The compressions that OCI image layers have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Codec {
    Gzip,
    Zstd,
}

impl Codec {
    /// Looks at the first bytes, and gives the stream back whole; `None` for what is not compressed.
    pub(super) fn detect<R: Read>(mut input: R) -> Result<(Option<Self>, impl Read + use<R>)> {
        const LONGEST_MAGIC: u64 = 6;
        let mut head = Vec::new();
        (&mut input).take(LONGEST_MAGIC).read_to_end(&mut head).context("reading the tar stream")?;
        let codec = match head.as_slice() {
            [0x1f, 0x8b, ..] => Some(Codec::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return refuse("xz"),
            [b'B', b'Z', b'h', ..] => return refuse("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => return refuse("lz4"),
            b"070701" | b"070702" => bail!("this is a cpio archive; expected is a tar archive, plain, gzip or zstd"),
            _ => None,
        };
        Ok((codec, Cursor::new(head).chain(input)))
    }
}

fn refuse<T>(program: &str) -> Result<T> {
    bail!("the archive is compressed with {program}; unpack it on the way: {program} -dc FILE | ocinitrd convert -")
}

/// A decoder over a buffered input.
pub(super) enum Decoder<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(codec: Codec, input: R) -> Result<Self> {
        Ok(match codec {
            Codec::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Codec::Zstd => Decoder::Zstd(zstd::Decoder::with_buffer(input).context("starting the zstd decoder")?),
        })
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
