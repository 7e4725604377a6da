//! Checksums as package repositories write them: an algorithm's name and hexadecimal digits.
//!
//! SHA-256 and SHA-512 are understood. Older algorithms (`md5`, `sha`, `sha1`) are refused: they no longer prove
//! that bytes are the intended ones.

use std::fmt;
use std::io;

use sha2::{Digest as _, Sha512};

use super::digest::{Digest, Hasher, hex};

/// What bytes must hash to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Checksum {
    /// SHA-256, by which the content store names its blobs.
    Sha256(Digest),
    /// SHA-512, as 128 lower-case hexadecimal digits.
    Sha512(String),
}

/// A checksum that cannot be used: an algorithm that proves nothing any more, or digits that are none.
#[derive(Debug)]
pub struct InvalidChecksum {
    algorithm: String,
    digits: String,
}

impl fmt::Display for InvalidChecksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm.as_str() {
            "sha256" | "sha512" => write!(formatter, "{:?} is no {} checksum", self.digits, self.algorithm),
            other => write!(formatter, "checksums of type {other:?} are not supported, only sha256 and sha512"),
        }
    }
}

impl std::error::Error for InvalidChecksum {}

impl Checksum {
    /// The checksum written as `digits` by `algorithm` (`sha256` or `sha512`).
    ///
    /// # Errors
    /// Fails for any other algorithm and for digits of another form.
    pub fn parse(algorithm: &str, digits: &str) -> Result<Self, InvalidChecksum> {
        let parsed = match algorithm {
            "sha256" => Digest::from_hex(digits).map(Checksum::Sha256),
            "sha512" if digits.len() == 128 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                Some(Checksum::Sha512(digits.to_ascii_lowercase()))
            }
            _ => None,
        };
        parsed.ok_or_else(|| InvalidChecksum { algorithm: algorithm.to_owned(), digits: digits.to_owned() })
    }
}

/// `sha256:<digits>` or `sha512:<digits>`.
impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checksum::Sha256(digest) => write!(formatter, "{digest}"),
            Checksum::Sha512(digits) => write!(formatter, "sha512:{digits}"),
        }
    }
}

/// Learns the SHA-256 digest of what is written to it, and on request the SHA-512 checksum too.
pub struct ChecksumHasher {
    sha256: Hasher<io::Sink>,
    sha512: Option<Sha512>,
}

/// What a [`ChecksumHasher`] learnt.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The SHA-256 digest.
    pub digest: Digest,
    /// The length in bytes.
    pub size_bytes: u64,
    sha512: Option<String>,
}

impl ChecksumHasher {
    /// A hasher that can tell whether bytes match `expected`.
    pub fn for_checksum(expected: &Checksum) -> Self {
        let sha512 = matches!(expected, Checksum::Sha512(_)).then(Sha512::new);
        ChecksumHasher { sha256: Hasher::new(io::sink()), sha512 }
    }

    /// The digests of all that was written.
    pub fn finish(self) -> Measured {
        let (_, digest, size_bytes) = self.sha256.finish();
        let sha512 = self.sha512.map(|hash| hex(&hash.finalize()));
        Measured { digest, size_bytes, sha512 }
    }
}

impl io::Write for ChecksumHasher {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Some(hash) = &mut self.sha512 {
            hash.update(buffer);
        }
        self.sha256.write_all(buffer)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Measured {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8], expected: &Checksum) -> Self {
        let mut hasher = ChecksumHasher::for_checksum(expected);
        io::Write::write_all(&mut hasher, bytes).expect("hashing cannot fail");
        hasher.finish()
    }

    /// Whether the bytes are those that `expected` describes; a SHA-512 matches only if the hasher was made for one.
    pub fn matches(&self, expected: &Checksum) -> bool {
        match expected {
            Checksum::Sha256(digest) => *digest == self.digest,
            Checksum::Sha512(digits) => self.sha512.as_ref() == Some(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA512_OF_ABC: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn published_sha512_of_abc_matches_in_either_case() {
        let expected = Checksum::parse("sha512", &SHA512_OF_ABC.to_uppercase()).unwrap();
        assert!(Measured::of(b"abc", &expected).matches(&expected));
        assert!(!Measured::of(b"abd", &expected).matches(&expected));
        assert_eq!(expected.to_string(), format!("sha512:{SHA512_OF_ABC}"));
    }

    #[test]
    fn a_hasher_for_sha256_never_vouches_for_a_sha512() {
        let sha512 = Checksum::parse("sha512", SHA512_OF_ABC).unwrap();
        let sha256 = Checksum::Sha256(Digest::of(b"abc"));
        let measured = Measured::of(b"abc", &sha256);
        assert!(measured.matches(&sha256));
        assert!(!measured.matches(&sha512));
    }

    #[test]
    fn old_algorithms_and_wrong_digits_are_refused_by_name() {
        let message = |algorithm, digits| Checksum::parse(algorithm, digits).unwrap_err().to_string();
        assert_eq!(
            message("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            "checksums of type \"sha1\" are not supported, only sha256 and sha512"
        );
        assert_eq!(message("sha256", "12"), "\"12\" is no sha256 checksum");
        assert_eq!(message("sha512", &"z".repeat(128)), format!("\"{}\" is no sha512 checksum", "z".repeat(128)));
    }
}
