//! The header structure of rpm files: tags with typed values. Bytes in, values out.
//!
//! See <https://rpm-software-management.github.io/rpm/manual/format_v4.html>. Written here because what is read may be
//! damaged: every offset and count is checked, and memory is bounded by what the file really has. The `rpm` crate
//! panics on damaged headers, and does not show the inode numbers that tell hard links.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};

use crate::format::digest::{Digest, Hasher};

const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 1];
const INTRODUCTION_BYTES: usize = 16;
const ENTRY_BYTES: u64 = 16;
/// The bounds that rpm itself sets.
const ENTRIES_MAX: u32 = 0xffff;
const DATA_MAX_BYTES: u32 = 0x0fff_ffff;

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
}

/// One header: that of signatures, or that of the package.
pub(super) struct Header {
    values: BTreeMap<u32, Value>,
    data: Vec<u8>,
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
        ensure!(entries <= u64::from(ENTRIES_MAX) && data_bytes <= u64::from(DATA_MAX_BYTES), "the header is too big");
        let index_bytes = entries * ENTRY_BYTES;
        let mut index = Vec::new();
        reader.take(index_bytes + data_bytes).read_to_end(&mut index)?;
        ensure!(index.len() as u64 == index_bytes + data_bytes, "the header is cut off");
        let mut hasher = Hasher::new(std::io::sink());
        hasher.write_all(&introduction)?;
        hasher.write_all(&index)?;
        let (_, digest, length_bytes) = hasher.finish();
        let data = index.split_off(usize::try_from(index_bytes)?);
        let mut values = BTreeMap::new();
        for entry in index.chunks_exact(INTRODUCTION_BYTES) {
            let field = |position: usize| number(&entry[position..position + 4]);
            let (tag, kind) = (u32::try_from(field(0))?, u32::try_from(field(4))?);
            let (offset, count) = (usize::try_from(field(8))?, usize::try_from(field(12))?);
            ensure!(offset <= data.len() && count <= data.len(), "the header's tag {tag} is outside of its data");
            values.insert(tag, Value { kind, offset, count });
        }
        Ok(Header { values, data, digest, length_bytes })
    }

    /// The strings of a tag, not necessarily UTF-8; none if the header does not have it.
    ///
    /// # Errors
    /// Fails when the tag holds something else, or is cut off.
    pub(super) fn strings(&self, tag: u32) -> Result<Vec<&[u8]>> {
        let Some(value) = self.values.get(&tag) else { return Ok(Vec::new()) };
        let count = match value.kind {
            TYPE_STRING => 1,
            TYPE_STRING_ARRAY | TYPE_I18N_STRING => value.count,
            kind => bail!("the header's tag {tag} has the type {kind} instead of a string"),
        };
        let mut rest = &self.data[value.offset..];
        let mut strings = Vec::new();
        for _ in 0..count {
            let end = rest.iter().position(|byte| *byte == 0);
            let end = end.with_context(|| format!("the header's tag {tag} is cut off"))?;
            strings.push(&rest[..end]);
            rest = &rest[end + 1..];
        }
        Ok(strings)
    }

    /// The first string of a tag as text; none if the header does not have it.
    ///
    /// # Errors
    /// Fails as [`Header::strings`], and when it is not UTF-8.
    pub(super) fn text(&self, tag: u32) -> Result<Option<String>> {
        let first = self.strings(tag)?.first().copied();
        let text = first.map(|text| String::from_utf8(text.to_vec())).transpose();
        text.with_context(|| format!("the header's tag {tag} is no UTF-8"))
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
    pub(super) fn numbers(&self, tag: u32) -> Result<Vec<u64>> {
        let Some(value) = self.values.get(&tag) else { return Ok(Vec::new()) };
        let width = match value.kind {
            TYPE_INT8 => 1,
            TYPE_INT16 => 2,
            TYPE_INT32 => 4,
            TYPE_INT64 => 8,
            kind => bail!("the header's tag {tag} has the type {kind} instead of an integer"),
        };
        let bytes = self.data[value.offset..].get(..value.count * width);
        let bytes = bytes.with_context(|| format!("the header's tag {tag} is cut off"))?;
        Ok(bytes.chunks_exact(width).map(number).collect())
    }
}

/// A big-endian integer of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
