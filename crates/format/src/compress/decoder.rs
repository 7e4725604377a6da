//! One compressed member in, its bytes out; what follows the member stays unread.

use std::io::{self, BufReader, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use super::lz4_legacy;
use super::xz_blocks::XzInput;
use super::{Codec, Input};

/// The kernel's bound for zstd, 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Above what xz -9 needs (65 MiB), and a bound for what a damaged header may ask for.
const LZMA_MEMORY_MAX_BYTES: u64 = 512 << 20;

/// `FHCRC`, `FEXTRA` and `FCOMMENT`: the kernel takes what they announce for compressed data.
const GZIP_UNREAD_FLAGS: u8 = 0x02 | 0x04 | 0x10;
/// In the byte after the magic numbers and the checksum of the first block.
const BZIP2_RANDOMISED: u8 = 0x80;
/// How much of a member is looked at before it is decoded.
const HEADER_BYTES: usize = 15;

/// Decodes the member at the start of an [`Input`].
pub struct Decoder<R: Read> {
    codec: Codec,
    start: u64,
    /// Why the kernel does not take the member, from its start.
    objection: Option<&'static str>,
    member: Member<R>,
}

enum Member<R: Read> {
    Zstd(zstd::Decoder<'static, Input<R>>),
    Xz(XzDecoder<XzInput<R>>),
    Lzma(XzDecoder<Input<R>>),
    Gzip(GzDecoder<Input<R>>),
    Bzip2(BzDecoder<Input<R>>),
    Lz4(lz4_legacy::Reader<R>),
}

impl<R: Read> Decoder<R> {
    /// Recognises the member that starts at the input's position.
    ///
    /// # Errors
    /// Fails on what is no compressed member, naming it where it is known (lz4's other format, LZO, skippable zstd frames), and when
    /// reading fails.
    pub fn new(mut input: Input<R>) -> io::Result<Self> {
        let start = input.position();
        let magic = input.peek(Codec::MAGIC_BYTES)?;
        let Some(codec) = Codec::detect(magic) else { return Err(unknown(magic)) };
        let objection = objection(codec, input.peek(HEADER_BYTES)?);
        let member = match codec {
            Codec::Zstd => Member::Zstd(zstd_decoder(input)?),
            Codec::Xz => {
                let stream = Stream::new_stream_decoder(LZMA_MEMORY_MAX_BYTES, 0)?;
                Member::Xz(XzDecoder::new_stream(XzInput::new(input), stream))
            }
            Codec::Lzma => Member::Lzma(XzDecoder::new_stream(input, Stream::new_lzma_decoder(LZMA_MEMORY_MAX_BYTES)?)),
            Codec::Gzip => Member::Gzip(GzDecoder::new(input)),
            Codec::Bzip2 => Member::Bzip2(BzDecoder::new(input)),
            Codec::Lz4 => Member::Lz4(lz4_legacy::Reader::new(input)),
            Codec::None => return Err(unknown(&[])),
        };
        Ok(Decoder { codec, start, objection, member })
    }

    /// The codec that was recognised.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Why the kernel does not unpack the member, as far as it was read, though it can be decoded.
    pub fn objection(&self) -> Option<&str> {
        match &self.member {
            Member::Xz(decoder) => decoder.get_ref().objection(),
            _ => self.objection,
        }
    }

    /// How many bytes of the input the member has taken so far.
    pub fn consumed_bytes(&self) -> u64 {
        let input = match &self.member {
            Member::Zstd(decoder) => decoder.get_ref(),
            Member::Xz(decoder) => decoder.get_ref().get_ref(),
            Member::Lzma(decoder) => decoder.get_ref(),
            Member::Gzip(decoder) => decoder.get_ref(),
            Member::Bzip2(decoder) => decoder.get_ref(),
            Member::Lz4(decoder) => decoder.get_ref(),
        };
        input.position() - self.start
    }

    /// Decodes what is left of the member, and returns the input, right after it, and the member's length there in bytes.
    ///
    /// # Errors
    /// Fails when the rest is damaged or cut off, and when reading fails.
    pub fn finish(mut self) -> io::Result<(Input<R>, u64)> {
        io::copy(&mut BufReader::with_capacity(64 << 10, &mut self), &mut io::sink())?;
        let consumed_bytes = self.consumed_bytes();
        let input = match self.member {
            Member::Zstd(decoder) => decoder.into_inner(),
            Member::Xz(decoder) => decoder.into_inner().into_inner(),
            Member::Lzma(decoder) => decoder.into_inner(),
            Member::Gzip(decoder) => decoder.into_inner(),
            Member::Bzip2(decoder) => decoder.into_inner(),
            Member::Lz4(decoder) => decoder.into_inner(),
        };
        Ok((input, consumed_bytes))
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.member {
            Member::Zstd(decoder) => decoder.read(buffer),
            Member::Xz(decoder) => decoder.read(buffer),
            Member::Lzma(decoder) => decoder.read(buffer),
            Member::Gzip(decoder) => decoder.read(buffer),
            Member::Bzip2(decoder) => decoder.read(buffer),
            Member::Lz4(decoder) => decoder.read(buffer),
        }
    }
}

fn zstd_decoder<R: Read>(input: Input<R>) -> io::Result<zstd::Decoder<'static, Input<R>>> {
    let mut decoder = zstd::Decoder::with_buffer(input)?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// What the kernel has against a member that begins so, though it can be decoded.
fn objection(codec: Codec, start: &[u8]) -> Option<&'static str> {
    match (codec, start) {
        (Codec::Gzip, [_, _, _, flags, ..]) if flags & GZIP_UNREAD_FLAGS != 0 => {
            Some("the kernel does not read headers of gzip with a checksum, an extra field or a comment")
        }
        (Codec::Bzip2, [.., flags]) if start.len() == HEADER_BYTES && flags & BZIP2_RANDOMISED != 0 => {
            Some("the kernel does not read the randomised blocks of bzip2 before 0.9.5")
        }
        _ => None,
    }
}

fn unknown(magic: &[u8]) -> io::Error {
    let name = match magic {
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4's frame format, and the kernel reads the legacy format (lz4 -l) only",
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "a skippable zstd frame, which the kernel takes for an error",
        [0x89, b'L', b'Z', b'O', ..] => "lzop, which is not supported here",
        _ => {
            let digits: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
            let message = format!("neither cpio nor a known compression begins with {}", digits.join(" "));
            return io::Error::new(io::ErrorKind::InvalidData, message);
        }
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("this is {name}"))
}
