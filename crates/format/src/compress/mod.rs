//! Compression in the forms that the Linux kernel unpacks, and the other way round.
//!
//! [`Encoder`] writes one compressed member; its bytes depend on what is written and on the [`Compression`], never on the
//! number of cores or on how the writes are cut. [`Decoder`] reads exactly one member and leaves what follows it unread, which
//! is how an initrd of several segments is read.

mod decoder;
mod encoder;
mod input;
mod lz4_legacy;
mod members;
mod xz_blocks;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use input::Input;
pub use members::MultiDecoder;

/// How to compress, written `zstd[:LEVEL]`, `xz[:LEVEL]`, `gzip[:LEVEL]`, `lz4` or `none`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Compression {
    /// zstd with a level of 1 to 22; the default is 3.
    Zstd(u8),
    /// xz with a level of 0 to 9; the default is 6.
    Xz(u8),
    /// gzip with a level of 1 to 9; the default is 6.
    Gzip(u8),
    /// lz4 in the legacy frame format, the only one the kernel reads.
    Lz4,
    /// No compression.
    None,
}

impl Compression {
    const NAMES: &'static str = "zstd[:1-22], xz[:0-9], gzip[:1-9], lz4, none";

    fn of(name: &str, level: Option<u8>) -> Option<Self> {
        match (name, level) {
            ("zstd", level) => Some(Compression::Zstd(level.unwrap_or(3))),
            ("xz", level) => Some(Compression::Xz(level.unwrap_or(6))),
            ("gzip", level) => Some(Compression::Gzip(level.unwrap_or(6))),
            ("lz4", None) => Some(Compression::Lz4),
            ("none", None) => Some(Compression::None),
            _ => None,
        }
    }

    /// What is added to a file's name, with its dot; nothing without compression.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::Zstd(_) => ".zst",
            Compression::Xz(_) => ".xz",
            Compression::Gzip(_) => ".gz",
            Compression::Lz4 => ".lz4",
            Compression::None => "",
        }
    }

    fn level_is_valid(self) -> bool {
        match self {
            Compression::Zstd(level) => (1..=22).contains(&level),
            Compression::Xz(level) => level <= 9,
            Compression::Gzip(level) => (1..=9).contains(&level),
            Compression::Lz4 | Compression::None => true,
        }
    }
}

/// zstd at level 3: near the speed of reading, and much smaller.
impl Default for Compression {
    fn default() -> Self {
        Compression::Zstd(3)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Zstd(level) => write!(formatter, "zstd:{level}"),
            Compression::Xz(level) => write!(formatter, "xz:{level}"),
            Compression::Gzip(level) => write!(formatter, "gzip:{level}"),
            Compression::Lz4 => formatter.write_str("lz4"),
            Compression::None => formatter.write_str("none"),
        }
    }
}

/// Text that names no compression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidCompression(String);

impl fmt::Display for InvalidCompression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} is no compression: use one of {}", self.0, Compression::NAMES)
    }
}

impl std::error::Error for InvalidCompression {}

impl FromStr for Compression {
    type Err = InvalidCompression;

    fn from_str(text: &str) -> Result<Self, InvalidCompression> {
        let invalid = || InvalidCompression(text.to_owned());
        let (name, level) = match text.split_once(':') {
            None => (text, None),
            // `parse` would also take a plus sign and leading zeros: one compression has one spelling.
            Some((_, level)) if level.starts_with(['+', '0']) && level != "0" => return Err(invalid()),
            Some((name, level)) => (name, Some(level.parse().map_err(|_| invalid())?)),
        };
        Compression::of(name, level).filter(|compression| compression.level_is_valid()).ok_or_else(invalid)
    }
}

/// A codec as it is recognised in a file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// gzip.
    Gzip,
    /// lz4, legacy frame format.
    Lz4,
    /// bzip2.
    Bzip2,
    /// LZMA alone, the format before xz.
    Lzma,
    /// Not compressed.
    None,
}

impl Codec {
    /// How many bytes [`Codec::detect`] looks at.
    pub const MAGIC_BYTES: usize = 6;

    /// The codec of a member that starts with `start`; none for what is not recognised.
    pub fn detect(start: &[u8]) -> Option<Self> {
        match start {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Codec::Xz),
            [0x1f, 0x8b, ..] => Some(Codec::Gzip),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Codec::Lz4),
            [b'B', b'Z', b'h', ..] => Some(Codec::Bzip2),
            [0x5d, 0, 0, ..] => Some(Codec::Lzma),
            _ => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Codec::Zstd => "zstd",
            Codec::Xz => "xz",
            Codec::Gzip => "gzip",
            Codec::Lz4 => "lz4",
            Codec::Bzip2 => "bzip2",
            Codec::Lzma => "lzma",
            Codec::None => "none",
        })
    }
}

#[cfg(test)]
mod tests;
