//! The header structure of an rpm: tagged values in, bytes out.
//!
//! A header is an index of 16 byte entries (tag, type, offset, count) and the store they point into. The first entry is
//! the region that covers all others, which is what the signature is made over.

use std::collections::BTreeMap;

/// The region tag of the main header.
pub const IMMUTABLE: u32 = 63;
/// The region tag of the signature header.
pub const SIGNATURES: u32 = 62;

const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
const INDEX_ENTRY_BYTES: usize = 16;
const BINARY: u32 = 7;

/// A value of a header.
#[derive(Debug)]
pub enum Value {
    /// Numbers of 16 bits.
    Int16(Vec<u16>),
    /// Numbers of 32 bits.
    Int32(Vec<u32>),
    /// One text.
    String(String),
    /// Some texts.
    Strings(Vec<String>),
    /// One text in the only language of the table.
    Localized(String),
}

impl Value {
    /// One text.
    pub fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    /// The type's number, the bytes that its place is a multiple of, and how many values there are.
    fn shape(&self) -> (u32, usize, usize) {
        match self {
            Value::Int16(numbers) => (3, 2, numbers.len()),
            Value::Int32(numbers) => (4, 4, numbers.len()),
            Value::String(_) => (6, 1, 1),
            Value::Strings(texts) => (8, 1, texts.len()),
            Value::Localized(_) => (9, 1, 1),
        }
    }

    fn append_to(&self, store: &mut Vec<u8>) {
        let mut append_text = |text: &String| {
            store.extend(text.bytes());
            store.push(0);
        };
        match self {
            Value::String(text) | Value::Localized(text) => append_text(text),
            Value::Strings(texts) => texts.iter().for_each(append_text),
            Value::Int16(numbers) => numbers.iter().for_each(|number| store.extend(number.to_be_bytes())),
            Value::Int32(numbers) => numbers.iter().for_each(|number| store.extend(number.to_be_bytes())),
        }
    }
}

/// A header in the making.
#[derive(Debug, Default)]
pub struct Header(BTreeMap<u32, Value>);

impl Header {
    /// Sets a tag's value.
    pub fn insert(&mut self, tag: u32, value: Value) {
        self.0.insert(tag, value);
    }

    /// The header's bytes with everything in the region `region`.
    pub fn to_bytes(&self, region: u32) -> Vec<u8> {
        let mut index = Vec::new();
        let mut store = Vec::new();
        for (tag, value) in &self.0 {
            let (kind, alignment, count) = value.shape();
            store.resize(store.len().next_multiple_of(alignment), 0);
            append_index_entry(&mut index, *tag, kind, store.len() as u32, count as u32);
            value.append_to(&mut store);
        }
        let entries = self.0.len() + 1;
        let mut region_entry = Vec::new();
        append_index_entry(&mut region_entry, region, BINARY, store.len() as u32, INDEX_ENTRY_BYTES as u32);
        // The region's own value says, as a negative offset, where its index begins.
        let index_bytes = (entries * INDEX_ENTRY_BYTES) as u32;
        append_index_entry(&mut store, region, BINARY, index_bytes.wrapping_neg(), INDEX_ENTRY_BYTES as u32);

        let mut bytes = MAGIC.to_vec();
        bytes.extend((entries as u32).to_be_bytes());
        bytes.extend((store.len() as u32).to_be_bytes());
        bytes.extend(region_entry);
        bytes.extend(index);
        bytes.extend(store);
        bytes
    }
}

fn append_index_entry(bytes: &mut Vec<u8>, tag: u32, kind: u32, offset: u32, count: u32) {
    for number in [tag, kind, offset, count] {
        bytes.extend(number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], offset: usize) -> u32 {
        u32::from_be_bytes(bytes[offset..offset + 4].try_into().unwrap())
    }

    #[test]
    fn the_region_covers_the_whole_header() {
        let mut header = Header::default();
        header.insert(1000, Value::text("odd"));
        header.insert(1028, Value::Int32(vec![7]));
        let bytes = header.to_bytes(IMMUTABLE);

        let (entries, store_bytes) = (number(&bytes, 8), number(&bytes, 12));
        let store = 16 + entries as usize * INDEX_ENTRY_BYTES;
        assert_eq!((entries, bytes.len()), (3, store + store_bytes as usize));
        // The first entry is the region's; its value, at the store's end, points back over the whole index.
        let region = store + number(&bytes, 24) as usize;
        assert_eq!((number(&bytes, 16), region + INDEX_ENTRY_BYTES), (IMMUTABLE, bytes.len()));
        assert_eq!((number(&bytes, region), number(&bytes, region + 8) as i32), (IMMUTABLE, -48));
    }

    #[test]
    fn numbers_are_aligned_in_the_store() {
        let mut header = Header::default();
        header.insert(1000, Value::text("odd"));
        header.insert(1001, Value::text("x"));
        header.insert(1028, Value::Int32(vec![7]));
        let bytes = header.to_bytes(IMMUTABLE);
        let place = number(&bytes, 16 + 3 * INDEX_ENTRY_BYTES + 8) as usize;
        assert_eq!((place, number(&bytes, 16 + 4 * INDEX_ENTRY_BYTES + place)), (8, 7));
    }
}
