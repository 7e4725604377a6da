//! rpm files for tests, made tag by tag: what no tool that builds packages would write.

use super::{LEAD_BYTES, LEAD_MAGIC, signature_tag, tag};
use ocinitrd_format::digest::Digest;

pub(crate) const INT16: u32 = 3;
pub(crate) const INT32: u32 = 4;
pub(crate) const STRING: u32 = 6;
pub(crate) const STRING_ARRAY: u32 = 8;

/// A tag: its number, type, where its data lie, and how many values it has.
pub(crate) type Entry = (u32, u32, usize, usize);

/// A header with this index and these data.
pub(crate) fn header(entries: &[Entry], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    let mut number = |number: usize| bytes.extend(u32::try_from(number).unwrap().to_be_bytes());
    number(entries.len());
    number(data.len());
    for (tag, kind, offset, count) in entries {
        [*tag as usize, *kind as usize, *offset, *count].into_iter().for_each(&mut number);
    }
    [&bytes, data].concat()
}

/// A file with this header of the package, and the digest of it.
pub(crate) fn package(header: &[u8]) -> Vec<u8> {
    let digest = Digest::of(header).hex() + "\0";
    let signatures = self::header(&[(signature_tag::SHA256, STRING, 0, 1)], digest.as_bytes());
    let mut bytes = LEAD_MAGIC.to_vec();
    bytes.resize(LEAD_BYTES as usize, 0);
    bytes.extend(&signatures);
    bytes.resize(LEAD_BYTES as usize + signatures.len().next_multiple_of(8), 0);
    [&bytes, header].concat()
}

/// A package without files that has this name.
pub(crate) fn named(name: &str) -> Vec<u8> {
    let (entries, data) = identity(name);
    package(&header(&entries, &data))
}

/// What every package has: a name, a version, a release, an architecture.
pub(crate) fn identity(name: &str) -> (Vec<Entry>, Vec<u8>) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    let source = "alpha-1-1.src.rpm";
    for (tag, text) in
        [(tag::NAME, name), (tag::VERSION, "1"), (tag::RELEASE, "1"), (tag::ARCH, "noarch"), (tag::SOURCE_RPM, source)]
    {
        entries.push((tag, STRING, data.len(), 1));
        data.extend(text.bytes().chain([0]));
    }
    (entries, data)
}
