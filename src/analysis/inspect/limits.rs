//! How much of an initrd is read. A few bytes can stand for any number of bytes and entries: where an initrd has more than anyone needs,
//! reading is given up with an error.

use std::fmt;

/// How far the targets of symlinks are followed, on the way to all entries together, in bytes.
pub(super) const FOLLOWED_MAX_BYTES: u64 = 128 << 20;
/// How many segments an initrd may have.
pub(super) const SEGMENTS_MAX: usize = 20_000;
/// What names and targets of symlinks may take for each entry that is allowed, in bytes.
const TEXT_BYTES_PER_ENTRY: u64 = 128;

/// How much is read before it is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// What all compressed segments may unpack to together, in bytes.
    pub unpacked_bytes: u64,
    /// How many entries there may be. Their names and the targets of symlinks may take 128 bytes each on average.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { unpacked_bytes: Limits::DEFAULT_UNPACKED_BYTES, entries: Limits::DEFAULT_ENTRIES }
    }
}

impl Limits {
    /// 8 GiB: more than most machines could unpack an initrd into.
    pub const DEFAULT_UNPACKED_BYTES: u64 = 8 << 30;
    /// Two million; the root file systems of whole distributions have some hundred thousand.
    pub const DEFAULT_ENTRIES: u64 = 2_000_000;

    /// What the whole paths of all entries may take together where they are kept, in bytes.
    pub fn paths_bytes(&self) -> u64 {
        self.entries.saturating_mul(2 * TEXT_BYTES_PER_ENTRY)
    }

    /// What all names and targets may take together, in bytes.
    pub(super) fn texts_bytes(&self) -> u64 {
        self.entries.saturating_mul(TEXT_BYTES_PER_ENTRY).min(u64::from(u32::MAX) - (1 << 20))
    }
}

/// Which limit an initrd goes beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LimitReached {
    /// [`Limits::unpacked_bytes`].
    UnpackedBytes(u64),
    /// [`Limits::entries`].
    Entries(u64),
    /// What names and targets may take, in bytes.
    Texts(u64),
    /// What follows from symlinks.
    Followed,
    /// The number of segments.
    Segments,
    /// The files that are read as text, in bytes.
    Contents(u64),
    /// All whole paths, in bytes.
    Paths(u64),
}

impl fmt::Display for LimitReached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitReached::UnpackedBytes(limit) => write!(formatter, "it unpacks to more than {limit} bytes"),
            LimitReached::Entries(limit) => write!(formatter, "it has more than {limit} entries"),
            LimitReached::Texts(limit) => {
                write!(formatter, "the names and the targets of symlinks in it have more than {limit} bytes")
            }
            LimitReached::Followed => write!(
                formatter,
                "its symlinks lead through more than {FOLLOWED_MAX_BYTES} bytes of targets, which no initrd needs"
            ),
            LimitReached::Segments => write!(formatter, "it has more than {SEGMENTS_MAX} segments"),
            LimitReached::Paths(limit) => write!(formatter, "the paths in it have more than {limit} bytes"),
            LimitReached::Contents(limit) => {
                write!(formatter, "the files in it that are to be read have more than {limit} bytes")
            }
        }
    }
}

impl std::error::Error for LimitReached {}
