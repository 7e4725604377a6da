//! The entries of two segments, path by path: what is only in one, and which fields differ in what is in both.

use serde_json::Value;

use super::bytes::EntryPair;
use super::difference::{CONTENT, Difference, SegmentPlace, Subject};
use crate::analysis::inspect::{Archived, Archives, Content, Ranks};
use ocinitrd_format::cpio::{
    TYPE_BLOCK_DEVICE, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_FIFO, TYPE_FILE, TYPE_MASK, TYPE_SOCKET,
    TYPE_SYMLINK,
};
use ocinitrd_format::text::Escaped;

/// In place of a position: there is none.
const NONE: u32 = u32::MAX;

/// A difference, and whose contents tell its offset.
pub(super) type Found = (Difference, Option<EntryPair>);

/// Two initrds, and the numbers by which their paths are compared.
pub(super) struct Sides<'a> {
    pub a: &'a Archives,
    pub b: &'a Archives,
    ranks: Ranks,
}

/// The last entry of a segment by the rank of its path.
pub(super) struct LastByRank<'a> {
    entries: &'a [Archived],
    positions: Vec<u32>,
}

impl<'a> LastByRank<'a> {
    pub(super) fn get(&self, rank: u32) -> Option<&'a Archived> {
        self.entries.get(*self.positions.get(rank as usize)? as usize)
    }
}

impl<'a> Sides<'a> {
    pub(super) fn new(a: &'a Archives, b: &'a Archives) -> Self {
        Sides { a, b, ranks: Ranks::new(a, b) }
    }

    pub(super) fn rank_a(&self, entry: &Archived) -> u32 {
        self.ranks.in_a(self.a, entry)
    }

    pub(super) fn rank_b(&self, entry: &Archived) -> u32 {
        self.ranks.in_b(self.b, entry)
    }

    /// Of a segment of B.
    pub(super) fn last_by_rank(&self, entries: &'a [Archived]) -> LastByRank<'a> {
        let most = entries.iter().map(|entry| self.rank_b(entry) as usize + 1).max().unwrap_or(0);
        let mut positions = vec![NONE; most];
        for (position, entry) in entries.iter().enumerate() {
            positions[self.rank_b(entry) as usize] = position as u32;
        }
        LastByRank { entries, positions }
    }

    /// Whether an entry of A and one of B of the same path are the same in all that is compared.
    pub(super) fn is_like(&self, a: &Archived, b: &Archived) -> bool {
        let numbers = |entry: &Archived| (entry.mode, entry.uid, entry.gid, entry.mtime, entry.device);
        let data = |content: &Content| (content.size_bytes, content.digest);
        numbers(a) == numbers(b)
            && self.a.content(a).map(data) == self.b.content(b).map(data)
            && self.a.target(a) == self.b.target(b)
            && self.ranks.first_name_in_a(self.a, a) == self.ranks.first_name_in_b(self.b, b)
    }
}

/// All differences between the entries of two segments, by path and by how often the segment had the path before.
pub(super) fn compare(place: SegmentPlace, sides: &Sides<'_>, i: usize, j: usize) -> Vec<Found> {
    let (entries_a, entries_b) = (&sides.a.segments[i].1, &sides.b.segments[j].1);
    let ordered_a = ordered(entries_a, |entry| sides.rank_a(entry));
    let ordered_b = ordered(entries_b, |entry| sides.rank_b(entry));
    let (mut left_a, mut left_b) = (ordered_a.iter().peekable(), ordered_b.iter().peekable());
    let (mut rank, mut occurrence) = (None, 0);
    let mut differences = Vec::new();
    loop {
        let rank_a = left_a.peek().map(|position| sides.rank_a(&entries_a[**position as usize]));
        let rank_b = left_b.peek().map(|position| sides.rank_b(&entries_b[**position as usize]));
        let Some(next) = rank_a.into_iter().chain(rank_b).min() else { return differences };
        occurrence = if rank == Some(next) { occurrence + 1 } else { 1 };
        rank = Some(next);
        let a = left_a.next_if(|_| rank_a == rank).map(|position| &entries_a[*position as usize]);
        let b = left_b.next_if(|_| rank_b == rank).map(|position| &entries_b[*position as usize]);
        let shown = || {
            let path = a.map(|entry| sides.a.path(entry)).or_else(|| b.map(|entry| sides.b.path(entry)));
            Subject::Entry { segment: place, path: shown_path(&path.unwrap_or_default()), occurrence }
        };
        match (a, b) {
            (Some(a), Some(b)) if sides.is_like(a, b) => {}
            (Some(a), Some(b)) => differences.extend(fields(&shown, sides, a, b)),
            (a, b) => {
                let (in_a, in_b) = (a.map(|a| description(sides.a, a)), b.map(|b| description(sides.b, b)));
                differences.push((Difference::presence(shown(), in_a, in_b), None));
            }
        }
    }
}

/// The positions of entries by the ranks of their paths, those of the same path in their order.
fn ordered(entries: &[Archived], rank: impl Fn(&Archived) -> u32) -> Vec<u32> {
    let mut positions: Vec<u32> = (0..entries.len() as u32).collect();
    positions.sort_by_key(|position| rank(&entries[*position as usize]));
    positions
}

fn fields(subject: &impl Fn() -> Subject, sides: &Sides<'_>, a: &Archived, b: &Archived) -> Vec<Found> {
    let mut differences = Vec::new();
    for ((field, value_a), (_, value_b)) in metadata(sides.a, a).into_iter().zip(metadata(sides.b, b)) {
        // Of entries of two types, what only one type has says nothing more.
        let of_both = a.file_type() == b.file_type() || !(value_a.is_null() || value_b.is_null());
        if value_a != value_b && of_both {
            differences.push((Difference::new(subject(), field, value_a, value_b), None));
        }
    }
    if let (Some(content_a), Some(content_b)) = (sides.a.content(a), sides.b.content(b))
        && content_a.digest != content_b.digest
    {
        let digest = |content: &Content| content.digest.map(|digest| digest.to_string());
        let difference = Difference::new(subject(), CONTENT, digest(content_a), digest(content_b));
        differences.push((difference, Some((content_a.entry, content_b.entry))));
    }
    differences
}

/// Every compared field but the content; null for what the entry's type has not.
fn metadata(archives: &Archives, entry: &Archived) -> [(&'static str, Value); 9] {
    let is_device = matches!(entry.file_type(), TYPE_BLOCK_DEVICE | TYPE_CHARACTER_DEVICE);
    let device = is_device.then(|| format!("{}:{}", entry.device.0, entry.device.1));
    let target = (entry.file_type() == TYPE_SYMLINK).then(|| Escaped(archives.target(entry)).to_string());
    [
        ("type", type_name(entry).into()),
        ("mode", mode(entry).into()),
        ("uid", entry.uid.into()),
        ("gid", entry.gid.into()),
        ("mtime", entry.mtime.into()),
        ("device", device.into()),
        ("target", target.into()),
        ("hard_link_of", archives.first_name(entry).as_deref().map(shown_path).into()),
        ("size_bytes", archives.content(entry).map(|content| content.size_bytes).into()),
    ]
}

fn description(archives: &Archives, entry: &Archived) -> String {
    let what = match (archives.content(entry), entry.file_type()) {
        (Some(content), _) => format!(", {} bytes", content.size_bytes),
        (_, TYPE_SYMLINK) => format!(" to {}", Escaped(archives.target(entry))),
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
