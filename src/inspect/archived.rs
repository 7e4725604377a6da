//! What each segment holds, entry by entry: the entries of the archives in, a list a segment out.
//!
//! Unlike [`View`](super::View), which is what the kernel makes of all segments together, this keeps what a later entry
//! overrides. Contents are known by length and digest, not held.

use std::collections::BTreeMap;

use super::segments::Segment;
use super::view::{Content, View};
use crate::format::cpio::{Entry, TYPE_DIRECTORY, TYPE_MASK};

/// An initrd, segment by segment.
#[derive(Debug)]
pub struct Archives {
    /// The length of the initrd in bytes.
    pub size_bytes: u64,
    /// The segments in their order, each with its entries in theirs.
    pub segments: Vec<(Segment, Vec<Archived>)>,
    /// What the kernel makes of them together.
    pub view: View,
}

/// One entry of a segment, as its archive has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Archived {
    /// The path without slashes at its ends and without `.` components: empty for the root. Symlinks are not followed.
    pub path: Vec<u8>,
    /// The whole `st_mode`: file type and permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds since 1970-01-01 UTC.
    pub mtime: u32,
    /// Major and minor number of a device node, else zeros.
    pub device: (u32, u32),
    /// The target of a symlink, else empty.
    pub target: Vec<u8>,
    /// The data of a regular file. All names of one file have the same, whichever of them carries it in the archive.
    pub content: Option<Content>,
    /// Of a file with several names in its archive the first of them in byte order.
    pub first_name: Option<Vec<u8>>,
}

impl Archived {
    /// The file type bits of the mode.
    pub fn file_type(&self) -> u32 {
        self.mode & TYPE_MASK
    }
}

/// Number of the file system, inode number, file type.
type LinkKey = ((u32, u32), u32, u32);

/// Collects entries while an initrd is read.
#[derive(Default)]
pub(super) struct Collector {
    entries: Vec<Archived>,
    /// The positions of the names of each file that may have several, since the last end of an archive.
    names: BTreeMap<LinkKey, Vec<usize>>,
}

impl Collector {
    pub(super) fn add(&mut self, entry: &Entry, target: Vec<u8>, content: Content) {
        let file_type = entry.mode & TYPE_MASK;
        if entry.links >= 2 && file_type != TYPE_DIRECTORY {
            let key = (entry.file_system, entry.inode, file_type);
            self.names.entry(key).or_default().push(self.entries.len());
        }
        let components = entry.path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        self.entries.push(Archived {
            path: components.collect::<Vec<_>>().join(&b'/'),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            device: entry.device,
            target,
            content: entry.is_file().then_some(content),
            first_name: None,
        });
    }

    /// The end of an archive: equal inode numbers after it mean nothing.
    pub(super) fn end_archive(&mut self) {
        for positions in std::mem::take(&mut self.names).into_values().filter(|positions| positions.len() > 1) {
            let first = positions.iter().map(|position| &self.entries[*position].path).min().cloned();
            let with_data = |content: &Content| content.size_bytes > 0;
            // As in the kernel, data that comes later is written over what came earlier.
            let data = positions.iter().rev().find_map(|position| self.entries[*position].content.filter(with_data));
            for position in positions {
                let entry = &mut self.entries[position];
                entry.first_name.clone_from(&first);
                entry.content = data.filter(|_| entry.content.is_some()).or(entry.content);
            }
        }
    }

    /// Deals the entries out to the segments, which know how many are theirs.
    pub(super) fn finish(self, segments: Vec<Segment>) -> Vec<(Segment, Vec<Archived>)> {
        let mut entries = self.entries.into_iter();
        let mut take = |segment: &Segment| (0..segment.entries).map_while(|_| entries.next()).collect();
        segments.into_iter().map(|segment| (take(&segment), segment)).map(|(list, segment)| (segment, list)).collect()
    }
}
