//! What [`inspect`](super::inspect) tells, in the form in which it is also printed as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::segments::{Problem, Segment, Walked};
use super::view::{Inode, View};
use crate::format::cpio::{
    TYPE_BLOCK_DEVICE, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_FIFO, TYPE_FILE, TYPE_MASK, TYPE_SOCKET,
    TYPE_SYMLINK,
};
use crate::format::text::Escaped;

/// How many of the biggest directories and files are named.
const BIGGEST: usize = 15;
/// Directories nearer to the root say little, deeper ones say too much.
const DEPTHS: std::ops::RangeInclusive<usize> = 2..=4;

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
        let sizes = file_sizes(&view);
        let kernel_versions =
            walked.segments.iter().flat_map(|segment| segment.kernel_versions.iter().cloned()).collect();
        Report {
            size_bytes: walked.size_bytes,
            segments: walked.segments,
            kernel_versions,
            entries: view.iter().count() as u64,
            files: sizes.len() as u64,
            file_bytes: sizes.iter().map(|(_, size)| size).sum(),
            biggest_directories: biggest(innermost(directory_sizes(&sizes))),
            biggest_files: biggest(sizes),
            problems: walked.problems,
            view,
        }
    }

    /// The unpacked file system, in byte order of the paths.
    pub fn listing(&self) -> impl Iterator<Item = Listed> {
        self.view.iter().map(|(path, inode)| Listed::new(path, inode))
    }
}

impl Listed {
    fn new(path: &[u8], inode: &Inode) -> Self {
        let file_type = inode.mode & TYPE_MASK;
        let is_device = matches!(file_type, TYPE_BLOCK_DEVICE | TYPE_CHARACTER_DEVICE);
        let target = (file_type == TYPE_SYMLINK).then(|| Escaped(&inode.target).to_string());
        let size_bytes = inode.content.map_or(inode.target.len() as u64, |content| content.size_bytes.into());
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

/// Every regular file under its first name.
fn file_sizes(view: &View) -> Vec<(Vec<u8>, u64)> {
    let mut seen = BTreeSet::new();
    view.numbered()
        .filter_map(|(path, number, inode)| {
            let content = inode.content.filter(|_| seen.insert(number))?;
            Some((path.to_vec(), u64::from(content.size_bytes)))
        })
        .collect()
}

fn directory_sizes(files: &[(Vec<u8>, u64)]) -> BTreeMap<Vec<u8>, u64> {
    let mut sizes = BTreeMap::new();
    for (path, size_bytes) in files {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for (depth, end) in (1..).zip(slashes) {
            if DEPTHS.contains(&depth) {
                *sizes.entry(path[..end].to_vec()).or_insert(0) += size_bytes;
            }
        }
    }
    sizes
}

/// Without the directories that have nearly all of their bytes in one directory below.
fn innermost(sizes: BTreeMap<Vec<u8>, u64>) -> Vec<(Vec<u8>, u64)> {
    let is_wrapper = |path: &[u8], size_bytes: u64| {
        let below = [path, b"/"].concat();
        let mut children = sizes.range(below.clone()..).take_while(|(child, _)| child.starts_with(&below));
        children.any(|(_, child_bytes)| child_bytes * 10 >= size_bytes * 9)
    };
    sizes.iter().filter(|(path, size)| !is_wrapper(path, **size)).map(|(path, size)| (path.clone(), *size)).collect()
}

fn biggest(mut sizes: Vec<(Vec<u8>, u64)>) -> Vec<Usage> {
    sizes.sort_by(|(path, size), (other_path, other_size)| other_size.cmp(size).then_with(|| path.cmp(other_path)));
    sizes.truncate(BIGGEST);
    sizes.iter().map(|(path, size)| Usage { path: Escaped(path).to_string(), size_bytes: *size }).collect()
}
