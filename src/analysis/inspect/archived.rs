//! What each segment holds, entry by entry: the entries of the archives in, a list a segment out.
//!
//! Unlike [`View`](super::View), which is what the kernel makes of all segments together, this keeps what a later entry
//! overrides. Contents are known by length and digest, not held; paths are places of the view's tree where they can be.

use std::collections::HashMap;

use super::segments::Segment;
use super::tree::Node;
use super::view::{Applied, Content, View};
use ocinitrd_format::cpio::{Entry, TYPE_DIRECTORY, TYPE_MASK};

/// In place of a position: there is none.
const NONE: u32 = u32::MAX;
/// Of the numbers of paths those of texts begin here; the others are places in the tree of the view.
const FIRST_TEXT: u32 = 1 << 31;

/// An initrd, segment by segment.
#[derive(Debug)]
pub struct Archives {
    /// The length of the initrd in bytes.
    pub size_bytes: u64,
    /// The segments in their order, each with its entries in theirs.
    pub segments: Vec<(Segment, Vec<Archived>)>,
    /// What the kernel makes of them together.
    pub view: View,
    texts: Texts,
}

/// One entry of a segment, as its archive has it. What takes room is kept by its [`Archives`].
#[derive(Clone, Debug)]
pub struct Archived {
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
    path: u32,
    target: u32,
    content: u32,
    first_name: u32,
}

/// Texts of which each is known by its position.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn add(&mut self, text: &[u8]) -> u32 {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        self.ends.len() as u32 - 1
    }

    fn get(&self, position: u32) -> &[u8] {
        let position = position as usize;
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[position]]
    }
}

impl Archived {
    /// The file type bits of the mode.
    pub fn file_type(&self) -> u32 {
        self.mode & TYPE_MASK
    }
}

/// A path of an [`Archives`]: a place in its tree, or spelled in a way that leads through symlinks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PathOf {
    Place(Node),
    Text(u32),
}

impl PathOf {
    fn new(number: u32) -> Self {
        if number < FIRST_TEXT { PathOf::Place(number) } else { PathOf::Text(number - FIRST_TEXT) }
    }
}

impl Archives {
    /// The path without slashes at its ends and without `.` components: empty for the root. Symlinks are not followed.
    pub fn path(&self, entry: &Archived) -> Vec<u8> {
        self.spelled(PathOf::new(entry.path))
    }

    /// Of a file with several names in its archive the first of them in byte order.
    pub fn first_name(&self, entry: &Archived) -> Option<Vec<u8>> {
        self.first_name_of(entry).map(|path| self.spelled(path))
    }

    /// The target of a symlink, else empty.
    pub fn target(&self, entry: &Archived) -> &[u8] {
        if entry.target == NONE { &[] } else { self.texts.get(entry.target) }
    }

    /// The data of a regular file. All names of one file have the same, whichever of them carries it in the archive.
    pub fn content(&self, entry: &Archived) -> Option<&Content> {
        self.view.content_at(entry.content)
    }

    pub(super) fn path_of(&self, entry: &Archived) -> PathOf {
        PathOf::new(entry.path)
    }

    pub(super) fn first_name_of(&self, entry: &Archived) -> Option<PathOf> {
        (entry.first_name != NONE).then(|| PathOf::new(entry.first_name))
    }

    /// How many texts there are: paths and targets of symlinks.
    pub(super) fn texts(&self) -> usize {
        self.texts.ends.len()
    }

    /// The positions of the texts that are paths.
    pub(super) fn path_texts(&self) -> impl Iterator<Item = u32> {
        let entries = self.segments.iter().flat_map(|(_, entries)| entries);
        entries.filter(|entry| entry.path >= FIRST_TEXT).map(|entry| entry.path - FIRST_TEXT)
    }

    pub(super) fn text(&self, position: u32) -> &[u8] {
        self.texts.get(position)
    }

    fn spelled(&self, path: PathOf) -> Vec<u8> {
        match path {
            PathOf::Place(node) => self.view.path(node),
            PathOf::Text(position) => self.texts.get(position).to_vec(),
        }
    }
}

/// Number of the file system, inode number, file type.
type LinkKey = ((u32, u32), u32, u32);

/// Collects entries while an initrd is read.
#[derive(Default)]
pub(super) struct Collector {
    entries: Vec<Archived>,
    texts: Texts,
    /// The positions of the names of each file that may have several, since the last end of an archive.
    names: HashMap<LinkKey, Vec<u32>>,
}

impl Collector {
    /// Adds an entry that the kernel has made where `applied` says.
    pub(super) fn add(&mut self, entry: &Entry, target: &[u8], applied: Applied) {
        let file_type = entry.mode & TYPE_MASK;
        if entry.links >= 2 && file_type != TYPE_DIRECTORY {
            let key = (entry.file_system, entry.inode, file_type);
            self.names.entry(key).or_default().push(self.entries.len() as u32);
        }
        let path = if applied.is_direct { applied.node } else { FIRST_TEXT + self.texts.add(&tidied(&entry.path)) };
        let target = if entry.is_symlink() { self.texts.add(target) } else { NONE };
        let Entry { mode, uid, gid, mtime, device, .. } = *entry;
        let content = applied.content.unwrap_or(NONE);
        self.entries.push(Archived { path, mode, uid, gid, mtime, device, target, content, first_name: NONE });
    }

    /// What takes memory of what entries hold, in bytes.
    pub(super) fn texts_bytes(&self) -> usize {
        self.texts.bytes.len()
    }

    /// The end of an archive: equal inode numbers after it mean nothing.
    pub(super) fn end_archive(&mut self, view: &View) {
        for positions in std::mem::take(&mut self.names).into_values().filter(|positions| positions.len() > 1) {
            let entry = |position: &u32| &self.entries[*position as usize];
            let path = |position: &&u32| match PathOf::new(entry(position).path) {
                PathOf::Place(node) => view.path(node),
                PathOf::Text(text) => self.texts.get(text).to_vec(),
            };
            let first = positions.iter().min_by_key(path).map_or(NONE, |position| entry(position).path);
            // As in the kernel, data that comes later is written over what came earlier.
            let with_data = |position: &u32| {
                let content = entry(position).content;
                view.content_at(content).filter(|data| data.size_bytes > 0).map(|_| content)
            };
            let data = positions.iter().rev().find_map(with_data);
            for position in positions {
                let entry = &mut self.entries[position as usize];
                entry.first_name = first;
                entry.content = data.filter(|_| entry.content != NONE).unwrap_or(entry.content);
            }
        }
    }

    /// Deals the entries out to the segments, which know how many are theirs.
    pub(super) fn finish(self, size_bytes: u64, segments: Vec<Segment>, view: View) -> Archives {
        let Collector { mut entries, texts, .. } = self;
        let mut dealt = Vec::new();
        // From the end on: each list is cut off from what is left, so that nothing is there twice but the last cut.
        for segment in segments.into_iter().rev() {
            let first = entries.len() - (segment.entries as usize).min(entries.len());
            let list = if first == 0 { std::mem::take(&mut entries) } else { entries.split_off(first) };
            dealt.push((segment, list));
        }
        dealt.reverse();
        Archives { size_bytes, segments: dealt, view, texts }
    }
}

/// A path without slashes at its ends and without `.` components.
fn tidied(path: &[u8]) -> Vec<u8> {
    let components = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    components.collect::<Vec<_>>().join(&b'/')
}
