//! The header structure of rpm files: tags with typed values. Bytes in, values out.
//!
//! See <https://rpm-software-management.github.io/rpm/manual/format_v4.html>. Written here because what is read may be
//! damaged or hostile, and is read before any signature was verified: every offset and count is checked, no two tags share
//! data (rpm refuses that too), and so memory is bounded by what the file really has. The `rpm` crate panics on damaged
//! headers, and does not show the inode numbers that tell hard links.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};

use ocinitrd_format::digest::{Digest, Hasher};

const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 1];
const INTRODUCTION_BYTES: usize = 16;
const ENTRY_BYTES: u64 = 16;
/// The bound that rpm itself sets.
const ENTRIES_MAX: u32 = 0xffff;
/// A quarter of what rpm takes, and several times what the packages with the most files need: 64 MiB.
const DATA_MAX_BYTES: u32 = 64 << 20;

const TYPE_NULL: u32 = 0;
const TYPE_CHAR: u32 = 1;
const TYPE_INT8: u32 = 2;
const TYPE_INT16: u32 = 3;
const TYPE_INT32: u32 = 4;
const TYPE_INT64: u32 = 5;
const TYPE_STRING: u32 = 6;
const TYPE_BINARY: u32 = 7;
const TYPE_STRING_ARRAY: u32 = 8;
const TYPE_I18N_STRING: u32 = 9;

struct Value {
    kind: u32,
    offset: usize,
    count: usize,
    length: usize,
}

/// A tag as it is in a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'h> {
    /// Its number.
    pub tag: u32,
    /// The number of its type.
    pub kind: u32,
    /// How many values it has.
    pub count: usize,
    /// The values.
    pub data: &'h [u8],
}

/// One header: that of signatures, or that of the package.
pub(super) struct Header {
    values: BTreeMap<u32, Value>,
    data: Vec<u8>,
    /// Whether a tag is there more than once; the one whose data lie last counts.
    pub repeats_a_tag: bool,
    /// Of the header as it is in the file.
    pub digest: Digest,
    /// Its length in the file.
    pub length_bytes: u64,
}

impl Header {
    /// Reads a header from where it starts to right behind it.
    ///
    /// # Errors
    /// Fails on what is no header, is bigger than rpm allows, or is cut off.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self> {
        let mut introduction = [0; INTRODUCTION_BYTES];
        reader.read_exact(&mut introduction).context("the header is cut off")?;
        ensure!(introduction[..4] == MAGIC, "there is no rpm header");
        let entries = number(&introduction[8..12]);
        let data_bytes = number(&introduction[12..16]);
        ensure!(
            entries <= u64::from(ENTRIES_MAX) && data_bytes <= u64::from(DATA_MAX_BYTES),
            "the header has {entries} tags and {data_bytes} bytes, and at most {ENTRIES_MAX} and {DATA_MAX_BYTES} are read"
        );
        let index_bytes = entries * ENTRY_BYTES;
        let mut index = Vec::new();
        reader.take(index_bytes + data_bytes).read_to_end(&mut index)?;
        ensure!(index.len() as u64 == index_bytes + data_bytes, "the header is cut off");
        let mut hasher = Hasher::new(std::io::sink());
        hasher.write_all(&introduction)?;
        hasher.write_all(&index)?;
        let (_, digest, length_bytes) = hasher.finish();
        let data = index.split_off(usize::try_from(index_bytes)?);
        let mut values = Vec::new();
        for entry in index.chunks_exact(INTRODUCTION_BYTES) {
            let field = |position: usize| number(&entry[position..position + 4]);
            let (tag, kind) = (u32::try_from(field(0))?, u32::try_from(field(4))?);
            let (offset, count) = (usize::try_from(field(8))?, usize::try_from(field(12))?);
            ensure!(offset <= data.len() && count <= data.len(), "the header's tag {tag} is outside of its data");
            values.push((tag, Value { kind, offset, count, length: 0 }));
        }
        check_extents(&mut values, &data)?;
        let entries = values.len();
        let values: BTreeMap<u32, Value> = values.into_iter().collect();
        Ok(Header { repeats_a_tag: values.len() < entries, values, data, digest, length_bytes })
    }

    /// All tags, by their numbers.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.values.iter().map(|(tag, Value { kind, offset, count, length })| Entry {
            tag: *tag,
            kind: *kind,
            count: *count,
            data: &self.data[*offset..*offset + *length],
        })
    }

    /// The strings of a tag, not necessarily UTF-8; none if the header does not have it.
    ///
    /// # Errors
    /// Fails when the tag holds something else, or is cut off.
    pub(super) fn strings(&self, tag: u32) -> Result<impl Iterator<Item = &[u8]>> {
        let (rest, count) = match self.values.get(&tag) {
            None => (&[][..], 0),
            Some(value @ Value { kind: TYPE_STRING | TYPE_STRING_ARRAY | TYPE_I18N_STRING, .. }) => {
                (&self.data[value.offset..], value.strings())
            }
            Some(value) => bail!("the header's tag {tag} has the type {} instead of a string", value.kind),
        };
        // Whether there are so many was checked when the header was read.
        Ok(rest.split(|byte| *byte == 0).take(count))
    }

    /// The first string of a tag as text; none if the header does not have it.
    ///
    /// # Errors
    /// Fails as [`Header::strings`], and when it is not UTF-8.
    pub(super) fn text(&self, tag: u32) -> Result<Option<String>> {
        let text = self.strings(tag)?.next().map(|text| String::from_utf8(text.to_vec())).transpose();
        text.with_context(|| format!("the header's tag {tag} is not UTF-8"))
    }

    /// The bytes of a tag; none if the header does not have it.
    ///
    /// # Errors
    /// Fails when the tag holds something else, or is cut off.
    pub(super) fn bytes(&self, tag: u32) -> Result<Option<&[u8]>> {
        let Some(value) = self.values.get(&tag) else { return Ok(None) };
        ensure!(value.kind == TYPE_BINARY, "the header's tag {tag} has the type {} instead of bytes", value.kind);
        let bytes = self.data[value.offset..].get(..value.count);
        bytes.map(Some).with_context(|| format!("the header's tag {tag} is cut off"))
    }

    /// The integers of a tag, whatever their width; none if the header does not have it.
    ///
    /// # Errors
    /// Fails when the tag holds something else, or is cut off.
    pub(super) fn numbers(&self, tag: u32) -> Result<impl ExactSizeIterator<Item = u64>> {
        let (bytes, width) = match self.values.get(&tag) {
            None => (&[][..], 1),
            Some(value) => match width(value.kind).filter(|_| value.kind != TYPE_BINARY && value.kind != TYPE_CHAR) {
                Some(width) => (&self.data[value.offset..][..value.count * width], width),
                None => bail!("the header's tag {tag} has the type {} instead of an integer", value.kind),
            },
        };
        Ok(bytes.chunks_exact(width).map(number))
    }
}

impl Value {
    /// How many strings it has, if it is of a type that has some.
    fn strings(&self) -> usize {
        if self.kind == TYPE_STRING { 1 } else { self.count }
    }
}

/// How many bytes a value of a type without strings takes.
fn width(kind: u32) -> Option<usize> {
    Some(match kind {
        TYPE_CHAR | TYPE_INT8 | TYPE_BINARY => 1,
        TYPE_INT16 => 2,
        TYPE_INT32 => 4,
        TYPE_INT64 => 8,
        _ => return None,
    })
}

/// Makes sure that each value lies inside of the data, and that no two share any of it. Sorts them by where they lie.
fn check_extents(values: &mut [(u32, Value)], data: &[u8]) -> Result<()> {
    values.sort_by_key(|(_, value)| value.offset);
    let mut end = 0;
    for (tag, value) in values.iter_mut().filter(|(_, value)| value.kind != TYPE_NULL && value.count > 0) {
        ensure!(value.offset >= end, "the header's tag {tag} shares its data with another");
        let rest = &data[value.offset..];
        let length = match width(value.kind) {
            Some(width) => value.count.checked_mul(width).filter(|length| *length <= rest.len()),
            None if matches!(value.kind, TYPE_STRING | TYPE_STRING_ARRAY | TYPE_I18N_STRING) => {
                let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == 0);
                ends.map(|(end, _)| end + 1).nth(value.strings() - 1)
            }
            None => bail!("the header's tag {tag} has the unknown type {}", value.kind),
        };
        value.length = length.with_context(|| format!("the header's tag {tag} is cut off"))?;
        end = value.offset + value.length;
    }
    Ok(())
}

/// A header that has these entries, in the one region that rpm wants, whose tag is `region`.
pub(super) fn write(region: u32, entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for entry in entries {
        data.resize(data.len().next_multiple_of(width(entry.kind).unwrap_or(1)), 0);
        index.extend(index_entry(entry.tag, entry.kind, data.len(), entry.count));
        data.extend_from_slice(entry.data);
    }
    let entries = entries.len() + 1;
    let region_entry = index_entry(region, TYPE_BINARY, data.len(), INTRODUCTION_BYTES);
    // The region's own data are an entry, too: it leads back to the start of the index.
    let back = (entries * INTRODUCTION_BYTES).wrapping_neg();
    data.extend(index_entry(region, TYPE_BINARY, back, INTRODUCTION_BYTES));
    let counts = [field(entries), field(data.len())].concat();
    [&MAGIC[..], &[0; 4], &counts, &region_entry, &index, &data].concat()
}

fn index_entry(tag: u32, kind: u32, offset: usize, count: usize) -> [u8; INTRODUCTION_BYTES] {
    let fields = [tag.to_be_bytes(), kind.to_be_bytes(), field(offset), field(count)].concat();
    fields.try_into().expect("an entry has four fields of four bytes")
}

/// A header has at most 64 MiB; of an offset backwards the lower half counts.
fn field(number: usize) -> [u8; 4] {
    (number as u32).to_be_bytes()
}

/// A big-endian integer of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
