//! The binary index of kmod: a trie over ASCII keys with values in order of priority.
//!
//! In: keys with values. Out: the bytes of a `modules.*.bin` file, format 2.1 (the comment above `index_mm_open` in
//! kmod's `libkmod/libkmod-index.c`): magic, version and the offset of the root, each 32 bits, big endian; then nodes in
//! pre-order, as kmod writes them since version 34. A node is its prefix (NUL-terminated), the first and last byte of
//! its children with an offset for every byte between, and its values; flags in an offset's high bits tell which of
//! these three the node has.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const HEADER_BYTES: u32 = 12;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// Keys with their values; to be filled, then written.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    values: Vec<(u32, String)>,
}

impl Trie {
    /// Adds `value` to `key`: before values of the same or a higher priority number, after lower ones. A key or value
    /// that is not ASCII or holds a NUL is left out, as the format has no place for it.
    pub(super) fn insert(&mut self, key: &str, value: &str, priority: u32) {
        if [key, value].iter().all(|text| text.is_ascii() && !text.contains('\0')) {
            self.root.insert(key.as_bytes(), value, priority);
        }
    }

    /// The index file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC, VERSION, HEADER_BYTES | self.root.flags()] {
            bytes.extend(word.to_be_bytes());
        }
        self.root.write(&mut bytes);
        bytes
    }
}

impl Node {
    fn leaf(prefix: &[u8], value: &str, priority: u32) -> Self {
        Node { prefix: prefix.to_vec(), values: vec![(priority, value.to_owned())], ..Node::default() }
    }

    fn insert(&mut self, key: &[u8], value: &str, priority: u32) {
        let shared = self.prefix.iter().zip(key).take_while(|(left, right)| left == right).count();
        if shared < self.prefix.len() {
            self.split(shared);
        }
        let Some((first, rest)) = key[shared..].split_first() else {
            let place = self.values.partition_point(|(other, _)| *other < priority);
            self.values.insert(place, (priority, value.to_owned()));
            return;
        };
        match self.children.get_mut(first) {
            Some(child) => child.insert(rest, value, priority),
            None => _ = self.children.insert(*first, Node::leaf(rest, value, priority)),
        }
    }

    /// Puts what this node has one level down, below the first `length` bytes of its prefix.
    fn split(&mut self, length: usize) {
        let mut lower = std::mem::take(self);
        self.prefix = lower.prefix[..length].to_vec();
        let byte = lower.prefix[length];
        lower.prefix.drain(..=length);
        self.children.insert(byte, lower);
    }

    fn flags(&self) -> u32 {
        let flag = |has: bool, flag: u32| if has { flag } else { 0 };
        flag(!self.prefix.is_empty(), HAS_PREFIX)
            | flag(!self.values.is_empty(), HAS_VALUES)
            | flag(!self.children.is_empty(), HAS_CHILDREN)
    }

    /// The range of the children's bytes.
    fn range(&self) -> Option<(u8, u8)> {
        Some((*self.children.first_key_value()?.0, *self.children.last_key_value()?.0))
    }

    /// Writes this node and all below it; offsets of children are filled in when their places are known.
    fn write(&self, bytes: &mut Vec<u8>) {
        if !self.prefix.is_empty() {
            bytes.extend(&self.prefix);
            bytes.push(0);
        }
        let table = bytes.len() + 2;
        if let Some((first, last)) = self.range() {
            bytes.extend([first, last]);
            bytes.resize(table + 4 * (usize::from(last - first) + 1), 0);
        }
        if !self.values.is_empty() {
            bytes.extend(word(self.values.len()).to_be_bytes());
        }
        for (priority, value) in &self.values {
            bytes.extend(priority.to_be_bytes());
            bytes.extend(value.as_bytes());
            bytes.push(0);
        }
        for (byte, child) in &self.children {
            let first = self.children.first_key_value().map_or(0, |(first, _)| *first);
            let slot = table + 4 * usize::from(byte - first);
            let offset = word(bytes.len()) | child.flags();
            bytes[slot..slot + 4].copy_from_slice(&offset.to_be_bytes());
            child.write(bytes);
        }
    }
}

fn word(number: usize) -> u32 {
    u32::try_from(number).expect("an index is far smaller than the 256 MiB that its offsets can address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(&str, &str, u32)]) -> Vec<u8> {
        let mut trie = Trie::default();
        for (key, value, priority) in entries {
            trie.insert(key, value, *priority);
        }
        trie.to_bytes()
    }

    #[test]
    fn empty_index_is_a_header_with_a_root_that_has_nothing() {
        assert_eq!(bytes(&[]), [0xB0, 0x07, 0xF4, 0x57, 0, 2, 0, 1, 0, 0, 0, 12]);
    }

    #[test]
    fn nodes_stand_in_pre_order_with_shared_prefixes() {
        let expected = [
            &[0xB0, 0x07, 0xF4, 0x57, 0, 2, 0, 1, 0x20, 0, 0, 12][..],
            &[b'a', b'a', 0xA0, 0, 0, 18], // root: one child, with prefix and children
            &[b'b', 0, b'c', b'e', 0x40, 0, 0, 34, 0, 0, 0, 0, 0xC0, 0, 0, 46], // "ab" with children c and e, none for d
            &[0, 0, 0, 1, 0, 0, 0, 7, b'v', b'w', b'x', 0],                     // "abc"
            &[b'f', 0, 0, 0, 0, 2, 0, 0, 0, 1, b'y', 0, 0, 0, 0, 2, b'z', 0],   // "abef", two values
        ];
        assert_eq!(bytes(&[("abef", "z", 2), ("abc", "vwx", 7), ("abef", "y", 1)]), expected.concat());
    }

    #[test]
    fn order_of_insertion_matters_only_among_equal_priorities() {
        let (one, two) = (("key", "1", 1), ("key", "2", 2));
        assert_eq!(bytes(&[one, two, ("k", "", 0)]), bytes(&[("k", "", 0), two, one]));
        let equal = bytes(&[("key", "1", 0), ("key", "2", 0)]);
        assert!(equal.ends_with(b"\0\0\0\x002\0\0\0\0\x001\0"), "the later one stands first");
    }

    #[test]
    fn keys_that_the_format_cannot_hold_are_left_out() {
        assert_eq!(bytes(&[("k\u{e4}se", "a", 0), ("a", "\u{e4}", 0)]), bytes(&[]));
    }
}
