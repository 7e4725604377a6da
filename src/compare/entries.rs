//! The entries of two segments, path by path: what is only in one, and which fields differ in what is in both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::bytes::EntryPair;
use super::difference::{CONTENT, Difference, SegmentPlace, Subject};
use crate::format::cpio::{
    TYPE_BLOCK_DEVICE, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_FIFO, TYPE_FILE, TYPE_MASK, TYPE_SOCKET,
    TYPE_SYMLINK,
};
use crate::format::text::Escaped;
use crate::inspect::{Archived, Content};

/// The path, and how often the segment had it before.
type Key<'a> = (&'a [u8], usize);

/// A difference, and whose contents tell its offset.
pub(super) type Found = (Difference, Option<EntryPair>);

/// All differences between the entries of two segments, by path.
pub(super) fn compare(place: SegmentPlace, a: &[Archived], b: &[Archived]) -> Vec<Found> {
    let (a, b) = (keyed(a), keyed(b));
    let keys: BTreeSet<&Key<'_>> = a.keys().chain(b.keys()).collect();
    let mut differences = Vec::new();
    for key in keys {
        let subject = || Subject::Entry { segment: place, path: shown_path(key.0), occurrence: key.1 + 1 };
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) if is_like(a, b) => {}
            (Some(a), Some(b)) => differences.extend(fields(&subject, a, b)),
            (a, b) => {
                let described = |entry: Option<&&Archived>| entry.map(|entry| description(entry));
                differences.push((Difference::presence(subject(), described(a), described(b)), None));
            }
        }
    }
    differences
}

/// Whether two entries of the same path are the same in all that is compared.
pub(super) fn is_like(a: &Archived, b: &Archived) -> bool {
    let numbers = |entry: &Archived| (entry.mode, entry.uid, entry.gid, entry.mtime, entry.device);
    let data = |entry: &Archived| entry.content.map(|content| (content.size_bytes, content.digest));
    numbers(a) == numbers(b) && data(a) == data(b) && a.target == b.target && a.first_name == b.first_name
}

fn keyed(entries: &[Archived]) -> BTreeMap<Key<'_>, &Archived> {
    let mut seen: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut keyed = BTreeMap::new();
    for entry in entries {
        let count = seen.entry(&entry.path).or_insert(0);
        keyed.insert((entry.path.as_slice(), *count), entry);
        *count += 1;
    }
    keyed
}

fn fields(subject: &impl Fn() -> Subject, a: &Archived, b: &Archived) -> Vec<Found> {
    let mut differences = Vec::new();
    for ((field, value_a), (_, value_b)) in metadata(a).into_iter().zip(metadata(b)) {
        // Of entries of two types, what only one type has says nothing more.
        let of_both = a.file_type() == b.file_type() || !(value_a.is_null() || value_b.is_null());
        if value_a != value_b && of_both {
            differences.push((Difference::new(subject(), field, value_a, value_b), None));
        }
    }
    if let (Some(content_a), Some(content_b)) = (a.content, b.content)
        && content_a.digest != content_b.digest
    {
        let digest = |content: Content| content.digest.map(|digest| digest.to_string());
        let difference = Difference::new(subject(), CONTENT, digest(content_a), digest(content_b));
        differences.push((difference, Some((content_a.entry, content_b.entry))));
    }
    differences
}

/// Every compared field but the content; null for what the entry's type has not.
fn metadata(entry: &Archived) -> [(&'static str, Value); 9] {
    let is_device = matches!(entry.file_type(), TYPE_BLOCK_DEVICE | TYPE_CHARACTER_DEVICE);
    let device = is_device.then(|| format!("{}:{}", entry.device.0, entry.device.1));
    let target = (entry.file_type() == TYPE_SYMLINK).then(|| Escaped(&entry.target).to_string());
    [
        ("type", type_name(entry).into()),
        ("mode", mode(entry).into()),
        ("uid", entry.uid.into()),
        ("gid", entry.gid.into()),
        ("mtime", entry.mtime.into()),
        ("device", device.into()),
        ("target", target.into()),
        ("hard_link_of", entry.first_name.as_deref().map(shown_path).into()),
        ("size_bytes", entry.content.map(|content| content.size_bytes).into()),
    ]
}

fn description(entry: &Archived) -> String {
    let what = match (entry.content, entry.file_type()) {
        (Some(content), _) => format!(", {} bytes", content.size_bytes),
        (_, TYPE_SYMLINK) => format!(" to {}", Escaped(&entry.target)),
        _ => String::new(),
    };
    format!("{} {}{what}", type_name(entry), mode(entry))
}

fn mode(entry: &Archived) -> String {
    format!("{:04o}", entry.mode & !TYPE_MASK)
}

fn type_name(entry: &Archived) -> &'static str {
    match entry.file_type() {
        TYPE_FILE => "file",
        TYPE_DIRECTORY => "directory",
        TYPE_SYMLINK => "symlink",
        TYPE_CHARACTER_DEVICE => "character device",
        TYPE_BLOCK_DEVICE => "block device",
        TYPE_FIFO => "pipe",
        TYPE_SOCKET => "socket",
        _ => "unknown",
    }
}

fn shown_path(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { Escaped(path).to_string() }
}
