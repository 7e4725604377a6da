//! Where two streams of bytes part; ranges of files; the contents of chosen entries, spooled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::analysis::inspect::{Limits, visit_contents};
use crate::image::tree::Content;
use ocinitrd_support::regular_file;

const BUFFER_BYTES: usize = 256 << 10;

/// The numbers of an entry of A and one of B ([`crate::analysis::inspect::Content::entry`]).
pub(super) type EntryPair = (u64, u64);

/// The offset of the first byte that is not the same, in bytes; none if there is none. Where one stream is the start of
/// the other, that is the length of the shorter.
pub(super) fn first_difference(a: impl Read, b: impl Read) -> io::Result<Option<u64>> {
    let mut a = BufReader::with_capacity(BUFFER_BYTES, a);
    let mut b = BufReader::with_capacity(BUFFER_BYTES, b);
    let mut position = 0;
    loop {
        let (left, right) = (fill(&mut a)?, fill(&mut b)?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok((left.len() != right.len()).then_some(position));
        }
        if left[..length] != right[..length] {
            let same = left.iter().zip(right).take_while(|(one, other)| one == other).count();
            return Ok(Some(position + same as u64));
        }
        a.consume(length);
        b.consume(length);
        position += length as u64;
    }
}

fn fill(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    while let Err(error) = reader.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    reader.fill_buf()
}

/// `size_bytes` bytes of a file from `offset`, or fewer where it ends before.
pub(super) fn range(path: &Path, offset: u64, size_bytes: u64) -> Result<impl Read + use<>> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(offset)).with_context(|| format!("reading {}", path.display()))?;
    Ok(file.take(size_bytes))
}

pub(super) fn open(path: &Path) -> Result<File> {
    regular_file::open(path).with_context(|| format!("opening {}", path.display()))
}

/// Where the contents of each pair of entries part. Reads both initrds once more; the contents lie in temporary files.
pub(super) fn content_offsets(
    a: &Path,
    b: &Path,
    limits: &Limits,
    pairs: &BTreeSet<EntryPair>,
) -> Result<BTreeMap<EntryPair, u64>> {
    let contents_a = spool(a, limits, &pairs.iter().map(|(number, _)| *number).collect())?;
    let contents_b = spool(b, limits, &pairs.iter().map(|(_, number)| *number).collect())?;
    let mut offsets = BTreeMap::new();
    for pair in pairs {
        let (Some(content_a), Some(content_b)) = (contents_a.get(&pair.0), contents_b.get(&pair.1)) else { continue };
        let offset = first_difference(content_a.reader(), content_b.reader()).context("reading a temporary file")?;
        offsets.extend(offset.map(|offset| (*pair, offset)));
    }
    Ok(offsets)
}

fn spool(initrd: &Path, limits: &Limits, wanted: &BTreeSet<u64>) -> Result<BTreeMap<u64, Content>> {
    let spool = Arc::new(tempfile::tempfile().context("making a temporary file")?);
    let (mut contents, mut offset) = (BTreeMap::new(), 0);
    visit_contents(open(initrd)?, limits, wanted, |number, data| {
        let length_bytes = io::copy(data, &mut spool.as_ref())?;
        contents.insert(number, Content::Spooled { file: Arc::clone(&spool), offset, length_bytes });
        offset += length_bytes;
        Ok(())
    })
    .with_context(|| format!("copying files of {} that differ to a temporary file", initrd.display()))?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let end = buffer.len().min(1);
            self.0.read(&mut buffer[..end])
        }
    }

    #[test]
    fn streams_part_at_the_first_other_byte_or_at_the_end_of_the_shorter() {
        let long = vec![7; 3 * BUFFER_BYTES + 5];
        let mut flipped = long.clone();
        flipped[2 * BUFFER_BYTES + 1] = 8;
        let cases: [(&[u8], &[u8], Option<u64>); 6] = [
            (b"", b"", None),
            (b"abc", b"abc", None),
            (b"abc", b"abd", Some(2)),
            (b"abc", b"ab", Some(2)),
            (b"", b"a", Some(0)),
            (&long, &flipped, Some(2 * BUFFER_BYTES as u64 + 1)),
        ];
        for (a, b, expected) in cases {
            assert_eq!(first_difference(a, b).unwrap(), expected);
            assert_eq!(first_difference(b, Slow(a)).unwrap(), expected);
        }
    }
}
