//! What [`inspect`](super::inspect) tells, in the form in which it is also printed as JSON.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::segments::{Problem, Segment, Walked};
use super::view::{Inode, View};
use ocinitrd_format::cpio::{
    TYPE_BLOCK_DEVICE, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_FIFO, TYPE_FILE, TYPE_MASK, TYPE_SOCKET,
    TYPE_SYMLINK,
};
use ocinitrd_format::text::Escaped;

/// How many of the biggest directories and files are named.
const BIGGEST: usize = 15;
/// Directories nearer to the root say little, deeper ones say too much.
const DEPTHS: std::ops::RangeInclusive<u8> = 2..=4;

/// An initrd, described. Paths are text, escaped as by [`Escaped`].
#[derive(Debug, Serialize)]
pub struct Report {
    /// The length of what was read, in bytes: the file's, unless reading ended at a problem.
    pub size_bytes: u64,
    /// The segments in their order.
    pub segments: Vec<Segment>,
    /// The kernel versions whose modules are in any segment.
    pub kernel_versions: BTreeSet<String>,
    /// How many names the unpacked file system has.
    pub entries: u64,
    /// How many of them are regular files; a file with several names counts once.
    pub files: u64,
    /// The length of all regular files together, in bytes.
    pub file_bytes: u64,
    /// The directories with the most bytes below them, biggest first. Of nested directories with nearly the same content only the
    /// innermost is named.
    pub biggest_directories: Vec<Usage>,
    /// The biggest regular files, biggest first.
    pub biggest_files: Vec<Usage>,
    /// What is wrong with the initrd; empty if it is sound.
    pub problems: Vec<Problem>,
    /// The unpacked file system. Not part of the JSON; see [`Report::listing`].
    #[serde(skip)]
    pub view: View,
}

/// A path and the bytes it stands for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Usage {
    /// The escaped path.
    pub path: String,
    /// The length of the file, or of all files below the directory, in bytes.
    pub size_bytes: u64,
}

/// One name of the unpacked file system.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Listed {
    /// The escaped path.
    pub path: String,
    /// Type and permissions as `ls -l` writes them, such as `drwxr-xr-x`.
    pub mode: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// The length of a regular file or of a symlink's target in bytes, else 0.
    pub size_bytes: u64,
    /// Major and minor number of a device node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// The escaped target of a symlink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Report {
    pub(super) fn new(view: View, walked: Walked) -> Self {
        let sizes = Sizes::of(&view);
        let kernel_versions =
            walked.segments.iter().flat_map(|segment| segment.kernel_versions.iter().cloned()).collect();
        Report {
            size_bytes: walked.size_bytes,
            segments: walked.segments,
            kernel_versions,
            entries: view.len(),
            files: sizes.files,
            file_bytes: sizes.file_bytes,
            biggest_directories: sizes.biggest_directories(&view).usages(),
            biggest_files: sizes.biggest_files.usages(),
            problems: walked.problems,
            view,
        }
    }

    /// The unpacked file system, in byte order of the paths.
    pub fn listing(&self) -> impl Iterator<Item = Listed> {
        self.view.iter().map(|(path, inode)| Listed::new(&self.view, &path, inode))
    }
}

impl Listed {
    fn new(view: &View, path: &[u8], inode: &Inode) -> Self {
        let file_type = inode.mode & TYPE_MASK;
        let is_device = matches!(file_type, TYPE_BLOCK_DEVICE | TYPE_CHARACTER_DEVICE);
        let target = view.target(inode);
        let size_bytes = view.content(inode).map_or(target.len() as u64, |content| content.size_bytes.into());
        let target = (file_type == TYPE_SYMLINK).then(|| Escaped(target).to_string());
        Listed {
            path: Escaped(path).to_string(),
            mode: mode_text(inode.mode),
            uid: inode.uid,
            gid: inode.gid,
            size_bytes,
            device: is_device.then_some(inode.device),
            target,
        }
    }
}

/// Type and permissions as `ls -l` writes them.
fn mode_text(mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(match mode & TYPE_MASK {
        TYPE_FILE => '-',
        TYPE_DIRECTORY => 'd',
        TYPE_SYMLINK => 'l',
        TYPE_CHARACTER_DEVICE => 'c',
        TYPE_BLOCK_DEVICE => 'b',
        TYPE_FIFO => 'p',
        TYPE_SOCKET => 's',
        _ => '?',
    });
    for (shift, special, with_execute, without) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => with_execute,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// What regular files take up, each counted under its first name.
struct Sizes {
    files: u64,
    file_bytes: u64,
    biggest_files: Biggest,
    /// What is below each place of the view; none where no file is.
    below: Vec<Option<u64>>,
}

impl Sizes {
    fn of(view: &View) -> Self {
        let below = vec![None; view.places()];
        let mut sizes = Sizes { files: 0, file_bytes: 0, biggest_files: Biggest::default(), below };
        let mut seen = HashSet::new();
        view.visit(|node, number, path, inode| {
            if let Some(content) = view.content(inode).filter(|_| seen.insert(number)) {
                let size_bytes = content.size_bytes.into();
                sizes.files += 1;
                sizes.file_bytes += size_bytes;
                sizes.biggest_files.add(size_bytes, || path.to_vec());
                *sizes.below[view.parent(node) as usize].get_or_insert(0) += size_bytes;
            }
        });
        // A place comes behind the one that it is in.
        for node in (1..sizes.below.len()).rev() {
            if let Some(size_bytes) = sizes.below[node] {
                *sizes.below[view.parent(node as u32) as usize].get_or_insert(0) += size_bytes;
            }
        }
        sizes
    }

    /// The biggest directories, without those that have nearly all of their bytes in one directory below.
    fn biggest_directories(&self, view: &View) -> Biggest {
        let mut depths = vec![0_u8; self.below.len()];
        let mut is_wrapper = vec![false; self.below.len()];
        for node in 1..self.below.len() {
            let parent = view.parent(node as u32) as usize;
            depths[node] = depths[parent].saturating_add(1);
            if let (Some(size_bytes), Some(above_bytes)) = (self.below[node], self.below[parent]) {
                is_wrapper[parent] |= depths[node] <= *DEPTHS.end() && size_bytes * 10 >= above_bytes * 9;
            }
        }
        let mut biggest = Biggest::default();
        for node in (0..self.below.len()).filter(|node| DEPTHS.contains(&depths[*node]) && !is_wrapper[*node]) {
            if let Some(size_bytes) = self.below[node] {
                biggest.add(size_bytes, || view.path(node as u32));
            }
        }
        biggest
    }
}

/// The biggest of what was added, biggest first, and among those of one size by path.
#[derive(Default)]
struct Biggest(BTreeSet<(Reverse<u64>, Vec<u8>)>);

impl Biggest {
    fn add(&mut self, size_bytes: u64, path: impl FnOnce() -> Vec<u8>) {
        let is_full = self.0.len() == BIGGEST;
        if is_full && self.0.last().is_some_and(|(smallest, _)| smallest.0 > size_bytes) {
            return;
        }
        self.0.insert((Reverse(size_bytes), path()));
        if is_full {
            self.0.pop_last();
        }
    }

    fn usages(&self) -> Vec<Usage> {
        let usage =
            |(size, path): &(Reverse<u64>, Vec<u8>)| Usage { path: Escaped(path).to_string(), size_bytes: size.0 };
        self.0.iter().map(usage).collect()
    }
}
